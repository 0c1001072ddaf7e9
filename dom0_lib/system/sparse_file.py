# SPDX-License-Identifier: Apache-2.0
"""The writing of files in an SR, or in another file system for guests' data: sparse, and synced before they are published."""

from __future__ import absolute_import, division

import errno
import fcntl
import os
import struct

from dom0_lib import errors
from dom0_lib import faults
from dom0_lib.system import durable_file
from dom0_lib.system import os_errors
from dom0_lib.system import pipeline

PLACE = 'the SR'
# The errors of file systems without hard links.
NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
# The unit in which zeros are left out: smaller ones cost more calls than they save space.
_HOLE_BYTES = 64 * 1024
_ZEROS = b'\0' * _HOLE_BYTES
_GLANCE_BYTES = 64
_PIECE_BYTES = 1024 * 1024
# The unit of st_blocks.
_BLOCK_BYTES = 512
# <linux/fs.h>; Python 2 has no names for these.
_FICLONE, _FICLONERANGE = 0x40049409, 0x4020940d
_SEEK_DATA, _SEEK_HOLE = 3, 4
# Written data is synced in steps of this size while more comes: dom0's small memory does not fill with dirty pages, and
# the sync before publication has little left to do (0.4 s less for an 800 MB disk).
_SYNC_BYTES = 64 * 1024 * 1024


def sync(path, place=PLACE):
    """Sync a file, or the names in a directory, to the disk."""
    with os_errors.StorageErrors('cannot write to %s' % place):
        durable_file.sync(path)


def find_data(view):
    """The offset of the first unit of a memoryview that has data; None if all of it is zeros."""
    for start in range(0, len(view), _HOLE_BYTES):
        if not _is_zeros(view, start, min(len(view), start + _HOLE_BYTES)):
            return start
    return None


def _is_zeros(view, start, end):
    # Python 3 compares a memoryview with bytes element by element, 1.8 s for a GB: hence the copies, which cost 0.05 s.
    if view[start:min(end, start + _GLANCE_BYTES)].tobytes().strip(b'\0'):
        return False
    data = view[start:end].tobytes()
    return data == (_ZEROS if end - start == _HOLE_BYTES else _ZEROS[:end - start])


class PlacedFile(object):
    """A new file at `path`, all zeros until write_at(), which takes its pieces in any order.  Zeros are not written.

    require_room(size_bytes): raises errors.StorageError unless the file system has as many bytes to spare
    place: the name of the file system in errors
    """

    def __init__(self, path, require_room, place=PLACE):
        self._place = place
        self._unsynced_bytes = 0
        self._sync = None
        self.require_room = require_room
        with os_errors.StorageErrors('cannot write to %s' % place):
            self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)

    def write_at(self, offset, view):
        """Write a memoryview at a place of the file; zeros of it must not be meant to replace data."""
        with os_errors.StorageErrors('cannot write to %s' % self._place):
            start = end = 0  # of the run of units with data in them
            while end < len(view):
                unit_end = min(len(view), end + _HOLE_BYTES - (offset + end) % _HOLE_BYTES)
                if _is_zeros(view, end, unit_end):
                    self._write_run(offset + start, view[start:end])
                    start = unit_end
                end = unit_end
            self._write_run(offset + start, view[start:])
            faults.point('staging.written')

    def _write_run(self, offset, view):
        if not view:
            return
        os.lseek(self.fd, offset, os.SEEK_SET)
        self._unsynced_bytes += len(view)
        durable_file.write_all(self.fd, view)
        if self._unsynced_bytes >= _SYNC_BYTES:
            self._unsynced_bytes = 0
            self.require_room(0)
            if self._sync is None:
                self._sync = pipeline.Stage(os.fdatasync, 1)
            self._sync.put(self.fd)

    def clone_at(self, offset, fd, source_offset, size_bytes):
        """Share this part of another open file's blocks instead of a copy; False where the file system cannot."""
        try:
            fcntl.ioctl(self.fd, _FICLONERANGE, struct.pack('qQQQ', fd, source_offset, size_bytes, offset))
            return True
        except EnvironmentError:
            return False  # for any reason: reading and writing will tell

    def read_at(self, offset, size_bytes):
        """Bytes that were written; fewer where the file ends."""
        with os_errors.StorageErrors('cannot read from %s' % self._place):
            os.lseek(self.fd, offset, os.SEEK_SET)
            return os.read(self.fd, size_bytes)

    def set_length(self, size_bytes):
        """Make the file so long."""
        with os_errors.StorageErrors('cannot write to %s' % self._place):
            os.ftruncate(self.fd, size_bytes)

    def settle(self):
        """Wait for the thread that writes data to the disk, and end it; a later write_at() starts another."""
        with os_errors.StorageErrors('cannot write to %s' % self._place):
            if self._sync:
                sync, self._sync = self._sync, None
                sync.close()

    def sync(self):
        """Have all data on the disk."""
        self.settle()
        with os_errors.StorageErrors('cannot write to %s' % self._place):
            os.fsync(self.fd)

    def close(self):
        """Close the file, finished or not."""
        if self.fd is not None:
            if self._sync:
                self._sync.abandon()
            fd, self.fd = self.fd, None
            os.close(fd)


class File(PlacedFile):
    """A new file of `size_bytes`: write() its content in order, or copy() all of another file, then finish()."""

    def __init__(self, path, size_bytes, require_room, place):
        super(File, self).__init__(path, require_room, place)
        self._size_bytes = size_bytes
        self._position = 0

    def write(self, view):
        """Write a memoryview behind what was written before."""
        self.write_at(self._position, view)
        self._position += len(view)

    def copy(self, fd, report):
        """Copy all of the open file `fd`: its blocks are shared if the file system can share them; if not, its holes stay holes.

        report(size_bytes): called for each piece; an exception from it ends the copy
        """
        with os_errors.StorageErrors('cannot copy to %s' % self._place):
            status = os.fstat(fd)
            if self._clone(fd):
                report(status.st_size)
            else:
                self.require_room(_BLOCK_BYTES * status.st_blocks)
                for start, end in _list_extents(fd, status.st_size):
                    self._position = start
                    for piece in _read_extent(fd, start, end):
                        self.write(memoryview(piece))
                        report(len(piece))
            if os.fstat(fd).st_size != status.st_size:
                raise errors.StorageError('a file changed its size while it was copied')

    def _clone(self, fd):
        try:
            fcntl.ioctl(self.fd, _FICLONE, fd)
            return True
        except EnvironmentError:
            return False  # for any reason: reading and writing will show a real problem

    def finish(self):
        """Close the complete file."""
        self.set_length(self._size_bytes)
        self.settle()
        with os_errors.StorageErrors('cannot write to %s' % self._place):
            self.close()
            faults.point('staging.file_finished')


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
