# SPDX-License-Identifier: Apache-2.0
"""Where the parts of a VHD lie: the checks of dom0_lib.disks.vhd_check that keep metadata and blocks off one another.

The guest must not reach the metadata of its own disk, for then it names the parent, which may be any file of dom0.  tapdisk
writes more than blocks into a file that blktap takes for its own: the batmap's map, to where the header of the batmap says;
and seven sectors of zeros before the bitmap of a full block when the guest writes the block's first sector, unless the bitmap
lies at the first page's end behind the metadata.  So such a file must have the layout that blktap gives it: footer, header,
BAT, header of the batmap and map in this order without gaps, then the locators, then blocks whose data begin a page.  Two
blocks then have seven sectors between them, and a block behind the metadata either has as many before it or lies where
tapdisk leaves them alone.
"""

from __future__ import absolute_import, division

import array
import collections

from dom0_lib.disks import vhd

# Metadata may be preallocated for growth (vhd-util create -S), but a BAT never needs more than 2 TiB of blocks.
MAX_BAT_ENTRIES = 2 * 1024 ** 4 // vhd.BLOCK_SIZE
# Blocks may be aligned, and one may have been allocated just before a crash; more than that between the last block and
# the footer belongs to nobody.
MAX_TRAILING_GAP = vhd.BLOCK_SIZE + 64 * 1024

# Where blktap puts the header and the BAT of each disk that it makes or resizes.
_BLKTAP_HEADER_OFFSET = vhd.FOOTER_SIZE
_BLKTAP_BAT_OFFSET = vhd.FOOTER_SIZE + vhd.HEADER_SIZE

# A part of the file that blocks and other parts must keep out of; bytes.
_Region = collections.namedtuple('_Region', 'name start end')


def _list_regions(disk):
    """The regions of metadata, in file order."""
    header = disk.header
    regions = [_Region('backup footer', 0, vhd.FOOTER_SIZE),
               _Region('header', disk.footer.data_offset, disk.footer.data_offset + vhd.HEADER_SIZE),
               _Region('BAT', header.table_offset, header.bat_end)]
    if disk.batmap:
        start = disk.batmap.offset
        regions.append(_Region('batmap header', header.bat_end, header.bat_end + vhd.BATMAP_HEADER_SIZE))
        regions.append(_Region('batmap', start, start + disk.batmap.size_sectors * vhd.SECTOR_SIZE))
    for locator in disk.metadata.locators:
        start = locator.data_offset
        regions.append(_Region('parent locator %d' % locator.index, start, start + locator.space_bytes))
    return sorted(regions, key=lambda region: region.start)


def check_regions(disk):
    furthest = None
    for region in _list_regions(disk):
        if region.start % vhd.SECTOR_SIZE:
            yield 'metadata_unaligned', 'the %s at byte %d does not begin a sector' % (region.name, region.start)
        if region.end > disk.data_end:
            yield 'metadata_outside_file', 'the %s reaches to byte %d, but the file has data only to byte %d' % (
                region.name, region.end, disk.data_end)
        if furthest and furthest.end > region.start:
            yield 'metadata_overlap', 'the %s at byte %d lies over the %s, which ends at byte %d' % (
                region.name, region.start, furthest.name, furthest.end)
        if furthest is None or region.end > furthest.end:
            furthest = region


def check_blktap_places(disk):
    header = disk.header
    if disk.footer.of_blktap and (disk.footer.data_offset, header.table_offset) != (_BLKTAP_HEADER_OFFSET, _BLKTAP_BAT_OFFSET):
        yield 'metadata_place', 'the header at byte %d and the BAT at byte %d are not where blktap puts them: %d and %d' % (
            disk.footer.data_offset, header.table_offset, _BLKTAP_HEADER_OFFSET, _BLKTAP_BAT_OFFSET)


def check_batmap(disk):
    if not disk.batmap:
        # Before version 1.2 a disk may have none; then a guest that can write the sector behind the BAT makes itself one.
        if disk.footer.has_blktap_batmap:
            yield 'batmap_missing', 'the batmap is missing at byte %d, where blktap puts it' % disk.header.bat_end
        return
    batmap, header = disk.batmap, disk.header
    if batmap.version != vhd.BATMAP_VERSION:
        yield 'batmap_version', 'a batmap of version 0x%08x instead of 0x%08x' % (batmap.version, vhd.BATMAP_VERSION)
    place = header.bat_end + vhd.BATMAP_HEADER_SIZE
    if batmap.offset != place:
        yield 'batmap_place', 'the batmap at byte %d is not where blktap puts it: at byte %d' % (batmap.offset, place)
    size = batmap.size_sectors * vhd.SECTOR_SIZE
    if batmap.size_sectors != header.batmap_size_sectors:
        yield 'batmap_size', 'a batmap of %d bytes does not fit a BAT of %d entries' % (size, header.max_bat_entries)
    elif header.max_bat_entries <= MAX_BAT_ENTRIES and batmap.offset + size <= disk.data_end:
        summed = vhd.read_exactly(disk.fileobj, batmap.offset, min(size, _compute_summed_size(disk.footer.current_size)))
        found = vhd.compute_checksum(summed)
        if found != batmap.checksum:
            yield 'batmap_checksum', 'the batmap should have checksum 0x%08x, its bytes have 0x%08x' % (
                batmap.checksum, found)


