# SPDX-License-Identifier: Apache-2.0
"""Is a file the VHD that dom0_lib.formats.vhd_encoder writes for its disk, byte for byte?

Names are taken from the file: uuid, parent, hidden.  Everything else follows from its size, its BAT, its bitmaps and their data.
A file that passes has no byte of metadata that another program wrote.
"""

from __future__ import absolute_import, division

import struct

from dom0_lib import errors
from dom0_lib.disks import vhd
from dom0_lib.formats import canonical_vhd
from dom0_lib.formats import image_file
from dom0_lib.formats import vhd_encoder

_SECTOR_BYTES, _BLOCK_BYTES = canonical_vhd.SECTOR_BYTES, canonical_vhd.BLOCK_BYTES
_SLICE_BYTES = 64 * 1024


class _Deviation(Exception):
    """The first difference."""


def find_deviation(fd):
    """One line about the first difference between the file open as `fd` and the canonical VHD of its disk; None without any.

    Raises EnvironmentError.
    """
    image = image_file.ImageFile(fd)
    try:
        layout = _prove_head(image)
        _prove_blocks(image, layout)
    except _Deviation as deviation:
        return str(deviation)
    except errors.InvalidImage as error:
        return str(error)
    return None


def _require(image, what, offset, expected):
    if image.read(offset, len(expected)) != expected:
        raise _Deviation('the %s at byte %d differs' % (what, offset))


def _require_zeros(image, what, start, end):
    for size, data in image.read_span(start, end):
        if data is not None and data.tobytes().count(b'\0') != size:
            raise _Deviation('the %s at byte %d is not all zeros' % (what, start))


def _prove_head(image):
    footer = vhd.Footer.parse(image.read(0, vhd.FOOTER_SIZE))
    header = vhd.Header.parse(image.read(vhd.FOOTER_SIZE, vhd.HEADER_SIZE))
    if not footer.intact or footer.disk_type not in (vhd.DYNAMIC, vhd.DIFFERENCING) or footer.uuid_bytes == vhd.NULL_UUID:
        raise _Deviation('the first sector is no footer of a disk that is written here')
    layout = canonical_vhd.Layout(footer.current_size, footer.disk_type == vhd.DIFFERENCING)
    if layout.size_bytes != footer.current_size or not 1 <= layout.blocks <= canonical_vhd.MAX_BLOCKS or footer.hidden > 1:
        raise _Deviation('a disk of %d bytes, hidden %d, is none that is written here' % (footer.current_size, footer.hidden))
    parent = None
    if layout.is_child:
        name = header.parent_name
        if not name or len(name) > canonical_vhd.MAX_PARENT_NAME or any(ord(character) > 127 for character in name):
            raise _Deviation('the name of the parent is none that is written here')
        parent = canonical_vhd.Parent(vhd.format_uuid(header.parent_uuid_bytes), name)
    _require(image, 'footer copy', 0, layout.pack_footer(vhd.format_uuid(footer.uuid_bytes), footer.hidden))
    _require(image, 'header', vhd.FOOTER_SIZE, layout.pack_header(parent))
    _require(image, 'locators', layout.locators_offset, layout.pack_locators(parent))
    return layout


def _prove_blocks(image, layout):
    """The BAT and all behind it."""
    batmap = bytearray(layout.map_bytes)
    rank, previous_end = 0, layout.tables_end
    for block, entry in _read_bat(image, layout):
        if entry == vhd.UNUSED_ENTRY:
            continue
        if entry != layout.place(rank):
            raise _Deviation('block %d is at sector %d instead of %d' % (block, entry, layout.place(rank)))
        start = entry * _SECTOR_BYTES
        _require_zeros(image, 'filler', previous_end, start)
        if _prove_block(image, start):
            batmap[block // 8] |= 0x80 >> block % 8
        rank, previous_end = rank + 1, start + _SECTOR_BYTES + _BLOCK_BYTES
    _require(image, 'footer', previous_end, image.read(0, vhd.FOOTER_SIZE))
    if image.size_bytes != previous_end + vhd.FOOTER_SIZE:
        raise _Deviation('the file has %d bytes behind its footer' % (image.size_bytes - previous_end - vhd.FOOTER_SIZE))
    _require(image, 'batmap header', layout.batmap_offset, layout.pack_batmap_header(batmap))
    _require(image, 'batmap', layout.map_offset, bytes(batmap))


def _read_bat(image, layout):
    """Yield (block, entry)."""
    end = canonical_vhd.BAT_OFFSET + 4 * layout.blocks
    for offset in range(canonical_vhd.BAT_OFFSET, end, _SLICE_BYTES):
        data = image.read(offset, min(_SLICE_BYTES, end - offset))
        for block, entry in enumerate(struct.unpack('>%dI' % (len(data) // 4), data), (offset - canonical_vhd.BAT_OFFSET) // 4):
            yield block, entry
    _require_zeros(image, 'padding of the BAT', end, layout.batmap_offset)


def _prove_block(image, start):
    """Whether all sectors of the block are present; those that are not are zeros."""
    bitmap = image.read(start, _SECTOR_BYTES)
    if bitmap == canonical_vhd.FULL_BITMAP:
        image.read(start + _BLOCK_BYTES, _SECTOR_BYTES)  # it is there
        return True
    data = memoryview(image.read(start + _SECTOR_BYTES, _BLOCK_BYTES))
    if vhd_encoder.clear_absent(data, bytearray(bitmap)).tobytes() != data.tobytes():
        raise _Deviation('sectors that are not present are not all zeros in the block at byte %d' % start)
    return False
