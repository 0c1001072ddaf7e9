# SPDX-License-Identifier: Apache-2.0
"""Guests as XAPI makes, starts and ends them, with the networks that they are on.

Uses: storage, xapi.
"""
