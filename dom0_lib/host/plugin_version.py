# SPDX-License-Identifier: Apache-2.0
"""The version of the calls, which clients compare with their need, and the version of the package."""

from __future__ import absolute_import, division

import sys

import dom0_lib

# os-xenapi 0.3.4 needs major 2 and at least minor 1; this is not the version of this package.
_INTERFACE_VERSION = u'2.1'


def get_version(_session_ref):
    """The version of the calls' interface: `major.minor`, the major rises when an old caller would break."""
    return _INTERFACE_VERSION


def describe(_session_ref):
    """A map of versions: `release` of this package, `interface` as in get_version, `python`."""
    return {'release': dom0_lib.__version__, 'interface': _INTERFACE_VERSION, 'python': u'%d.%d.%d' % sys.version_info[:3]}
