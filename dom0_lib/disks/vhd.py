# SPDX-License-Identifier: Apache-2.0
"""The VHD file format: the one place that knows its bytes.

Source: Microsoft's "Virtual Hard Disk Image Format Specification" 1.0, and blktap's extensions (hidden, batmap, byte-sized
locator spaces) as recorded from vhd-util.  All numbers are big-endian.

    fixed disk                   dynamic or differencing disk
    +--------------------+       +--------------------+ 0
    | guest data         |       | backup footer      |
    |                    |       +--------------------+ footer.data_offset
    |                    |       | header             |
    +--------------------+       +--------------------+ header.table_offset
    | primary footer     |       | BAT                |
    +--------------------+       +--------------------+
                                 | batmap (blktap)    |
                                 | locator data       |
                                 +--------------------+ BAT entry * 512
                                 | bitmap, block data | ... one per allocated block
                                 +--------------------+
                                 | primary footer     |
                                 +--------------------+

Parsing is lenient: a record says what the bytes say, and dom0_lib.formats judges it.  Nothing here reads more than a few
kilobytes at once, except the slices of the BAT.
"""

from __future__ import absolute_import, division

import binascii
import struct

SECTOR_SIZE = 512
FOOTER_SIZE = 512
# Connectix and early Virtual PC wrote footers of 511 bytes; vhd-util and tapdisk still take them.
SHORT_FOOTER_SIZE = 511
HEADER_SIZE = 1024
LOCATOR_COUNT = 8
LOCATOR_SIZE = 24
BATMAP_HEADER_SIZE = 512
# vhd-util counts blocks in this size whatever a header says, and refuses or misreads any other.
BLOCK_SIZE = 2 * 1024 * 1024

FOOTER_COOKIE = b'conectix'
HEADER_COOKIE = b'cxsparse'
BATMAP_COOKIE = b'tdbatmap'
VERSION_1_0 = 0x00010000
FEATURE_TEMPORARY = 0x00000001
FEATURE_RESERVED = 0x00000002
NO_OFFSET = 0xffffffffffffffff
UNUSED_ENTRY = 0xffffffff
NULL_UUID = b'\0' * 16

FIXED, DYNAMIC, DIFFERENCING = 2, 3, 4

# The creator application of everything blktap writes, and the version that writes hidden, batmap and marker.
BLKTAP_CREATOR = b'tap\0'
BLKTAP_VERSION = 0x00010003
BATMAP_VERSION = 0x00010002

MACX, W2KU, W2RU = b'MacX', b'W2ku', b'W2ru'
NO_PLATFORM = b'\0\0\0\0'
# A path has at most 4096 bytes; as UTF-16 and with a scheme it stays below this.
MAX_LOCATOR_LENGTH = 16384

# VHD time starts at 2000-01-01 00:00:00 UTC.
EPOCH_UNIX_S = 946684800

_BAT_SLICE_ENTRIES = 16 * 1024


class FormatError(Exception):
    """The file cannot even be parsed as a VHD: too short, or no intact footer."""


def compute_checksum(data):
    """The one's complement of the sum of all bytes (checksum fields must be zero in `data`)."""
    return ~sum(bytearray(data)) & 0xffffffff


def format_uuid(raw):
    """The lower-case text of 16 bytes; VHD stores UUIDs in text order."""
    digits = binascii.hexlify(raw).decode('ascii')
    return '-'.join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def parse_uuid(text):
    """The 16 bytes of a UUID's text."""
    return binascii.unhexlify(text.replace('-', '').encode('ascii'))


