# SPDX-License-Identifier: Apache-2.0
"""XAPI, asked over its socket in the caller's session.

Uses: system.
"""
