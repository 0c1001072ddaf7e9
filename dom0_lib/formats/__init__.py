# SPDX-License-Identifier: Apache-2.0
"""Disk image formats: decoders that find what a guest can see of a foreign image, and encoders that write it anew.

Uses: disks, system.
"""
