# SPDX-License-Identifier: Apache-2.0
"""Fuzz target: a foreign VHD on its way through the decoder, as a stream and as a file."""

import contextlib
import os
import tempfile

from dom0_lib import errors
from dom0_lib.formats import vhd_decoder
from dom0_lib.system import sparse_file
from tests.security.fuzz import images

_MAX_GUEST_BYTES = 64 << 20
_PIECES = (1, 511, 4096, 65537, 1 << 20)
_SPREAD = [bytes(bits >> 7 - place & 1 for place in range(8)) for bits in range(256)]


class TooLarge(Exception):
    """The disk would take the memory of this process, not that of the decoder."""


class Seen(object):
    """What a sink is told, in a form that does not depend on the pieces."""

    def begin(self, disk):
        if disk.size_bytes > _MAX_GUEST_BYTES:
            raise TooLarge
        self.disk = (disk.size_bytes, disk.is_child, disk.extents and tuple(disk.extents))
        self.present = bytearray(disk.size_bytes // 512 + 1)
        self.data = {}

    def put(self, offset, size_bytes, data=None, present=None):
        assert 0 < size_bytes and offset + size_bytes <= self.disk[0]
        first, count = offset // 512, -(-size_bytes // 512)
        bits = b"\1" * count if present is None else b"".join(_SPREAD[byte] for byte in present)[:count]
        assert len(bits) == count and (self.disk[2] is None or not any(self.present[first:first + count]))
        self.present[first:first + count] = bits
        if data is not None and data.tobytes().strip(b"\0"):
            for number in range(count):
                content = data[512 * number:512 * number + 512].tobytes()
                if bits[number] and content.strip(b"\0"):
                    self.data[first + number] = self.data.get(first + number, b"") + content

    def finish(self):
        self.present = bytes(self.present)


def fuzz_vhd_decoder(data):
    """A stream is refused by the named errors alone, or gives the guest what the same bytes in a file give."""
    if len(data) < 4:
        return
    disk = images.unpack_vhd(data[1:])
    size_bytes = disk.seek(0, 2)
    fd = os.memfd_create("file")
    try:
        disk.seek(0)
        for start in range(0, size_bytes, 1 << 20):
            os.pwrite(fd, disk.read(min(1 << 20, size_bytes - start)), start)
        outcomes = [_decode(lambda sink: vhd_decoder.decode_file(fd, sink)),
                    _decode(lambda sink: _stream(fd, size_bytes, sink, data[0]))]
    finally:
        os.close(fd)
    assert outcomes[1] is None or outcomes[0] == outcomes[1], "the stream of the file gives another disk"


def _decode(decode):
    sink = Seen()
    try:
        decode(sink)
    except (errors.InvalidImage, TooLarge) as error:
        assert isinstance(error, TooLarge) or error.rule and "\n" not in str(error) and len(str(error)) < 400
        return None
    return sink.disk, sink.present, sink.data


def _stream(fd, size_bytes, sink, choice):
    piece_bytes = _PIECES[choice // 2 % len(_PIECES)]
    if size_bytes > 1000 * piece_bytes:
        piece_bytes = 1 << 20
    with contextlib.ExitStack() as stack:

        def make_spool():
            directory = stack.enter_context(tempfile.TemporaryDirectory())
            spool = sparse_file.PlacedFile(os.path.join(directory, "spool"), lambda size: None)
            stack.callback(spool.close)
            return spool

        decoder = vhd_decoder.Decoder(sink, make_spool, size_bytes if choice & 1 else None)
        for start in range(0, size_bytes, piece_bytes):
            decoder.write(memoryview(os.pread(fd, min(piece_bytes, size_bytes - start), start)))
        decoder.finish()
