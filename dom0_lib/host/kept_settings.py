# SPDX-License-Identifier: Apache-2.0
"""Settings that clients leave on a host for themselves: one JSON object in /usr/etc/xenhost.conf, as os-xenapi kept them."""

from __future__ import absolute_import, division

import os

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib import light_json
from dom0_lib import paths
from dom0_lib.system import durable_file
from dom0_lib.system import file_lock
from dom0_lib.system import os_errors

_MAX_BYTES = 1 << 20
_LOCK_TIMEOUT_S = 10
_LOCK = '.lock'


def load():
    """The settings, {} if there are none.  Raises errors.PluginError."""
    with os_errors.Errors('cannot read %s' % paths.XENHOST_CONF):
        data = durable_file.read(paths.locate(paths.XENHOST_CONF), _MAX_BYTES + 1)
    if data is None:
        return {}
    try:
        if len(data) > _MAX_BYTES:
            raise ValueError('more than %d bytes' % _MAX_BYTES)
        notes = light_json.loads(data.decode('utf-8'))
    except ValueError as error:
        raise errors.PluginError('%s is damaged (%s): repair it or remove it' % (paths.XENHOST_CONF, compat.to_text(error)))
    if not isinstance(notes, dict):
        raise errors.PluginError('%s is not a JSON object: repair it or remove it' % paths.XENHOST_CONF)
    return notes


def store(key, value):
    """Set one setting, or with None remove it.  At any moment the file is the old or the new one, also after a power cut.

    Raises errors.PluginError, errors.RetryableError while another call keeps writing.
    """
    path = paths.locate(paths.XENHOST_CONF)
    with os_errors.Errors('cannot write %s' % paths.XENHOST_CONF):
        durable_file.make_directory(os.path.dirname(path))
        # The lock is another file: this one is replaced, so a lock on it would keep nobody out.
        lock = os.open(path + _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            file_lock.wait(lock, paths.XENHOST_CONF, _LOCK_TIMEOUT_S)
            notes = load()
            notes.pop(key, None)
            if value is not None:
                notes[key] = value
            _replace(path, light_json.dumps(notes).encode('ascii'))
        finally:
            os.close(lock)


def _replace(path, data):
    if len(data) > _MAX_BYTES:
        raise errors.PluginError('%s would be larger than %d bytes' % (paths.XENHOST_CONF, _MAX_BYTES))
    durable_file.replace(path, data)
