# SPDX-License-Identifier: Apache-2.0
"""A small image service with faults on request, and the real Glance beside it.

Uses: system.
"""
