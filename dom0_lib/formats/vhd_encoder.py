# SPDX-License-Identifier: Apache-2.0
"""The one writer of VHDs: a sink (dom0_lib.formats.guest_disk) that writes the canonical VHD (dom0_lib.formats.canonical_vhd).

    begin     sizes, BAT: the rank of each allocated block is known, or, without extents, given as data come
    put       data to their place; the bitmap of the block at work in memory, to its place when another block's turn comes
    finish    bitmap, length, BAT, batmap
    seal      header and locators, sync, footer, footer's copy, sync: before this the file is no VHD for any reader

The file depends on the disk, and on the names that seal() is given, and on nothing else: not on the order of the pieces.
Memory: 4 bytes and 2 bits for each block of the disk.
"""

from __future__ import absolute_import, division

import array
import itertools

from dom0_lib.disks import vhd
from dom0_lib.formats import canonical_vhd
from dom0_lib.formats import guest_disk
from dom0_lib.formats import refusal
from dom0_lib.system import sparse_file

_SECTOR_BYTES, _BLOCK_BYTES = canonical_vhd.SECTOR_BYTES, canonical_vhd.BLOCK_BYTES
_UNIT_BYTES = guest_disk.MASK_UNIT_BYTES
# File systems share whole pages.
_PAGE_BYTES = 4096
_ZERO_UNIT = b'\0' * _UNIT_BYTES


