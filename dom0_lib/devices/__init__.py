# SPDX-License-Identifier: Apache-2.0
"""Disks that are plugged into dom0, as block devices.

Uses: call, system, toolstack.
"""
