# SPDX-License-Identifier: Apache-2.0
"""The simulated host: XAPI, dom0, storage, guests, and image services; README.md is the way in."""
