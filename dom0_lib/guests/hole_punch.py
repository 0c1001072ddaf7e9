# SPDX-License-Identifier: Apache-2.0
"""The disk space of a file's beginning, given back while another program goes on writing at the end.

A hole is punched.  Nothing moves, so programs that write, with O_APPEND (xenconsoled) or at an offset of their own (QEMU), and
programs that read go on undisturbed, and the end of the file is always complete.  The file keeps its size; st_blocks tells its
disk space.  (FALLOC_FL_COLLAPSE_RANGE would shorten the file.  But QEMU would then write its next byte far beyond the new end.)
"""

from __future__ import absolute_import, division

import errno
import os

from dom0_lib.system import durable_file

# A multiple of the block size of every file system: for a part of a block, the kernel would write zeros instead of a hole.
UNIT_BYTES = 64 * 1024
# <linux/falloc.h>: FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
_PUNCH = 0x01 | 0x02
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS)
# Stop after this many bytes: a writer may append faster than we copy.
_MAX_MOVED_BYTES = 64 << 20


def give_back(fd, kept_bytes):
    """Give back the space of a file, except for its last `kept_bytes` to `kept_bytes` + UNIT_BYTES.  Raises EnvironmentError.

    fd: open for reading and writing, without O_APPEND
    If the file system cannot punch holes, the end is copied to the beginning and the rest is cut off: bytes that others write in
    the moment between may be lost.
    """
    end = (os.fstat(fd).st_size - kept_bytes) // UNIT_BYTES * UNIT_BYTES
    if end > 0 and not _punch(fd, end):
        _move_to_front(fd, end)


def _punch(fd, size_bytes):
    """Punch a hole.  Returns whether that was possible: not every file system can do it, nor an interpreter without ctypes."""
    try:
        import ctypes
        fallocate = ctypes.CDLL(None, use_errno=True).fallocate64
    except (ImportError, AttributeError):
        return False
    fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    if fallocate(fd, _PUNCH, 0, size_bytes) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise EnvironmentError(number, os.strerror(number))


def _move_to_front(fd, start):
    """Copy, then truncate: a killed call leaves the end in its place, and bytes that others append meanwhile are copied, too."""
    moved = 0
    while moved < _MAX_MOVED_BYTES:
        os.lseek(fd, start + moved, os.SEEK_SET)
        piece = os.read(fd, UNIT_BYTES)
        if not piece:
            break
        os.lseek(fd, moved, os.SEEK_SET)
        durable_file.write_all(fd, piece)
        moved += len(piece)
    os.ftruncate(fd, moved)
