# SPDX-License-Identifier: Apache-2.0
"""Chains: order, what must fit, relinking.  vhd-util is the harness's stand-in, run by the host's Python whatever Python tests here."""

from __future__ import absolute_import, division

import os

import pytest

from dom0_lib import errors
from dom0_lib.disks import vhd
from dom0_lib.disks import vhd_chain
from dom0_lib.images import download
from dom0_lib.storage import held_chain
from dom0_lib.storage import publication
from tests.unit.disks import chains
from tests.unit.disks.chains import BASE, CREATED_AT, LEAF, PARENT, UUIDS, make_chain, make_disk, metadata_of, stage

area, repository, vhd_util = chains.area, chains.repository, chains.vhd_util


# The order of an image's files

@pytest.mark.parametrize('names, order', [
    (['0.vhd'], ['0.vhd']),
    (['2.vhd', '0.vhd', '1.vhd'], ['0.vhd', '1.vhd', '2.vhd']),
    (['%d.vhd' % number for number in (10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)], ['%d.vhd' % number for number in range(11)]),
    (['anything at all.vhd'], ['anything at all.vhd']),
    (['7.vhd'], ['7.vhd']),
    (['image.vhd'], ['image.vhd']),
    (['base.vhd', 'snap.vhd', 'image.vhd'], ['snap.vhd', 'image.vhd', 'base.vhd']),
    (['base.vhd', 'image.vhd'], ['image.vhd', 'base.vhd']),
    (['snap.vhd', 'image.vhd'], ['snap.vhd', 'image.vhd']),
])
def test_arrange(names, order):
    assert download.arrange(names) == order


@pytest.mark.parametrize('names, fragment', [
    ([], 'the image has no VHD'),
    (['0.vhd', '2.vhd'], 'the image should have 0.vhd, 1.vhd, it has 0.vhd, 2.vhd'),
    (['1.vhd', '2.vhd'], 'the image should have 0.vhd, 1.vhd'),
    (['0.vhd', '01.vhd'], 'the image should have 0.vhd, 1.vhd'),
    (['0.vhd', 'base.vhd'], 'the image should have 0.vhd, 1.vhd'),
    (['snap.vhd', 'other.vhd'], 'the image should have 0.vhd, 1.vhd'),
    (['a.vhd', 'b.vhd'], 'the image should have 0.vhd, 1.vhd, it has a.vhd, b.vhd'),
])
def test_arrange_refuses(names, fragment):
    with pytest.raises(errors.InvalidImage) as caught:
        download.arrange(names)
    assert fragment in str(caught.value)


def test_uuids_are_taken_from_the_end():
    assert publication.take_uuids(['c', 'b', 'a'], ['0.vhd']) == ['a']
    assert publication.take_uuids(['c', 'b', 'a'], ['0.vhd', '1.vhd', '2.vhd']) == ['a', 'b', 'c']


def test_too_few_uuids():
    with pytest.raises(errors.ArgumentError) as caught:
        publication.take_uuids(['b', 'a'], ['0.vhd', '1.vhd', '2.vhd'])
    assert str(caught.value) == "argument 'uuid_stack': has 2 uuids, the image has 3 VHDs"


# How files must fit

@pytest.mark.parametrize('length', [1, 2, 3])
def test_a_good_chain(area, length):
    vhd_chain.check(area, stage(area, make_chain(length)))


def test_a_leaf_larger_than_its_parent(area):
    """What a resize leaves."""
    disks = make_chain(2)
    disks[1].footer.set_size(8 << 20)
    vhd_chain.check(area, stage(area, disks))


def test_the_host_that_made_a_disk_may_have_called_it_as_it_liked(area):
    """Locators of an image mean nothing here: they are written anew."""
    disks = make_chain(2)
    for locator in disks[0].locators:
        locator.data = b'file:///etc/passwd' if locator.code == vhd.MACX else u'C:\\x'.encode('utf-16-le')
        locator.data_length = len(locator.data)
    vhd_chain.check(area, stage(area, disks))


def test_a_damaged_copy_of_the_footer_is_repaired(area):
    disks = make_chain(2)
    sound = disks[1].build().getvalue()
    disks[1].patches = [(0, b'x')]
    names = stage(area, disks)
    vhd_chain.check(area, names)
    with open(area.join('1.vhd'), 'rb') as repaired:
        assert repaired.read() == sound


def test_a_sound_disk_is_not_written(area):
    """A repair computes the geometry anew, and other programs compute it in other ways."""
    disk = make_disk()
    disk.footer.cylinders -= 1
    names = stage(area, [disk])
    vhd_chain.check(area, names)
    with open(area.join('0.vhd'), 'rb') as left:
        assert left.read() == disk.build().getvalue()


