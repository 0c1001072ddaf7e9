# SPDX-License-Identifier: Apache-2.0
"""File based SRs: how files come in, how they are held while they are read, and what crashes leave.

Uses: disks, formats, system, toolstack.
"""
