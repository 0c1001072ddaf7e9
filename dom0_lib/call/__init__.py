# SPDX-License-Identifier: Apache-2.0
"""The one call that this process was started for: from the bytes of argv to the reply.

Uses: toolstack.
"""
