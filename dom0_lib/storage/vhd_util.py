# SPDX-License-Identifier: Apache-2.0
"""vhd-util, the storage manager's tool, which judges VHD files that dom0_lib.formats.vhd_encoder wrote, and hides them."""

from __future__ import absolute_import, division

import errno
import os

from dom0_lib import errors
from dom0_lib.system import proc

# It never ends on some files.
_DEADLINE_S = 120
_DISK_ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def set_hidden(path, hidden):
    """Mark a disk as one that no VM sees, or as one of its own."""
    _run('set', '-n', path, '-f', 'hidden', '-v', '1' if hidden else '0')


def check(path, name):
    """Raises errors.UnsafeImage, which calls the file `name`, if the tool finds it damaged."""
    # Without -B the tool compares every block with every other; the encoder cannot place two over each other.
    completed = proc.run(['vhd-util', 'check', '-n', path, '-B'], _DEADLINE_S, ok_statuses=None)
    if completed.status != 0 and 'invalid option' in completed.error_output:
        completed = proc.run(['vhd-util', 'check', '-n', path], _DEADLINE_S, ok_statuses=None)
    if completed.status < 0:  # ended by a signal, which says nothing about the file
        raise errors.CommandFailed('vhd-util', completed.status, completed.first_line())
    if completed.status != 0:
        raise errors.UnsafeImage("vhd-util refuses '%s': %s" % (name, completed.first_line()))


def _run(*arguments):
    try:
        proc.run(('vhd-util',) + arguments, _DEADLINE_S)
    except errors.CommandFailed as error:
        # vhd-util exits with the errno and usually prints nothing.
        if error.status in _DISK_ERRORS:
            raise errors.StorageError('vhd-util %s failed: %s' % (arguments[0], os.strerror(error.status)))
        raise
