# SPDX-License-Identifier: Apache-2.0
"""VHDs that lie about their size, their place or their parent; each is a function that returns the bytes of an image."""

import struct
import time
import uuid

from dom0_lib.disks import vhd
from tests.harness.vhd import vhd_writer
from tests.security.hostile_archives import pack
from tests.security.hostile_images import harmless
from tests.security.hostile_images import hostile
from tests.security.hostile_images import read

SECTOR = vhd.SECTOR_SIZE
ETC_PASSWD = "/etc/passwd"


def with_footer(scene, **fields):
    path = scene.make_disk()
    vhd_writer.edit_footers(path, **fields)
    return pack([read(path)])


def with_header(scene, reseal=True, **fields):
    path = scene.make_disk()
    vhd_writer.edit_header(path, reseal, **fields)
    return pack([read(path)])


def with_bat(scene, entries, disk=None, *parents):
    """A disk whose BAT begins with these entries."""
    path = disk or scene.make_disk()
    vhd_writer.patch(path, header_of(path).table_offset, struct.pack(">%dI" % len(entries), *entries))
    return pack([read(path) for path in (path,) + parents])


def with_batmap(scene, **fields):
    path = scene.make_disk()
    offset = header_of(path).bat_end
    batmap = vhd.Batmap.parse(read(path)[offset:offset + vhd.BATMAP_HEADER_SIZE])
    for name, value in fields.items():
        setattr(batmap, name, value)
    vhd_writer.patch(path, offset, batmap.pack())
    return pack([read(path)])


def metadata_of(path):
    with open(path, "rb") as fileobj:
        return vhd.read_metadata(fileobj)


def header_of(path):
    return metadata_of(path).header


def first_block(path):
    with open(path, "rb") as fileobj:
        return next(vhd.read_bat(fileobj, header_of(path)))[1][0]


def edit_locators(path, change):
    """Let `change` have each locator of a differencing disk; its data, if it sets them, are written to where it says."""
    header = header_of(path)
    locators = metadata_of(path).locators
    for locator in locators:
        before = locator.data
        change(locator)
        if locator.data != before:
            locator.data_length = len(locator.data)
            vhd_writer.patch(path, locator.data_offset, locator.data.ljust(SECTOR, b"\0"))
    header.set_locators(locators)
    vhd_writer.edit_header(path, locator_table=header.locator_table)


def name_parent(path, parent_path):
    """Let every locator of a child name this path."""
    def change(locator):
        text = "file://" + parent_path if locator.code == vhd.MACX else parent_path.replace("/", "\\")
        locator.data = text.encode("utf-8" if locator.code == vhd.MACX else "utf-16-le")
    edit_locators(path, change)


def orphan(scene, parent_path, parent_uuid=None):
    """A lone child that names a path outside the image as its parent."""
    child = scene.make_child(scene.make_disk())
    name_parent(child, parent_path)
    if parent_uuid is not None:
        vhd_writer.edit_header(child, parent_uuid_bytes=parent_uuid)
    return pack([read(child)])


# Footers

@hostile("InvalidImage", "0.vhd: no VHD: neither the first nor the last sector", is_for_old_python=True)
def both_footers_damaged(scene):
    return with_footer(scene, cookie=b"conectiX")


@hostile("InvalidImage", "0.vhd: no VHD: neither the first nor the last sector")
def both_checksums_damaged(scene):
    return with_footer(scene, reseal=False, checksum=1)


@harmless
def footers_of_two_disks(scene):
    return with_footer(scene, backup=False, uuid_bytes=b"another one uuid")


@hostile("UnsafeImage", "both intact, but differ")
def footers_of_two_sizes(scene):
    return with_footer(scene, backup=False, current_size=8 << 20, cylinders=0)


@hostile("InvalidImage", "the format version 0x00020000 instead of 1.0")
def footer_version(scene):
    return with_footer(scene, version=0x00020000)


