# SPDX-License-Identifier: Apache-2.0
"""Inflate a stream that may be gzip, with one or more members, or not compressed at all."""

from __future__ import absolute_import, division

import zlib

from dom0_lib import errors

_MAGIC = b'\x1f\x8b'
_WITH_GZIP_HEADER = 31  # zlib's window bits 15, plus 16: it reads the header and checks CRC and length of the trailer
_OUTPUT_BYTES = 1 << 20


class Inflater(object):
    """feed() pieces as they come, then finish(); both yield inflated pieces of at most 1 MiB."""

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
                if len(data) < len(_MAGIC) and _MAGIC.startswith(data):
                    self._pending = data
                    return
                data = self._begin(data)
                if self._is_plain:
                    yield data
                    return
                continue
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
        # Only Python 3 can ask a stream whether it is at its end; a byte too many tells it on both.
        if self._pending or self._stream and (self._stream.decompress(b'\0') or not self._stream.unused_data):
            raise errors.InvalidImage('the gzip data of the image is cut short')

    def _begin(self, data):
        if data.startswith(_MAGIC):
            self._stream = zlib.decompressobj(_WITH_GZIP_HEADER)
            self._members += 1
            return data
        if not self._members:
            self._is_plain = True
            return data
        if data.strip(b'\0'):
            raise errors.InvalidImage('the image has other data after the end of its gzip data')
        return b''  # tapes and some tools pad with zeros
