# SPDX-License-Identifier: Apache-2.0
"""The bytes of VHD files."""
