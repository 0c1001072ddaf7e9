# SPDX-License-Identifier: Apache-2.0
"""The VHD format and its checks, on disks built here byte by byte."""

from __future__ import absolute_import, division

import binascii
import io
import os
import re
import struct

import pytest
from hypothesis import given
from hypothesis import strategies

from dom0_lib.disks import vhd
from dom0_lib.disks import vhd_check
from dom0_lib.disks import vhd_layout

NOW = 1795330000
MIB = 1024 * 1024
PARENT_UUID = '121ee0da-b04f-4ce5-a522-9c8cfa55c316'

# The beginnings of a footer and a header that vhd-util wrote; the rest is zeros.
RECORDED_FOOTER = (
    '636f6e6563746978 00000002 00010000 0000000000000200 32953aa2 74617000 00010003 00000000'
    '0000000001000000 0000000001000000 01e1 04 11 00000004 ffffef05 e9c75d9a9bfe438fb3e99af4287cb21d 00 00')
RECORDED_HEADER = (
    '6378737061727365 ffffffffffffffff 0000000000000600 00010000 00000008 00200000 ffffe45d'
    '121ee0dab04f4ce5a5229c8cfa55c316 32953aa2 00000000 0032002e007600680064')


def unhex(digits, size):
    return binascii.unhexlify(digits.replace(' ', '')).ljust(size, b'\0')


class Disk(object):
    """The parts of a disk of 16 MiB as blktap lays it out, to be damaged before `build` puts them together.

    patches: [(offset, bytes)], applied last
    seal:    names of the records that get a right checksum
    """

    def __init__(self, disk_type=vhd.DYNAMIC, blocks=(7,)):
        self.footer = vhd.Footer()
        self.footer.set_size(16 * MIB)
        self.footer.disk_type = disk_type
        self.footer.timestamp = NOW - vhd.EPOCH_UNIX_S
        self.footer.uuid_bytes = b'u' * 16
        self.backup = None
        self.header = vhd.Header()
        self.header.max_bat_entries = 8
        self.batmap = vhd.Batmap()
        self.batmap.offset, self.batmap.size_sectors = 2560, 1
        self.locators = []
        self.bat = list(blocks) + [vhd.UNUSED_ENTRY] * (8 - len(blocks))
        self.patches = []
        self.seal = set(['footer', 'backup', 'header'])
        self.gap = 0
        if disk_type == vhd.FIXED:
            self.footer.data_offset = vhd.NO_OFFSET
        if disk_type == vhd.DIFFERENCING:
            self.header.parent_uuid_bytes = vhd.parse_uuid(PARENT_UUID)
            self.header.set_parent_name(u'p.vhd')
            for code, data in ((vhd.MACX, b'file://./p.vhd'), (vhd.W2KU, u'.\\p.vhd'.encode('utf-16-le'))):
                self.add_locator(code, data)

    def add_locator(self, code, data):
        locator = vhd.Locator()
        locator.code, locator.data, locator.data_length, locator.data_space = code, data, len(data), 512
        locator.data_offset = 3072 + 512 * len(self.locators)
        self.locators.append(locator)

    def set_backup(self, **fields):
        """Make the backup differ from the footer."""
        self.backup = vhd.Footer.parse(self.footer.pack())
        for name, value in fields.items():
            setattr(self.backup, name, value)

    def build(self):
        file_bytes = bytearray()

        def put(offset, data):
            file_bytes.extend(b'\0' * (offset + len(data) - len(file_bytes)))
            file_bytes[offset:offset + len(data)] = data

        if self.footer.disk_type == vhd.FIXED:
            put(self.footer.current_size - 1, b'\0')
        else:
            locators, self.header.locator_table = self.locators, b''
            if locators:
                self.header.set_locators(locators)
            self.header.locator_table = self.header.locator_table.ljust(192, b'\0')
            put(0, self._pack('backup', self.backup or self.footer))
            put(512, self._pack('header', self.header))
            put(1536, struct.pack('>8I', *self.bat).ljust(512, b'\0'))
            put(2048, self.batmap.pack())
            put(2560, b'\0' * 512)
            for locator in locators:
                put(locator.data_offset, locator.data.ljust(512, b'\0'))
            ends = [512 * entry + 512 + 2 * MIB for entry in self.bat if entry != vhd.UNUSED_ENTRY and entry < 10 ** 6]
            put(max(ends + [len(file_bytes)]) + self.gap - 1, b'\0')
        put(len(file_bytes), self._pack('footer', self.footer))
        for offset, data in self.patches:
            offset += len(file_bytes) if offset < 0 else 0
            file_bytes[offset:offset + len(data)] = data
        return io.BytesIO(bytes(file_bytes))

    def _pack(self, name, record):
        return record.seal() if name in self.seal else record.pack()


class Watched(object):
    """A file that notes how much is read at once."""

    def __init__(self, fileobj):
        self._file = fileobj
        self.seek, self.tell = fileobj.seek, fileobj.tell
        self.largest_read = 0

    def read(self, size):
        self.largest_read = max(self.largest_read, size)
        return self._file.read(size)


def name_problems(disk, now=NOW):
    return set(problem.name for problem in vhd_check.find_problems(disk.build(), now=now))


# The format


@pytest.mark.parametrize('record', [vhd.Footer, vhd.Header, vhd.Locator, vhd.Batmap])
@given(data=strategies.data())
def test_packing_returns_what_was_parsed(record, data):
    raw = data.draw(strategies.binary(min_size=record._layout.size, max_size=record._layout.size))
    assert record.parse(raw).pack() == raw


