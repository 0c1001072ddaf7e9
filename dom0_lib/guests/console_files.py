# SPDX-License-Identifier: Apache-2.0
"""The console logs of guests, /var/log/xen/guest/console.<domain id>: cut, emptied and removed.

The log of a living domain is emptied, not removed: xenconsoled or QEMU has it open and would go on to fill the disk unseen.
The directory belongs to root.  Entries that are not plain files, or have other names, are left alone.
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

# A log longer than LIMIT_BYTES is cut to a little more than KEPT_BYTES; console.py reads the last 102,400 bytes.
LIMIT_BYTES = 1 << 20
KEPT_BYTES = 256 << 10

_PREFIX = 'console.'
_MAX_DIGITS = 5
# The unit of st_blocks.
_BLOCK_BYTES = 512
_LOCK_TIMEOUT_S = 2


def make_directory():
    """Make the directory, for root alone, if it is missing.  Raises errors.PluginError."""
    path = paths.locate(paths.CONSOLE_LOGS)
    with os_errors.Errors('cannot make %s' % paths.CONSOLE_LOGS):
        if not os.path.isdir(path):
            os.makedirs(path, 0o700)


@contextlib.contextmanager
def locked():
    """`with locked():` keeps other calls from changing the logs, or whether consoles are logged.  The directory must exist.

    Raises errors.RetryableError while another call has the lock, errors.PluginError.
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
    """Give back the disk space of logs that take more than LIMIT_BYTES, except for their ends.  Returns their domain ids.

    logs: the result of list_logs().  A log that cannot be cut is left as it is, with a warning.
    """
    done = []
    for dom_id, status in sorted(logs.items()):
        # st_size counts holes, st_blocks does not.
        if status.st_blocks * _BLOCK_BYTES > LIMIT_BYTES and status.st_size >= KEPT_BYTES + hole_punch.UNIT_BYTES:
            if _change(dom_id, 'cut', lambda fd: hole_punch.give_back(fd, KEPT_BYTES)):
                done.append(dom_id)
    return done


def forget(dom_id, is_alive):
    """Empty the log of a living domain, or remove the log of a dead one.  Returns whether that was possible."""
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