def round_up(value, unit):
    """`value` rounded up to a multiple of `unit`."""
    return -(-value // unit) * unit


def compute_geometry(size_bytes):
    """(cylinders, heads, sectors per track) for a disk, by the specification's appendix; never larger than the disk."""
    sectors = min(size_bytes // SECTOR_SIZE, 65535 * 16 * 255)
    if sectors >= 65535 * 16 * 63:
        return sectors // (255 * 16), 16, 255
    track = 17
    heads = max(4, round_up(sectors // track, 1024) // 1024)
    if sectors // track >= heads * 1024 or heads > 16:
        track, heads = 31, 16
    if sectors // track >= heads * 1024:
        track, heads = 63, 16
    return sectors // track // heads, heads, track


class _Record(object):
    """A structure of named fields; subclasses say which, in file order."""

    _layout = None
    _fields = ()

    @classmethod
    def parse(cls, data):
        """The record in the first bytes of `data`; nothing is judged."""
        record = cls()
        for name, value in zip(cls._fields, cls._layout.unpack(data[:cls._layout.size])):
            setattr(record, name, value)
        return record

    def pack(self):
        """The record's bytes, its checksum as the attribute says."""
        return self._layout.pack(*[getattr(self, name) for name in self._fields])


class _Checksummed(_Record):
    """A record that holds the checksum of its own bytes."""

    checksum = 0

    def compute_checksum(self):
        stated, self.checksum = self.checksum, 0
        try:
            return compute_checksum(self.pack())
        finally:
            self.checksum = stated

    def seal(self):
        """Set the checksum and return the record's bytes."""
        self.checksum = self.compute_checksum()
        return self.pack()

    @property
    def checksum_correct(self):
        return self.checksum == self.compute_checksum()


class Footer(_Checksummed):
    """What kind of disk the file is; at its end, and for all but fixed disks also at its beginning.

    offset size field
         0    8 cookie                'conectix'
         8    4 features              2 always set; 1 = temporary
        12    4 version               1.0
        16    8 data_offset           of the header; all ones for a fixed disk
        24    4 timestamp             of creation, seconds since 2000
        28    4 creator               'tap' from blktap, 'qemu', 'qem2', 'win ', 'vbox'
        32    4 creator_version       major << 16 | minor
        36    4 creator_host          'Wi2k', 'Mac ', or zero
        40    8 original_size         bytes
        48    8 current_size          bytes the guest sees
        56    2 cylinders
        58    1 heads
        59    1 sectors_per_track
        60    4 disk_type             2 fixed, 3 dynamic, 4 differencing
        64    4 checksum
        68   16 uuid_bytes
        84    1 saved_state           1 = belongs to a suspended guest
        85    1 hidden                blktap: 1 = a base copy that no VM sees
        86  426 reserved
    """

    _layout = struct.Struct('>8sIIQI4sI4sQQHBBII16sBB426s')
    _fields = ('cookie', 'features', 'version', 'data_offset', 'timestamp', 'creator', 'creator_version', 'creator_host',
               'original_size', 'current_size', 'cylinders', 'heads', 'sectors_per_track', 'disk_type', 'checksum',
               'uuid_bytes', 'saved_state', 'hidden', 'reserved')

    cookie = FOOTER_COOKIE
    features = FEATURE_RESERVED
    version = VERSION_1_0
    data_offset = FOOTER_SIZE
    timestamp = 0
    creator = BLKTAP_CREATOR
    creator_version = BLKTAP_VERSION
    creator_host = b'\0\0\0\0'
    original_size = current_size = 0
    cylinders = heads = sectors_per_track = 0
    disk_type = DYNAMIC
    uuid_bytes = NULL_UUID
    saved_state = hidden = 0
    reserved = b'\0' * 426

    @property
    def intact(self):
        """Whether these bytes are a footer as it was written, whatever it says."""
        return self.cookie == FOOTER_COOKIE and self.checksum_correct

    def set_size(self, size_bytes):
        """Set what the guest sees and the geometry that goes with it."""
        self.current_size = size_bytes
        self.cylinders, self.heads, self.sectors_per_track = compute_geometry(size_bytes)

    @property
    def geometry_size(self):
        """Bytes that the geometry spans."""
        return self.cylinders * self.heads * self.sectors_per_track * SECTOR_SIZE


class Header(_Checksummed):
    """How a dynamic or differencing disk is laid out, and which disk it changes.

    offset size field
         0    8 cookie                'cxsparse'
         8    8 data_offset           unused, all ones
        16    8 table_offset          of the BAT
        24    4 version               1.0
        28    4 max_bat_entries       blocks the BAT has room for
        32    4 block_size            bytes, without the bitmap
        36    4 checksum
        40   16 parent_uuid_bytes     zero when there is no parent, or a raw one
        56    4 parent_timestamp      the parent file's modification time, seconds since 2000
        60    4 reserved1
        64  512 parent_name_bytes     UTF-16BE, the last component only
       576  192 locator_table         eight locator entries
       768  256 reserved2
    """

    _layout = struct.Struct('>8sQQIIII16sII512s192s256s')
    _fields = ('cookie', 'data_offset', 'table_offset', 'version', 'max_bat_entries', 'block_size', 'checksum',
               'parent_uuid_bytes', 'parent_timestamp', 'reserved1', 'parent_name_bytes', 'locator_table', 'reserved2')

    cookie = HEADER_COOKIE
    data_offset = NO_OFFSET
    table_offset = FOOTER_SIZE + HEADER_SIZE
    version = VERSION_1_0
    max_bat_entries = 0
    block_size = BLOCK_SIZE
    parent_uuid_bytes = NULL_UUID
    parent_timestamp = reserved1 = 0
    parent_name_bytes = b'\0' * 512
    locator_table = b'\0' * (LOCATOR_COUNT * LOCATOR_SIZE)
    reserved2 = b'\0' * 256

    @property
    def parent_name(self):
        return self.parent_name_bytes.decode('utf-16-be', 'replace').split(u'\0', 1)[0]

    def set_parent_name(self, name):
        self.parent_name_bytes = name.encode('utf-16-be').ljust(512, b'\0')

    @property
    def bat_size(self):
        """Bytes of the BAT, whole sectors and never less than one."""
        return max(SECTOR_SIZE, round_up(4 * self.max_bat_entries, SECTOR_SIZE))

    @property
    def bat_end(self):
        """Where blktap puts the batmap's header."""
        return self.table_offset + self.bat_size

    @property
    def batmap_size_sectors(self):
        """Sectors of the map that blktap makes for the BAT."""
        return max(1, -(-self.max_bat_entries // (8 * SECTOR_SIZE)))

    @property
    def bitmap_size(self):
        """Bytes of the bitmap before each block's data, whole sectors; one bit per sector, the highest bit first."""
        return round_up(-(-self.block_size // (SECTOR_SIZE * 8)), SECTOR_SIZE)

    def parse_locators(self):
        """The used entries of the locator table, their data not yet read."""
        locators = []
        for index in range(LOCATOR_COUNT):
            locator = Locator.parse(self.locator_table[index * LOCATOR_SIZE:(index + 1) * LOCATOR_SIZE])
            if locator.code != NO_PLATFORM:
                locator.index = index
                locators.append(locator)
        return locators

    def set_locators(self, locators):
        """Fill the table from the first entry on."""
        table = b''.join([locator.pack() for locator in locators])
        self.locator_table = table.ljust(LOCATOR_COUNT * LOCATOR_SIZE, b'\0')


class Locator(_Record):
    """One way to find the parent; readers take the first that resolves.

    offset size field
         0    4 code                  MACX: 'file://' URL, UTF-8; W2KU, W2RU: Windows path, UTF-16LE
         4    4 data_space            bytes as blktap writes it; below 512 it counts sectors, as the specification says
         8    4 data_length           bytes used of it
        12    4 reserved
        16    8 data_offset
    """

    _layout = struct.Struct('>4sIIIQ')
    _fields = ('code', 'data_space', 'data_length', 'reserved', 'data_offset')

    code = NO_PLATFORM
    data_space = data_length = reserved = data_offset = 0
    index = None
    # None while not read, and for good when its bounds do not allow it.
    data = None

    @property
    def space_bytes(self):
        if self.data_space < SECTOR_SIZE:
            return self.data_space * SECTOR_SIZE
        return self.data_space

    @property
    def text(self):
        """What the data say, up to a NUL, as text; None if they say nothing in the code's encoding."""
        if self.data is None or self.code not in (MACX, W2KU, W2RU):
            return None
        try:
            return self.data.decode('utf-8' if self.code == MACX else 'utf-16-le').split(u'\0', 1)[0]
        except UnicodeDecodeError:
            return None

    @property
    def path(self):
        """The path that vhd-util makes of the text, or None: no URL escapes, ASCII only, a leading C: dropped."""
        text = self.text
        if text is None or any(ord(character) > 127 for character in text):
            return None
        if self.code == MACX:
            return text[len('file://'):] if text.startswith(u'file://') else None
        text = text.replace(u'\\', u'/')
        return text[2:] if text[:2] in (u'C:', u'c:') else text


class Batmap(_Record):
    """blktap's header of the batmap: one bit per block, set when the block's bitmap is full.

    offset size field
         0    8 cookie                'tdbatmap'
         8    8 offset                of the map itself
        16    4 size_sectors
        20    4 version               1.2
        24    4 checksum              of the map, not of this header
        28    1 marker                free for the storage manager
        29  483 reserved
    """

    _layout = struct.Struct('>8sQIIIB483s')
    _fields = ('cookie', 'offset', 'size_sectors', 'version', 'checksum', 'marker', 'reserved')

    cookie = BATMAP_COOKIE
    offset = size_sectors = 0
    version = BATMAP_VERSION
    checksum = 0xffffffff
    marker = 0
    reserved = b'\0' * 483


class Metadata(object):
    """What a VHD file says about itself; `read_metadata` makes it.

    footer:         the copy to trust
    primary_footer: what stands at the end of the file, intact or not
    primary_offset: where that is
    backup_footer:  what stands at the beginning; None for a fixed disk, which has guest data there
    header:         None for a fixed disk
    locators:       the used ones, with their data when their bounds allow
    file_size:      bytes
    """

    def __init__(self, footer, primary_footer, primary_offset, backup_footer, header, locators, file_size):
        self.footer = footer
        self.primary_footer = primary_footer
        self.primary_offset = primary_offset
        self.backup_footer = backup_footer
        self.header = header
        self.locators = locators
        self.file_size = file_size

    @property
    def disk_type(self):
        return self.footer.disk_type

    @property
    def uuid(self):
        return format_uuid(self.footer.uuid_bytes)

    @property
    def parent_uuid(self):
        """Text; all zeros when there is no parent or a raw one."""
        return format_uuid(self.header.parent_uuid_bytes if self.header else NULL_UUID)

    @property
    def parent_name(self):
        return self.header.parent_name if self.header else u''

    @property
    def hidden(self):
        return self.footer.hidden != 0

    @property
    def is_child(self):
        return self.footer.disk_type == DIFFERENCING

    @property
    def size_bytes(self):
        """Bytes that the guest sees."""
        return self.footer.current_size

    @property
    def created_at(self):
        """Seconds since 1970 UTC."""
        return self.footer.timestamp + EPOCH_UNIX_S


def read_exactly(fileobj, offset, size):
    """`size` bytes at `offset`; FormatError if the file ends before."""
    fileobj.seek(offset)
    data = fileobj.read(size)
    while len(data) < size:
        more = fileobj.read(size - len(data))
        if not more:
            raise FormatError('the file ends at byte %d, inside something that should reach to byte %d'
                              % (offset + len(data), offset + size))
        data += more
    return data


def read_metadata(fileobj):
    """The Metadata of a seekable binary file; FormatError if there is no intact footer, or no room for a header."""
    fileobj.seek(0, 2)
    file_size = fileobj.tell()
    if file_size < FOOTER_SIZE:
        raise FormatError('%d bytes are too few for a VHD' % file_size)
    size = SHORT_FOOTER_SIZE if file_size % SECTOR_SIZE == SHORT_FOOTER_SIZE else FOOTER_SIZE
    primary_offset = file_size - size
    primary = Footer.parse(read_exactly(fileobj, primary_offset, size).ljust(FOOTER_SIZE, b'\0'))
    backup = Footer.parse(read_exactly(fileobj, 0, FOOTER_SIZE))
    if primary.intact:
        footer = primary
    elif backup.intact and backup.disk_type != FIXED:
        footer = backup
    else:
        raise FormatError('no intact footer, neither in the last sector nor in the first')
    header, locators = None, []
    if footer.disk_type == FIXED:
        backup = None
    else:
        header = _read_header(fileobj, footer, file_size)
        locators = [_read_locator(fileobj, locator, file_size) for locator in header.parse_locators()]
    return Metadata(footer, primary, primary_offset, backup, header, locators, file_size)


def _read_header(fileobj, footer, file_size):
    if footer.data_offset + HEADER_SIZE > file_size:
        raise FormatError('the header should be at byte %d, but the file has %d' % (footer.data_offset, file_size))
    return Header.parse(read_exactly(fileobj, footer.data_offset, HEADER_SIZE))


def _read_locator(fileobj, locator, file_size):
    length = locator.data_length
    if length <= min(locator.space_bytes, MAX_LOCATOR_LENGTH) and locator.data_offset + length <= file_size:
        locator.data = read_exactly(fileobj, locator.data_offset, length)
    return locator


def read_bat(fileobj, header):
    """Yield (index of the first entry, tuple of entries) for slices of the BAT; unused entries are UNUSED_ENTRY.

    An entry is the sector of a block's bitmap.  FormatError where the file ends inside the BAT.
    """
    for first in range(0, header.max_bat_entries, _BAT_SLICE_ENTRIES):
        count = min(_BAT_SLICE_ENTRIES, header.max_bat_entries - first)
        data = read_exactly(fileobj, header.table_offset + 4 * first, 4 * count)
        # Not an array: importing that module costs Python 3 as much as all of this one.
        yield first, struct.unpack('>%dI' % count, data)