def test_records_have_the_sizes_of_the_format():
    sizes = [record._layout.size for record in (vhd.Footer, vhd.Header, vhd.Locator, vhd.Batmap)]
    assert sizes == [vhd.FOOTER_SIZE, vhd.HEADER_SIZE, vhd.LOCATOR_SIZE, vhd.BATMAP_HEADER_SIZE]


def test_footer_written_by_vhd_util():
    footer = vhd.Footer.parse(unhex(RECORDED_FOOTER, 512))
    assert footer.intact
    assert (footer.disk_type, footer.current_size, footer.data_offset) == (vhd.DIFFERENCING, 16 * MIB, 512)
    assert vhd.format_uuid(footer.uuid_bytes) == 'e9c75d9a-9bfe-438f-b3e9-9af4287cb21d'
    assert footer.timestamp + vhd.EPOCH_UNIX_S == 1795325474
    assert (footer.cylinders, footer.heads, footer.sectors_per_track) == vhd.compute_geometry(16 * MIB)
    assert footer.seal() == unhex(RECORDED_FOOTER, 512)


def test_a_footer_needs_its_cookie():
    footer = vhd.Footer()
    footer.cookie = b'conectiX'
    footer.seal()
    assert footer.checksum_correct and not footer.intact


def test_hidden_is_the_byte_after_the_saved_state():
    raw = bytearray(unhex(RECORDED_FOOTER, 512))
    raw[85] = 1
    footer = vhd.Footer.parse(bytes(raw))
    assert (footer.saved_state, footer.hidden) == (0, 1)
    assert not footer.intact


def test_header_written_by_vhd_util():
    header = vhd.Header.parse(unhex(RECORDED_HEADER, 1024))
    assert (header.cookie, header.max_bat_entries, header.block_size) == (vhd.HEADER_COOKIE, 8, 2 * MIB)
    assert header.parent_name == u'2.vhd'
    assert vhd.format_uuid(header.parent_uuid_bytes) == PARENT_UUID
    # Its locators, which are left out here, belong to the checksum.
    assert not header.checksum_correct
    assert (header.bat_size, header.bat_end, header.bitmap_size) == (512, 2048, 512)


@pytest.mark.parametrize('entries, bat_end, sectors', [
    (0, 2048, 1), (1, 2048, 1), (128, 2048, 1), (129, 2560, 1), (4096, 17920, 1), (4097, 18432, 2), (32768, 132608, 8),
    (524288, 2098688, 128), (1044480, 4179456, 255)])
def test_places_that_blktap_gives_a_bat_and_its_batmap(entries, bat_end, sectors):
    header = vhd.Header()
    header.max_bat_entries = entries
    assert (header.bat_end, header.batmap_size_sectors) == (bat_end, sectors)


def test_any_changed_byte_of_a_footer_is_noticed():
    raw = bytearray(unhex(RECORDED_FOOTER, 512))
    for offset in range(512):
        raw[offset] ^= 0x55
        assert not vhd.Footer.parse(bytes(raw)).intact, offset
        raw[offset] ^= 0x55


@pytest.mark.parametrize('size, geometry', [
    (16 * MIB, (481, 4, 17)), (16781312, (482, 4, 17)), (17 * (15 * 1024 + 1) * 512, (960, 16, 17)),
    # As vhd-util wrote them.
    (2 * MIB, (0x3c, 4, 17)), (256 * MIB, (0x208, 16, 63)), (258 * MIB, (0x20c, 16, 63)), (8192 * MIB, (0x4104, 16, 63)),
    (65536 * MIB, (0x8080, 16, 255)), (1048576 * MIB, (0xffff, 16, 255)),
    (507903 * 512, (1023, 16, 31)), (507904 * 512, (503, 16, 63)),
    (65535 * 16 * 63 * 512 - 512, (65534, 16, 63)), (65535 * 16 * 63 * 512, (16191, 16, 255)),
    (1024 * MIB, (2080, 16, 63)), (127 * 1024 * MIB, (65278, 16, 255)),
    (2040 * 1024 * MIB, (65535, 16, 255))])
def test_geometry(size, geometry):
    assert vhd.compute_geometry(size) == geometry


@given(strategies.integers(min_value=0, max_value=vhd_check.MAX_DISK_SIZE))
def test_geometry_never_spans_more_than_the_disk(size):
    footer = vhd.Footer()
    footer.set_size(size)
    assert footer.geometry_size <= size
    assert len(footer.seal()) == 512


@given(strategies.uuids())
def test_uuids_are_in_text_order(uuid):
    assert vhd.format_uuid(uuid.bytes) == str(uuid)
    assert vhd.parse_uuid(str(uuid)) == uuid.bytes


@pytest.mark.parametrize('code, data, path', [
    (vhd.MACX, b'file://./p.vhd', './p.vhd'),
    (vhd.MACX, b'file://../../p%20q.vhd', '../../p%20q.vhd'),
    (vhd.MACX, b'file:///p.vhd\0rest', '/p.vhd'),
    (vhd.MACX, b'p.vhd', None),
    (vhd.MACX, b'file://p\xc3\xa9.vhd', None),
    (vhd.MACX, b'file://p\xff.vhd', None),
    (vhd.W2KU, u'.\\..\\p.vhd'.encode('utf-16-le'), './../p.vhd'),
    (vhd.W2RU, u'C:\\x\\p.vhd'.encode('utf-16-le'), '/x/p.vhd'),
    (vhd.W2RU, u'D:\\x\\p.vhd'.encode('utf-16-le'), 'D:/x/p.vhd'),
    (vhd.W2KU, b'odd', None),
    (vhd.W2KU, u'\x7f'.encode('utf-16-le'), '\x7f'), (vhd.W2KU, u'\x80'.encode('utf-16-le'), None),
    (b'Wi2r', b'p.vhd', None),
    (vhd.MACX, None, None)])