@pytest.mark.parametrize('offset', [0, 512])
def test_what_cannot_be_repaired_is_left_alone(area, offset):
    disk = make_disk()
    disk.footer.saved_state = 1
    disk.patches = [(offset, b'x')]
    names = stage(area, [disk])
    with pytest.raises(errors.UnsafeImage):
        vhd_chain.check(area, names)
    with open(area.join('0.vhd'), 'rb') as left:
        assert left.read() == disk.build().getvalue()


MISFITS = {
    'hidden leaf': ([make_disk(hidden=1)], '0.vhd: the leaf is marked hidden, so the SR would delete it'),
    'fixed disk': ([make_disk(vhd.FIXED)], '0.vhd: a fixed disk, which breaks SR.scan; convert it to a dynamic one'),
    'fixed base': ([make_disk(vhd.DIFFERENCING, LEAF, BASE), make_disk(vhd.FIXED, BASE)], '1.vhd: a fixed disk'),
    'parent not in the image': ([make_disk(vhd.DIFFERENCING, LEAF, PARENT)],
                                '0.vhd: differencing, but its parent %s is not in the image' % PARENT),
    'base with a parent': (make_chain()[:2], '1.vhd: differencing, but its parent %s is not in the image' % BASE),
    'raw parent': ([make_disk(vhd.DIFFERENCING, LEAF, '0' * 8 + '-0000-0000-0000-' + '0' * 12)],
                   '0.vhd: differencing, but its parent 00000000-0000-0000-0000-000000000000 is not in the image'),
    'leaf without a parent': ([make_disk(), make_disk(uuid=BASE)], '0.vhd: not differencing, but 1.vhd follows it'),
    'other parent': ([make_disk(vhd.DIFFERENCING, LEAF, PARENT), make_disk(uuid=BASE)],
                     '0.vhd: made on parent %s, but the next file is %s' % (PARENT, BASE)),
    'order': ([make_chain()[0], make_chain()[2], make_chain()[1]], '0.vhd: made on parent %s' % PARENT),
    'itself': ([make_disk(vhd.DIFFERENCING, LEAF, LEAF), make_disk(vhd.DYNAMIC, BASE)], '0.vhd: made on parent %s' % LEAF),
    'smaller than its parent': ([make_disk(vhd.DIFFERENCING, LEAF, BASE, 8), make_disk(uuid=BASE)],
                                '0.vhd: smaller than its parent: 8388608 bytes on 16777216'),
}


@pytest.mark.parametrize('name', sorted(MISFITS))
def test_misfits(area, name):
    disks, fragment = MISFITS[name]
    with pytest.raises(errors.UnsafeImage) as caught:
        vhd_chain.check(area, stage(area, disks))
    assert fragment in str(caught.value)


def test_everything_that_is_wrong_is_reported(area):
    """A damaged file in the middle does not hide what is wrong with the others."""
    disks = make_chain()
    disks[0].footer.hidden = 1
    disks[2].footer.disk_type = 9
    names = stage(area, disks)
    with open(area.join('1.vhd'), 'wb') as target:
        target.write(b'not a VHD')
    with pytest.raises(errors.UnsafeImage) as caught:
        vhd_chain.check(area, names)
    text = str(caught.value)
    assert '0.vhd: the leaf is marked hidden' in text and '1.vhd: 9 bytes are too few' in text and '2.vhd: ' in text
    assert '\n' not in text


# Relinking

def test_relink(area, vhd_util):
    names = stage(area, make_chain())
    vhd_chain.relink(area, names, UUIDS)
    assert sorted(os.listdir(area.path)) == ['%s.vhd' % uuid for uuid in UUIDS] + ['owner']
    for uuid, parent in zip(UUIDS, UUIDS[1:] + [None]):
        metadata = metadata_of(area.join('%s.vhd' % uuid))
        assert set(locator.path for locator in metadata.locators) == set(['./%s.vhd' % parent] if parent else [])
        assert not metadata.hidden
        assert metadata.parent_uuid == (parent or '00000000-0000-0000-0000-000000000000')


def test_relink_of_one_disk(area, vhd_util):
    vhd_chain.relink(area, stage(area, [make_disk(hidden=1)], ['any.vhd']), [LEAF])
    assert sorted(os.listdir(area.path)) == [LEAF + '.vhd', 'owner']
    assert not metadata_of(area.join(LEAF + '.vhd')).hidden
    assert not [call for call in vhd_util.calls if call.startswith('modify')]


