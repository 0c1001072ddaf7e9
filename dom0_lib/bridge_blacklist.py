# SPDX-License-Identifier: Apache-2.0
"""The files by which a host keeps Linux' bridge module out of its kernel: /etc/modprobe.d/blacklist-bridge*.

Hosts that use Open vSwitch have one.  nova's security groups need Linux bridges beside it.  modprobe reads files whose name ends in
.conf, so one that gets another ending is out of force, and can be put back.
"""

from __future__ import absolute_import, division

import errno
import os

from dom0_lib import paths
from dom0_lib import whole_file

_PREFIX = 'blacklist-bridge'
_ENDING = '.conf'
_LIFTED = '.lifted-by-dom0-plugins'


def list_in_force():
    """Names of the files that modprobe reads.  Raises EnvironmentError."""
    return [name for name in _list() if name.endswith(_ENDING)]


def list_lifted():
    """Names, as they were, of the files that lift() has renamed.  Raises EnvironmentError."""
    return [name[:-len(_LIFTED)] for name in _list() if name.endswith(_ENDING + _LIFTED)]


def lift(name):
    """Put a file out of force, in the place of what was lifted before it was installed anew.  Raises EnvironmentError."""
    _rename(name, name + _LIFTED)


def restore(name):
    """Put a file back, unless there is one again, which then is newer.  Raises EnvironmentError."""
    if os.path.lexists(_locate(name)):
        whole_file.remove(_locate(name + _LIFTED))
    else:
        _rename(name + _LIFTED, name)


def _rename(name, new_name):
    os.rename(_locate(name), _locate(new_name))
    whole_file.sync(paths.locate(paths.MODPROBE))


def _list():
    try:
        return sorted(name for name in os.listdir(paths.locate(paths.MODPROBE)) if name.startswith(_PREFIX))
    except EnvironmentError as error:
        if error.errno == errno.ENOENT:
            return []
        raise


def _locate(name):
    return paths.locate('%s/%s' % (paths.MODPROBE, name))