def test_locator_path(code, data, path):
    locator = vhd.Locator()
    locator.code, locator.data = code, data
    assert locator.path == path


@pytest.mark.parametrize('data_space, expected', [(512, 512), (513, 513), (511, 511 * 512), (1, 512), (8, 4096), (1024, 1024), (0, 0)])
def test_locator_space_is_in_bytes_or_in_sectors(data_space, expected):
    locator = vhd.Locator()
    locator.data_space = data_space
    assert locator.space_bytes == expected


# Reading metadata


def test_metadata_of_a_differencing_disk():
    metadata = vhd.read_metadata(Disk(vhd.DIFFERENCING, blocks=(15,)).build())
    assert metadata.disk_type == vhd.DIFFERENCING
    assert metadata.uuid == '-'.join(['75757575', '7575', '7575', '7575', '757575757575'])
    assert (metadata.parent_uuid, metadata.parent_name) == (PARENT_UUID, u'p.vhd')
    assert (metadata.virtual_size_bytes, metadata.created_at, metadata.hidden) == (16 * MIB, NOW, False)
    assert [(locator.index, locator.code, locator.path) for locator in metadata.locators] == [
        (0, vhd.MACX, './p.vhd'), (1, vhd.W2KU, './p.vhd')]
    assert metadata.file_size == metadata.primary_offset + 512 == 16 * 512 + 2 * MIB + 512


def test_metadata_of_a_fixed_disk():
    metadata = vhd.read_metadata(Disk(vhd.FIXED).build())
    assert metadata.disk_type == vhd.FIXED
    assert (metadata.header, metadata.backup_footer, metadata.locators) == (None, None, [])
    assert metadata.parent_uuid == '00000000-0000-0000-0000-000000000000'
    assert metadata.parent_name == u''


def test_the_backup_is_trusted_when_the_primary_is_damaged():
    disk = Disk()
    disk.set_backup(hidden=1)
    assert not vhd.read_metadata(disk.build()).hidden
    disk.patches.append((-500, b'damage'))
    metadata = vhd.read_metadata(disk.build())
    assert metadata.hidden
    assert not metadata.primary_footer.intact


def test_a_footer_in_the_data_of_a_fixed_disk_is_not_its_backup():
    disk = Disk(vhd.FIXED)
    disk.patches = [(0, disk.footer.seal()), (-512, b'damage')]
    with pytest.raises(vhd.FormatError):
        vhd.read_metadata(disk.build())


def test_footer_of_511_bytes():
    whole = Disk().build().getvalue()
    short = io.BytesIO(whole[:-1])
    assert vhd.read_metadata(short).primary_offset == len(whole) - 512
    assert vhd_check.find_problems(short, now=NOW) == []


@pytest.mark.parametrize('size', [0, 5, 511, 512, 1024])
def test_what_is_too_short_is_no_vhd(size):
    with pytest.raises(vhd.FormatError):
        vhd.read_metadata(io.BytesIO(Disk().build().getvalue()[:size]))


@pytest.mark.parametrize('fields', [
    {'data_length': 513}, {'data_length': 0xffffffff}, {'data_length': 20000, 'data_space': 20480},
    {'data_offset': 10 ** 9}, {'data_offset': vhd.NO_OFFSET}])
def test_data_of_an_impossible_locator_are_not_read(fields):
    disk = Disk(vhd.DIFFERENCING, blocks=(15,))
    metadata = vhd.read_metadata(disk.build())
    assert [locator.data is None for locator in metadata.locators] == [False, False]
    locators = [vhd.Locator.parse(locator.pack()) for locator in disk.locators]
    for name, value in fields.items():
        setattr(locators[1], name, value)
    disk.patches.append((512 + 576 + 24, locators[1].pack()))
    watched = Watched(disk.build())
    metadata = vhd.read_metadata(watched)
    assert [locator.data is None for locator in metadata.locators] == [False, True]
    assert watched.largest_read <= 1024


@pytest.mark.parametrize('offset', [10 ** 9, vhd.NO_OFFSET, vhd.NO_OFFSET - 1024])
def test_header_beyond_the_file(offset):
    disk = Disk()
    disk.footer.data_offset = offset
    with pytest.raises(vhd.FormatError):
        vhd.read_metadata(disk.build())


@pytest.mark.parametrize('piece', [1, 17, 512, 65536])
def test_short_reads(piece):
    disk = Disk(vhd.DIFFERENCING, blocks=(15, 4119)).build()

    class Dribbling(object):
        """A file that gives a little at a time."""

        seek = disk.seek
        tell = disk.tell

        def read(self, size):
            return disk.read(min(size, piece))

    metadata = vhd.read_metadata(Dribbling())
    assert metadata.uuid.startswith('75757575')
    assert [list(entries[:3]) for _, entries in vhd.read_bat(Dribbling(), metadata.header)] == [
        [15, 4119, vhd.UNUSED_ENTRY]]
    assert vhd_check.find_problems(Dribbling(), now=NOW) == []


@given(strategies.data())
def test_no_damage_escapes_as_another_error(data):
    """Whatever a few bytes of the metadata are, reading ends with FormatError or a verdict, never with a failed check."""
    raw = bytearray(Disk(vhd.DIFFERENCING, blocks=()).build().getvalue())
    for _ in range(data.draw(strategies.integers(1, 4))):
        offset = data.draw(strategies.integers(0, len(raw) - 1))
        new = data.draw(strategies.binary(min_size=1, max_size=8))
        raw[offset:offset + len(new)] = new
    if data.draw(strategies.booleans()):
        raw[512:1536] = vhd.Header.parse(bytes(raw[512:1536])).seal()
        raw[-512:] = vhd.Footer.parse(bytes(raw[-512:])).seal()
    names = [problem.name for problem in vhd_check.find_problems(io.BytesIO(bytes(raw)), now=NOW)]
    assert 'check_failed' not in names


