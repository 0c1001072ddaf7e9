# SPDX-License-Identifier: Apache-2.0
"""Traces of guests in dom0: records in xenstore, agents, console logs, counters.

Uses: call, system, toolstack.
"""