@harmless
def features(scene):
    return with_footer(scene, features=0xfffffffe)


@harmless
def creator_version(scene):
    return with_footer(scene, creator_version=0x7fff0000)


@hostile("InvalidImage", "disk type 5 is not")
def disk_type(scene):
    return with_footer(scene, disk_type=5)


@hostile("InvalidImage", "but the fixed disk has 16777216")
def fixed_disk_with_a_header(scene):
    return with_footer(scene, disk_type=vhd.FIXED)


@harmless
def fixed_disk(scene):
    vhd_writer.write_fixed(scene.path("fixed.vhd"), b"raw" * 1000)
    return pack([read(scene.path("fixed.vhd"))])


@harmless
def null_uuid(scene):
    return with_footer(scene, uuid_bytes=vhd.NULL_UUID)


@harmless
def saved_state(scene):
    return with_footer(scene, saved_state=1)


@harmless
def hidden_leaf(scene):
    return with_footer(scene, hidden=1)


@harmless
def hidden_twice(scene):
    return with_footer(scene, hidden=2)


@hostile("InvalidImage", "the disk has 0 bytes, not a number of sectors")
def disk_of_no_size(scene):
    return with_footer(scene, current_size=0, cylinders=0)


@hostile("InvalidImage", "the disk has 16777116 bytes, not a number of sectors")
def disk_of_half_a_sector(scene):
    return with_footer(scene, current_size=(16 << 20) - 100, cylinders=0)


@hostile("UnsafeImage", "is beyond the limit")
def disk_of_eight_exbibytes(scene):
    return with_footer(scene, current_size=1 << 63)


@harmless
def created_in_the_future(scene):
    return with_footer(scene, timestamp=int(time.time()) - vhd.EPOCH_UNIX_S + 86400)


@harmless
def file_of_half_a_sector(scene):
    return pack([scene.good_disk() + b"x" * 100 + scene.good_disk()[:512]])


@harmless
def file_longer_than_its_blocks(scene):
    disk = scene.good_disk()
    return pack([disk[:-SECTOR] + b"hidden data".ljust(3 << 20) + disk[-SECTOR:]])


@hostile("InvalidImage", "its blocks reach to byte 4202496")
def file_shorter_than_its_blocks(scene):
    disk = scene.good_disk()
    return pack([disk[:-(1 << 20)]])


@hostile("InvalidImage", "too few for a VHD")
def file_of_hundred_bytes(scene):
    return pack([scene.good_disk()[:100]])


@hostile("InvalidImage", "inside something that should reach to byte 46116860184273889")
def header_beyond_the_file(scene):
    return with_footer(scene, data_offset=1 << 62)


# Headers

@hostile("InvalidImage", "the header at byte 512 is missing or damaged")
def header_cookie(scene):
    return with_header(scene, cookie=b"cxspars3")


@hostile("InvalidImage", "the header at byte 512 is missing or damaged", is_for_old_python=True)
def header_checksum(scene):
    return with_header(scene, reseal=False, checksum=1)


@harmless
def header_version(scene):
    return with_header(scene, version=0x00010001)


@harmless
def header_reserved(scene):
    return with_header(scene, reserved2=b"payload".ljust(256, b"\0"))


@hostile("InvalidImage", "blocks of 3000000 bytes")
def block_size_no_power_of_two(scene):
    return with_header(scene, block_size=3000000)


@hostile("InvalidImage", "blocks of 0 bytes")
def block_size_zero(scene):
    return with_header(scene, block_size=0)


@hostile("InvalidImage", "blocks of 2147483648 bytes")
def block_size_of_two_gibibytes(scene):
    return with_header(scene, block_size=1 << 31)


@harmless
def dynamic_disk_with_a_parent(scene):
    return with_header(scene, parent_uuid_bytes=b"somebody's disk!")


@hostile("UnsafeImage", "is beyond the limit of 4194304", is_for_old_python=True)
def bat_of_four_billion_entries(scene):
    return with_header(scene, max_bat_entries=0xffffffff)


