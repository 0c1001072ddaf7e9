# SPDX-License-Identifier: Apache-2.0
"""A private directory inside an SR, where files become complete before anybody else can see them.

It is on the SR's file system, so a finished file moves in by a link.  Its name begins with a dot: SR.scan and the storage
manager's garbage collection look at names in the SR and skip such.
"""

from __future__ import absolute_import, division

import binascii
import errno
import os

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib import log
from dom0_lib import pipeline
from dom0_lib import termination

# How file systems without hard links say so.
NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_PREFIX = '.dom0-plugins-'
# The unit in which zeros become holes: smaller ones cost more calls than they save space.
_HOLE_BYTES = 64 * 1024
_ZEROS = b'\0' * _HOLE_BYTES
# What is written goes to the disk in steps of this size while more comes: dom0's small memory does not fill with dirty
# pages, and the sync before publication has little left to do (0.4 s less for an 800 MB disk).
_SYNC_BYTES = 64 * 1024 * 1024


class Area(object):
    """`with Area(directory) as area:` makes the staging directory and removes it, whatever happens inside."""

    def __init__(self, directory):
        self.path = os.path.join(directory, _PREFIX + binascii.hexlify(os.urandom(8)).decode('ascii'))
        self._files = []

    def __enter__(self):
        with StorageErrors('cannot stage in the SR'):
            os.mkdir(self.path, 0o700)
        return self

    def __exit__(self, kind, value, traceback):
        with termination.Shield():
            try:
                for unfinished in self._files:
                    unfinished.close()  # NFS keeps a file that is removed while open, under another name
                for name in os.listdir(self.path):
                    os.unlink(self.join(name))
                os.rmdir(self.path)
            except EnvironmentError as error:
                # The outcome of the call matters more than the rubbish it leaves.
                log.warning('cannot remove the staging directory %s: %s', self.path, error)

    def join(self, name):
        """The path of a file in the area."""
        return os.path.join(self.path, name)

    def create(self, name, size_bytes):
        """A new file of `size_bytes` in the area, to be written from its beginning to its end."""
        created = _File(self.join(name), size_bytes)
        self._files.append(created)
        return created

    def link(self, path, name):
        """Hold a file of the SR under another name: it stays when the storage manager renames or removes its own."""
        with StorageErrors('cannot stage in the SR'):
            try:
                os.link(path, self.join(name))
            except EnvironmentError as error:
                if error.errno not in NO_HARD_LINKS:
                    raise
                os.symlink(path, self.join(name))

    def size(self, name):
        """The bytes in a file of the area."""
        return os.stat(self.join(name)).st_size

    def read(self, name, size_bytes, piece_bytes):
        """Yield the first `size_bytes` of a file in pieces.  Raises errors.StorageError if it has become shorter."""
        with StorageErrors('cannot read from the SR'):
            with open(self.join(name), 'rb', 0) as fileobj:
                while size_bytes:
                    piece = fileobj.read(min(size_bytes, piece_bytes))
                    if not piece:
                        raise errors.StorageError('%s became shorter while it was read' % name)
                    size_bytes -= len(piece)
                    yield piece

    def rename(self, name, new_name):
        """Give a file in the area another name."""
        with StorageErrors('cannot rename in the SR'):
            os.rename(self.join(name), self.join(new_name))


class StorageErrors(object):
    """`with StorageErrors(what):` turns an operating system error into errors.StorageError that begins with `what`."""

    def __init__(self, what):
        self._what = what

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        if isinstance(value, EnvironmentError):
            full = value.errno in (errno.ENOSPC, errno.EDQUOT)
            raise errors.StorageError('%s: %s' % (self._what, 'it is full' if full else compat.to_text(value)))


class _File(object):
    """write() memoryviews of the content in order, then finish(); aligned runs of zeros become holes."""

    def __init__(self, path, size_bytes):
        self._size_bytes = size_bytes
        self._position = 0
        self._unsynced_bytes = 0
        self._sync = None
        with StorageErrors('cannot write to the SR'):
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)

    def write(self, view):
        with StorageErrors('cannot write to the SR'):
            start = 0  # of the run of pieces with data in them
            end = 0
            while end < len(view):
                piece_end = min(len(view), end + _HOLE_BYTES - self._position % _HOLE_BYTES)
                if piece_end - end == _HOLE_BYTES and view[end:piece_end] == _ZEROS:
                    self._write_run(view[start:end])
                    os.lseek(self._fd, _HOLE_BYTES, os.SEEK_CUR)
                    start = piece_end
                self._position += piece_end - end
                end = piece_end
            self._write_run(view[start:])

    def _write_run(self, view):
        self._unsynced_bytes += len(view)
        while view:
            view = view[os.write(self._fd, view):]
        if self._unsynced_bytes >= _SYNC_BYTES:
            self._unsynced_bytes = 0
            if self._sync is None:
                self._sync = pipeline.Stage(os.fdatasync, 1)
            self._sync.put(self._fd)

    def finish(self):
        """The content is complete."""
        with StorageErrors('cannot write to the SR'):
            os.ftruncate(self._fd, self._size_bytes)
            if self._sync:
                self._sync.close()
            self.close()

    def close(self):
        """Let go of the file, finished or not."""
        if self._fd is not None:
            if self._sync:
                self._sync.abandon()
            fd, self._fd = self._fd, None
            os.close(fd)