class Encoder(object):
    """Writes a disk into a sparse_file.PlacedFile, which it does not close.

    Raises errors.StorageError, and errors.UnsafeImage for a disk beyond canonical_vhd.MAX_SIZE_BYTES.
    """

    def __init__(self, target):
        self._file = target
        self.layout = None
        self._size_bytes = None     # of the source: the bits behind it stay clear
        self._can_share = True      # as far as is known
        self._is_whole = False      # every sector is present, and a block of zeros is not allocated
        self._bat = None
        self._map = None            # the batmap
        self._begun = None          # a bit for each block that has had a bitmap in memory
        self._allocated = 0
        self._block = None          # the one at work
        self._bitmap = None

    def begin(self, disk):
        layout = canonical_vhd.Layout(disk.size_bytes, disk.is_child)
        if not 1 <= layout.blocks <= canonical_vhd.MAX_BLOCKS:
            raise refusal.unsafe('disk_size', 'a disk of %d bytes; a VHD here has at most %d' % (
                disk.size_bytes, canonical_vhd.MAX_SIZE_BYTES))
        self.layout = layout
        self._size_bytes = disk.size_bytes
        self._is_whole = disk.extents is None
        self._bat = array.array('I', [vhd.UNUSED_ENTRY]) * layout.blocks
        self._map = bytearray(layout.map_bytes)
        self._begun = bytearray(layout.map_bytes)
        if not self._is_whole:
            self._allocate(disk.extents)
        # An image of a few MB can be a disk of 2 TiB of zeros: nobody is kept busy by one for which there is no room.
        self._file.require_room(layout.file_bytes(layout.blocks if self._is_whole else self._allocated))

    def _allocate(self, extents):
        reached = 0
        for offset, size_bytes in extents:
            # Two extents may be in one block.
            first, end = max(reached, offset // _BLOCK_BYTES), -(-(offset + size_bytes) // _BLOCK_BYTES)
            if end > first:
                places = itertools.count(self.layout.place(self._allocated), canonical_vhd.BLOCK_PITCH)
                self._bat[first:end] = array.array('I', itertools.islice(places, end - first))
                self._allocated += end - first
                reached = end

    def put(self, offset, size_bytes, data=None, present=None):
        if offset + size_bytes > self._size_bytes:
            raise ValueError('a piece up to byte %d of a disk of %d' % (offset + size_bytes, self._size_bytes))
        done = 0
        while done < size_bytes:
            block, within = divmod(offset + done, _BLOCK_BYTES)
            taken = min(size_bytes - done, _BLOCK_BYTES - within)
            piece = None if data is None else data[done:done + taken]
            if self._is_whole:
                self._put_whole(block, within, piece)
            else:
                mask = present and present[done // _UNIT_BYTES:-(-(done + taken) // _UNIT_BYTES)]
                self._put_present(block, within, taken, piece, mask)
            done += taken

    def _put_whole(self, block, within, piece):
        if piece is None:
            return
        if self._bat[block] == vhd.UNUSED_ENTRY:
            start = sparse_file.find_data(piece)
            if start is None:
                return
            piece, within = piece[start:], within + start
            self._bat[block] = self.layout.place(self._allocated)
            self._allocated += 1
            self._open(block)
            self._bitmap = bytearray(canonical_vhd.full_bits(
                min(_BLOCK_BYTES, self._size_bytes - block * _BLOCK_BYTES + _SECTOR_BYTES - 1) // _SECTOR_BYTES))
        self._write(block, within, piece)

    def _put_present(self, block, within, size_bytes, piece, mask):
        if self._bat[block] == vhd.UNUSED_ENTRY:
            raise ValueError('a piece in block %d, which is in no extent' % block)
        if self._block != block:
            self._open(block)
        first, count = within // _SECTOR_BYTES, -(-size_bytes // _SECTOR_BYTES)
        if mask is None:
            _set_bits(self._bitmap, first, count)
        else:
            mask = _cut_mask(mask, count)
            self._bitmap[first // 8:first // 8 + len(mask)] = mask
        if piece is not None:
            self._write(block, within, piece if mask is None else clear_absent(piece, mask))

    def share(self, offset, size_bytes, fd, position):
        """Take the data at `position` of an open file by sharing its blocks, every sector present; False if put() must do it."""
        block, within = divmod(offset, _BLOCK_BYTES)
        if not self._can_share or position % _PAGE_BYTES or size_bytes % _PAGE_BYTES or within + size_bytes > _BLOCK_BYTES:
            return False
        self._can_share = self._file.clone_at((self._bat[block] + 1) * _SECTOR_BYTES + within, fd, position, size_bytes)
        if self._can_share:
            self._put_present(block, within, size_bytes, None, None)
        return self._can_share

    def _write(self, block, within, piece):
        self._file.write_at((self._bat[block] + 1) * _SECTOR_BYTES + within, piece)

    def _open(self, block):
        """Make `block` the one whose bitmap is in memory."""
        self._flush()
        byte, bit = block // 8, 0x80 >> block % 8
        if self._begun[byte] & bit:
            data = self._file.read_at(self._bat[block] * _SECTOR_BYTES, _SECTOR_BYTES)
            self._bitmap = bytearray(data.ljust(_SECTOR_BYTES, b'\0'))
        else:
            self._begun[byte] |= bit
            self._bitmap = bytearray(_SECTOR_BYTES)
        self._block = block

    def _flush(self):
        if self._block is None:
            return
        self._file.write_at(self._bat[self._block] * _SECTOR_BYTES, memoryview(self._bitmap))
        if self._bitmap == canonical_vhd.FULL_BITMAP:
            self._map[self._block // 8] |= 0x80 >> self._block % 8
        self._block = None

    def finish(self):
        self._flush()
        self._file.set_length(self.layout.file_bytes(self._allocated))
        offset = canonical_vhd.BAT_OFFSET
        for data in canonical_vhd.pack_bat(self._bat):
            self._file.write_at(offset, memoryview(data))
            offset += len(data)
        self._file.write_at(self.layout.batmap_offset, memoryview(self.layout.pack_batmap_header(self._map)))
        self._file.write_at(self.layout.map_offset, memoryview(self._map))
        # A disk may wait long for the others of its chain: what is left is the layout, and how many blocks there are.
        self._bat = self._map = self._begun = self._bitmap = None

    def seal(self, uuid, parent=None, is_hidden=False):
        """Make the file a VHD: header, locators and footers.  A later call with other names changes the VHD to these.

        uuid:   text, for the footer: a fresh one, as a tenant's may be that of another disk's parent
        parent: the canonical_vhd.Parent of a child, None for a disk of its own
        """
        if self.layout.is_child != (parent is not None):
            raise ValueError('a child has a parent, another disk has none')
        self._file.write_at(vhd.FOOTER_SIZE, memoryview(self.layout.pack_header(parent)))
        self._file.write_at(self.layout.locators_offset, memoryview(self.layout.pack_locators(parent)))
        self._file.sync()
        footer = memoryview(self.layout.pack_footer(uuid, is_hidden))
        self._file.write_at(self.layout.data_end(self._allocated), footer)
        self._file.write_at(0, footer)
        self._file.sync()


def _set_bits(bitmap, first, count):
    """Set `count` bits from `first` on."""
    end = first + count
    while first < end and first % 8:
        bitmap[first // 8] |= 0x80 >> first % 8
        first += 1
    whole = (end - first) // 8
    bitmap[first // 8:first // 8 + whole] = b'\xff' * whole
    first += 8 * whole
    if first < end:
        bitmap[first // 8] |= 0xff00 >> (end - first) & 0xff


def _cut_mask(mask, count):
    """The first `count` bits of a mask, the rest clear, as a bytearray."""
    cut = bytearray(mask[:-(-count // 8)])
    if count % 8:
        cut[-1] &= 0xff00 >> count % 8
    return cut


def clear_absent(piece, mask):
    """A view of a copy of `piece` in which sectors without a bit are zeros; of `piece` itself where there are none."""
    whole = bytes(mask)
    if whole.count(b'\xff') == len(whole):
        return piece
    cleared = bytearray(piece)
    size_bytes, runs = len(cleared), {}
    for unit, bits in enumerate(mask):
        if bits == 0xff:
            continue
        if bits not in runs:
            runs[bits] = _list_absent(bits)
        for first, end in runs[bits]:
            start, end = unit * _UNIT_BYTES + first, min(unit * _UNIT_BYTES + end, size_bytes)
            if start < end:
                cleared[start:end] = _ZERO_UNIT[:end - start]
    return memoryview(cleared)


def _list_absent(bits):
    """[(first byte, end)] of the runs of sectors in a unit that have no bit in a byte of a mask."""
    runs, start = [], None
    for sector in range(9):
        is_absent = sector < 8 and not bits & 0x80 >> sector
        if is_absent and start is None:
            start = sector
        elif not is_absent and start is not None:
            runs.append((start * _SECTOR_BYTES, sector * _SECTOR_BYTES))
            start = None
    return runs
