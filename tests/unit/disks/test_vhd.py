# SPDX-License-Identifier: Apache-2.0
"""The VHD format, on disks built here byte by byte."""

from __future__ import absolute_import, division

import binascii
import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies

from dom0_lib.disks import vhd

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


@given(strategies.integers(min_value=0, max_value=2040 << 30))
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
    assert (metadata.size_bytes, metadata.created_at, metadata.hidden) == (16 * MIB, NOW, False)
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


@given(strategies.data())
def test_no_damage_escapes_as_another_error(data):
    """Whatever a few bytes of the metadata are, reading ends with FormatError or what they say."""
    raw = bytearray(Disk(vhd.DIFFERENCING, blocks=()).build().getvalue())
    for _ in range(data.draw(strategies.integers(1, 4))):
        offset = data.draw(strategies.integers(0, len(raw) - 1))
        new = data.draw(strategies.binary(min_size=1, max_size=8))
        raw[offset:offset + len(new)] = new
    if data.draw(strategies.booleans()):
        raw[512:1536] = vhd.Header.parse(bytes(raw[512:1536])).seal()
        raw[-512:] = vhd.Footer.parse(bytes(raw[-512:])).seal()
    try:
        metadata = vhd.read_metadata(io.BytesIO(bytes(raw)))
        assert metadata.footer.intact and len(metadata.locators) <= vhd.LOCATOR_COUNT
    except vhd.FormatError:
        pass
