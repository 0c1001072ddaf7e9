# SPDX-License-Identifier: Apache-2.0
"""The simulated XAPI: messages, database, sessions, tasks, and its doors.

Uses: system.
"""
