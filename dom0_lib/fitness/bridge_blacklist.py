# SPDX-License-Identifier: Apache-2.0
"""The files that keep Linux' bridge module out of a host's kernel: /etc/modprobe.d/blacklist-bridge*.

Hosts that use Open vSwitch have one, but nova's security groups need Linux bridges as well.  modprobe reads only files whose
names end in .conf, so a file is put out of force, and back in force, by a change of its name.
"""

from __future__ import absolute_import, division

import errno
import os

from dom0_lib import paths
from dom0_lib.system import durable_file

_PREFIX = 'blacklist-bridge'
_ENDING = '.conf'
_LIFTED = '.lifted-by-dom0-plugins'
_MAX_BYTES = 1 << 20


def list_in_force():
    """Names of the files that modprobe reads.  Raises EnvironmentError."""
    return [name for name in _list() if name.endswith(_ENDING)]


def list_lifted():
    """The former names of the files that lift() has renamed.  Raises EnvironmentError."""
    return [name[:-len(_LIFTED)] for name in _list() if name.endswith(_ENDING + _LIFTED)]


def has_twin(name):
    """Whether a file exists twice, in force and lifted, with different content.  Raises EnvironmentError."""
    versions = [durable_file.read(path, _MAX_BYTES) for path in (_locate(name), _locate(name + _LIFTED)) if os.path.lexists(path)]
    return len(versions) == 2 and versions[0] != versions[1]


def lift(name):
    """Put a file out of force; it replaces one of the same content that was lifted before.  Raises EnvironmentError."""
    _rename(name, name + _LIFTED)


def restore(name):
    """Put a file back in force; it replaces one of the same content that is in force again.  Raises EnvironmentError."""
    _rename(name + _LIFTED, name)


def is_bridge_needed():
    """Whether the host's own networks use Linux' bridge module instead of Open vSwitch.  Raises EnvironmentError."""
    return (durable_file.read(paths.locate(paths.NETWORK_CONF), _MAX_BYTES) or b'').strip() == b'bridge'


def _rename(name, new_name):
    os.rename(_locate(name), _locate(new_name))
    durable_file.sync(paths.locate(paths.MODPROBE))


def _list():
    try:
        names = sorted(os.listdir(paths.locate(paths.MODPROBE)))
    except EnvironmentError as error:
        if error.errno == errno.ENOENT:
            return []
        raise
    return [name for name in names if name.startswith(_PREFIX) and os.path.isfile(_locate(name))]


def _locate(name):
    return paths.locate('%s/%s' % (paths.MODPROBE, name))
