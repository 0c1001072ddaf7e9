# SPDX-License-Identifier: Apache-2.0
"""Root's ssh directory, and the key in it with which migrations log in to other hosts."""

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
# The keys that ssh tries by default, of types that the ssh of every dom0 knows.
_KEYS = (_NEW_KEY, paths.ROOT_SSH + '/id_ecdsa', paths.ROOT_SSH + '/id_rsa')
_SCRATCH = paths.ROOT_SSH + '/.dom0-plugins-key'
_PUBLIC = '.pub'
_LOCK_TIMEOUT_S = 10
_KEYGEN_TIMEOUT_S = 60


@contextlib.contextmanager
def locked():
    """A context within which no other call of ours changes the directory.  It is made if it is missing.

    Raises errors.PluginError, errors.RetryableError while another call holds the lock.
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
    """'<type> <base64>' of the key that migrations use, or None if there is no key and make_key() can make one.

    identity_file: the setting, or None
    Raises errors.PluginError for a key that only an administrator can make usable; errors.CommandNotFound.
    """
    if identity_file:
        if not os.path.exists(paths.locate(identity_file)):
            raise errors.PluginError("'identity_file' in [migration] of %s is %s, which does not exist: make it with `ssh-keygen"
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
    """The public key, derived from the private key: the .pub file may be missing, or may belong to another key."""
    try:
        output = proc.run(['ssh-keygen', '-y', '-P', '', '-f', paths.locate(dom0_path)], _KEYGEN_TIMEOUT_S).output
        return public_key.check_public_key(output.strip())
    except errors.CommandFailed as error:
        raise errors.PluginError('migrations cannot use the key %s (%s): it must have no passphrase and be for root alone;'
                                 ' correct that, or move the key away' % (dom0_path, error))
    except ValueError as error:
        raise errors.PluginError('migrations cannot use the key %s: it %s' % (dom0_path, error))


def make_key(comment):
    """Make root's key if it has none; the caller is within locked().  Raises errors.PluginError, errors.CommandNotFound."""
    scratch, path = paths.locate(_SCRATCH), paths.locate(_NEW_KEY)
    with os_errors.Errors('cannot make the key %s' % _NEW_KEY):
        for name in (scratch, scratch + _PUBLIC):  # left by a killed call
            durable_file.remove(name)
        proc.run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', comment, '-f', scratch], _KEYGEN_TIMEOUT_S)
        for name in (scratch, scratch + _PUBLIC):
            durable_file.sync(name)
        faults.point('key.made')
        # A link never replaces a file.  The private key alone is enough for ssh and for find_public_key().
        os.link(scratch, path)
        faults.point('key.linked')
        if not os.path.lexists(path + _PUBLIC):
            os.link(scratch + _PUBLIC, path + _PUBLIC)
        for name in (scratch, scratch + _PUBLIC):
            durable_file.remove(name)
    log.info('made the key %s', _NEW_KEY)