# The checks


@pytest.mark.parametrize('disk', [
    Disk(), Disk(blocks=()), Disk(blocks=(4111, vhd.UNUSED_ENTRY, 7)), Disk(vhd.FIXED), Disk(vhd.DIFFERENCING, blocks=(15,))],
    ids=['dynamic', 'empty', 'two blocks', 'fixed', 'differencing'])
def test_a_sound_disk_has_no_problems(disk):
    assert vhd_check.find_problems(disk.build(), now=NOW) == []


def test_locators_may_follow_the_blocks_of_another_program():
    disk = Disk(vhd.DIFFERENCING, blocks=(15,))
    disk.footer.creator = b'win '
    move_locator_behind(disk, 0)
    assert name_problems(disk) == set()


def test_a_locator_may_fill_its_space():
    disk = Disk(vhd.DIFFERENCING, blocks=(15,))
    disk.locators[0].data = b'file://./'.ljust(512, b'x')
    disk.locators[0].data_length = 512
    assert name_problems(disk) == set()
    assert vhd.read_metadata(disk.build()).locators[0].data == disk.locators[0].data


def test_data_of_a_locator_that_the_file_holds_to_its_last_byte():
    """The footer is there, too, which vhd_check tells."""
    disk = Disk(vhd.DIFFERENCING, blocks=())
    end = len(disk.build().getvalue())
    for offset, is_read in ((end - disk.locators[1].data_length, True), (end - disk.locators[1].data_length + 1, False)):
        set_locator_offset(disk, offset)
        disk.seal.add('header')
        assert (vhd.read_metadata(disk.build()).locators[1].data is not None) == is_read
        disk.patches = []


def test_only_a_child_has_a_parent_timestamp():
    disk = Disk()
    disk.header.parent_timestamp = 0xffffffff
    assert name_problems(disk) == set()


def test_nothing_but_metadata():
    """A batmap, or a BAT, that ends where the footer begins is checked like any other."""
    disk = Disk(blocks=())
    disk.patches.append((2560, b'\1'))
    assert name_problems(disk) == {'batmap_checksum'}
    raw = Disk(blocks=(7,))
    raw.footer.creator = b'qemu'
    whole = raw.build().getvalue()
    assert [problem.name for problem in vhd_check.find_problems(io.BytesIO(whole[:2048] + whole[-512:]), now=NOW)] == [
        'block_outside_file']


def set_footer(**fields):
    def damage(disk):
        for name, value in fields.items():
            setattr(disk.footer, name, value)
    return damage


def set_header(**fields):
    def damage(disk):
        for name, value in fields.items():
            setattr(disk.header, name, value)
    return damage


def set_batmap(**fields):
    def damage(disk):
        for name, value in fields.items():
            setattr(disk.batmap, name, value)
    return damage


def set_locator(index, **fields):
    def damage(disk):
        for name, value in fields.items():
            setattr(disk.locators[index], name, value)
    return damage


def set_bat(*entries):
    def damage(disk):
        disk.bat[:len(entries)] = entries
    return damage


def patch(offset, data):
    def damage(disk):
        disk.patches.append((offset, data))
    return damage


def set_gap(gap):
    def damage(disk):
        disk.gap = gap
    return damage


def unseal(record):
    def damage(disk):
        disk.seal.remove(record)
    return damage


