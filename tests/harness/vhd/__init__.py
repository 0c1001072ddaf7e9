# SPDX-License-Identifier: Apache-2.0
"""VHD files, read and written independently of dom0_lib."""
