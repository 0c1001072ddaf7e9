# SPDX-License-Identifier: Apache-2.0
"""What is put right in a VHD, and what is left alone."""

from __future__ import absolute_import, division

import pytest

from dom0_lib.disks import vhd
from dom0_lib.disks import vhd_check
from dom0_lib.disks import vhd_repair
from tests.unit.disks.test_vhd import NOW, Disk


def repair(built):
    """The bytes of a file after its repair, which must have been possible and enough."""
    metadata = vhd.read_metadata(built)
    problems = vhd_check.find_problems(built, metadata, NOW)
    assert problems and vhd_repair.can_repair(problems)
    vhd_repair.repair(built, metadata)
    assert vhd_check.find_problems(built, now=NOW) == []
    return built.getvalue()


@pytest.mark.parametrize('disk_type', [vhd.DYNAMIC, vhd.DIFFERENCING])
@pytest.mark.parametrize('offset', [0, 7, 64, 100, 511, -512, -448, -1])
def test_one_damaged_footer(offset, disk_type):
    sound = Disk(disk_type, blocks=(15,)).build().getvalue()
    damaged = Disk(disk_type, blocks=(15,))
    damaged.patches = [(offset, b'\xa5')]
    assert repair(damaged.build()) == sound


@pytest.mark.parametrize('offset', [0, -512])
def test_a_footer_of_zeros(offset):
    damaged = Disk()
    damaged.patches = [(offset, b'\0' * vhd.FOOTER_SIZE)]
    assert repair(damaged.build()) == Disk().build().getvalue()


def test_a_geometry_beyond_the_disk():
    disk = Disk()
    disk.footer.cylinders, disk.footer.heads, disk.footer.sectors_per_track = 65535, 16, 255
    assert repair(disk.build()) == Disk().build().getvalue()


def test_a_geometry_beyond_the_disk_and_a_damaged_footer():
    disk = Disk()
    disk.footer.cylinders = 65535
    disk.patches = [(0, b'x')]
    assert repair(disk.build()) == Disk().build().getvalue()


def test_only_the_footers_are_written():
    disk = Disk()
    disk.patches = [(0, b'x'), (4096, b'content')]
    before = disk.build().getvalue()
    assert repair(disk.build())[vhd.FOOTER_SIZE:-vhd.FOOTER_SIZE] == before[vhd.FOOTER_SIZE:-vhd.FOOTER_SIZE]


def test_a_file_cut_off_at_its_end_is_no_damaged_footer():
    """The backup is intact, and no footer is where the file ends; but a block is missing, too."""
    built = Disk().build()
    built.truncate(len(built.getvalue()) - 4096)
    problems = vhd_check.find_problems(built, now=NOW)
    assert not vhd_repair.can_repair(problems)
    assert set(['primary_footer_missing', 'block_outside_file']) <= set(problem.name for problem in problems)


@pytest.mark.parametrize('field, value', [
    ('saved_state', 1), ('hidden', 2), ('version', 0x20000), ('timestamp', 0xffffffff), ('uuid_bytes', vhd.NULL_UUID)])
def test_what_only_its_maker_can_put_right(field, value):
    disk = Disk()
    setattr(disk.footer, field, value)
    disk.patches = [(-1, b'x')]  # beside something that could be repaired
    assert not vhd_repair.can_repair(vhd_check.find_problems(disk.build(), now=NOW))


def test_two_footers_that_contradict_each_other():
    disk = Disk()
    disk.set_backup(uuid_bytes=b'v' * 16)
    assert not vhd_repair.can_repair(vhd_check.find_problems(disk.build(), now=NOW))


def test_every_repairable_problem_is_one_that_is_found():
    """A name that no check uses would repair nothing."""
    found = set()
    for patch in ((0, b'x'), (100, b'x'), (-512, b'x'), (-412, b'x')):
        disk = Disk()
        disk.footer.cylinders = 65535
        disk.patches = [patch]
        found.update(problem.name for problem in vhd_check.find_problems(disk.build(), now=NOW))
    assert found == vhd_repair.REPAIRABLE
