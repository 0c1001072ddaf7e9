# SPDX-License-Identifier: Apache-2.0
"""A foreign VHD as its footer, header and BAT tell it: judged before a table is read or a block is looked for.

Geometry, times, features, uuid, names, saved state and parent locators say nothing about the guest's data: they are not judged.
"""

from __future__ import absolute_import, division

import array
import struct

from dom0_lib.disks import vhd
from dom0_lib.formats import canonical_vhd
from dom0_lib.formats import refusal

# Virtual PC and Hyper-V make the smallest, and nobody makes larger ones.
MIN_BLOCK_BYTES = 512 * 1024
MAX_BLOCK_BYTES = 256 * 1024 * 1024
# Of 2 TiB in the smallest blocks; a BAT has at most 16 MiB.
MAX_ENTRIES = 4 * 1024 * 1024
_SLICE_ENTRIES = 16 * 1024
_SLACK_BYTES = 4 * 1024 * 1024
_NO_BLOCK = 0xffffffff
_MAJOR_VERSION = 0xffff0000


def is_blktaps(footer):
    """Whether blktap takes the file for one of its own: it compares three letters of the creator."""
    return footer.creator[:3] == vhd.BLKTAP_CREATOR[:3]


def judge_footer(footer):
    """Raises errors.InvalidImage, errors.UnsafeImage for a disk that cannot be decoded."""
    if footer.version & _MAJOR_VERSION != vhd.VERSION_1_0:
        raise refusal.damaged('footer_version', 'the footer has the format version 0x%08x instead of 1.0' % footer.version)
    if footer.disk_type not in (vhd.FIXED, vhd.DYNAMIC, vhd.DIFFERENCING):
        raise refusal.damaged('disk_type', 'disk type %d is not fixed, dynamic or differencing' % footer.disk_type)
    size_bytes = footer.current_size
    if not size_bytes or size_bytes % vhd.SECTOR_SIZE:
        raise refusal.damaged('disk_size', 'the disk has %d bytes, not a number of sectors' % size_bytes)
    if canonical_vhd.canonical_size(size_bytes) > canonical_vhd.MAX_SIZE_BYTES:
        raise refusal.unsafe('disk_size', 'the disk size of %d bytes is beyond the limit of %d' % (
            size_bytes, canonical_vhd.MAX_SIZE_BYTES))
    if is_blktaps(footer) and footer.creator_version <= 1:
        raise refusal.damaged('creator_version', 'written by version 0.1 of blktap, whose bitmaps count the other way')


def judge_copies(primary, backup):
    """Raises errors.UnsafeImage if two intact footers do not speak of the same disk."""
    for name in ('disk_type', 'current_size', 'data_offset'):
        if getattr(primary, name) != getattr(backup, name):
            raise refusal.unsafe('footers_differ', 'the footer and its copy are both intact, but differ in %s: %d and %d' % (
                name.replace('_', ' '), getattr(primary, name), getattr(backup, name)))
    # It decides on the batmap and the order of bits; another's version says nothing.
    readers = [(is_blktaps(footer), is_blktaps(footer) and footer.creator_version <= 1) for footer in (primary, backup)]
    if readers[0] != readers[1]:
        raise refusal.unsafe('footers_differ', 'only one of the two intact footers is of blktap, or of its first version')


