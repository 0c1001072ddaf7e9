# SPDX-License-Identifier: Apache-2.0
"""Disks between hosts, and the keys by which hosts let each other send them.

Uses: call, disks, storage, system, toolstack.
"""
