# SPDX-License-Identifier: Apache-2.0
"""What of an archive becomes a file of the SR, and how large: each limit where it is, and one byte beyond."""

from __future__ import absolute_import, division

import os

import pytest

from dom0_lib import errors
from dom0_lib.disks import vhd
from dom0_lib.images import download
from dom0_lib.storage import vhd_chain
from tests.unit.storage import chains
from tests.unit.storage.chains import make_disk

area, repository = chains.area, chains.repository

MIB = 1 << 20
OTHER_BYTES = 64 * MIB


@pytest.fixture
def archive(area):
    return download._Archive(area)


def feed(archive, name, data, size_bytes=None, step=65536):
    """The archive's member `name`, of these data and then zeros."""
    size_bytes = len(data) if size_bytes is None else size_bytes
    member = archive.open_member(name, size_bytes)
    for start in range(0, len(data), step):
        member.write(memoryview(data)[start:start + step])
    zeros = memoryview(b'\0' * MIB)
    for start in range(len(data), size_bytes, MIB):
        member.write(zeros[:size_bytes - start])
    member.finish()


def test_files_that_are_no_vhds_have_a_limit_together(archive):
    assert archive.open_member('a.txt', OTHER_BYTES - 1) is None
    assert archive.open_member('b/c.txt', 1) is None
    assert archive.open_member('swap.vhd', 2 * OTHER_BYTES) is not None  # it has the limit of a disk
    with pytest.raises(errors.InvalidImage) as caught:
        archive.open_member('d', 1)
    assert str(caught.value) == 'the archive has %d bytes in files that are no VHDs' % (OTHER_BYTES + 1)


def test_as_many_vhds_as_a_chain_may_have(archive):
    for number in range(vhd_chain.MAX_LENGTH):
        feed(archive, '%d.vhd' % number, make_disk().build().getvalue())
    with pytest.raises(errors.UnsafeImage) as caught:
        archive.open_member('30.vhd', 512)
    assert 'more than 30 VHDs' in str(caught.value)
    assert [disk.name for disk in archive.arrange()] == ['%d.vhd' % number for number in range(30)]


@pytest.mark.parametrize('name, error_class', [('0.vhd', errors.UnsafeImage), ('d/1.vhd', errors.InvalidImage)])
def test_a_vhd_has_one_name_at_the_top(archive, name, error_class):
    archive.open_member('0.vhd', 512)
    with pytest.raises(errors.InvalidImage) as caught:
        archive.open_member(name, 512)
    assert type(caught.value) is error_class


@pytest.mark.parametrize('name', ['0.vhd', 'swap.vhd'])
def test_a_member_is_no_longer_than_its_disk_can_be(archive, name):
    """A terabyte of zeros takes a megabyte of an archive; it is refused when the tables have come, before the zeros do."""
    with pytest.raises(errors.UnsafeImage) as caught:
        feed(archive, name, make_disk().build().getvalue()[:16384], 1 << 40)
    assert str(caught.value) == '%s: the file has %d bytes, more than a disk of %d bytes needs' % (name, 1 << 40, 16 * MIB)


@pytest.mark.parametrize('name', ['0.vhd', 'swap.vhd'])
def test_a_disk_has_room_for_its_metadata(archive, name):
    data = make_disk().build().getvalue()
    feed(archive, name, data[:-512] + b'\0' * MIB + data[-512:])


def damage_copy(data):
    return b'x' + data[1:]


@pytest.mark.parametrize('data', [b'', b'anything', b'\0' * 4096, damage_copy(make_disk().build().getvalue()),
                                  make_disk(vhd.FIXED).build().getvalue()], ids=['empty', 'text', 'zeros', 'damaged', 'fixed'])
def test_a_swap_disk_without_a_limit_of_its_own_is_another_file(archive, data):
    feed(archive, 'swap.vhd', data)
    with pytest.raises(errors.InvalidImage) as caught:
        feed(archive, 'swap.vhd', data or b'\0', OTHER_BYTES + 1)
    assert 'in files that are no VHDs' in str(caught.value)


def test_nothing_of_a_swap_disk_is_kept(archive, area):
    feed(archive, 'swap.vhd', make_disk().build().getvalue())
    assert archive.open_member('0.vhd', 512) is not None
    assert sorted(os.listdir(area.path)) == ['0.vhd', 'owner']