@pytest.mark.parametrize('pattern, error_class', [
    ('modify*', errors.CommandFailed), ('set*', errors.CommandFailed), ('check*', errors.UnsafeImage)])
def test_relink_heeds_vhd_util(area, vhd_util, pattern, error_class):
    vhd_util.change(pattern)
    with pytest.raises(error_class) as caught:
        vhd_chain.relink(area, stage(area, make_chain(2)), UUIDS[:2])
    assert type(caught.value) is error_class
    assert 'the reason' in str(caught.value)


def test_an_old_vhd_util_without_an_option(area, vhd_util):
    """`check -B` came with blktap 3.5."""
    vhd_util.change('check*-B', 'echo "check: invalid option -- B" >&2; exit 22')
    vhd_chain.relink(area, stage(area, make_chain(2)), UUIDS[:2])
    checks = [call for call in vhd_util.calls if call.startswith('check')]
    assert [call.endswith('-B') for call in checks] == [True, False, True, False]


def test_what_vhd_util_wrote_is_read(area, vhd_util):
    """It could have been deceived, or do nothing: our own reading decides."""
    vhd_util.change('[mc]*', 'exit 0')  # modify and check
    with pytest.raises(errors.UnsafeImage) as caught:
        vhd_chain.relink(area, stage(area, make_chain(2)), UUIDS[:2])
    assert 'after relinking a VHD names' in str(caught.value) and './p.vhd' in str(caught.value)


def test_a_locator_that_vhd_util_put_behind_the_blocks(area, vhd_util):
    """Then tapdisk takes another place for that of the first block, and writes zeros before the one that is there."""
    disks = make_chain(2)
    disks[0].locators.pop()
    vhd_chain.check(area, stage(area, disks))
    vhd_util.change('check*', 'exit 0')
    with pytest.raises(errors.UnsafeImage) as caught:
        vhd_chain.relink(area, ['0.vhd', '1.vhd'], UUIDS[:2])
    assert str(caught.value) == (
        'after relinking %s.vhd: the parent locator 2 lies behind a block, where blktap puts none' % LEAF)


def test_a_base_that_still_names_a_parent(area, vhd_util):
    disk = make_disk()
    disk.add_locator(vhd.MACX, b'file://./other.vhd')
    with pytest.raises(errors.UnsafeImage) as caught:
        vhd_chain.relink(area, stage(area, [disk]), [LEAF])
    assert "['./other.vhd'] as its parent instead of nothing" in str(caught.value)


def test_without_vhd_util(area, monkeypatch, tmpdir):
    monkeypatch.setenv('PATH', str(tmpdir))
    with pytest.raises(errors.CommandNotFound):
        vhd_chain.relink(area, stage(area, make_chain(2)), UUIDS[:2])


# Holding a chain that is in the SR

def put_in_sr(repository, disks):
    for uuid, disk in zip(UUIDS, disks):
        with open(repository.vhd_path(uuid), 'wb') as target:
            target.write(disk.build().read())


def test_hold(area, repository):
    put_in_sr(repository, make_chain())
    assert held_chain.hold(area, repository, UUIDS).names == ['0.vhd', '1.vhd', '2.vhd']
    assert [os.stat(area.join('%d.vhd' % number)).st_ino for number in range(3)] == [
        os.stat(repository.vhd_path(uuid)).st_ino for uuid in UUIDS]


@pytest.mark.parametrize('uuids, fragment', [
    ([LEAF, PARENT], 'the VDIs are not a chain: %s: differencing, but its parent %s is not' % (PARENT, BASE)),
    ([LEAF, BASE], '%s: made on parent %s' % (LEAF, PARENT)),
    (['9' * 8 + LEAF[8:]], 'the SR has no VHD of VDI 99999999'),
])
def test_hold_refuses(area, repository, uuids, fragment):
    put_in_sr(repository, make_chain())
    with pytest.raises(errors.StorageError) as caught:
        held_chain.hold(area, repository, uuids)
    assert fragment in str(caught.value)


@pytest.mark.parametrize('change', ['nothing', 'content', 'length', 'another file', 'time'])
def test_a_held_file_that_changes(area, repository, change):
    put_in_sr(repository, make_chain(2))
    for uuid in UUIDS[:2]:
        os.utime(repository.vhd_path(uuid), (CREATED_AT, CREATED_AT))
    held = held_chain.hold(area, repository, UUIDS[:2])
    path = area.join('1.vhd')  # also what only the last file went through counts
    if change == 'content':
        with open(path, 'r+b') as target:
            target.write(b'c')  # the same byte that was there: only the time tells
    elif change == 'length':
        with open(path, 'ab') as target:
            target.write(b'x')
        os.utime(path, (CREATED_AT, CREATED_AT))
    elif change == 'another file':
        with open(path, 'rb') as source:
            data = source.read()
        os.rename(path, area.join('kept'))
        with open(path, 'wb') as target:
            target.write(data)
        os.utime(path, (CREATED_AT, CREATED_AT))
    elif change == 'time':
        os.utime(path, (CREATED_AT, CREATED_AT + 1))
    if change == 'nothing':
        held.check_unchanged()
        return
    with pytest.raises(errors.RetryableError) as caught:
        held.check_unchanged()
    assert str(caught.value) == 'the VHD of VDI %s was changed while it was read' % PARENT


