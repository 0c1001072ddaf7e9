# SPDX-License-Identifier: Apache-2.0
"""The canonical VHD: the file that blktap itself writes for a disk, as a function of the disk alone.

    footer copy                 0
    header                      512
    BAT                         1536                    4 bytes an entry, zeros up to a whole sector
    batmap's header, batmap     BAT's end               a bit for each block of which all sectors are present
    three parent locators       batmap's end            a child's only, a sector each
    zeros                       up to `first`
    block: bitmap, data         sector first + 4104 r   1 + 4096 sectors; r: rank among the allocated blocks, in guest order
    filler                      7 sectors of zeros between two blocks
    footer                      the last block's end

`first` is the smallest sector behind the tables for which the block's data begin at a multiple of 4 KiB.  tapdisk clears the 7
sectors before a block's bitmap when a guest writes the first sector of a full block: nothing else may ever be there.

Times are zero: they are read by vhd-util check alone, which refuses those in its host's future.
"""

from __future__ import absolute_import, division

import collections
import struct

from dom0_lib.disks import vhd

SECTOR_BYTES = vhd.SECTOR_SIZE
BLOCK_BYTES = vhd.BLOCK_SIZE
SECTORS_PER_BLOCK = BLOCK_BYTES // SECTOR_BYTES
# Sectors from one block's bitmap to the next one's: filler, bitmap, data.
BLOCK_PITCH = 7 + 1 + SECTORS_PER_BLOCK
FULL_BITMAP = b'\xff' * SECTOR_BYTES
BAT_OFFSET = vhd.FOOTER_SIZE + vhd.HEADER_SIZE
# 2093050 MiB. A BAT entry names no sector beyond 0xfffffffe, so a full disk has room for a few blocks more at most.
MAX_BLOCKS = 1046525
MAX_SIZE_BYTES = MAX_BLOCKS * BLOCK_BYTES
# A parent's name must fit a locator of one sector, as UTF-16 behind ".\".
MAX_PARENT_NAME = SECTOR_BYTES // 2 - 2

_LOCATOR_COUNT = 3
_BLOCKS_PER_MAP_SECTOR = 8 * SECTOR_BYTES
_BAT_SLICE_ENTRIES = 16 * 1024

# uuid:      text, of the parent's footer
# file_name: text, ASCII: the name that the parent's file has beside the child's
Parent = collections.namedtuple('Parent', 'uuid file_name')


def canonical_size(size_bytes):
    """The size of the disk that is written for one of `size_bytes`: what is added reads as zeros.

    Whole blocks, because vhd-util up to v3.17 loses the data behind them.  And no 1 to 7 blocks more than whole sectors of the
    batmap have bits for, because blktap forgets the last sector then: it reads behind its buffer.
    """
    blocks = -(-size_bytes // BLOCK_BYTES)
    if blocks > _BLOCKS_PER_MAP_SECTOR and 1 <= blocks % _BLOCKS_PER_MAP_SECTOR <= 7:
        blocks = vhd.round_up(blocks, 8)
    return blocks * BLOCK_BYTES


class Layout(object):
    """Places in the canonical VHD of a disk; its size is rounded up by canonical_size()."""

    def __init__(self, size_bytes, is_child):
        self.size_bytes = canonical_size(size_bytes)
        self.is_child = is_child
        self.blocks = self.size_bytes // BLOCK_BYTES
        self.batmap_offset = BAT_OFFSET + vhd.round_up(4 * self.blocks, SECTOR_BYTES)
        self.map_offset = self.batmap_offset + vhd.BATMAP_HEADER_SIZE
        self.map_bytes = SECTOR_BYTES * -(-self.blocks // _BLOCKS_PER_MAP_SECTOR)
        self.locators_offset = self.map_offset + self.map_bytes
        self.tables_end = self.locators_offset + (_LOCATOR_COUNT * SECTOR_BYTES if is_child else 0)
        # The first sector: of the bitmap of the first block.
        self.first = vhd.round_up(self.tables_end // SECTOR_BYTES + 1, 8) - 1

    def place(self, rank):
        """The sector at which the `rank`-th allocated block begins."""
        return self.first + BLOCK_PITCH * rank

    def data_end(self, allocated):
        """The byte behind the last of so many blocks, where the footer is."""
        if not allocated:
            return self.tables_end
        return SECTOR_BYTES * (self.place(allocated - 1) + 1 + SECTORS_PER_BLOCK)

    def file_bytes(self, allocated):
        """The length of the file with so many blocks."""
        return self.data_end(allocated) + vhd.FOOTER_SIZE

    def pack_footer(self, uuid, is_hidden):
        """Both copies of the footer."""
        footer = vhd.Footer()
        footer.disk_type = vhd.DIFFERENCING if self.is_child else vhd.DYNAMIC
        footer.original_size = self.size_bytes
        footer.set_size(self.size_bytes)
        footer.uuid_bytes = vhd.parse_uuid(uuid)
        footer.hidden = 1 if is_hidden else 0
        return footer.seal()

    def pack_header(self, parent):
        """The header; `parent` is a Parent for a child and else None."""
        header = vhd.Header()
        header.max_bat_entries = self.blocks
        if self.is_child:
            header.parent_uuid_bytes = vhd.parse_uuid(parent.uuid)
            header.set_parent_name(parent.file_name)
            header.set_locators([self._make_locator(index, code, text)
                                 for index, (code, text) in enumerate(_name_parent(parent.file_name))])
        return header.seal()

    def pack_locators(self, parent):
        """The data of the parent locators, at locators_offset; empty without a parent."""
        return b''.join(text.ljust(SECTOR_BYTES, b'\0') for _, text in _name_parent(parent.file_name)) if self.is_child else b''

    def _make_locator(self, index, code, text):
        locator = vhd.Locator()
        locator.code, locator.data_space, locator.data_length = code, SECTOR_BYTES, len(text)
        locator.data_offset = self.locators_offset + SECTOR_BYTES * index
        return locator

    def pack_batmap_header(self, batmap):
        """The header of `batmap`, which are the bytes of the map."""
        header = vhd.Batmap()
        header.offset, header.size_sectors = self.map_offset, self.map_bytes // SECTOR_BYTES
        header.checksum = vhd.compute_checksum(batmap)
        return header.pack()


def pack_bat(bat):
    """Yield the bytes of a BAT, an array of its entries, in slices; the padding is zeros."""
    for first in range(0, len(bat), _BAT_SLICE_ENTRIES):
        entries = bat[first:first + _BAT_SLICE_ENTRIES]
        data = struct.pack('>%dI' % len(entries), *entries)
        yield data.ljust(vhd.round_up(len(data), SECTOR_BYTES), b'\0')


def full_bits(sectors):
    """The bitmap of a block whose first `sectors` are present."""
    return (b'\xff' * (sectors // 8) + (bytes(bytearray([0xff00 >> sectors % 8 & 0xff])) if sectors % 8 else b'')).ljust(
        SECTOR_BYTES, b'\0')


def _name_parent(file_name):
    """[(platform code, bytes of the locator)], in the order in which they are written."""
    if len(file_name) > MAX_PARENT_NAME:
        raise ValueError('a parent of %d characters' % len(file_name))
    url = (u'file://./%s' % file_name).encode('ascii')
    windows = (u'.\\%s' % file_name).encode('utf-16-le')
    return [(vhd.MACX, url), (vhd.W2KU, windows), (vhd.W2RU, windows)]
