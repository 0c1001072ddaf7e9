# SPDX-License-Identifier: Apache-2.0
"""A part of a disk as a block device of its own, through the kernel's loop driver, for programs that format a whole device.

The kernel makes devices for the partitions of some disks only, not of those that tapdisk serves.  kpartx needs the device mapper,
and its mappings stay until it is called again.  A loop device with LO_FLAGS_AUTOCLEAR disappears when its last descriptor is
closed, also if this process is killed.

Layout and numbers: linux/loop.h.
"""

from __future__ import absolute_import, division

import errno
import fcntl
import os
import struct
import time

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib import log
from dom0_lib import paths
from dom0_lib.devices import block_device
from dom0_lib.system import os_errors

_SET_FD, _SET_STATUS64, _CLR_FD, _GET_FREE = 0x4c00, 0x4c04, 0x4c01, 0x4c82
#           device, inode, rdevice | offset, size limit | number, encryption, key size | flags | names, key, init
_INFO = struct.Struct('=24x QQ 12x I 64x 64x 32x 16x')
_AUTOCLEAR = 4
_ATTEMPTS = 20
# udev probes a new device and may still have it open.
_GONE_WAIT_S = 10
_PAUSE_S = 0.02


class Loop(object):
    """`with Loop(fd, offset, size_bytes) as path:` makes a device of a part of the disk that is open for writing as `fd`.

    Raises errors.StorageError.
    """

    def __init__(self, fd, offset, size_bytes):
        self._backing_fd = fd
        self._info = _INFO.pack(offset, size_bytes, _AUTOCLEAR)
        self._fd = None
        self._number = None

    def __enter__(self):
        with os_errors.StorageErrors('cannot make a loop device'):
            return self._attach()

    def _attach(self):
        control_fd = os.open(block_device.locate('loop-control'), os.O_RDWR)
        try:
            for _ in range(_ATTEMPTS):
                # Another program may take the free device first.
                self._number = fcntl.ioctl(control_fd, _GET_FREE)
                path = block_device.locate('loop%d' % self._number)
                self._fd = os.open(path, os.O_RDWR)
                if self._bind():
                    return path
                os.close(self._fd)
        finally:
            os.close(control_fd)
        raise errors.StorageError('cannot make a loop device: %d times another program took the free one first' % _ATTEMPTS)

    def _bind(self):
        try:
            compat.keep_from_children(self._fd)
            fcntl.ioctl(self._fd, _SET_FD, self._backing_fd)
        except EnvironmentError as error:
            if error.errno == errno.EBUSY:
                return False
            os.close(self._fd)
            raise
        try:
            fcntl.ioctl(self._fd, _SET_STATUS64, self._info)
            return True
        except BaseException:
            fcntl.ioctl(self._fd, _CLR_FD)
            os.close(self._fd)
            raise

    def __exit__(self, kind, value, traceback):
        try:
            os.fsync(self._fd)
        except EnvironmentError as error:
            if kind is None:
                raise errors.StorageError('cannot write to the disk: %s' % compat.to_text(error))
        finally:
            os.close(self._fd)
            self._wait_until_gone()

    def _wait_until_gone(self):
        """Wait until the loop device is gone: until then the disk is in use and cannot be unplugged."""
        ends_at = compat.monotonic_s() + _GONE_WAIT_S
        while os.path.exists(paths.locate('/sys/block/loop%d/loop' % self._number)):
            if compat.monotonic_s() > ends_at:
                log.warning('loop%s is still in use; it disappears when it is closed', self._number)
                return
            time.sleep(_PAUSE_S)