@pytest.mark.parametrize('disk_type', [vhd.DYNAMIC, vhd.DIFFERENCING, vhd.FIXED])
def test_hold_one(area, repository, disk_type):
    put_in_sr(repository, [make_disk(disk_type, LEAF, PARENT if disk_type == vhd.DIFFERENCING else None)])
    if disk_type == vhd.FIXED:
        with pytest.raises(errors.StorageError) as caught:
            held_chain.hold_one(area, repository, LEAF, 'any.vhd')
        assert str(caught.value) == 'VDI %s is a fixed disk, which no chain can have' % LEAF
    else:
        held = held_chain.hold_one(area, repository, LEAF, 'any.vhd')
        assert (held.names, held.sizes) == (['any.vhd'], [os.path.getsize(repository.vhd_path(LEAF))])


# Following a chain in the SR

def link_chain(repository, count, last_parent=None):
    """The uuids of a chain of children, leaf first, each of which names the next; the last is a base, or names `last_parent`."""
    uuids = ['%08x%s' % (number, LEAF[8:]) for number in range(count)]
    for uuid, parent in zip(uuids, uuids[1:] + [last_parent]):
        disk = make_disk(vhd.DIFFERENCING if parent else vhd.DYNAMIC, uuid, parent)
        for locator in disk.locators:
            text = u'./%s.vhd' % parent
            locator.data = ((u'file://' + text).encode('ascii') if locator.code == vhd.MACX
                            else text.replace(u'/', u'\\').encode('utf-16-le'))
            locator.data_length = len(locator.data)
        disk.bat[0] = vhd.UNUSED_ENTRY
        with open(repository.vhd_path(uuid), 'wb') as target:
            target.write(disk.build().read())
    return uuids


@pytest.mark.parametrize('length', [1, 2, vhd_chain.MAX_LENGTH])
def test_follow(repository, length):
    uuids = link_chain(repository, length)
    assert held_chain.follow(repository, uuids[0]) == uuids


def test_a_chain_that_is_too_long(repository):
    uuids = link_chain(repository, vhd_chain.MAX_LENGTH + 1)
    with pytest.raises(errors.StorageError) as caught:
        held_chain.follow(repository, uuids[0])
    assert str(caught.value) == 'the chain of VDI %s does not end: VDI %s names 1 parents' % (uuids[0], uuids[-2])


@pytest.mark.parametrize('length', [1, 2, 3])
def test_a_chain_without_an_end(repository, length):
    uuids = link_chain(repository, length, '%08x%s' % (0, LEAF[8:]))
    with pytest.raises(errors.StorageError) as caught:
        held_chain.follow(repository, uuids[0])
    assert 'the chain of VDI %s does not end' % uuids[0] in str(caught.value)


def test_a_chain_with_a_missing_parent(repository):
    uuids = link_chain(repository, 2, PARENT)
    with pytest.raises(errors.StorageError) as caught:
        held_chain.follow(repository, uuids[0])
    assert str(caught.value) == 'the SR has no VHD of VDI %s' % PARENT


def test_locators_of_two_parents(repository):
    uuids = link_chain(repository, 2)
    disk = make_disk(vhd.DIFFERENCING, uuids[0], uuids[1])
    disk.locators[0].data = b'file://./other.vhd'
    disk.locators[0].data_length = len(disk.locators[0].data)
    with open(repository.vhd_path(uuids[0]), 'wb') as target:
        target.write(disk.build().read())
    with pytest.raises(errors.StorageError) as caught:
        held_chain.follow(repository, uuids[0])
    assert 'VDI %s names 2 parents' % uuids[0] in str(caught.value)


def test_hold_refuses_damage(area, repository):
    put_in_sr(repository, make_chain(2))
    with open(repository.vhd_path(PARENT), 'wb') as target:
        target.write(b'x' * 5000)
    with pytest.raises(errors.StorageError) as caught:
        held_chain.hold(area, repository, UUIDS[:2])
    assert 'the VHD of VDI %s is damaged' % PARENT in str(caught.value)
