# SPDX-License-Identifier: Apache-2.0
"""This host as a cloud sees it: data, power, pool, settings, PCI devices.

Uses: call, system, toolstack, web.
"""
