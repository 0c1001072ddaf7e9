# SPDX-License-Identifier: Apache-2.0
"""Is a VHD file what it says?  Named checks, all of which run and all of which report.

One file is judged here; how the files of a chain fit together is dom0_lib.vhd_chain's question.  Memory is bounded by 4 MiB
for the blocks of a 2 TiB disk, and time is linear in the BAT.
"""

from __future__ import absolute_import, division

import array
import collections
import time

from dom0_lib import vhd

# XenServer's limit for a VHD disk, and the largest that qemu-img makes.
MAX_DISK_SIZE = 2040 * 1024 ** 3
# Metadata may be preallocated for growth (vhd-util create -S), but a BAT never needs more than 2 TiB of blocks.
MAX_BAT_ENTRIES = 2 * 1024 ** 4 // vhd.BLOCK_SIZE
# vhd-util tolerates this much difference between two clocks.
CLOCK_SLACK_S = 1800
# Blocks may be aligned, and one may have been allocated just before a crash; more than that between the last block and
# the footer belongs to nobody.
MAX_TRAILING_GAP = vhd.BLOCK_SIZE + 64 * 1024

# name: which check failed, for code that can repair it; text: one line for people.
Problem = collections.namedtuple('Problem', 'name text')

# A part of the file that blocks and other parts must keep out of; bytes.
_Region = collections.namedtuple('_Region', 'name start end')


def find_problems(fileobj, metadata=None, now=None):
    """Everything that is wrong with the VHD in a seekable binary file, as a list of Problem; empty if it is sound.

    metadata: what vhd.read_metadata returned, if it was called already
    now:      seconds since 1970 to hold timestamps against; this host's clock when None
    A check that itself fails is a problem (check_failed), not a pass.  Raises EnvironmentError when the file cannot be read.
    """
    if metadata is None:
        try:
            metadata = vhd.read_metadata(fileobj)
        except vhd.FormatError as error:
            return [Problem('unreadable', str(error))]
    disk = _Disk(fileobj, metadata, time.time() if now is None else now)
    problems = []
    for check in _CHECKS if metadata.header is None else _CHECKS + _HEADER_CHECKS:
        try:
            # extend() keeps what a generator yielded before it raised.
            problems.extend(Problem(name, text) for name, text in check(disk))
        except EnvironmentError:
            raise  # of the disk under the file, which may be sound
        except Exception as error:
            problems.append(Problem('check_failed', '%s: %s: %s'
                                    % (check.__name__.lstrip('_'), error.__class__.__name__, error)))
    return problems


