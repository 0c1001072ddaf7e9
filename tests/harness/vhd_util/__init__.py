# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the program vhd-util.

Uses: system, vhd.
"""