DYNAMIC_DAMAGES = [
    ('primary cookie', patch(-512, b'C'), ['primary_footer_missing']),
    ('primary changed', patch(-400, b'\1'), ['primary_footer_checksum']),
    ('backup cookie', patch(0, b'C'), ['backup_footer_missing']),
    ('backup changed', patch(112, b'\1'), ['backup_footer_checksum']),
    ('footers differ', lambda disk: disk.set_backup(hidden=1), ['footers_differ']),
    ('both footers', lambda disk: disk.patches.extend([(0, b'C'), (-512, b'C')]), ['unreadable']),
    ('version 2', set_footer(version=0x20000), ['footer_version']),
    ('no reserved feature', set_footer(features=0), ['features']),
    ('unknown feature', set_footer(features=6), ['features']),
    ('another creator that blktap takes for itself', set_footer(creator=b'tapX'), ['creator']),
    ('blktap 0.1', set_footer(creator_version=1), ['creator_version']),
    ('blktap 2.0', set_footer(creator_version=0x20000), ['creator_version']),
    ('type 9', set_footer(disk_type=9), ['disk_type']),
    ('header unaligned', lambda disk: move_header(disk, 513), ['metadata_unaligned', 'metadata_overlap', 'metadata_place']),
    ('no uuid', set_footer(uuid_bytes=vhd.NULL_UUID), ['null_uuid']),
    ('saved', set_footer(saved_state=1), ['saved_state']),
    ('hidden 2', set_footer(hidden=2), ['hidden_value']),
    ('no size', lambda disk: disk.footer.set_size(0), ['disk_size']),
    ('odd size', lambda disk: disk.footer.set_size(16 * MIB - 1), ['disk_size']),
    ('2040 GiB and a sector', lambda disk: disk.footer.set_size(2040 * 1024 * MIB + 512), ['disk_size', 'bat_size']),
    ('geometry of a larger disk', set_footer(cylinders=65535), ['geometry']),
    ('31 minutes ahead', set_footer(timestamp=NOW + 1860 - vhd.EPOCH_UNIX_S), ['created_in_future']),
    ('header cookie', set_header(cookie=b'CXSPARSE'), ['header_missing']),
    ('header changed', unseal('header'), ['header_checksum']),
    ('header version', set_header(version=0x20000), ['header_version']),
    ('header data offset', set_header(data_offset=0), ['header_reserved']),
    ('header reserved', set_header(reserved1=1), ['header_reserved']),
    ('header reserved end', set_header(reserved2=b'\0' * 255 + b'\1'), ['header_reserved']),
    ('block size 0', set_header(block_size=0), ['block_size']),
    ('block size 3,000,000', set_header(block_size=3000000), ['block_size']),
    ('block size 4 MiB', set_header(block_size=4 * MIB), ['block_size']),
    ('block size 512 KiB', set_header(block_size=512 * 1024), ['block_size']),
    ('a parent', set_header(parent_uuid_bytes=b'p' * 16), ['unexpected_parent']),
    ('BAT too small', set_header(max_bat_entries=7), ['bat_size']),
    ('BAT too large', set_header(max_bat_entries=0xffffffff), ['bat_size', 'metadata_outside_file', 'batmap_missing']),
    ('BAT unaligned', set_header(table_offset=1537), [
        'metadata_place', 'metadata_unaligned', 'batmap_missing', 'block_outside_file']),
    ('BAT outside', set_header(table_offset=10 ** 12), ['metadata_place', 'metadata_outside_file', 'batmap_missing']),
    ('BAT at the end of all', set_header(table_offset=vhd.NO_OFFSET - 511), [
        'metadata_place', 'metadata_outside_file', 'batmap_missing']),
    ('BAT over the header', set_header(table_offset=1024), [
        'metadata_place', 'metadata_overlap', 'batmap_missing', 'block_outside_file']),
    ('batmap cookie', set_batmap(cookie=b'TDBATMAP'), ['batmap_missing']),
    ('batmap 1.1', set_batmap(version=0x00010001), ['batmap_version']),
    ('batmap 1.3', set_batmap(version=0x00010003), ['batmap_version']),
    ('batmap outside', set_batmap(offset=10 ** 12), ['batmap_place', 'metadata_outside_file', 'metadata_behind_block']),
    ('batmap unaligned', set_batmap(offset=2561), ['batmap_place', 'metadata_unaligned']),
    ('batmap a sector further', set_batmap(offset=3072), ['batmap_place']),
    ('batmap over its header', set_batmap(offset=2048), ['batmap_place', 'metadata_overlap', 'batmap_checksum']),
    ('batmap over the BAT', set_batmap(offset=1536), ['batmap_place', 'metadata_overlap', 'batmap_checksum']),
    ('batmap a sector too large', set_batmap(size_sectors=2), ['batmap_size']),
    ('batmap empty', set_batmap(size_sectors=0), ['batmap_size']),
    ('batmap of 4 GiB', set_batmap(size_sectors=8 * MIB), [
        'batmap_size', 'metadata_outside_file', 'block_overlaps_metadata']),
    ('batmap changed', patch(2560, b'\1'), ['batmap_checksum']),
    ('block outside', set_bat(7, 1000000), ['block_outside_file']),
    ('block at the end of all', set_bat(7, 0xfffffffe), ['block_outside_file']),
    ('block at sector 0', set_bat(7, 0), ['block_outside_file']),
    ('block reaches into the footer', lambda disk: disk.patches.append((1536, struct.pack('>I', 8))),
     ['block_outside_file']),
    ('blocks share a sector', set_bat(7, 7), ['block_overlap']),
    ('blocks overlap', set_bat(4000, 4000 + 4096), ['block_overlap', 'block_place']),
    ('blocks overlap by a sector', set_bat(4097, 4097 * 2 - 1), ['block_overlap', 'block_place']),
    ('block over the header', set_bat(1), ['block_overlaps_metadata', 'block_place']),
    ('block over the last sector of the batmap', set_bat(5), ['block_overlaps_metadata', 'block_place']),
    ('data a sector before a page', set_bat(6), ['block_place']),
    ('data a sector behind a page', set_bat(8), ['block_place']),
    ('blocks with six sectors between them', set_bat(7, 7 + 4103), ['block_place']),
    ('blocks with eight sectors between them', set_bat(7, 7 + 4105), ['block_place']),
    ('5 MiB nobody owns', set_gap(5 * MIB), ['file_end']),
]
DIFFERENCING_DAMAGES = [
    ('parent ahead', set_header(parent_timestamp=NOW + 1860 - vhd.EPOCH_UNIX_S), ['parent_created_in_future']),
    ('locator longer than its space', set_locator(0, data_length=513), ['locator_size']),
    ('locator of 4 GiB', set_locator(0, data_length=0xffffffff), ['locator_size']),
    ('locator longer than a path', set_locator(1, data_length=20000, data_space=20480),
     ['locator_size', 'block_overlaps_metadata']),
    ('locator empty', set_locator(1, data_length=0), ['locator_size']),
    ('locator space odd', set_locator(0, data_space=700), ['locator_size', 'metadata_overlap']),
    ('locator outside', lambda disk: set_locator_offset(disk, 10 ** 12), [
        'metadata_outside_file', 'metadata_behind_block']),
    ('locator at the end of all', lambda disk: set_locator_offset(disk, vhd.NO_OFFSET), [
        'metadata_outside_file', 'metadata_unaligned', 'metadata_behind_block']),
    ('locator in the midst of a sector', lambda disk: set_locator_offset(disk, 4096 + 256), ['metadata_unaligned']),
    ('locator behind a block', lambda disk: move_locator_behind(disk, 0), ['metadata_behind_block']),
    ('locator over another', lambda disk: set_locator_offset(disk, 3072), ['metadata_overlap']),
    ('locator over the header of the batmap', lambda disk: set_locator_offset(disk, 2048), ['metadata_overlap']),
    ('block over a locator', set_bat(7), ['block_overlaps_metadata']),
    ('locator over the end of a block', lambda disk: move_locator_behind(disk, -512), ['block_overlaps_metadata']),
    ('a code twice', set_locator(1, code=vhd.MACX), ['locator_duplicate']),
]
FIXED_DAMAGES = [
    ('a header', set_footer(data_offset=512), ['data_offset']),
    ('footer changed', patch(-400, b'\1'), ['unreadable']),
    ('shorter than it says', lambda disk: disk.patches.append((-512, resized_footer(disk, 17 * MIB))), ['file_end']),
    ('longer than it says', lambda disk: disk.patches.append((-512, resized_footer(disk, 15 * MIB))), ['file_end']),
]


