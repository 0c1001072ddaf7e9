# SPDX-License-Identifier: Apache-2.0
"""The library beside the plug-ins, in rooms; docs/DESIGN.md lists them."""

from __future__ import absolute_import, division

# The one version number: packages, packs and setup.py read it here.
__version__ = '0.1.0'
