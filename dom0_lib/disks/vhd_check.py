# SPDX-License-Identifier: Apache-2.0
"""Is a VHD file what it says?  Named checks, all of which run and all of which report.

One file is judged here; how the files of a chain fit together is dom0_lib.disks.vhd_chain's question.  Memory is bounded by 4 MiB
for the blocks of a 2 TiB disk, and time is linear in the BAT.
"""

from __future__ import absolute_import, division

import binascii
import collections
import time

from dom0_lib.disks import vhd
from dom0_lib.disks import vhd_layout

# XenServer's limit for a VHD disk, and the largest that qemu-img makes.
MAX_DISK_SIZE = 2040 * 1024 ** 3
# vhd-util tolerates this much difference between two clocks.
CLOCK_SLACK_S = 1800

# name: which check failed, for code that can repair it; text: one line for people.
Problem = collections.namedtuple('Problem', 'name text')


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
    # Metadata preallocated for growth, and the gap that vhd_layout.check_blocks allows.
    return blocks * (vhd.BLOCK_SIZE + 4096) + 8 * vhd_layout.MAX_BAT_ENTRIES + 2 * vhd_layout.MAX_TRAILING_GAP


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
    if footer.of_blktap and footer.creator != vhd.BLKTAP_CREATOR:
        yield 'creator', 'the creator 0x%s is not that of blktap, which would take the file for its own' % (
            binascii.hexlify(footer.creator).decode('ascii'))
    if footer.of_blktap and not 0x00010000 <= footer.creator_version <= vhd.BLKTAP_VERSION:
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
    if entries > vhd_layout.MAX_BAT_ENTRIES:
        yield 'bat_size', 'a BAT of %d entries is beyond the limit of %d' % (entries, vhd_layout.MAX_BAT_ENTRIES)
    # vhd-util counts in its own block size; a header with another is reported already.
    needed = -(-disk.footer.current_size // vhd.BLOCK_SIZE)
    if entries < needed:
        yield 'bat_size', 'a BAT of %d entries is too small for the disk, which has %d blocks' % (entries, needed)


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


_CHECKS = (_check_footer_copies, _check_footer_fields, _check_disk_size, _check_file_size, _check_timestamps)
_HEADER_CHECKS = (_check_header_fields, _check_bat_size, vhd_layout.check_blktap_places, vhd_layout.check_regions,
                  vhd_layout.check_batmap, _check_locators, vhd_layout.check_blocks)
