# SPDX-License-Identifier: Apache-2.0
"""Fuzz target: ISO 9660 images, and the smallest ones that a seed can be made of."""

import os
import struct

from dom0_lib import errors
from dom0_lib.boot import iso9660

_FIRST_BYTE = 16 * iso9660.SECTOR_BYTES
_ROOT, _FILE = 18, 19


def fuzz_iso(data):
    """Only InvalidImage escapes; each file is inside the image, its name is no path, and its content is as long as its record says.

    An input is the image without its first 16 sectors, which ISO 9660 leaves unused.
    """
    descriptor = os.memfd_create("iso")
    with open(descriptor, "w+b", 0) as source:
        source.seek(_FIRST_BYTE)
        source.write(bytes(data))
        try:
            image = iso9660.Image(source)
            for entry in image.files:
                _check_file(image, entry)
        except errors.InvalidImage as error:
            assert "\n" not in str(error) and len(str(error)) < 400


def _check_file(image, entry):
    for part in entry.path.split(b"/"):
        assert part not in (b"", b".", b"..") and not any(c < 32 or c == 127 for c in part), entry.path
    assert all(0 <= offset and offset + size <= image.size_bytes for offset, size in entry.extents if size)
    read_bytes = 0
    for piece in image.read(entry, 4096):
        read_bytes += len(piece)
        if read_bytes > 1 << 20:  # one sector may be named by thousands of files
            return
    assert read_bytes == entry.size_bytes


def make_iso(*records):
    """An image without its first 16 sectors; its root directory holds these records besides its own two."""
    descriptor = bytearray(iso9660.SECTOR_BYTES)
    descriptor[:7] = b"\1CD001\1"
    descriptor[40:72] = b"VOLUME".ljust(32)
    descriptor[128:130] = struct.pack("<H", iso9660.SECTOR_BYTES)
    descriptor[156:190] = make_record(b"\0", _ROOT, iso9660.SECTOR_BYTES, 2)
    end = b"\xffCD001\1".ljust(iso9660.SECTOR_BYTES, b"\0")
    root = b"".join([make_record(b"\0", _ROOT, iso9660.SECTOR_BYTES, 2, b"SP\7\1\xbe\xef\0"),
                     make_record(b"\1", _ROOT, iso9660.SECTOR_BYTES, 2)] + list(records))
    return bytes(descriptor) + end + root.ljust(iso9660.SECTOR_BYTES, b"\0") + b"content".ljust(iso9660.SECTOR_BYTES, b"\0")


def make_record(name, sector=_FILE, size_bytes=7, flags=0, system_use=b""):
    """A directory record."""
    body = struct.pack("<BI4xI11x3B4x", 0, sector, size_bytes, flags, 0, 0) + bytes([len(name)]) + name
    body += b"\0" * ((len(body) + 1) % 2) + system_use
    body += b"\0" * ((len(body) + 1) % 2)
    return bytes([len(body) + 1]) + body


def make_seeds():
    long_name, mode = b"NM\x0d\1\0long.txt", b"PX\x24\1" + struct.pack("<I", 0o100644).ljust(32, b"\0")
    yield make_iso()
    yield make_iso(make_record(b"README.;1"), make_record(b"B;1", size_bytes=0))
    yield make_iso(make_record(b"DIR", 18, 2048, 2))
    yield make_iso(make_record(b"A;1", system_use=long_name + mode))
    yield make_iso(make_record(b"A;1", flags=0x80), make_record(b"A;1"))
    yield make_iso(make_record(b"L;1", system_use=b"PX\x24\1" + struct.pack("<I", 0o120777).ljust(32, b"\0")))
    yield make_iso(make_record(b"C;1", system_use=b"CE\x1c\1" + struct.pack("<I4xI4xI4x", _FILE, 0, 100)))
