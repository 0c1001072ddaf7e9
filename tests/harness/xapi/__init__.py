# SPDX-License-Identifier: Apache-2.0
"""The simulated XAPI: messages, database, sessions, tasks, and the servers that clients call.

Uses: system.
"""