def _compute_summed_size(disk_bytes):
    """Bytes of the map that blktap reads and sums: whole sectors of those bits that fill a byte, so one too few for 8194 MiB."""
    return max(vhd.SECTOR_SIZE, vhd.round_up(disk_bytes // (8 * vhd.BLOCK_SIZE), vhd.SECTOR_SIZE))


def check_blocks(disk):
    """Every block lies inside the file, clear of the metadata and of every other block; the footer follows the last.

    In a file of blktap its data begin a page, and no metadata follow a block.
    """
    header, of_blktap = disk.header, disk.footer.of_blktap
    if not disk.block_size_supported or header.max_bat_entries > MAX_BAT_ENTRIES or header.bat_end > disk.data_end:
        # Reported by other checks; this BAT cannot be followed.
        return
    regions = _list_regions(disk)
    length = (header.bitmap_size + header.block_size) // vhd.SECTOR_SIZE
    starts, outside, overlapping = _place_blocks(disk, length)
    if outside:
        yield 'block_outside_file', 'blocks outside the file: %d, the first is block %d' % (len(outside), outside[0])
    if overlapping:
        yield 'block_overlap', 'blocks over other blocks: %d, the first is block %d' % (
            len(overlapping), overlapping[0])
    first_start, previous, near, unaligned = None, -length, 0, 0
    for start in starts:
        if start:
            if first_start is None:
                first_start = start
            if start - previous < length:
                near += 1
            if (start + 1) % vhd.BLKTAP_PAGE_SECTORS:
                unaligned += 1
            previous = start
    if near:
        yield 'block_overlap', 'blocks that reach into the next: %d' % near
    if of_blktap and unaligned:
        yield 'block_place', 'blocks whose data do not begin a page, as those of blktap do: %d' % unaligned
    for region in regions:
        if _overlaps_block(region, starts, length):
            yield 'block_overlaps_metadata', 'a block lies over the %s' % region.name
        elif of_blktap and first_start is not None and region.start > first_start * vhd.SECTOR_SIZE:
            yield 'metadata_behind_block', 'the %s lies behind a block, where blktap puts none' % region.name
    data_end = max([(previous + length) * vhd.SECTOR_SIZE] + [region.end for region in regions])
    if disk.data_end - data_end > MAX_TRAILING_GAP:
        yield 'file_end', 'the file goes on for %d bytes after its last block' % (disk.data_end - data_end)


def _place_blocks(disk, length):
    """(starts, indices of blocks outside the file, indices of blocks over another one); `length` of a block in sectors.

    starts[i] is the sector of the block that begins in the i-th window as long as a block, or 0, the backup footer's
    sector, if none does.  Two blocks in one window overlap; otherwise only neighbours can.
    """
    last_start = disk.data_end // vhd.SECTOR_SIZE - length
    starts = array.array('I', [0]) * (max(0, min(last_start, vhd.UNUSED_ENTRY)) // length + 1)
    outside, overlapping = array.array('I'), array.array('I')
    for first, entries in vhd.read_bat(disk.fileobj, disk.header):
        if entries.count(vhd.UNUSED_ENTRY) == len(entries):
            continue
        for block, entry in enumerate(entries, first):
            if entry == vhd.UNUSED_ENTRY:
                continue
            if not 0 < entry <= last_start:
                outside.append(block)
                continue
            window = entry // length
            if starts[window]:
                overlapping.append(block)
            else:
                starts[window] = entry
    return starts, outside, overlapping


def _overlaps_block(region, starts, length):
    """Whether one of the blocks that _place_blocks found lies over a region."""
    first, end = region.start // vhd.SECTOR_SIZE, vhd.round_up(region.end, vhd.SECTOR_SIZE) // vhd.SECTOR_SIZE
    window, last_window = max(0, first // length - 1), min(end // length, len(starts) - 1)
    return any(start and start < end and start + length > first for start in starts[window:last_window + 1])
