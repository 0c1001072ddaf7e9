# SPDX-License-Identifier: Apache-2.0
"""VHD files, and chains of them, as files: no SR, no lock, no network.

Uses: system.
"""
