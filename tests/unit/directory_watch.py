# SPDX-License-Identifier: Apache-2.0
"""The names that come and go in a directory, as the kernel tells them (inotify)."""

from __future__ import absolute_import, division

import ctypes
import os
import struct


class Watch(object):
    """inotify: the names that appear in a directory and go, in order."""

    _CREATE, _DELETE, _MOVED_TO, _MOVED_FROM = 0x100, 0x200, 0x80, 0x40

    def __init__(self, directory):
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_NONBLOCK)
        assert self._fd >= 0
        mask = self._CREATE | self._DELETE | self._MOVED_TO | self._MOVED_FROM
        assert libc.inotify_add_watch(self._fd, directory.encode('utf-8'), mask) >= 0

    def read_events(self):
        data, events = os.read(self._fd, 65536), []
        os.close(self._fd)
        while data:
            _, mask, _, length = struct.unpack('iIII', data[:16])
            name = data[16:16 + length].rstrip(b'\0').decode('utf-8')
            events.append(('+' if mask & (self._CREATE | self._MOVED_TO) else '-') + name)
            data = data[16 + length:]
        return events
