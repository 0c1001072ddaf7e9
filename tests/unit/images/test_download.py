# SPDX-License-Identifier: Apache-2.0
"""What of an archive becomes a file of the SR, and how large: each limit where it is, and one byte beyond."""

from __future__ import absolute_import, division

import pytest

from dom0_lib import errors
from dom0_lib.disks import vhd
from dom0_lib.disks import vhd_chain
from dom0_lib.disks import vhd_check
from dom0_lib.images import download
from tests.unit.disks import chains
from tests.unit.disks.chains import make_disk

area, repository = chains.area, chains.repository

MIB = 1 << 20
UNJUDGED_BYTES = 64 * MIB
BEGINNING_BYTES = 1536


@pytest.fixture
def archive(area):
    return download._Archive(area)


class Staged(object):
    """Where a member's data go."""

    def __init__(self):
        self.data = b''

    def write(self, view):
        self.data += view.tobytes()

    def finish(self):
        pass


def test_files_that_are_no_vhds_have_a_limit_together(archive):
    assert archive.open_member('a.txt', UNJUDGED_BYTES - 1) is None
    assert archive.open_member('b/c.txt', 1) is None
    assert archive.open_member('swap.vhd', 2 * UNJUDGED_BYTES) is not None  # it has the limit of a disk
    with pytest.raises(errors.InvalidImage) as caught:
        archive.open_member('d', 1)
    assert str(caught.value) == 'the archive has %d bytes in files that are no VHDs' % (UNJUDGED_BYTES + 1)


def test_as_many_vhds_as_a_chain_may_have(archive):
    for number in range(vhd_chain.MAX_LENGTH):
        assert archive.open_member('%d.vhd' % number, 512) is not None
    with pytest.raises(errors.UnsafeImage) as caught:
        archive.open_member('16.vhd', 512)
    assert 'more than 16 VHDs' in str(caught.value)
    assert archive.arrange() == ['%d.vhd' % number for number in range(16)]


@pytest.mark.parametrize('name, error_class', [('0.vhd', errors.UnsafeImage), ('d/1.vhd', errors.InvalidImage)])
def test_a_vhd_has_one_name_at_the_top(archive, name, error_class):
    archive.open_member('0.vhd', 512)
    with pytest.raises(errors.InvalidImage) as caught:
        archive.open_member(name, 512)
    assert type(caught.value) is error_class


def feed(beginning, size_bytes, step=512):
    """The data that pass, of a member that begins so."""
    staged = Staged()
    member = download._Member('0.vhd', size_bytes, staged)
    for start in range(0, len(beginning), step):
        member.write(memoryview(beginning)[start:start + step])
    member.finish()
    return staged.data


@pytest.mark.parametrize('step', [1, 511, 512, 1535, 1536, 4096])
@pytest.mark.parametrize('damage', [None, 'footer'])
def test_a_member_is_no_longer_than_its_disk_can_be(step, damage):
    data = make_disk().build().getvalue()[:4096]
    if damage:
        data = b'x' + data[1:]
    limit = vhd_check.largest_file(16 * MIB)
    assert feed(data, limit, step) == data
    with pytest.raises(errors.UnsafeImage) as caught:
        feed(data[:BEGINNING_BYTES], limit + 1, step)
    assert str(caught.value) == "VHD '0.vhd' has %d bytes, more than a disk of %d bytes needs" % (limit + 1, 16 * MIB)


def test_a_member_is_judged_when_its_beginning_is_complete():
    data = make_disk().build().getvalue()[:BEGINNING_BYTES - 1]
    assert feed(data, 1 << 50) == data


@pytest.mark.parametrize('cookie', [b'cxsparsf', vhd.HEADER_COOKIE])
def test_what_does_not_begin_as_a_disk_is_kept_only_if_it_is_small(cookie):
    """Neither the copy of the footer nor the header is intact."""
    header = vhd.Header()
    header.cookie, header.checksum = cookie, 1
    data = b'\0' * 512 + (header.pack() if cookie == vhd.HEADER_COOKIE else header.seal())
    assert feed(data, UNJUDGED_BYTES) == data
    with pytest.raises(errors.InvalidImage) as caught:
        feed(data, UNJUDGED_BYTES + 1)
    assert str(caught.value) == "VHD '0.vhd' does not begin as a dynamic disk; convert it to one"


@pytest.mark.parametrize('disk_bytes, blocks', [(512, 1), (2 * MIB, 1), (2 * MIB + 512, 2), (16 * MIB, 8)])
def test_the_largest_file_of_a_disk(disk_bytes, blocks):
    """A full disk of blktap with the largest BAT and a batmap, and the gap that the checks allow."""
    gap = 2 * MIB + 64 * 1024
    needed = blocks * (4104 * 512) + 4 * (1 << 20) + (1 << 17) + 8 * 512 + gap
    assert needed <= vhd_check.largest_file(disk_bytes) < needed + 8 * MIB
