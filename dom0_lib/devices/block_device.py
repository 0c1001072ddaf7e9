# SPDX-License-Identifier: Apache-2.0
"""Disks that are plugged into dom0, as devices below /dev."""

from __future__ import absolute_import, division

import errno
import io
import os
import stat

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib import paths
from dom0_lib.system import os_errors


class Disk(object):
    """`with Disk(name) as disk:` opens the device `name`, as XAPI calls it: xvdb, sm/backend/...

    path, size_bytes; fd, open until the end of the block
    is_exclusive: open for writing; refused if a file system, LVM or another program uses the disk or a part of it
    Raises errors.StorageError.
    """

    def __init__(self, name, is_exclusive=False):
        self._name = name
        self._is_exclusive = is_exclusive
        self._file = None
        self.path = locate(name)
        self.size_bytes = None

    def __enter__(self):
        try:
            self._file = _open(self.path, self._is_exclusive)
            try:
                self._check_type()
                self.size_bytes = os.lseek(self.fd, 0, os.SEEK_END)
            except BaseException:
                self._file.close()
                raise
        except EnvironmentError as error:
            if error.errno == errno.EBUSY:
                raise errors.StorageError('%s is in use: it is mounted, or a part of it is' % self._name)
            raise errors.StorageError('cannot open disk %s: %s' % (self._name, compat.to_text(error)))
        return self

    def _check_type(self):
        mode = os.fstat(self.fd).st_mode
        # A plain file in /dev is no disk, except below DOM0_ROOT.
        if not stat.S_ISBLK(mode) and not (paths.are_moved() and stat.S_ISREG(mode)):
            raise errors.StorageError('%s is not a disk' % self._name)

    def __exit__(self, kind, value, traceback):
        self._file.close()

    @property
    def fd(self):
        return self._file.fileno()

    def read_into(self, view, offset):
        """Fill a memoryview with the bytes from `offset` on.  Raises errors.StorageError if they cannot be read."""
        with os_errors.StorageErrors('cannot read disk %s' % self._name):
            self._file.seek(offset)
            done = 0
            while done < len(view):
                count = self._file.readinto(view[done:])
                if not count:
                    raise errors.StorageError('%s ends at byte %d' % (self._name, offset + done))
                done += count

    def sync(self):
        """Flush written data to the disk.  Raises errors.StorageError."""
        with os_errors.StorageErrors('cannot write disk %s' % self._name):
            os.fsync(self.fd)


def locate(name):
    """The path of the device `name`."""
    return os.path.join(paths.locate(paths.DEVICES), name)


def _open(path, is_exclusive):
    # O_EXCL without O_CREAT has this meaning for block devices, and none for plain files.
    flags = os.O_RDWR | os.O_EXCL if is_exclusive else os.O_RDONLY
    # O_NONBLOCK: do not wait for the other end of a FIFO.  O_NOCTTY: a terminal must not become the controlling one.
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        compat.keep_from_children(fd)
        return io.FileIO(fd, 'r+' if is_exclusive else 'r')
    except BaseException:
        os.close(fd)
        raise