def largest_file(disk_bytes):
    """The bytes that the file of a sound disk of this size cannot exceed."""
    blocks = -(-disk_bytes // vhd.BLOCK_SIZE)
    # Metadata preallocated for growth, and the gap that _check_blocks allows.
    return blocks * (vhd.BLOCK_SIZE + 4096) + 8 * MAX_BAT_ENTRIES + 2 * MAX_TRAILING_GAP


class _Disk(object):
    """What the checks look at."""

    def __init__(self, fileobj, metadata, now):
        self.fileobj = fileobj
        self.metadata = metadata
        self.footer = metadata.footer
        self.header = metadata.header
        self.data_end = metadata.primary_offset
        self.now = now
        self.batmap = vhd.read_batmap(fileobj, metadata)

    @property
    def block_size_supported(self):
        return self.header.block_size == vhd.BLOCK_SIZE

    @property
    def regions(self):
        """The regions of metadata, in file order."""
        header = self.header
        regions = [_Region('backup footer', 0, vhd.FOOTER_SIZE),
                   _Region('header', self.footer.data_offset, self.footer.data_offset + vhd.HEADER_SIZE),
                   _Region('BAT', header.table_offset, header.bat_end)]
        if self.batmap:
            start = self.batmap.offset
            regions.append(_Region('batmap header', header.bat_end, header.bat_end + vhd.BATMAP_HEADER_SIZE))
            regions.append(_Region('batmap', start, start + self.batmap.size_sectors * vhd.SECTOR_SIZE))
        for locator in self.metadata.locators:
            start = locator.data_offset
            regions.append(_Region('parent locator %d' % locator.index, start, start + locator.space_bytes))
        return sorted(regions, key=lambda region: region.start)


def _check_footer_copies(disk):
    for name, copy in (('primary', disk.metadata.primary_footer), ('backup', disk.metadata.backup_footer)):
        if copy is None:
            continue
        if copy.cookie != vhd.FOOTER_COOKIE:
            yield name + '_footer_missing', 'the %s footer is not where it should be' % name
        elif not copy.checksum_correct:
            yield name + '_footer_checksum', 'the %s footer has checksum 0x%08x, its bytes have 0x%08x' % (
                name, copy.checksum, copy.compute_checksum())
    primary, backup = disk.metadata.primary_footer, disk.metadata.backup_footer
    if backup and primary.intact and backup.intact and primary.pack() != backup.pack():
        yield 'footers_differ', 'the footer and its backup are both intact, but differ'


def _check_footer_fields(disk):
    footer = disk.footer
    if footer.version != vhd.VERSION_1_0:
        yield 'footer_version', 'file format version 0x%08x instead of 1.0' % footer.version
    if not footer.features & vhd.FEATURE_RESERVED or footer.features & ~(vhd.FEATURE_RESERVED | vhd.FEATURE_TEMPORARY):
        yield 'features', 'unknown features 0x%08x' % footer.features
    if footer.creator == vhd.BLKTAP_CREATOR and not 0x00010000 <= footer.creator_version <= vhd.BLKTAP_VERSION:
        yield 'creator_version', 'written by version 0x%08x of blktap, which this one cannot read' % footer.creator_version
    if footer.disk_type not in (vhd.FIXED, vhd.DYNAMIC, vhd.DIFFERENCING):
        yield 'disk_type', 'disk type %d is not fixed, dynamic or differencing' % footer.disk_type
    if footer.disk_type == vhd.FIXED and footer.data_offset != vhd.NO_OFFSET:
        yield 'data_offset', 'a fixed disk has a header at byte %d' % footer.data_offset
    if footer.uuid_bytes == vhd.NULL_UUID:
        yield 'null_uuid', 'the disk has no uuid'
    if footer.saved_state:
        yield 'saved_state', 'the disk belongs to a suspended guest (saved state %d)' % footer.saved_state
    if footer.hidden not in (0, 1):
        yield 'hidden_value', 'hidden is %d, neither 0 nor 1' % footer.hidden


def _check_disk_size(disk):
    size = disk.footer.current_size
    if size == 0:
        yield 'disk_size', 'the disk has no size'
    if size % vhd.SECTOR_SIZE:
        yield 'disk_size', 'the disk size of %d bytes is not a multiple of %d' % (size, vhd.SECTOR_SIZE)
    if size > MAX_DISK_SIZE:
        yield 'disk_size', 'the disk size of %d bytes is beyond the limit of %d' % (size, MAX_DISK_SIZE)
    if disk.footer.geometry_size > size:
        yield 'geometry', 'the geometry %d/%d/%d spans more than the disk size of %d bytes' % (
            disk.footer.cylinders, disk.footer.heads, disk.footer.sectors_per_track, size)


def _check_file_size(disk):
    file_size = disk.metadata.file_size
    if file_size % vhd.SECTOR_SIZE not in (0, vhd.SHORT_FOOTER_SIZE):
        yield 'file_end', 'the file has %d bytes, not a multiple of %d' % (file_size, vhd.SECTOR_SIZE)
    if disk.footer.disk_type == vhd.FIXED and disk.data_end != disk.footer.current_size:
        yield 'file_end', 'the file has room for %d bytes, but the fixed disk has %d' % (
            disk.data_end, disk.footer.current_size)


def _check_timestamps(disk):
    stamps = [('created_in_future', 'the disk was created', disk.footer.timestamp)]
    if disk.header and disk.footer.disk_type == vhd.DIFFERENCING:
        stamps.append(('parent_created_in_future', 'its parent was created', disk.header.parent_timestamp))
    for name, event, timestamp in stamps:
        ahead = timestamp + vhd.EPOCH_UNIX_S - disk.now
        if ahead > CLOCK_SLACK_S:
            yield name, ('%s %d s in the future: the clock of this host is slow, or that of the host which made the '
                         'disk is fast' % (event, ahead))


def _check_header_fields(disk):
    header = disk.header
    if header.cookie != vhd.HEADER_COOKIE:
        yield 'header_missing', 'the header is missing at byte %d' % disk.footer.data_offset
    elif not header.checksum_correct:
        yield 'header_checksum', 'the header has checksum 0x%08x, its bytes have 0x%08x' % (
            header.checksum, header.compute_checksum())
    if header.version != vhd.VERSION_1_0:
        yield 'header_version', 'header version 0x%08x instead of 1.0' % header.version
    if header.data_offset != vhd.NO_OFFSET or header.reserved1 or header.reserved2.strip(b'\0'):
        yield 'header_reserved', 'unused fields of the header are in use'
    if not disk.block_size_supported:
        yield 'block_size', 'blocks of %d bytes: only %d is supported' % (header.block_size, vhd.BLOCK_SIZE)
    if disk.footer.disk_type == vhd.DYNAMIC and header.parent_uuid_bytes != vhd.NULL_UUID:
        yield 'unexpected_parent', 'the disk is not differencing, but names the parent %s' % disk.metadata.parent_uuid


def _check_bat_size(disk):
    entries = disk.header.max_bat_entries
    if entries > MAX_BAT_ENTRIES:
        yield 'bat_size', 'a BAT of %d entries is beyond the limit of %d' % (entries, MAX_BAT_ENTRIES)
    # vhd-util counts in its own block size; a header with another is reported already.
    needed = -(-disk.footer.current_size // vhd.BLOCK_SIZE)
    if entries < needed:
        yield 'bat_size', 'a BAT of %d entries is too small for the disk, which has %d blocks' % (entries, needed)


def _check_regions(disk):
    furthest = None
    for region in disk.regions:
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


def _check_batmap(disk):
    if not disk.batmap:
        if disk.footer.has_blktap_batmap:
            yield 'batmap_missing', 'the batmap is missing at byte %d, where blktap puts it' % disk.header.bat_end
        return
    batmap, entries = disk.batmap, disk.header.max_bat_entries
    size = batmap.size_sectors * vhd.SECTOR_SIZE
    if size * 8 < entries or size > vhd.round_up(MAX_BAT_ENTRIES // 8, vhd.SECTOR_SIZE):
        yield 'batmap_size', 'a batmap of %d bytes does not fit a BAT of %d entries' % (size, entries)
    elif batmap.offset + size <= disk.data_end:
        found = vhd.compute_checksum(vhd.read_exactly(disk.fileobj, batmap.offset, size))
        if found != batmap.checksum:
            yield 'batmap_checksum', 'the batmap should have checksum 0x%08x, its bytes have 0x%08x' % (
                batmap.checksum, found)


def _check_locators(disk):
    codes = set()
    for locator in disk.metadata.locators:
        limit = min(locator.space_bytes, vhd.MAX_LOCATOR_LENGTH)
        if not 0 < locator.data_length <= limit or locator.space_bytes % vhd.SECTOR_SIZE:
            yield 'locator_size', 'parent locator %d uses %d bytes of a space of %d' % (
                locator.index, locator.data_length, locator.space_bytes)
        if locator.code in codes:
            yield 'locator_duplicate', 'parent locator %d has the code of an earlier one' % locator.index
        codes.add(locator.code)


def _check_blocks(disk):
    """Every block lies inside the file, clear of the metadata and of every other block; the footer follows the last."""
    header = disk.header
    if not disk.block_size_supported or header.max_bat_entries > MAX_BAT_ENTRIES or header.bat_end > disk.data_end:
        # Reported by other checks; this BAT cannot be followed.
        return
    length = (header.bitmap_size + header.block_size) // vhd.SECTOR_SIZE
    starts, outside, overlapping = _place_blocks(disk, length)
    if outside:
        yield 'block_outside_file', 'blocks outside the file: %d, the first is block %d' % (len(outside), outside[0])
    if overlapping:
        yield 'block_overlap', 'blocks over other blocks: %d, the first is block %d' % (
            len(overlapping), overlapping[0])
    previous, near = -length, 0
    for start in starts:
        if start:
            if start - previous < length:
                near += 1
            previous = start
    if near:
        yield 'block_overlap', 'blocks that reach into the next: %d' % near
    for region in disk.regions:
        if _overlaps_block(region, starts, length):
            yield 'block_overlaps_metadata', 'a block lies over the %s' % region.name
    data_end = max([(previous + length) * vhd.SECTOR_SIZE] + [region.end for region in disk.regions])
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


_CHECKS = (_check_footer_copies, _check_footer_fields, _check_disk_size, _check_file_size, _check_timestamps)
_HEADER_CHECKS = (_check_header_fields, _check_bat_size, _check_regions, _check_batmap, _check_locators, _check_blocks)
