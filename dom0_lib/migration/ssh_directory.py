# SPDX-License-Identifier: Apache-2.0
"""Root's directory for ssh, and the key there by which migrations log in on other hosts."""

from __future__ import absolute_import, division

import contextlib
import os

from dom0_lib import errors
from dom0_lib import faults
from dom0_lib import log
from dom0_lib import paths
from dom0_lib.migration import public_key
from dom0_lib.system import durable_file
from dom0_lib.system import file_lock
from dom0_lib.system import os_errors
from dom0_lib.system import proc

_NEW_KEY = paths.ROOT_SSH + '/id_ed25519'
# Those that ssh tries by itself and every ssh in dom0 knows.
_KEYS = (_NEW_KEY, paths.ROOT_SSH + '/id_ecdsa', paths.ROOT_SSH + '/id_rsa')
_SCRATCH = paths.ROOT_SSH + '/.dom0-plugins-key'
_PUBLIC = '.pub'
_LOCK_TIMEOUT_S = 10
_KEYGEN_TIMEOUT_S = 60


@contextlib.contextmanager
def locked():
    """Within, no other call of ours changes what is in the directory, which is made if it is not there.

    Raises errors.PluginError, errors.RetryableError while another call is at work on it.
    """
    path = paths.locate(paths.ROOT_SSH)
    with os_errors.Errors('cannot use %s' % paths.ROOT_SSH):
        durable_file.make_directory(path, 0o700)
        fd = os.open(path, os.O_RDONLY)
    try:
        file_lock.wait(fd, paths.ROOT_SSH, _LOCK_TIMEOUT_S)
        yield
    finally:
        os.close(fd)


def find_public_key(identity_file):
    """'<type> <base64>' of the key that migrations use, or None: there is none, and make_key() can make one.

    identity_file: the setting, or None.
    Raises errors.PluginError for a key that cannot be used without somebody's hand, errors.CommandNotFound.
    """
    if identity_file:
        if not os.path.exists(paths.locate(identity_file)):
            raise errors.PluginError("'identity_file' in [migration] of %s is %s, which is not there: make it with `ssh-keygen"
                                     " -t ed25519 -N '' -f %s`, or remove the setting" %
                                     (paths.SETTINGS, identity_file, identity_file))
        return _ask_for_public(identity_file)
    refusals = {}
    for dom0_path in _KEYS:
        if os.path.lexists(paths.locate(dom0_path)):
            try:
                return _ask_for_public(dom0_path)
            except errors.PluginError as error:
                refusals[dom0_path] = error
    if _NEW_KEY in refusals:
        raise refusals[_NEW_KEY]
    return None


def _ask_for_public(dom0_path):
    """Of the private half itself: the file beside it may be another's, or not there."""
    try:
        output = proc.run(['ssh-keygen', '-y', '-P', '', '-f', paths.locate(dom0_path)], _KEYGEN_TIMEOUT_S).output
        return public_key.check_public_key(output.strip())
    except errors.CommandFailed as error:
        raise errors.PluginError('migrations cannot use the key %s (%s): it must have no passphrase and be for root alone;'
                                 ' mend it, or move it away' % (dom0_path, error))
    except ValueError as error:
        raise errors.PluginError('migrations cannot use the key %s: it %s' % (dom0_path, error))


def make_key(comment):
    """Make root's key, where there is none; within locked().  Raises errors.PluginError, errors.CommandNotFound."""
    scratch, path = paths.locate(_SCRATCH), paths.locate(_NEW_KEY)
    with os_errors.Errors('cannot make the key %s' % _NEW_KEY):
        for name in (scratch, scratch + _PUBLIC):  # of a killed call
            durable_file.remove(name)
        proc.run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', comment, '-f', scratch], _KEYGEN_TIMEOUT_S)
        for name in (scratch, scratch + _PUBLIC):
            durable_file.sync(name)
        faults.point('key.made')
        # Links replace nothing.  The private half is enough for ssh, and for us.
        os.link(scratch, path)
        faults.point('key.linked')
        if not os.path.lexists(path + _PUBLIC):
            os.link(scratch + _PUBLIC, path + _PUBLIC)
        for name in (scratch, scratch + _PUBLIC):
            durable_file.remove(name)
    log.info('made the key %s', _NEW_KEY)
