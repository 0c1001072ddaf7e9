# SPDX-License-Identifier: Apache-2.0
"""The storage manager's lock files, taken as it takes them: POSIX record locks on /var/lock/sm/<object>/<name>.

Such a lock belongs to a process and goes when the process closes any descriptor of the file. So each file is opened once
here, and threads of this process exclude one another with a lock of their own. Code in this process must not open them.
"""

import contextlib
import fcntl
import os
import threading
import time

_POLL_S = 0.02


class LockTimeout(Exception):
    """Somebody else holds the lock."""


class SmLocks(object):

    def __init__(self, directory):
        self._directory = directory
        self._guard = threading.Lock()
        self._files = {}

    @contextlib.contextmanager
    def hold(self, namespace, name, timeout_s):
        """Hold <directory>/<namespace>/<name>; timeout_s 0 means try once. Raises LockTimeout."""
        deadline = time.monotonic() + timeout_s
        thread_lock, lock_file = self._open(namespace, name)
        if not thread_lock.acquire(timeout=timeout_s) if timeout_s else not thread_lock.acquire(blocking=False):
            raise LockTimeout(lock_file.name)
        try:
            self._lock_file(lock_file, deadline)
            try:
                yield
            finally:
                fcntl.lockf(lock_file, fcntl.LOCK_UN)
        finally:
            thread_lock.release()

    def close(self):
        for _, lock_file in self._files.values():
            lock_file.close()

    def _open(self, namespace, name):
        path = os.path.join(self._directory, namespace, name)
        with self._guard:
            if path not in self._files:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                self._files[path] = threading.Lock(), open(path, "w+")
            return self._files[path]

    @staticmethod
    def _lock_file(lock_file, deadline):
        while True:
            try:
                fcntl.lockf(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError:
                if time.monotonic() >= deadline:
                    raise LockTimeout(lock_file.name)
            time.sleep(_POLL_S)