class Source(object):
    """A dynamic or differencing disk by its trusted footer and its header, both judged.

    entries:    of the BAT that belong to the disk; those behind them are ignored
    bat_end:    the byte behind the BAT, all its entries counted
    """

    def __init__(self, footer, header):
        self.footer = footer
        self.header = header
        if header.cookie != vhd.HEADER_COOKIE or not header.checksum_correct:
            raise refusal.damaged('header', 'the header at byte %d is missing or damaged' % footer.data_offset)
        if header.version & _MAJOR_VERSION != vhd.VERSION_1_0:
            raise refusal.damaged('header_version', 'the header has the version 0x%08x instead of 1.0' % header.version)
        self.size_bytes = footer.current_size
        self.is_child = footer.disk_type == vhd.DIFFERENCING
        self.block_bytes = header.block_size
        if self.block_bytes & (self.block_bytes - 1) or not MIN_BLOCK_BYTES <= self.block_bytes <= MAX_BLOCK_BYTES:
            raise refusal.damaged('block_size', 'blocks of %d bytes; a power of two from %d to %d can be read' % (
                self.block_bytes, MIN_BLOCK_BYTES, MAX_BLOCK_BYTES))
        self.bitmap_bytes = header.bitmap_size
        self.entries = -(-self.size_bytes // self.block_bytes)
        if header.max_bat_entries > MAX_ENTRIES:
            raise refusal.unsafe('bat_size', 'a BAT of %d entries is beyond the limit of %d' % (
                header.max_bat_entries, MAX_ENTRIES))
        if header.max_bat_entries < self.entries:
            raise refusal.damaged('bat_size', 'a BAT of %d entries is too small for a disk of %d blocks' % (
                header.max_bat_entries, self.entries))
        self.bat_end = header.table_offset + 4 * header.max_bat_entries
        self.regions = [('footer copy', 0, vhd.FOOTER_SIZE),
                        ('header', footer.data_offset, footer.data_offset + vhd.HEADER_SIZE),
                        ('BAT', header.table_offset, self.bat_end)]
        self.judge_regions([])

    def judge_regions(self, others):
        """Raises errors.InvalidImage if a table lies over another, or over one of `others`: (name, first byte, end)."""
        ordered = sorted(self.regions + others, key=lambda region: region[1])
        for (name, _, end), (next_name, start, _) in zip(ordered, ordered[1:]):
            if end > start:
                raise refusal.damaged('metadata_overlap', 'the %s at byte %d lies over the %s' % (next_name, start, name))

    @property
    def earliest_end(self):
        """The smallest byte at which a block that lies over no other thing can end."""
        return vhd.FOOTER_SIZE + self.bitmap_bytes + self.block_bytes

    @property
    def largest_file(self):
        """The bytes that a file of this disk cannot exceed; blocks may be aligned, and one may be from a crash."""
        return self.entries * (self.block_bytes + self.bitmap_bytes + 4096) + 8 * MAX_ENTRIES + self.block_bytes + _SLACK_BYTES


def read_bat(source, read):
    """The entries of the BAT that belong to the disk, as an array; read(offset, size_bytes) returns bytes of the file."""
    bat = array.array('I')
    for first in range(0, source.entries, _SLICE_ENTRIES):
        count = min(_SLICE_ENTRIES, source.entries - first)
        data = read(source.header.table_offset + 4 * first, 4 * count)
        bat.extend(array.array('I', struct.unpack('>%dI' % count, data)))
    return bat


class Placement(object):
    """Where the blocks of a Source are in its file, in file order; two that share a sector are refused.

    A block that begins in the i-th piece of the file as long as a block is at blocks[i]: two in one such piece overlap, and
    else only neighbours can.  So there is nothing to sort.
    """

    def __init__(self, source, bat, file_bytes):
        """bat: of read_bat(); file_bytes: None if nobody knows"""
        self._source = source
        self._file_bytes = file_bytes
        self.length = (source.bitmap_bytes + source.block_bytes) // vhd.SECTOR_SIZE
        self.bat = bat
        self.blocks = self._place()
        self.end = self._find_end()

    def _place(self):
        length, bat = self.length, self.bat
        last = -1
        for entry in bat:
            if entry != vhd.UNUSED_ENTRY and entry > last:
                last = entry
        # Before a large table is made for an entry that has no place in the file.
        if self._file_bytes is not None and last * vhd.SECTOR_SIZE > self._file_bytes:
            raise _outside(self._file_bytes, last * vhd.SECTOR_SIZE)
        blocks = array.array('I', [_NO_BLOCK]) * (last // length + 1)
        for block, entry in enumerate(bat):
            if entry != vhd.UNUSED_ENTRY:
                window = entry // length
                if blocks[window] != _NO_BLOCK:
                    raise refusal.unsafe('block_overlap', 'block %d lies over block %d' % (block, blocks[window]))
                blocks[window] = block
        return blocks

    def _find_end(self):
        """The byte behind the last data of the disk; the last block need not be there beyond the disk's end."""
        previous_end, previous = 0, None
        furthest = end_of_last = 0
        last_block = self._source.entries - 1
        for block in self.blocks:
            if block == _NO_BLOCK:
                continue
            start = self.bat[block]
            if start < previous_end:
                raise refusal.unsafe('block_overlap', 'block %d lies over block %d' % (block, previous))
            previous_end, previous = start + self.length, block
            if block == last_block:
                end_of_last = start * vhd.SECTOR_SIZE + self._source.bitmap_bytes + self.guest_bytes(block)
            else:
                furthest = previous_end
        return max(furthest * vhd.SECTOR_SIZE, end_of_last)

    def guest_bytes(self, block):
        """The bytes of a block that are inside the disk."""
        return min(self._source.block_bytes, self._source.size_bytes - block * self._source.block_bytes)

    def require_apart(self, regions):
        """Raises errors.UnsafeImage if a block lies over one of `regions`: (name, first byte, end)."""
        for name, start, end in regions:
            first, behind = start // vhd.SECTOR_SIZE, -(-end // vhd.SECTOR_SIZE)
            for window in range(max(0, first // self.length - 1), min(behind // self.length + 1, len(self.blocks))):
                block = self.blocks[window]
                if block != _NO_BLOCK and self.bat[block] < behind and self.bat[block] + self.length > first:
                    raise refusal.unsafe('block_over_metadata', 'block %d lies over the %s' % (block, name))

    def require_inside(self, file_bytes):
        """Raises errors.InvalidImage if the file ends before the data do."""
        if self.end > file_bytes:
            raise _outside(file_bytes, self.end)

    def extents(self):
        """Yield (offset, size_bytes) in the guest of blocks that are there, ascending, neighbours in one."""
        block_bytes, start = self._source.block_bytes, None
        for block, entry in enumerate(self.bat):
            if entry == vhd.UNUSED_ENTRY:
                if start is not None:
                    yield start * block_bytes, (block - start) * block_bytes
                    start = None
            elif start is None:
                start = block
        if start is not None:
            yield start * block_bytes, self._source.size_bytes - start * block_bytes

    def in_file_order(self):
        """Yield (block, first byte) as they come in the file."""
        for block in self.blocks:
            if block != _NO_BLOCK:
                yield block, self.bat[block] * vhd.SECTOR_SIZE


def _outside(file_bytes, end):
    return refusal.damaged('block_outside', 'the file has data up to byte %d, its blocks reach to byte %d' % (file_bytes, end))
