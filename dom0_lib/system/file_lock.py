# SPDX-License-Identifier: Apache-2.0
"""A lock among our own calls, on a file that stays or a directory: a file that is replaced as a whole cannot be locked itself."""

from __future__ import absolute_import, division

import errno
import fcntl
import time

from dom0_lib import compat
from dom0_lib import errors

_RETRY_S = 0.02


def wait(fd, dom0_path, limit_s):
    """Lock the open file `fd` for this process until it is closed.

    dom0_path: the thing that the lock protects, for the error
    Raises errors.RetryableError after `limit_s` seconds, EnvironmentError.
    """
    compat.keep_from_children(fd)
    ends_at = compat.monotonic_s() + limit_s
    while not _try(fd):
        if compat.monotonic_s() >= ends_at:
            raise errors.RetryableError('another call has been at work on %s for %d s' % (dom0_path, limit_s))
        time.sleep(_RETRY_S)


def _try(fd):
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except EnvironmentError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        return False
