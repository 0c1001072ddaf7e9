# SPDX-License-Identifier: Apache-2.0
"""Images whose guest, by writing its own disk, comes to write the header of its own VHD, and then names any file as its parent.

Each Attack makes the files of an image, a child and its base, and knows the guest's writes over some boots.
"""

import struct
import uuid

from dom0_lib.disks import vhd
from tests.harness.storage import tapdisk
from tests.harness.vhd import vhd_writer
from tests.security.hostile_archives import pack
from tests.security.hostile_images import harmless, hostile
from tests.security.hostile_images import read

SECTOR = vhd.SECTOR_SIZE
BLOCK_SECTORS = vhd.BLOCK_SIZE // SECTOR
_LENGTH = BLOCK_SECTORS + 1
_FULL_BLOCK = b"\xa5" * vhd.BLOCK_SIZE


class Layout(object):
    """A child whose parts lie wherever an attack wants them; places are sectors."""

    def __init__(self, base_path, header, bat, batmap, locators, blocks, version=vhd.BLKTAP_VERSION, creator=vhd.BLKTAP_CREATOR):
        """batmap: (where its header stands or None, where the map lies); blocks: {index: place}."""
        self._sectors = {}
        with open(base_path, "rb") as source:
            base = vhd.read_metadata(source)
        footer = vhd.Footer()
        footer.disk_type, footer.uuid_bytes = vhd.DIFFERENCING, uuid.uuid4().bytes
        footer.creator, footer.creator_version = creator, version
        footer.data_offset = header * SECTOR
        footer.set_size(base.size_bytes)
        self.header = vhd.Header()
        self.header.table_offset = bat * SECTOR
        self.header.max_bat_entries = -(-base.size_bytes // vhd.BLOCK_SIZE)
        self.header.parent_uuid_bytes = base.footer.uuid_bytes
        self.header.set_parent_name("base.vhd")
        self.header.set_locators([self._add_locator(place, code, data) for place, (code, data) in enumerate((
            (vhd.MACX, b"file://./base.vhd"), (vhd.W2KU, ".\\base.vhd".encode("utf-16-le")),
            (vhd.W2RU, ".\\base.vhd".encode("utf-16-le"))), locators)])
        entries = [blocks.get(block, vhd.UNUSED_ENTRY) for block in range(self.header.max_bat_entries)]
        table = struct.pack(">%dI" % len(entries), *entries).ljust(self.header.bat_size, b"\0")
        self._put(0, footer.seal())
        self._put(header, self.header.seal())
        self._put(bat, table)
        self.batmap_header = self._add_batmap(batmap, blocks)
        self._put(max(blocks.values()) + _LENGTH, footer.seal())

    def _put(self, place, data):
        for number in range(len(data) // SECTOR):
            self._sectors[place + number] = data[number * SECTOR:(number + 1) * SECTOR]

    def _add_locator(self, place, code, data):
        locator = vhd.Locator()
        locator.code, locator.data_space, locator.data_length, locator.data_offset = code, SECTOR, len(data), place * SECTOR
        self._put(place, data.ljust(SECTOR, b"\0"))
        return locator

    def _add_batmap(self, places, blocks):
        batmap = vhd.Batmap()
        batmap.offset, batmap.size_sectors = places[1] * SECTOR, 1
        if places[1] not in self._sectors:
            self._put(places[1], b"\x80".ljust(SECTOR, b"\0"))  # block 0 is full
            self._put(blocks[0], b"\xff" * SECTOR)
        batmap.checksum = vhd.compute_checksum(self._sectors[places[1]])
        if places[0] is not None:
            self._put(places[0], batmap.pack())
        return batmap.pack()

    def build(self):
        image = bytearray((max(self._sectors) + 1) * SECTOR)
        for place, data in self._sectors.items():
            image[place * SECTOR:(place + 1) * SECTOR] = data
        return bytes(image)


def _make_evil_header(header, locator_sector, target_path):
    """(header, locator data) of a child of any file at all, read as it is; the data will stand at a sector of the VHD."""
    text = b"file://" + target_path.encode("ascii")
    locator = vhd.Locator()
    locator.code, locator.data_space, locator.data_length = vhd.MACX, SECTOR, len(text)
    locator.data_offset = locator_sector * SECTOR
    evil = vhd.Header.parse(header.pack())
    evil.parent_uuid_bytes = vhd.NULL_UUID
    evil.set_locators([locator])
    return evil.seal(), text


class MovedBlock(object):
    """The map lies over the second sector of the BAT: full blocks set bits there and move block 128 over the VHD's header.

    The creator is none of blktap's but for its first three letters, so a reader that compares four sees no batmap.
    """

    creator, version = b"tapX", vhd.BLKTAP_VERSION
    # Block 128 lies at 16, and 0x10 in the map is block 27; 30 and 31 make it 19.
    place, bat, batmap, locators, full = 16, 1, (3, 2), 5, 27

    def make_files(self, scene):
        base_path = scene.path("base.vhd")
        vhd_writer.write_dynamic(base_path, [], 129 * vhd.BLOCK_SIZE - SECTOR)
        header = self.place + _LENGTH
        first = header + 7
        self._layout = Layout(
            base_path, header, self.bat, self.batmap, self.locators,
            {128: self.place, self.full: first, 30: first + _LENGTH, 31: first + 2 * _LENGTH}, self.version, self.creator)
        return [self._layout.build(), read(base_path)]

    def read_from(self, leaf_path, target_path):
        """The first sector of the file at `target_path`, or whatever else the guest finds on its disk in the end."""
        self._prepare(leaf_path)
        with tapdisk.RunningDisk(leaf_path) as disk:
            disk.write(31 * BLOCK_SECTORS, _FULL_BLOCK)
            disk.write(30 * BLOCK_SECTORS, _FULL_BLOCK)
        # The guest's last two sectors are the header now.
        text_sector = 128 * BLOCK_SECTORS + 100
        header, text = _make_evil_header(self._layout.header, self.place + 3 + 1 + 100, target_path)
        with tapdisk.RunningDisk(leaf_path) as disk:
            disk.write(text_sector, text)
            disk.write(128 * BLOCK_SECTORS + BLOCK_SECTORS - 3, header)
        with tapdisk.RunningDisk(leaf_path) as disk:
            return disk.read(0)

    def _prepare(self, leaf_path):
        """The bitmap that block 128 will have when it has moved."""
        with tapdisk.RunningDisk(leaf_path) as disk:
            disk.write(128 * BLOCK_SECTORS + 2, b"\xff" * SECTOR)


class GrownBatmap(MovedBlock):
    """Version 1.1 without a batmap: the sector behind the BAT is a block's bitmap, in which the guest writes a batmap's header."""

    creator, version = vhd.BLKTAP_CREATOR, 0x00010001
    # Block 128 lies at 8, and 0x08 in the map is block 28; 30 and 31 make it 11.
    place, bat, batmap, locators, full = 8, 6, (None, 7), 1, 28

    def _prepare(self, leaf_path):
        with tapdisk.RunningDisk(leaf_path) as disk:
            for bit in range(29 * 8):
                if bytearray(self._layout.batmap_header)[bit // 8] & 0x80 >> bit % 8:
                    disk.write(128 * BLOCK_SECTORS + bit, b"\xff" * SECTOR)


class ZeroedBat(object):
    """A sound batmap, but the BAT and the batmap lie in the seven sectors that tapdisk makes zeros: block 0 is at sector 0 then."""

    header, bat, block = 4, 10, 13

    def make_files(self, scene):
        base_path = scene.path("base.vhd")
        vhd_writer.write_dynamic(base_path, [], vhd.BLOCK_SIZE)
        self._layout = Layout(base_path, self.header, self.bat, (self.bat + 1, self.bat + 2), 1, {0: self.block})
        return [self._layout.build(), read(base_path)]

    def read_from(self, leaf_path, target_path):
        with tapdisk.RunningDisk(leaf_path) as disk:
            disk.write(0, b"x")
        # Each sector of the guest is the next one of the file now.
        header, text = _make_evil_header(self._layout.header, 101, target_path)
        with tapdisk.RunningDisk(leaf_path) as disk:
            disk.write(100, text)
            disk.write(self.header - 1, header)
            disk.write(self.bat - 1, b"\xff" * SECTOR)
        with tapdisk.RunningDisk(leaf_path) as disk:
            return disk.read(0)


ATTACKS = [MovedBlock, GrownBatmap, ZeroedBat]


@hostile("InvalidImage", "the batmap at byte 1024 lies over the BAT", is_for_old_python=True)
def creator_that_only_blktap_knows(scene):
    return pack(MovedBlock().make_files(scene))


@harmless
def batmap_that_the_guest_makes(scene):
    return pack(GrownBatmap().make_files(scene))


@harmless
def bat_that_the_guest_zeroes(scene):
    return pack(ZeroedBat().make_files(scene))


@harmless
def locators_that_the_guest_zeroes(scene):
    """All metadata are where blktap puts them, but the last of them are in the seven sectors before a block."""
    base_path = scene.path("base.vhd")
    vhd_writer.write_dynamic(base_path, [], vhd.BLOCK_SIZE)
    return pack([Layout(base_path, 1, 3, (4, 5), 6, {0: 9}).build(), read(base_path)])
