# SPDX-License-Identifier: Apache-2.0
"""HTTP, spoken by code of our own: a connection with deadlines, and a client."""
