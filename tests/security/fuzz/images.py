# SPDX-License-Identifier: Apache-2.0
"""Fuzz targets: the parts of an image."""

import gzip
import io
import tarfile
import zlib

from dom0_lib import errors
from dom0_lib.disks import vhd
from dom0_lib.images import gzip_stream
from dom0_lib.images import tarball

_RESEAL_FOOTERS, _RESEAL_HEADER, _RESEAL_BATMAP, _COPY_FOOTER = 1, 2, 4, 8
_MAX_INFLATED_BYTES = 8 << 20
_MIB = 1 << 20


class HoledFile(io.RawIOBase):
    """A file of a beginning, zeros and an end: a VHD with blocks fits into a kilobyte."""

    def __init__(self, beginning, zeros, end):
        super().__init__()
        # Later data replace earlier data.
        self._parts = [(0, bytes(beginning)), (len(beginning) + zeros, bytes(end))]
        self.written = []
        self._size = len(beginning) + zeros + len(end)
        self._position = 0

    def seek(self, offset, whence=0):
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position

    def tell(self):
        return self._position

    def read(self, size=-1):
        assert 0 <= size <= _MIB, "one read of %d bytes" % size
        size = max(0, min(size, self._size - self._position))
        data = bytearray(size)
        for start, part in self._parts + self.written:
            first, last = max(start, self._position), min(start + len(part), self._position + size)
            if first < last:
                data[first - self._position:last - self._position] = part[first - start:last - start]
        self._position += size
        return bytes(data)

    def write(self, data):
        self.written.append((self._position, bytes(data)))
        self._position += len(data)
        self._size = max(self._size, self._position)
        return len(data)

    def flush(self):
        pass


def unpack_vhd(data):
    """The file in an input: flags, MiB of zeros before the last 512 bytes, and the rest."""
    flags, zeros, body = data[0], data[1] << 20, bytearray(data[2:])
    beginning, end = body[:-vhd.FOOTER_SIZE], body[-vhd.FOOTER_SIZE:]
    if flags & _COPY_FOOTER and len(beginning) >= vhd.FOOTER_SIZE:
        beginning[:vhd.FOOTER_SIZE] = end
    if flags & _RESEAL_FOOTERS:
        end = _reseal(vhd.Footer, end, 0)
        beginning = _reseal(vhd.Footer, beginning, 0)
    offset = vhd.Footer.parse(bytes(end)).data_offset if len(end) == vhd.FOOTER_SIZE else 0
    if flags & _RESEAL_HEADER:
        beginning = _reseal(vhd.Header, beginning, offset)
    if flags & _RESEAL_BATMAP and offset + vhd.HEADER_SIZE <= len(beginning):
        _reseal_batmap(beginning, vhd.Header.parse(bytes(beginning[offset:offset + vhd.HEADER_SIZE])))
    return HoledFile(beginning, zeros, end)


def _reseal(kind, data, offset):
    size = kind._layout.size
    if offset + size > len(data):
        return data
    return data[:offset] + kind.parse(bytes(data[offset:offset + size])).seal() + data[offset + size:]


def _reseal_batmap(data, header):
    start = header.bat_end
    if start + vhd.BATMAP_HEADER_SIZE <= len(data):
        batmap = vhd.Batmap.parse(bytes(data[start:start + vhd.BATMAP_HEADER_SIZE]))
        batmap.checksum = vhd.compute_checksum(data[batmap.offset:batmap.offset + batmap.size_sectors * vhd.SECTOR_SIZE])
        data[start:start + vhd.BATMAP_HEADER_SIZE] = batmap.pack()


class _Member(object):

    def __init__(self, size_bytes):
        self.size_bytes = size_bytes
        self.data = b""
        self.is_finished = False

    def write(self, view):
        assert not self.is_finished
        self.data += bytes(view)
        assert len(self.data) <= self.size_bytes

    def finish(self):
        assert len(self.data) == self.size_bytes
        self.is_finished = True


def _read_tar(data, piece_bytes):
    """([(name, data)] or None, the refusal): the archive as dom0_lib.images.tarball reads it in pieces."""
    members = []

    def open_member(name, size_bytes):
        assert name and not name.startswith("/") and ".." not in name.split("/")
        assert all(" " <= c <= "~" for c in name)
        members.append((name, _Member(size_bytes)))
        return members[-1][1]
    reader = tarball.Reader(open_member)
    try:
        for start in range(0, len(data), piece_bytes):
            reader.feed(data[start:start + piece_bytes])
        reader.finish()
    except (errors.InvalidImage, errors.UnsafeImage) as error:
        assert "\n" not in str(error) and len(str(error)) < 400
        return None, str(error)
    assert all(member.is_finished for _, member in members)
    return [(name, member.data) for name, member in members], None


def fuzz_tar(data):
    """Only InvalidImage escapes, the pieces make no difference, and Python's own reader sees the same files in it."""
    if not data:
        return
    data, piece_bytes = _seal_tar(bytes(data[1:])) if data[0] & 1 else bytes(data[1:]), 1 + 3 * (data[0] >> 1)
    members, refusal = _read_tar(data, 1 << 20)
    assert _read_tar(data, piece_bytes) == (members, refusal)
    if members is None:
        return
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            files = [entry for entry in archive if not entry.isdir() and entry.type not in (b"D", b"V")]
            others = [(entry, archive.extractfile(entry)) for entry in files]
            others = [(_plain_name(entry.name), other and other.read()) for entry, other in others]
    except (tarfile.TarError, ValueError):
        return  # it reads fields that nothing here looks at
    # It ends, and says nothing, at a field that it cannot read.
    assert others == members[:len(others)], (others, members)


def _seal_tar(data):
    """The archive with a right checksum in each block that has a checksum's form."""
    sealed = bytearray(data)
    for start in range(0, len(data) - 511, 512):
        if data[start + 154:start + 156] == b"\0 ":
            block = data[start:start + 512]
            total = sum(block[:148]) + 8 * 32 + sum(block[156:])
            sealed[start + 148:start + 156] = b"%06o\0 " % total
    return bytes(sealed)


def _plain_name(name):
    name = "".join(c if " " <= c <= "~" else "?" for c in name.encode("utf-8", "surrogateescape").decode("latin-1"))
    while name.startswith("./"):
        name = name[2:]
    return name


def fuzz_gzip(data):
    """Only InvalidImage escapes, each piece is small even if the data inflate to much more, and zlib inflates to the same data."""
    if not data:
        return
    data, piece_bytes = bytes(data[1:]), 1 + 5 * data[0]
    inflater, inflated = gzip_stream.Inflater(), b""
    try:
        for start in range(0, len(data), piece_bytes):
            for piece in inflater.feed(data[start:start + piece_bytes]):
                assert 0 < len(piece) <= 1 << 20
                inflated += piece
                if len(inflated) > _MAX_INFLATED_BYTES:
                    return
        inflater.finish()
    except errors.InvalidImage as error:
        assert "\n" not in str(error) and len(str(error)) < 400
        return
    if data.startswith(b"\x1f\x8b"):
        try:
            expected = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise AssertionError("taken, but gzip says %s" % error)
        assert inflated == expected
    else:
        assert inflated == data