@hostile("InvalidImage", "is too small for a disk of 8 blocks")
def bat_too_small(scene):
    return with_header(scene, max_bat_entries=2)


@hostile("InvalidImage", "the BAT at byte 1024 lies over the header")
def bat_over_the_header(scene):
    return with_header(scene, table_offset=1024)


@hostile("InvalidImage", "before the tables of the disk do")
def bat_beyond_the_file(scene):
    return with_header(scene, table_offset=1 << 40)


@hostile("InvalidImage", "its blocks reach to byte 2199023124480")
def bat_off_a_sector(scene):
    return with_header(scene, table_offset=1537)


# Blocks

@hostile("UnsafeImage", "block 1 lies over block 0", is_for_old_python=True)
def two_blocks_in_one_place(scene):
    block = first_block(scene.make_disk())
    return with_bat(scene, [block, block])


@hostile("UnsafeImage", "block 3 lies over block 1")
def two_blocks_half_over_each_other(scene):
    length = (SECTOR + vhd.BLOCK_SIZE) // SECTOR
    block = first_block(scene.make_disk())
    return with_bat(scene, [block, (block // length + 1) * length])


@hostile("UnsafeImage", "block 0 lies over the header")
def block_over_the_header(scene):
    return with_bat(scene, [1])


@hostile("UnsafeImage", "block 0 lies over the BAT")
def block_over_the_bat(scene):
    return with_bat(scene, [3])


@hostile("UnsafeImage", "block 0 lies over the batmap")
def block_over_the_batmap(scene):
    return with_bat(scene, [5])


@hostile("InvalidImage", "its blocks reach to byte 2199023254528")
def block_beyond_the_file(scene):
    return with_bat(scene, [first_block(scene.make_disk()), 0xfffffffe])


@hostile("UnsafeImage", "block 0 lies over the footer copy")
def block_over_the_backup_footer(scene):
    return with_bat(scene, [0])


@harmless
def block_over_a_locator(scene):
    child = scene.make_child(scene.make_disk())
    place = metadata_of(child).locators[0].data_offset // SECTOR
    return with_bat(scene, [place], child, scene.path("disk.vhd"))


@harmless
def batmap_missing(scene):
    return with_batmap(scene, cookie=b"tdbatma?")


@harmless
def batmap_of_no_size(scene):
    """blktap ends with SIGABRT."""
    return with_batmap(scene, size_sectors=0)


@harmless
def batmap_of_two_tebibytes(scene):
    return with_batmap(scene, size_sectors=0xffffffff)


@harmless
def batmap_checksum(scene):
    return with_batmap(scene, checksum=12345)


@hostile("InvalidImage", "the batmap at byte 0 lies over the footer copy")
def batmap_over_the_footer(scene):
    return with_batmap(scene, offset=0)


# Locators

def child_with_locator(scene, **fields):
    child = scene.make_child(scene.make_disk())

    def change(locator):
        if locator.index == 0:
            for name, value in fields.items():
                setattr(locator, name, value)
    edit_locators(child, change)
    return pack([read(child), read(scene.path("disk.vhd"))])


@harmless
def locator_longer_than_its_space(scene):
    """A heap over-read in vhd-util."""
    return child_with_locator(scene, data_length=1 << 30)


@harmless
def locator_of_no_length(scene):
    return child_with_locator(scene, data_length=0)


@harmless
def locator_beyond_the_file(scene):
    return child_with_locator(scene, data_offset=1 << 50)


@harmless
def locator_over_the_header(scene):
    return child_with_locator(scene, data_offset=512)


@harmless
def two_locators_of_one_code(scene):
    child = scene.make_child(scene.make_disk())
    edit_locators(child, lambda locator: setattr(locator, "code", vhd.MACX))
    return pack([read(child), read(scene.path("disk.vhd"))])


# Parents

@hostile("UnsafeImage", "is not in the image", is_for_old_python=True)
def parent_by_an_absolute_path(scene):
    return orphan(scene, ETC_PASSWD)


@hostile("UnsafeImage", "is not in the image")
def parent_by_dots(scene):
    return orphan(scene, "../../../../../../etc/passwd")


@hostile("UnsafeImage", "is not in the image", is_for_old_python=True)
def parent_is_the_neighbours_disk_by_uuid(scene):
    return orphan(scene, "./" + scene.neighbour_name, vhd.parse_uuid(metadata_of(scene.neighbour_path).uuid))


@hostile("UnsafeImage", "is not in the image")
def parent_is_the_neighbours_disk_by_path(scene):
    return orphan(scene, scene.neighbour_path, vhd.parse_uuid(metadata_of(scene.neighbour_path).uuid))


@hostile("UnsafeImage", "its parent 00000000-0000-0000-0000-000000000000 is not in the image", is_for_old_python=True)
def raw_parent(scene):
    """With no parent uuid any file's sectors are the disk's content."""
    return orphan(scene, ETC_PASSWD, vhd.NULL_UUID)


@hostile("UnsafeImage", "1.vhd: differencing, but its parent")
def base_on_the_neighbours_disk(scene):
    base = scene.make_child(scene.neighbour_path, "base.vhd")
    return pack([read(scene.make_child(base)), read(base)])


@hostile("UnsafeImage", "is not in the image")
def locators_that_disagree(scene):
    """`scan` shows one parent, `query` another."""
    child = scene.make_child(scene.make_disk())
    name_parent(child, "./disk.vhd")
    edit_locators(child, lambda locator: setattr(locator, "data", b"file://" + ETC_PASSWD.encode("ascii"))
                  if locator.code == vhd.MACX else None)
    return pack([read(child)])


@hostile("UnsafeImage", "0.vhd: made on parent")
def parent_of_another_uuid(scene):
    child = scene.make_child(scene.make_disk())
    return pack([read(child), read(scene.make_disk("other.vhd"))])


@hostile("UnsafeImage", "is not in the image")
def parent_is_itself(scene):
    child = scene.make_child(scene.make_disk())
    name_parent(child, "./child.vhd")
    vhd_writer.edit_header(child, parent_uuid_bytes=vhd.parse_uuid(metadata_of(child).uuid))
    return pack([read(child)])


@hostile("UnsafeImage", "1.vhd: differencing, but its parent", is_for_old_python=True)
def cycle_of_two(scene):
    """`vhd-util query -d` never ends on it."""
    one = scene.make_child(scene.make_disk(), "one.vhd")
    two = scene.make_child(one, "two.vhd")
    vhd_writer.edit_header(one, parent_uuid_bytes=vhd.parse_uuid(metadata_of(two).uuid))
    return pack([read(two), read(one)])


@hostile("UnsafeImage", "not differencing, but 1.vhd follows it")
def two_bases(scene):
    return pack([scene.good_disk(), scene.good_disk()])


@hostile("UnsafeImage", "smaller than its parent")
def child_smaller_than_its_parent(scene):
    child = scene.make_child(scene.make_disk(), size_bytes=8 << 20)
    return pack([read(child), read(scene.path("disk.vhd"))])


@harmless
def parent_in_the_future(scene):
    child = scene.make_child(scene.make_disk())
    vhd_writer.edit_header(child, parent_timestamp=0xfffffff0)
    return pack([read(child), read(scene.path("disk.vhd"))])


@hostile("UnsafeImage", "the archive has more than 30 VHDs")
def chain_of_thirty_one(scene):
    chain = [scene.make_disk(str(uuid.uuid4()))]
    for _ in range(30):
        path = scene.path(str(uuid.uuid4()))
        vhd_writer.write_differencing(path, chain[0], [])
        chain.insert(0, path)
    return pack([read(path) for path in chain])
