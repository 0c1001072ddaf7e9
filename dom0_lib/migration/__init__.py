# SPDX-License-Identifier: Apache-2.0
"""The moves of disks between hosts, and the ssh keys with which hosts may send them.

Uses: call, storage, system, toolstack.
"""
