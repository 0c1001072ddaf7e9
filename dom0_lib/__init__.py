# SPDX-License-Identifier: Apache-2.0
"""The library beside the plug-ins; each module imports only lower layers (docs/DESIGN.md)."""
