# SPDX-License-Identifier: Apache-2.0
"""The writing of files in an SR, or in another file system for guests' data: sparse, and synced before they are published."""

from __future__ import absolute_import, division

import errno
import fcntl
import os

from dom0_lib import errors
from dom0_lib import faults
from dom0_lib.system import durable_file
from dom0_lib.system import os_errors
from dom0_lib.system import pipeline

PLACE = 'the SR'
# The name under which other rooms know os_errors.StorageErrors.
StorageErrors = os_errors.StorageErrors
# The errors of file systems without hard links.
NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
# The size of a hole: smaller ones would save little space and cost many calls.
_HOLE_BYTES = 64 * 1024
_ZEROS = b'\0' * _HOLE_BYTES
_PIECE_BYTES = 1024 * 1024
# The unit of st_blocks.
_BLOCK_BYTES = 512
# <linux/fs.h>; Python 2 has no names for these.
_FICLONE = 0x40049409
_SEEK_DATA, _SEEK_HOLE = 3, 4
# Written data is synced in steps of this size while more comes: dom0's small memory does not fill with dirty pages, and
# the sync before publication has little left to do (0.4 s less for an 800 MB disk).
_SYNC_BYTES = 64 * 1024 * 1024


def sync(path, place=PLACE):
    """Sync a file, or the names in a directory, to the disk."""
    with os_errors.StorageErrors('cannot write to %s' % place):
        durable_file.sync(path)


class File(object):
    """A new file at `path`: write() memoryviews of its content in order, then finish().  Aligned runs of zeros become holes.

    require_room(size_bytes): raises errors.StorageError unless the file system has as many bytes to spare
    place: the file system's name in an error
    """

    def __init__(self, path, size_bytes, require_room, place):
        self._place = place
        self._size_bytes = size_bytes
        self._require_room = require_room
        self._position = 0
        self._unsynced_bytes = 0
        self._sync = None
        with os_errors.StorageErrors('cannot write to %s' % self._place):
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)

    def write(self, view):
        with os_errors.StorageErrors('cannot write to %s' % self._place):
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
            faults.point('staging.written')

    def _write_run(self, view):
        self._unsynced_bytes += len(view)
        durable_file.write_all(self._fd, view)
        if self._unsynced_bytes >= _SYNC_BYTES:
            self._unsynced_bytes = 0
            self._require_room(0)
            if self._sync is None:
                self._sync = pipeline.Stage(os.fdatasync, 1)
            self._sync.put(self._fd)

    def copy(self, fd, report):
        """Copy all of the open file `fd`: its blocks are shared if the file system can share them; if not, its holes stay holes.

        report(size_bytes): called for each piece; an exception from it ends the copy
        """
        with os_errors.StorageErrors('cannot copy to %s' % self._place):
            status = os.fstat(fd)
            if self._clone(fd):
                report(status.st_size)
            else:
                self._require_room(_BLOCK_BYTES * status.st_blocks)
                for start, end in _list_extents(fd, status.st_size):
                    self._position = os.lseek(self._fd, start, os.SEEK_SET)
                    for piece in _read_extent(fd, start, end):
                        self.write(memoryview(piece))
                        report(len(piece))
            if os.fstat(fd).st_size != status.st_size:
                raise errors.StorageError('a file changed its size while it was copied')

    def _clone(self, fd):
        try:
            fcntl.ioctl(self._fd, _FICLONE, fd)
            return True
        except EnvironmentError:
            return False  # for any reason: reading and writing will show a real problem

    def finish(self):
        """End the file: its content is complete."""
        with os_errors.StorageErrors('cannot write to %s' % self._place):
            os.ftruncate(self._fd, self._size_bytes)
            if self._sync:
                self._sync.close()
            self.close()
            faults.point('staging.file_finished')

    def close(self):
        """Close the file, finished or not."""
        if self._fd is not None:
            if self._sync:
                self._sync.abandon()
            fd, self._fd = self._fd, None
            os.close(fd)


def _list_extents(fd, size_bytes):
    """Yield (start, end) of the data in the first `size_bytes` of a file: all but holes, or all where holes are unknown."""
    end = 0
    while end < size_bytes:
        try:
            start = os.lseek(fd, end, _SEEK_DATA)
            end = os.lseek(fd, start, _SEEK_HOLE)
        except EnvironmentError as error:
            if error.errno == errno.ENXIO:  # a hole to the end
                return
            if error.errno != errno.EINVAL:
                raise
            start, end = end, size_bytes
        yield start, min(end, size_bytes)


def _read_extent(fd, start, end):
    """Yield the bytes of a file from `start` to `end` in pieces."""
    while start < end:
        os.lseek(fd, start, os.SEEK_SET)
        piece = os.read(fd, min(end - start, _PIECE_BYTES))
        if not piece:
            return  # the file has become shorter; copy() notices
        start += len(piece)
        yield piece
