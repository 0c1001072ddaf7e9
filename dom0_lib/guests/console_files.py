# SPDX-License-Identifier: Apache-2.0
"""The console logs of guests, /var/log/xen/guest/console.<domain id>: cut, emptied and removed.

xenconsoled and QEMU hold those of living domains open.  A log that is removed then would grow on where nobody sees it, so these
are emptied.  The directory is root's; whatever in it is not a plain file of such a name is left alone.
"""

from __future__ import absolute_import, division

import contextlib
import errno
import os
import stat

from dom0_lib import compat
from dom0_lib import log
from dom0_lib import paths
from dom0_lib import text_checks
from dom0_lib.guests import hole_punch
from dom0_lib.system import durable_file
from dom0_lib.system import file_lock
from dom0_lib.system import os_errors

# Above the first a log is cut to a little more than the second; console.py reads the last 102,400 bytes.
LIMIT_BYTES = 1 << 20
KEPT_BYTES = 256 << 10

_PREFIX = 'console.'
_MAX_DIGITS = 5
# The unit of st_blocks.
_BLOCK_BYTES = 512
_LOCK_TIMEOUT_S = 2


def make_directory():
    """Make the directory where it is not there, for root alone.  Raises errors.PluginError."""
    path = paths.locate(paths.CONSOLE_LOGS)
    with os_errors.Errors('cannot make %s' % paths.CONSOLE_LOGS):
        if not os.path.isdir(path):
            os.makedirs(path, 0o700)


@contextlib.contextmanager
def locked():
    """Within, no other call of ours changes the logs, or whether there are any.  The directory must be there.

    Raises errors.RetryableError while another call is at it, errors.PluginError.
    """
    with os_errors.Errors('cannot lock %s' % paths.CONSOLE_LOGS):
        fd = os.open(paths.locate(paths.CONSOLE_LOGS), os.O_RDONLY | os.O_DIRECTORY)
    try:
        file_lock.wait(fd, paths.CONSOLE_LOGS, _LOCK_TIMEOUT_S)
        yield
    finally:
        os.close(fd)


def list_logs():
    """{domain id: os.lstat result}.  Raises errors.PluginError."""
    found = {}
    with os_errors.Errors('cannot list %s' % paths.CONSOLE_LOGS):
        for name in os.listdir(paths.locate(paths.CONSOLE_LOGS)):
            digits = name[len(_PREFIX):]
            if name.startswith(_PREFIX) and text_checks.is_number(digits, _MAX_DIGITS) and str(int(digits)) == digits:
                try:
                    status = os.lstat(_locate(int(digits)))
                except EnvironmentError as error:
                    if error.errno != errno.ENOENT:
                        raise
                    continue
                if stat.S_ISREG(status.st_mode):
                    found[int(digits)] = status
    return found


def cut(logs):
    """Give back the disk space of all but the end of those logs that take more than LIMIT_BYTES.  Returns their domain ids.

    logs: what list_logs() returned.  One that cannot be cut is left, and logged.
    """
    done = []
    for dom_id, status in sorted(logs.items()):
        # Not st_size: a hole counts there.
        if status.st_blocks * _BLOCK_BYTES > LIMIT_BYTES and status.st_size >= KEPT_BYTES + hole_punch.UNIT_BYTES:
            if _change(dom_id, 'cut', lambda fd: hole_punch.give_back(fd, KEPT_BYTES)):
                done.append(dom_id)
    return done


def forget(dom_id, is_alive):
    """Remove what a log holds: the log of a living domain becomes empty, another goes.  Returns whether it could be done."""
    if is_alive:
        return _change(dom_id, 'empty', lambda fd: os.ftruncate(fd, 0))
    try:
        os.unlink(_locate(dom_id))
    except EnvironmentError as error:
        if error.errno != errno.ENOENT:
            _warn(dom_id, 'remove', error)
            return False
    return True


def _change(dom_id, verb, change):
    try:
        fd = durable_file.open_regular(_locate(dom_id), os.O_RDWR)
        if fd is None:
            return False
        try:
            change(fd)
        finally:
            os.close(fd)
    except EnvironmentError as error:
        if error.errno != errno.ENOENT:
            _warn(dom_id, verb, error)
        return False
    return True


def _warn(dom_id, verb, error):
    log.warning('cannot %s %s: %s', verb, paths.CONSOLE_LOG % dom_id, compat.to_text(error))


def _locate(dom_id):
    return paths.locate(paths.CONSOLE_LOG % dom_id)
