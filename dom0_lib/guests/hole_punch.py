# SPDX-License-Identifier: Apache-2.0
"""Giving back the disk space of a file's beginning while somebody else goes on writing at its end.

A hole is punched: nothing moves, so whoever writes, with O_APPEND as xenconsoled or at an offset of its own as QEMU, and whoever
reads goes on undisturbed, and no byte of the end is ever away.  The file's size stays; the space it takes is st_blocks.
(FALLOC_FL_COLLAPSE_RANGE would shorten the file, too.  But QEMU's next byte would then come to lie far behind its end.)
"""

from __future__ import absolute_import, division

import errno
import os

from dom0_lib.system import durable_file

# A multiple of the blocks of every file system: holes in parts of blocks would be zeros written.
UNIT_BYTES = 64 * 1024
# <linux/falloc.h>: FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
_PUNCH = 0x01 | 0x02
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS)
# What is read behind a writer that is faster than we are.
_MAX_MOVED_BYTES = 64 << 20


def give_back(fd, kept_bytes):
    """Let go of the first bytes of a file open for reading and writing (not O_APPEND), of all but the last `kept_bytes` or up to
    UNIT_BYTES more.  Raises EnvironmentError.

    Where the file system cannot punch holes, the end is copied to the beginning and the rest cut off: what others write in the
    moment between may be lost.
    """
    end = (os.fstat(fd).st_size - kept_bytes) // UNIT_BYTES * UNIT_BYTES
    if end > 0 and not _punch(fd, end):
        _move_to_front(fd, end)


def _punch(fd, size_bytes):
    """Whether there is a hole now; False where the file system, or this interpreter, cannot make one."""
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
    """In this order a killed call leaves the end where it was, and what is written meanwhile comes along."""
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
