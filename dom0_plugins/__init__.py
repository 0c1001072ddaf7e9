# SPDX-License-Identifier: Apache-2.0
"""The console script dom0-plugins: calls of the plug-in dom0_host.py on every host of one or several pools.  Not for dom0."""

import sys

if sys.version_info < (3, 8):
    raise ImportError("dom0-plugins needs Python 3.8 or newer, this is %d.%d" % sys.version_info[:2])
