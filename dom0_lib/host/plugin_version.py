# SPDX-License-Identifier: Apache-2.0
"""The version that clients compare with the one they need, and the one that is installed."""

from __future__ import absolute_import, division

import sys

import dom0_lib

# os-xenapi 0.3.4 needs major 2 and at least minor 1: facts of its client, not the version of this package.
_INTERFACE_VERSION = u'2.1'


def get_version(_session_ref):
    """The version of the calls' interface: `major.minor`, the major raised when an old caller would break."""
    return _INTERFACE_VERSION


def describe(_session_ref):
    """What is installed here, as a map: `release` of this package, `interface` as get_version says it, `python` that runs it."""
    return {'release': dom0_lib.__version__, 'interface': _INTERFACE_VERSION, 'python': u'%d.%d.%d' % sys.version_info[:3]}