def set_locator_offset(disk, offset):
    """Point the second locator elsewhere; its data stay."""
    locators = [vhd.Locator.parse(locator.pack()) for locator in disk.locators]
    locators[1].data_offset = offset
    disk.seal.remove('header')
    disk.header.set_locators(locators)
    disk.patches.append((512, disk.header.seal()))


def move_locator_behind(disk, distance):
    """Put the second locator behind the only block, which ends at sector 15 + 4097."""
    disk.gap = 512
    set_locator_offset(disk, 512 * (15 + 4097) + distance)


def move_header(disk, offset):
    disk.footer.data_offset = offset
    disk.patches.append((offset, disk.header.seal()))


def resized_footer(disk, size):
    disk.footer.set_size(size)
    raw = disk.footer.seal()
    disk.footer.set_size(16 * MIB)
    return raw


CASES = ([(vhd.DYNAMIC,) + case for case in DYNAMIC_DAMAGES] + [(vhd.DIFFERENCING,) + case for case in DIFFERENCING_DAMAGES]
         + [(vhd.FIXED,) + case for case in FIXED_DAMAGES])


@pytest.mark.parametrize('disk_type, name, damage, problems', CASES, ids=[case[1] for case in CASES])
def test_damage_is_named(disk_type, name, damage, problems):
    disk = Disk(disk_type, blocks=(15,) if disk_type == vhd.DIFFERENCING else (7,))
    damage(disk)
    assert name_problems(disk) == set(problems)


def test_a_file_that_ends_inside_a_sector():
    for more in (1, 7, 510):
        raw = Disk().build().getvalue() + b'\0' * more
        problems = vhd_check.find_problems(io.BytesIO(raw), now=NOW)
        assert set(problem.name for problem in problems) == {'file_end', 'primary_footer_missing'}, more


def test_a_file_that_ends_inside_a_block():
    raw = Disk().build().getvalue()[:MIB]
    problems = vhd_check.find_problems(io.BytesIO(raw), now=NOW)
    assert set(problem.name for problem in problems) == {'primary_footer_missing', 'block_outside_file'}


def test_all_problems_are_reported_at_once():
    disk = Disk(vhd.DIFFERENCING, blocks=(15, 15))
    disk.footer.hidden = 3
    disk.footer.saved_state = 1
    disk.locators[0].data_length = 0
    disk.patches.append((2560, b'\1'))
    assert name_problems(disk) == {'hidden_value', 'saved_state', 'locator_size', 'batmap_checksum', 'block_overlap'}


class Failing(object):
    """A file that raises an error where its BAT is read."""

    def __init__(self, whole, error):
        self.tell, self.read = whole.tell, whole.read
        self._whole, self._error = whole, error

    def seek(self, offset, whence=0):
        if offset == 1536:
            raise self._error
        self._whole.seek(offset, whence)


def test_a_check_that_fails_is_a_problem():
    problems = vhd_check.find_problems(Failing(Disk().build(), ArithmeticError('odd')), now=NOW)
    assert [(problem.name, problem.text) for problem in problems] == [('check_failed', 'check_blocks: ArithmeticError: odd')]


def test_an_unreadable_sector_is_no_fault_of_the_disk():
    with pytest.raises(IOError):
        vhd_check.find_problems(Failing(Disk().build(), IOError(5, 'Input/output error')), now=NOW)


def test_every_problem_is_reached_by_a_test():
    text = u''
    for module in (vhd_check, vhd_layout):
        with io.open(os.path.splitext(module.__file__)[0] + '.py', encoding='utf-8') as source:
            text += source.read()
    named = set(re.findall(r"(?:yield|Problem\()\s*\(?'([a-z_]+)'", text)) | set(re.findall(r"\('([a-z_]+_in_future)'", text))
    for suffix in re.findall(r"yield name \+ '([a-z_]+)'", text):
        named |= {'primary' + suffix, 'backup' + suffix}
    assert len(named) > 30
    reached = set(problem for case in CASES for problem in case[3]) | {'check_failed'}
    assert reached == named


def test_problems_are_one_line_of_text():
    for disk_type, _, damage, _ in CASES:
        disk = Disk(disk_type)
        if disk_type == vhd.DIFFERENCING:
            disk.bat[0] = 15
        damage(disk)
        for problem in vhd_check.find_problems(disk.build(), now=NOW):
            assert problem.text and '\n' not in problem.text


def test_future_is_judged_by_this_hosts_clock():
    disk = Disk()
    disk.footer.timestamp = NOW + 1800 - vhd.EPOCH_UNIX_S
    assert name_problems(disk) == set()
    problem, = vhd_check.find_problems(disk.build(), now=NOW - 1)
    assert problem.name == 'created_in_future'
    assert 'clock' in problem.text and '1801 s' in problem.text


def test_a_disk_of_another_program_needs_no_batmap():
    disk = Disk()
    disk.footer.creator, disk.footer.creator_version = b'qemu', 0x50003
    disk.patches.append((2048, b'\0' * 512))
    assert name_problems(disk) == set()


