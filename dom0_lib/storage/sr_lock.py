# SPDX-License-Identifier: Apache-2.0
"""The storage manager's locks, taken as it takes them.

They are POSIX record locks (fcntl.lockf; flock does not conflict with them) on /var/lock/sm/<SR>/<name>:

    sr          short steps that change names in the SR: scan, create, delete, snapshot; the last step of an import
    gc_active   the whole life of a garbage collection; who holds it keeps the collection from starting
    running     each piece of its work

Order: `sr` for a moment, in it `gc_active` by trying once; then, without `sr`, `running`.  Under `sr` nothing may call XAPI's
storage operations: SM runs in another process and would wait for us for ever.  /var/lock/sm is of this host: for a shared
SR it excludes only the coordinator's collection if this is the coordinator, so readers also compare what they have read.
"""

from __future__ import absolute_import, division

import errno
import fcntl
import os
import struct
import time

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib import paths

_RETRY_S = 0.05
_BUSY = (errno.EAGAIN, errno.EACCES)
# struct flock of a 64-bit Linux: kind, whence, start, length, process.
_FLOCK = 'hhqqi4x'


class Lock(object):
    """`with Lock(sr_uuid, name, timeout_s):` holds one lock, waiting at most `timeout_s` for it (0: tries once).

    is_shared: other processes of ours may hold it as well, SM, which always takes it for itself, may not
    check():   called while waiting
    A process must not hold the same lock twice: closing either descriptor would drop both.
    Raises errors.RetryableError when somebody else keeps it, errors.StorageError when there can be no such lock.
    """

    def __init__(self, sr_uuid, name, timeout_s, check=None, is_shared=False):
        self._path = os.path.join(paths.locate(paths.SM_LOCKS), sr_uuid, name)
        self._label = '%s of SR %s' % (name, sr_uuid)
        self._timeout_s = timeout_s
        self._check = check
        self._kind = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
        self._fd = None

    def __enter__(self):
        ends_at = compat.monotonic_s() + self._timeout_s
        while not self._attempt():
            if self._check:
                self._check()
            if compat.monotonic_s() >= ends_at:
                raise errors.RetryableError('the storage manager keeps the lock %s' % self._label)
            time.sleep(_RETRY_S)
        return self

    def __exit__(self, kind, value, traceback):
        self.release()

    def release(self):
        """Drop the lock, if it is held."""
        if self._fd is not None:
            fd, self._fd = self._fd, None
            os.close(fd)

    def _attempt(self):
        try:
            return self._try()
        except EnvironmentError as error:
            raise errors.StorageError('cannot take the lock %s: %s' % (self._label, compat.to_text(error)))

    def _try(self):
        directory = os.path.dirname(self._path)
        if not os.path.isdir(directory):
            try:
                os.makedirs(directory)
            except EnvironmentError as error:
                if error.errno != errno.EEXIST:
                    raise
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            compat.keep_from_children(fd)
            fcntl.lockf(fd, self._kind | fcntl.LOCK_NB)
            # SM removes lock files of what it has deleted; a lock on a removed file excludes nobody.
            if os.path.samestat(os.fstat(fd), os.stat(self._path)):
                self._fd = fd
        except EnvironmentError as error:
            if error.errno not in _BUSY + (errno.ENOENT,):
                raise
        finally:
            if self._fd is None:
                os.close(fd)
        return self._fd is not None


class Stillness(object):
    """`with Stillness(...)`: no garbage collection changes the SR's VHDs on this host meanwhile.

    wait_s:            how long to wait for a collection to end
    stop_collection(): called then, before it is waited for once more
    check():           called while waiting, and by the method check()
    """

    _FLAG_EVERY_S = 1.0

    def __init__(self, sr_uuid, wait_s, stop_collection, check):
        self._sr_uuid = sr_uuid
        self._wait_s = wait_s
        self._stop_collection = stop_collection
        self._check_caller = check
        self._held = []
        self._looked_at = 0

    def __enter__(self):
        try:
            self._take(self._wait_s)
        except errors.RetryableError:
            self._stop_collection()
            self._take(self._wait_s)
        return self

    def _take(self, wait_s):
        ends_at = compat.monotonic_s() + wait_s
        while True:
            try:
                with Lock(self._sr_uuid, 'sr', wait_s, self._check_caller):
                    self._hold('gc_active')
                self._hold('running')
                return
            except errors.RetryableError:
                self._release()
                if compat.monotonic_s() >= ends_at:
                    raise
                self._check_caller()
                time.sleep(_RETRY_S)

    def _hold(self, name):
        lock = Lock(self._sr_uuid, name, 0, is_shared=True)  # by trying: nobody may wait for these under `sr`
        self._held.append(lock.__enter__())

    def check(self):
        """Raises what the caller's check raises, and errors.RetryableError when SM wants the SR; to be called every second."""
        self._check_caller()
        now = compat.monotonic_s()
        # Somebody detaches the SR, and waits a minute for it at most.
        if now - self._looked_at >= self._FLAG_EVERY_S:
            self._looked_at = now
            if os.path.exists(os.path.join(paths.locate(paths.SM_IPC), self._sr_uuid, 'abort')):
                raise errors.RetryableError('the storage manager wants SR %s for something else' % self._sr_uuid)

    def __exit__(self, kind, value, traceback):
        self._release()

    def _release(self):
        while self._held:
            self._held.pop().release()


def is_collecting(sr_uuid):
    """Whether SM's garbage collection of this SR runs on this host, by asking for its locks, not taking them.

    Our own readers share them, and do not count: a shared lock hinders none that would be shared.
    """
    return any(is_held(os.path.join(paths.locate(paths.SM_LOCKS), sr_uuid, name)) for name in ('gc_active', 'running'))


def is_held(path):
    """Whether another process has a record lock on a file for itself; asked, not tried.  Raises EnvironmentError."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except EnvironmentError as error:
        if error.errno == errno.ENOENT:  # nobody has ever taken it
            return False
        raise
    try:
        answer = fcntl.fcntl(fd, fcntl.F_GETLK, struct.pack(_FLOCK, fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0))
        return struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK
    finally:
        os.close(fd)
