# SPDX-License-Identifier: Apache-2.0
"""VHDs as any writer may make them, from a few choices; and the guest's sectors that are in them, known without reading any file."""

from __future__ import absolute_import, division

import random
import struct

from dom0_lib.disks import vhd

KIB = 1024
MIB = 1024 * KIB
UUID = 'aaaaaaaa-0000-4000-8000-000000000001'
PARENT_UUID = 'bbbbbbbb-0000-4000-8000-000000000002'
PARENT_NAME = u'the parent.vhd'
CREATORS = [(b'tap\0', 0x00010003), (b'tapx', 0x00010002), (b'tap\0', 0x00010001), (b'qemu', 0x00050003), (b'qem2', 0x00050003),
            (b'win ', 0x000a0000), (b'vbox', 0x00010003), (b'\0\0\0\0', 0), (b'vs  ', 1)]
KINDS = ['free', 'free', 'empty', 'few', 'full', 'zeros', 'runs']
NASTY = [b'\0' * 512, b'\xa5' * 512, vhd.BATMAP_COOKIE.ljust(512, b'\xff'), vhd.HEADER_COOKIE.ljust(512, b'\0')]


class Guest(object):
    """A disk as its guest sees it: `sectors` {number: 512 bytes} are present, the blocks `allocated` have room in a file."""

    def __init__(self, size_bytes, block_bytes=2 * MIB, is_child=False, seed=0, kinds=None):
        """kinds: for each block, how much of it there is; by chance if None."""
        self.size_bytes = size_bytes
        self.block_bytes = block_bytes
        self.is_child = is_child
        self.sectors = {}
        self.allocated = set()
        chance = random.Random(seed)
        self._fill(kinds or [chance.choice(KINDS) for _ in range(self.blocks)], chance)

    def _fill(self, kinds, chance):
        for block, kind in enumerate(kinds):
            if kind == 'free':
                continue
            self.allocated.add(block)
            first, end = self.block_sectors(block)
            present = {'empty': [], 'full': range(first, end), 'zeros': range(first, end), 'runs': range(first, end, 2)}.get(kind)
            if present is None:
                present = set(chance.randrange(first, end) for _ in range(5)) | set([first, end - 1])
            for sector in present:
                self.sectors[sector] = b'\0' * 512 if kind == 'zeros' else struct.pack('>QQ', sector, chance.randrange(1 << 32)) * 32

    @property
    def blocks(self):
        return -(-self.size_bytes // self.block_bytes)

    def block_sectors(self, block):
        """(first, end) of the block's sectors that are on the disk."""
        return block * self.block_bytes // 512, min((block + 1) * self.block_bytes, self.size_bytes) // 512

    @property
    def extents(self):
        return [(block * self.block_bytes, min(self.block_bytes, self.size_bytes - block * self.block_bytes))
                for block in sorted(self.allocated)]


class Foreign(object):
    """One file of a Guest; every attribute may be changed before build().

    order:  the blocks as they come in the file
    parts:  the order of 'header', 'bat', 'batmap', 'blocks', 'locators'; the batmap's header is always behind the BAT
    gaps:   sectors of rubbish before each part and each block
    """

    def __init__(self, guest, seed=0):
        chance = random.Random(seed)
        self.guest = guest
        self.creator, self.creator_version = CREATORS[0]
        self.order = sorted(guest.allocated)
        self.parts = ['header', 'bat', 'batmap', 'locators', 'blocks']
        self.has_batmap = True
        self.gaps = lambda: 0
        self.rubbish = NASTY[0]
        self.spare_entries = 0
        self.spare_value = vhd.UNUSED_ENTRY
        self.absent_byte = b'\0'
        self.footer = {}
        self.header = {}
        self.end = 'footer'
        self.backup = 'footer'
        self.patches = []
        if seed:
            self._vary(chance)

    def _vary(self, chance):
        self.creator, self.creator_version = chance.choice(CREATORS)
        chance.shuffle(self.order)
        self.parts = chance.choice([['header', 'bat', 'batmap', 'locators', 'blocks'], ['bat', 'header', 'locators', 'batmap', 'blocks'],
                                    ['batmap', 'header', 'bat', 'locators', 'blocks'], ['header', 'locators', 'bat', 'blocks', 'batmap'],
                                    ['blocks', 'header', 'bat', 'batmap', 'locators'], ['header', 'blocks', 'bat', 'batmap', 'locators'],
                                    ['blocks', 'batmap', 'bat', 'header', 'locators']])
        self.has_batmap = self.creator[:3] == b'tap'
        self.gaps = lambda: chance.choice([0, 0, 0, 1, 7, 9])
        self.rubbish = chance.choice(NASTY)
        self.spare_entries = chance.choice([0, 0, 1, 127, 500])
        self.spare_value = chance.choice([vhd.UNUSED_ENTRY, 0, 3, 0xfffffffe])
        self.absent_byte = chance.choice([b'\0', b'x'])
        self.footer = {'timestamp': chance.randrange(1 << 32), 'saved_state': chance.randrange(3), 'hidden': chance.randrange(256),
                       'original_size': chance.randrange(1 << 40), 'cylinders': chance.randrange(1 << 16), 'features': chance.randrange(8),
                       'creator_host': chance.choice([b'Wi2k', b'Mac ', b'\0\0\0\0']), 'reserved': b'r' * 426}
        self.header = {'reserved1': chance.randrange(9), 'reserved2': b'R' * 256, 'parent_timestamp': chance.randrange(1 << 32),
                       'data_offset': chance.randrange(1 << 60)}
        self.end = chance.choice(['footer', 'footer', 'missing', 'short', 'damaged', 'other uuid'])
        self.backup = 'footer' if self.end in ('missing', 'damaged') else chance.choice(['footer', 'footer', 'footer', 'damaged'])

    # Its bytes

    def build(self):
        self._file = bytearray(512)
        self._places = {}
        bat = [vhd.UNUSED_ENTRY] * self.guest.blocks + [self.spare_value] * self.spare_entries
        for part in self.parts:
            self._add_gap()
            if part == 'blocks':
                for block in self.order:
                    self._add_gap()
                    bat[block] = len(self._file) // 512
                    self._file += self.pack_block(block)
            elif part == 'bat':
                self._places['bat'] = self._reserve(4 * len(bat))
                if self.has_batmap:
                    self._places['batmap header'] = self._reserve(512)
            elif part == 'batmap' and self.has_batmap:
                self._places['batmap'] = self._reserve(512)
            elif part == 'header':
                self._places['header'] = self._reserve(1024)
            elif part == 'locators':
                self._reserve(512 * 3)
        self._put('bat', struct.pack('>%dI' % len(bat), *bat))
        if self.has_batmap:
            self._put_batmap()
        header = vhd.Header()
        header.table_offset, header.max_bat_entries = self._places['bat'], len(bat)
        header.block_size = self.guest.block_bytes
        if self.guest.is_child:
            header.parent_uuid_bytes = vhd.parse_uuid(PARENT_UUID)
            header.set_parent_name(PARENT_NAME)
        self._put('header', _set(header, self.header).seal())
        self._add_footers()
        for offset, data in self.patches:
            offset += len(self._file) if offset < 0 else 0
            self._file[offset:offset + len(data)] = data
        return bytes(self._file)

    def _add_footers(self):
        footer = vhd.Footer()
        footer.set_size(self.guest.size_bytes)
        footer.disk_type = vhd.DIFFERENCING if self.guest.is_child else vhd.DYNAMIC
        footer.creator, footer.creator_version = self.creator, self.creator_version
        footer.data_offset = self._places['header']
        footer.uuid_bytes = vhd.parse_uuid(UUID)
        data = _set(footer, self.footer).seal()
        self._file[:512] = data if self.backup == 'footer' else data[:50] + b'\x5a' + data[51:]
        if self.end == 'other uuid':
            footer.uuid_bytes, footer.hidden = b'o' * 16, 77
            data = footer.seal()
        if self.end == 'short':
            # Its last byte is zero in memory, whatever stood there.
            footer.reserved = b'r' * 425 + b'\0'
            data = footer.seal()[:511]
        self._file += {'missing': b'', 'damaged': b'X' + data[1:]}.get(self.end, data)

    def pack_block(self, block):
        first, end = self.guest.block_sectors(block)
        bitmap = bytearray(-(-self.guest.block_bytes // 4096 // 512) * 512)
        pieces = []
        for number, sector in enumerate(range(first, first + self.guest.block_bytes // 512)):
            data = self.guest.sectors.get(sector) if sector < end else b'\xee' * 512
            if data is not None:
                bitmap[number // 8] |= 0x80 >> number % 8
            pieces.append(self.absent_byte * 512 if data is None else data)
        return bytes(bitmap) + b''.join(pieces)

    def _put_batmap(self):
        bits = bytearray(512)
        for block in self.order:
            first, end = self.guest.block_sectors(block)
            if all(sector in self.guest.sectors for sector in range(first, end)):
                bits[block // 8] |= 0x80 >> block % 8
        batmap = vhd.Batmap()
        batmap.offset, batmap.size_sectors, batmap.checksum = self._places['batmap'], 1, vhd.compute_checksum(bits)
        self._put('batmap header', batmap.pack())
        self._put('batmap', bytes(bits))

    def _reserve(self, size_bytes):
        place = len(self._file)
        self._file += b'\0' * vhd.round_up(size_bytes, 512)
        return place

    def _put(self, name, data):
        self._file[self._places[name]:self._places[name] + len(data)] = data

    def _add_gap(self):
        self._file += self.rubbish * self.gaps()


def _set(record, fields):
    for name, value in fields.items():
        setattr(record, name, value)
    return record


def pack_fixed(guest_data, **fields):
    """A fixed disk of these bytes."""
    footer = vhd.Footer()
    footer.disk_type, footer.data_offset, footer.uuid_bytes = vhd.FIXED, vhd.NO_OFFSET, vhd.parse_uuid(UUID)
    footer.set_size(len(guest_data))
    return guest_data + _set(footer, fields).seal()
