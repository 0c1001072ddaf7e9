# SPDX-License-Identifier: Apache-2.0
"""The start of programs and the end of servers, for every room of the simulated host."""
