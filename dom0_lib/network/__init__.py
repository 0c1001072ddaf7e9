# SPDX-License-Identifier: Apache-2.0
"""Commands for dom0's network, each word of which is on a list.

Uses: call, system.
"""