@pytest.mark.parametrize('version', [0x00010000, 0x00010001])
def test_blktap_1_1_needs_its_batmap(version):
    """There blktap looks for one at every open, and the guest must not be able to make it."""
    disk = Disk()
    disk.footer.creator_version = version
    assert name_problems(disk) == set()
    disk.patches.append((2560, b'\1'))
    assert name_problems(disk) == {'batmap_checksum'}
    disk.patches.append((2048, b'\0' * 512))
    assert name_problems(disk) == {'batmap_missing'}


# blktap's own layout


@pytest.mark.parametrize('first', [15, 23, 15 + 4104])
def test_blocks_may_begin_at_any_page_behind_the_metadata(first):
    assert name_problems(Disk(vhd.DIFFERENCING, blocks=(first,))) == set()


@pytest.mark.parametrize('distance', [4104, 4112, 2 * 4104])
def test_blocks_have_seven_sectors_between_them(distance):
    assert name_problems(Disk(blocks=(7 + distance, 7))) == set()


def test_no_metadata_lie_between_two_blocks():
    disk = Disk(vhd.DIFFERENCING, blocks=(15, 15 + 2 * 4104))
    set_locator_offset(disk, 512 * (15 + 4097))
    assert name_problems(disk) == {'metadata_behind_block'}


def test_metadata_may_end_where_the_first_block_begins():
    disk = Disk(vhd.DIFFERENCING, blocks=(15,))
    set_locator_offset(disk, 512 * 14)
    assert name_problems(disk) == set()


@pytest.mark.parametrize('creator', [b'qemu', b'win ', b'vbox', b'taq\0', b'tbp\0', b'uap\0', b'Tap\0'])
def test_blocks_of_another_program_may_lie_anywhere(creator):
    disk = Disk(blocks=(6, 6 + 4097))
    disk.footer.creator, disk.footer.creator_version = creator, 0x50003
    disk.patches.append((2048, b'\0' * 512))
    assert name_problems(disk) == set()


def test_metadata_of_another_program_may_lie_anywhere():
    disk = Disk(vhd.DIFFERENCING, blocks=(15,))
    disk.footer.creator = b'win '
    move_header(disk, 512 * 10)
    assert name_problems(disk) == set()


@pytest.mark.parametrize('creator', [b'tap\1', b'tap ', b'tapX', b'tap\n'])
def test_three_letters_make_a_creator_blktap(creator):
    disk = Disk(blocks=(6,))
    disk.footer.creator = creator
    disk.patches.append((2048, b'\0' * 512))
    assert name_problems(disk) == {'creator', 'batmap_missing', 'block_place'}


def test_a_fixed_disk_of_another_creator_that_blktap_takes_for_itself():
    disk = Disk(vhd.FIXED)
    disk.footer.creator = b'tapX'
    assert name_problems(disk) == {'creator'}


@pytest.mark.parametrize('moved', ['header', 'BAT'])
def test_header_and_bat_lie_where_blktap_puts_them(moved):
    disk = Disk(vhd.DIFFERENCING, blocks=(31,))
    if moved == 'header':
        move_header(disk, 512 * 16)
    else:
        disk.header.table_offset = 512 * 16
        disk.batmap.offset = 512 * 18
        disk.patches.extend([(512 * 16, struct.pack('>8I', *disk.bat)), (512 * 17, disk.batmap.pack())])
    assert name_problems(disk) == {'metadata_place'}


@pytest.mark.parametrize('entries, sectors', [
    (8, 1), (4096, 1), (4097, 2), (8192, 2), (8193, 3), (vhd_layout.MAX_BAT_ENTRIES, 256)])
def test_a_batmap_has_a_bit_for_each_entry_of_the_bat(entries, sectors):
    for size, problems in ((sectors - 1, {'batmap_size'}), (sectors, set()), (sectors + 1, {'batmap_size'})):
        disk = preallocate(entries, size)
        assert name_problems(disk) == problems, size


@pytest.mark.parametrize('size', [512, 2 * MIB, 16 * MIB - 512])
def test_a_sector_of_the_map_is_summed_at_least(size):
    disk = Disk(blocks=())
    disk.footer.set_size(size)
    disk.patches.append((2560 + 511, b'\1'))
    assert name_problems(disk) == {'batmap_checksum'}


def test_only_bits_that_fill_a_byte_are_summed():
    """blktap reads one sector of the map of 8194 MiB too few, and leaves the old footer in the second."""
    for size, damaged, problems in ((8194 * MIB, 1, set()), (8194 * MIB, 0, {'batmap_checksum'}),
                                    (8208 * MIB, 1, {'batmap_checksum'})):
        disk = preallocate(4104, 2)
        disk.footer.set_size(size)
        disk.patches.append((disk.batmap.offset + 512 * damaged + 511, b'\1'))
        assert name_problems(disk) == problems, (size, damaged)


def preallocate(entries, batmap_sectors):
    """An empty disk with a BAT of so many entries."""
    disk = Disk(blocks=())
    disk.header.max_bat_entries = entries
    disk.batmap.offset, disk.batmap.size_sectors = disk.header.bat_end + 512, batmap_sectors
    disk.gap = disk.header.bat_end + 512 * (batmap_sectors + 2)
    disk.patches.extend([(1536, b'\xff' * (4 * entries)), (disk.header.bat_end, disk.batmap.pack())])
    return disk


# Limits, each where it is and one beyond


@pytest.mark.parametrize('size, entries', [
    (512, 1), (2 * MIB, 1), (2 * MIB + 512, 2), (16 * MIB - 512, 8), (16 * MIB, 8), (16 * MIB + 512, 9)])
