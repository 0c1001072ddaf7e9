# SPDX-License-Identifier: Apache-2.0
"""The fitness of this host for the plug-ins: its examination, its preparation, and the reversal of that.

Uses: call, guests, migration, storage, system, toolstack, web.
"""
