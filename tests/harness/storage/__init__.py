# SPDX-License-Identifier: Apache-2.0
"""The storage manager of a simulated host: SRs, locks, garbage collection, VBDs.

Uses: vhd, xapi.
"""