def test_a_bat_has_an_entry_for_each_begun_block(size, entries):
    for count, problems in ((entries - 1, {'bat_size'}), (entries, set()), (entries + 1, set())):
        disk = Disk(blocks=())
        disk.footer.set_size(size)
        disk.header.max_bat_entries = count
        disk.patches.append((1536, b'\xff' * 4 * count))
        assert name_problems(disk) == problems, count


@pytest.mark.parametrize('version, problems', [
    (0x0000ffff, {'creator_version'}), (0x00010000, set()), (0x00010003, set()), (0x00010004, {'creator_version'})])
def test_versions_of_blktap(version, problems):
    disk = Disk()
    disk.footer.creator_version = version
    assert name_problems(disk) == problems


@pytest.mark.parametrize('features, problems', [(0, {'features'}), (1, {'features'}), (2, set()), (3, set()), (6, {'features'})])
def test_features(features, problems):
    disk = Disk()
    disk.footer.features = features
    assert name_problems(disk) == problems


def test_a_geometry_may_span_the_whole_disk():
    disk = Disk()
    disk.header.max_bat_entries = 9
    disk.footer.set_size(482 * 4 * 17 * 512)
    disk.patches.append((1536 + 4 * 8, b'\xff' * 4))
    assert disk.footer.geometry_size == disk.footer.current_size
    assert name_problems(disk) == set()
    disk.footer.sectors_per_track += 1
    assert name_problems(disk) == {'geometry'}


@pytest.mark.parametrize('blocks', [(7,), ()])
@pytest.mark.parametrize('creator', [b'tap\0', b'win '])
def test_the_gap_before_the_footer(blocks, creator):
    limit = 2 * MIB + 64 * 1024
    for gap, problems in ((limit - 512, set()), (limit, set()), (limit + 512, {'file_end'})):
        disk = Disk(blocks=blocks)
        disk.footer.creator = creator
        disk.gap = gap - (0 if blocks or creator == b'tap\0' else 1024)  # other creators have no batmap there
        assert name_problems(disk) == problems, gap


def test_a_bat_of_too_many_entries():
    for more, problems in ((0, set()), (1, {'bat_size'})):
        assert name_problems(preallocate(vhd_layout.MAX_BAT_ENTRIES + more, 256 + more)) == problems


def test_the_map_of_the_largest_bat_is_summed_and_of_a_larger_one_not_read():
    disk = preallocate(vhd_layout.MAX_BAT_ENTRIES, 256)
    disk.patches.append((disk.batmap.offset, b'\1'))
    assert name_problems(disk) == {'batmap_checksum'}
    disk = preallocate(4 * vhd_layout.MAX_BAT_ENTRIES, 1024)
    disk.footer.set_size(8 * MIB * MIB)
    disk.patches.append((disk.batmap.offset, b'\1'))
    watched = Watched(disk.build())
    assert set(problem.name for problem in vhd_check.find_problems(watched, now=NOW)) == {'bat_size', 'disk_size'}
    assert watched.largest_read <= 128 * 1024


@pytest.mark.parametrize('length, problems', [(16383, set()), (16384, set()), (16385, {'locator_size'})])
def test_a_locator_is_no_longer_than_a_path(length, problems):
    disk = Disk(vhd.DIFFERENCING, blocks=(55,))
    disk.locators[1].data_space, disk.locators[1].data_length = 16896, length
    assert name_problems(disk) == problems


@pytest.mark.parametrize('creator', [b'tap\0', b'win '])
def test_metadata_may_end_where_the_footer_begins(creator):
    disk = Disk(vhd.DIFFERENCING, blocks=())
    disk.footer.creator = creator
    set_locator_offset(disk, 4096)
    whole = disk.build().getvalue()
    for data_end, problems in ((4608, []), (4608 - 512, ['metadata_outside_file'])):
        cut = io.BytesIO(whole[:data_end].ljust(data_end, b'\0') + whole[-512:])
        assert [problem.name for problem in vhd_check.find_problems(cut, now=NOW)] == problems, data_end


# A disk of the largest size


@pytest.fixture
def largest(tmp_path):
    """A sparse file with every block of 2040 GiB allocated, in descending order, and what it takes to damage its BAT."""
    footer = vhd.Footer()
    footer.set_size(vhd_check.MAX_DISK_SIZE)
    footer.uuid_bytes = b'u' * 16
    header = vhd.Header()
    blocks = header.max_bat_entries = vhd_check.MAX_DISK_SIZE // vhd.BLOCK_SIZE
    batmap = vhd.Batmap()
    batmap.offset, batmap.size_sectors = header.bat_end + 512, -(-blocks // 4096)
    first = vhd.round_up(batmap.offset // 512 + batmap.size_sectors + 1, 8) - 1
    with io.open(str(tmp_path / 'largest.vhd'), 'w+b') as target:
        target.write(footer.seal() + header.seal())
        for start in range(0, blocks, 4096):
            entries = [first + 4104 * (blocks - 1 - block) for block in range(start, min(start + 4096, blocks))]
            target.write(struct.pack('>%dI' % len(entries), *entries))
        target.seek(header.bat_end)
        target.write(batmap.pack())
        target.seek(512 * (first + 4104 * blocks))
        target.write(footer.seal())
        yield target


def test_the_largest_disk_is_checked_in_pieces(largest):
    watched = Watched(largest)
    assert vhd_check.find_problems(watched, now=NOW) == []
    assert watched.largest_read <= 128 * 1024
    largest.seek(1536 + 4 * 1000000)
    largest.write(struct.pack('>I', 50000))
    assert set(problem.name for problem in vhd_check.find_problems(largest, now=NOW)) == {'block_overlap', 'block_place'}
