# SPDX-License-Identifier: Apache-2.0
"""An image in an open file, read at any place, its holes not read at all."""

from __future__ import absolute_import, division

import errno
import os

from dom0_lib.formats import refusal

_PIECE_BYTES = 1024 * 1024
# Python 2 has no names for these.
_SEEK_DATA, _SEEK_HOLE = 3, 4


class ImageFile(object):
    """The first `size_bytes` of the open file `fd`; all of it if that is None.  Raises EnvironmentError."""

    def __init__(self, fd, size_bytes=None):
        self._fd = fd
        self.size_bytes = os.fstat(fd).st_size if size_bytes is None else size_bytes

    def read(self, offset, count):
        """`count` bytes at `offset`; errors.InvalidImage if the image ends before."""
        if offset + count > self.size_bytes:
            raise refusal.damaged('cut_short', 'the file ends at byte %d, inside something that should reach to byte %d' % (
                self.size_bytes, offset + count))
        return b''.join(data.tobytes() if data else b'\0' * size for size, data in self._read_data(offset, offset + count))

    def read_some(self, offset, count):
        """The same, or fewer bytes where the image ends before."""
        return self.read(min(offset, self.size_bytes), min(count, max(0, self.size_bytes - offset)))

    def read_span(self, start, end):
        """Yield (size, memoryview) of the bytes from `start` to `end` in pieces; None in place of the view for a hole."""
        while start < end:
            data = min(end, self._seek(start, _SEEK_DATA, end))
            if data > start:
                yield data - start, None
                start = data
            hole = min(end, self._seek(start, _SEEK_HOLE, end)) if start < end else end
            for piece in self._read_data(start, hole):
                yield piece
            start = max(start, hole)

    def _read_data(self, start, end):
        while start < end:
            os.lseek(self._fd, start, os.SEEK_SET)
            piece = os.read(self._fd, min(end - start, _PIECE_BYTES))
            if not piece:
                raise refusal.damaged('cut_short', 'the file became shorter while it was read')
            yield len(piece), memoryview(piece)
            start += len(piece)

    def _seek(self, position, whence, end):
        """The next data or hole from `position` on, `end` if there is none; a file system that cannot tell has data alone."""
        try:
            return os.lseek(self._fd, position, whence)
        except EnvironmentError as error:
            if error.errno == errno.ENXIO:
                return end
            if error.errno != errno.EINVAL:
                raise
            return position if whence == _SEEK_DATA else end
