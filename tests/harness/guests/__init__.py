# SPDX-License-Identifier: Apache-2.0
"""Guests of a simulated host, their agents, and the xenstored that they share with dom0."""
