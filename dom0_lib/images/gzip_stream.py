# SPDX-License-Identifier: Apache-2.0
"""Inflate a stream that may be gzip or not compressed at all; deflate one in blocks."""

from __future__ import absolute_import, division

import struct
import zlib

from dom0_lib import errors
from dom0_lib.images import block_deflate

_MAGIC = b'\x1f\x8b'
_WITH_GZIP_HEADER = 31  # zlib's window bits 15, plus 16: it reads the header and checks CRC and length of the trailer
_OUTPUT_BYTES = 1 << 20
BLOCK_BYTES = 512 * 1024
# No name, no time, "unknown" operating system: the same disk makes the same archive.
_HEADER = b'\x1f\x8b\x08\0\0\0\0\0\0\xff'
_EMPTY_LAST_BLOCK = b'\x03\0'


class Inflater(object):
    """feed() pieces as they come, each of which yields inflated pieces of at most 1 MiB, then finish()."""

    def __init__(self):
        self._pending = b''
        self._stream = None
        self._is_plain = False
        self._members = 0

    def feed(self, data):
        """Yields what `data` inflates to.  Raises errors.InvalidImage."""
        if self._is_plain:
            yield data
            return
        data = self._pending + data
        self._pending = b''
        while data:
            if self._stream is None:
                data = self._begin(data)
                if self._is_plain:
                    yield data
                if self._stream is None:
                    return
            try:
                inflated = self._stream.decompress(data, _OUTPUT_BYTES)
            except zlib.error as error:
                raise errors.InvalidImage('the gzip data of the image is damaged: %s' % error)
            data = self._stream.unconsumed_tail
            if self._stream.unused_data:
                data = self._stream.unused_data
                self._stream = None
            if inflated:
                yield inflated

    def finish(self):
        """Raises errors.InvalidImage unless the stream ended where a gzip member, or plain data, may end."""
        if self._pending or self._stream and not _is_at_end(self._stream):
            raise errors.InvalidImage('the gzip data of the image is cut short')

    def _begin(self, data):
        """Decide what begins with `data`; returns them without padding."""
        if self._members:
            data = data.lstrip(b'\0')  # tapes and some tools pad with zeros
        if len(data) < len(_MAGIC) and _MAGIC.startswith(data):
            self._pending = data
        elif data.startswith(_MAGIC):
            self._stream = zlib.decompressobj(_WITH_GZIP_HEADER)
            self._members += 1
        elif self._members:
            raise errors.InvalidImage('the image has other data after the end of its gzip data')
        else:
            self._is_plain = True
        return data


def _is_at_end(stream):
    # Only Python 3 can ask a stream; a byte too many tells it on both.
    try:
        return not stream.decompress(b'\0') and bool(stream.unused_data)
    except zlib.error:
        return False


class Deflater(object):
    """One gzip member made of blocks that several threads deflate, each without knowledge of the others.

    Each block ends with a full flush: at a byte, with an empty window.  Any reader takes the result for ordinary gzip, and
    one that knows where the blocks begin can inflate them in parallel.  With blocks of 512 KiB this costs 0.25 % of size.

        header | split() -> deflate(block) in any thread, in order -> trailer()
    """

    def __init__(self, level):
        self._level = level
        self._deflate = block_deflate.choose()
        self._crc = 0
        self._size_bytes = 0

    def split(self, pieces):
        """Yield the stream of `pieces` in blocks of BLOCK_BYTES, and keep their checksum."""
        waiting, waiting_bytes = [], 0
        for piece in pieces:
            while waiting_bytes + len(piece) >= BLOCK_BYTES:
                taken = BLOCK_BYTES - waiting_bytes
                yield self._account(b''.join(waiting + [piece[:taken]]))
                waiting, waiting_bytes, piece = [], 0, piece[taken:]
            waiting.append(piece)
            waiting_bytes += len(piece)
        if waiting_bytes:
            yield self._account(b''.join(waiting))

    def _account(self, block):
        self._crc = zlib.crc32(block, self._crc)
        self._size_bytes += len(block)
        return block

    def deflate(self, block):
        """The compressed bytes of one block."""
        return self._deflate(block, self._level)

    @property
    def header(self):
        return _HEADER

    def trailer(self):
        """The end of the member, when all blocks have been split off."""
        return _EMPTY_LAST_BLOCK + struct.pack('<II', self._crc & 0xffffffff, self._size_bytes & 0xffffffff)
