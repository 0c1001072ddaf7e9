# SPDX-License-Identifier: Apache-2.0
"""A simulated host: its control domain as a directory, its processes, its syslog, its sshd.

Uses: guests, storage, system, xapi.
"""
