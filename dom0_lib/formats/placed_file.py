# SPDX-License-Identifier: Apache-2.0
"""A new file of an SR whose pieces come in any order: each is written at its place, zeros stay holes."""

from __future__ import absolute_import, division

import os

from dom0_lib.system import pipeline
from dom0_lib.system import sparse_file

# The unit in which zeros are left out; smaller ones cost more calls than they save space.
_HOLE_BYTES = 64 * 1024
_ZEROS = b'\0' * _HOLE_BYTES
_GLANCE_BYTES = 64
# As for sparse_file.File: dom0's small memory does not fill with dirty pages.
_SYNC_BYTES = 64 * 1024 * 1024


def find_data(view):
    """Where the first unit of `view` with data begins; None if all of it is zeros.

    Python 3 compares a memoryview with bytes element by element, 1.8 s for a GB: hence the copies, which cost 0.05 s.
    """
    for start in range(0, len(view), _HOLE_BYTES):
        if not _is_zeros(view, start, min(len(view), start + _HOLE_BYTES)):
            return start
    return None


def _is_zeros(view, start, end):
    if view[start:min(end, start + _GLANCE_BYTES)].tobytes().strip(b'\0'):
        return False
    data = view[start:end].tobytes()
    return data == (_ZEROS if end - start == _HOLE_BYTES else _ZEROS[:end - start])


class PlacedFile(object):
    """A new file at `path`, all zeros until write_at().  A byte of zeros is never written over another.

    require_room(size_bytes): raises errors.StorageError unless the file system has so much to spare
    place: what an error calls the file system
    """

    def __init__(self, path, require_room, place=sparse_file.PLACE):
        self._place = place
        self._unsynced_bytes = 0
        self._sync = None
        self.require_room = require_room
        with sparse_file.StorageErrors('cannot write to %s' % place):
            self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)

    def write_at(self, offset, view):
        """Write a memoryview at a place of the file."""
        with sparse_file.StorageErrors('cannot write to %s' % self._place):
            start = end = 0  # of the run of units with data in them
            while end < len(view):
                unit_end = min(len(view), end + _HOLE_BYTES - (offset + end) % _HOLE_BYTES)
                if _is_zeros(view, end, unit_end):
                    self._write_run(offset + start, view[start:end])
                    start = unit_end
                end = unit_end
            self._write_run(offset + start, view[start:])

    def _write_run(self, offset, view):
        if not view:
            return
        os.lseek(self.fd, offset, os.SEEK_SET)
        self._unsynced_bytes += len(view)
        while view:
            view = view[os.write(self.fd, view):]
        if self._unsynced_bytes >= _SYNC_BYTES:
            self._unsynced_bytes = 0
            self.require_room(0)
            if self._sync is None:
                self._sync = pipeline.Stage(os.fdatasync, 1)
            self._sync.put(self.fd)

    def read_at(self, offset, size_bytes):
        """Bytes that were written; fewer where the file ends."""
        with sparse_file.StorageErrors('cannot read from %s' % self._place):
            os.lseek(self.fd, offset, os.SEEK_SET)
            return os.read(self.fd, size_bytes)

    def set_length(self, size_bytes):
        """Make the file so long."""
        with sparse_file.StorageErrors('cannot write to %s' % self._place):
            os.ftruncate(self.fd, size_bytes)

    def sync(self):
        """Bring what was written to the disk."""
        with sparse_file.StorageErrors('cannot write to %s' % self._place):
            if self._sync:
                sync, self._sync = self._sync, None
                sync.close()
            os.fsync(self.fd)

    def close(self):
        """Let go of the file, finished or not."""
        if self.fd is not None:
            if self._sync:
                self._sync.abandon()
            fd, self.fd = self.fd, None
            os.close(fd)
