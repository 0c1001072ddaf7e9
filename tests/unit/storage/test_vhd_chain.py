# SPDX-License-Identifier: Apache-2.0
"""Chains: their order, the rules for them, their sealing.  vhd-util is the harness's stand-in, run by the host's Python whatever Python tests here."""

from __future__ import absolute_import, division

import os

import pytest

from dom0_lib import errors
from dom0_lib.disks import vhd
from dom0_lib.storage import vhd_chain
from dom0_lib.images import download
from dom0_lib.storage import held_chain
from dom0_lib.storage import new_disk
from dom0_lib.storage import publication
from tests.unit.formats import decoding
from tests.unit.storage import chains
from tests.unit.storage.chains import BASE, CREATED_AT, LEAF, PARENT, UUIDS, make_chain, make_disk, metadata_of, seal, stage

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
    vhd_chain.check(stage(area, make_chain(length)))


def test_a_leaf_larger_than_its_parent(area):
    """As a resize leaves it."""
    disks = make_chain(2)
    disks[1].footer.set_size(8 << 20)
    vhd_chain.check(stage(area, disks))


def link_disks(length):
    """A chain of so many disks."""
    uuids = ['%08x%s' % (number, LEAF[8:]) for number in range(length)]
    return [make_disk(vhd.DIFFERENCING if parent else vhd.DYNAMIC, uuid, parent) for uuid, parent in zip(uuids, uuids[1:] + [None])]


def test_as_long_a_chain_as_an_sr_takes(area):
    disks = stage(area, link_disks(vhd_chain.MAX_LENGTH + 1))
    vhd_chain.check(disks[1:])
    with pytest.raises(errors.UnsafeImage) as caught:
        vhd_chain.check(disks)
    assert str(caught.value) == 'a chain of 31 disks, an SR takes 30'
    assert caught.value.rule == 'chain'


class Image(object):
    """A disk as a decoder tells of it."""

    is_child = False
    uuid, parent_uuid = LEAF, None

    def __init__(self, size_bytes):
        self.size_bytes = size_bytes


def test_as_large_a_disk_as_a_vhd_takes():
    limit = 2093050 << 20
    assert list(vhd_chain.find_misfits(['x'], [Image(limit)])) == []
    assert list(vhd_chain.find_misfits(['x'], [Image(limit + 512)])) == [
        'x: the disk size of %d bytes is beyond the limit of %d' % (limit + 512, limit)]


def no_locators(disks):
    del disks[0].locators[:]


def foreign_locators(disks):
    for locator in disks[0].locators:
        locator.data = b'file:///etc/passwd' if locator.code == vhd.MACX else u'C:\\x'.encode('utf-16-le')
        locator.data_length = len(locator.data)


def edit_footer(number, **fields):
    def edit(disks):
        for name, value in fields.items():
            setattr(disks[number].footer, name, value)
    return edit


def set_parent_time(disks):
    disks[0].header.parent_timestamp = 0xffffffff


def damage_copy(disks):
    disks[1].patches = [(0, b'x')]


# A foreign disk is its sectors: nothing of these is in the disk that is written.
HARMLESS = {
    'no locators': no_locators, 'locators of other files': foreign_locators, 'a hidden leaf': edit_footer(0, hidden=1),
    'a disk of the future': edit_footer(0, timestamp=0xffffffff), 'a parent of the future': set_parent_time,
    'a suspended guest': edit_footer(0, saved_state=1), 'features': edit_footer(1, features=0xff), 'geometry': edit_footer(0, heads=255),
    'creator': edit_footer(1, creator=b'tapX'), 'a damaged copy of a footer': damage_copy,
}


@pytest.mark.parametrize('name', sorted(HARMLESS))
def test_it_does_not_matter(area, vhd_util, name):
    disks = make_chain(2)
    HARMLESS[name](disks)
    staged = stage(area, disks)
    vhd_chain.check(staged)
    vhd_chain.seal(area, staged, UUIDS[:2])
    expect_sealed(area, UUIDS[:2])


def test_a_fixed_disk_becomes_a_dynamic_one(area, vhd_util):
    staged = stage(area, [make_disk(vhd.FIXED)])
    vhd_chain.check(staged)
    vhd_chain.seal(area, staged, [LEAF])
    expect_sealed(area, [LEAF])
    assert metadata_of(area.join(LEAF + '.vhd')).disk_type == vhd.DYNAMIC


MISFITS = {
    'parent not in the image': ([make_disk(vhd.DIFFERENCING, LEAF, PARENT)],
                                '0.vhd: differencing, but its parent %s is not in the image' % PARENT),
    'base with a parent': (make_chain()[:2], '1.vhd: differencing, but its parent %s is not in the image' % BASE),
    'raw parent': ([make_disk(vhd.DIFFERENCING, LEAF, '0' * 8 + '-0000-0000-0000-' + '0' * 12), make_disk(uuid=BASE)],
                   '0.vhd: made on a raw parent, which a chain of VHDs cannot have'),
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
        vhd_chain.check(stage(area, disks))
    assert fragment in str(caught.value)
    assert caught.value.rule == ('incomplete_chain' if name in ('parent not in the image', 'base with a parent') else 'chain')


def test_everything_that_is_wrong_is_reported(area):
    disks = make_chain()
    disks[1].header.parent_uuid_bytes = b'x' * 16
    disks[2] = make_disk(vhd.DIFFERENCING, BASE, LEAF)
    with pytest.raises(errors.UnsafeImage) as caught:
        vhd_chain.check(stage(area, disks))
    assert '1.vhd: made on parent 78787878' in str(caught.value) and '2.vhd: differencing, but' in str(caught.value)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('data, error_class', [(b'not a VHD', errors.InvalidImage), (b'x' * 4096, errors.InvalidImage)])
def test_a_refusal_names_the_file_and_its_rule(area, data, error_class):
    disk = new_disk.StreamedDisk(area, '1.vhd', len(data))
    with pytest.raises(error_class) as caught:
        disk.write(memoryview(data))
        disk.finish()
    assert type(caught.value) is error_class
    assert str(caught.value).startswith('1.vhd: ') and caught.value.rule == 'no_footer'


# Sealing

def expect_sealed(area, uuids):
    """The files of the area are a chain of our own VHDs, shown."""
    assert sorted(os.listdir(area.path)) == ['%s.vhd' % uuid for uuid in uuids] + ['owner']
    chain = [metadata_of(area.join('%s.vhd' % uuid)) for uuid in uuids]
    for uuid, metadata, parent_uuid, parent in zip(uuids, chain, uuids[1:] + [None], chain[1:] + [None]):
        assert decoding.prove(area.join('%s.vhd' % uuid)) is None
        assert set(locator.path for locator in metadata.locators) == set(['./%s.vhd' % parent_uuid] if parent_uuid else [])
        assert metadata.parent_uuid == (parent.uuid if parent else '00000000-0000-0000-0000-000000000000')
        assert not metadata.hidden
        assert metadata.uuid not in UUIDS and metadata.uuid[14] == '4' and metadata.uuid[19] in '89ab'


def test_seal(area, vhd_util):
    seal(area, make_chain())
    expect_sealed(area, UUIDS)
    assert vhd_util.calls == ['check -n %s -B' % area.join('%s.vhd' % uuid) for uuid in (BASE, PARENT, LEAF)]


def test_sealing_one_disk(area, vhd_util):
    vhd_chain.seal(area, stage(area, [make_disk(hidden=1)], ['any.vhd']), [LEAF])
    expect_sealed(area, [LEAF])


def test_no_two_disks_have_one_uuid(area, vhd_util):
    """A tenant could give an image the uuid of another's disk."""
    other = '9' + LEAF[1:]
    seal(area, [make_disk()], [LEAF])
    seal(area, [make_disk()], [other])
    assert metadata_of(area.join(LEAF + '.vhd')).uuid != metadata_of(area.join(other + '.vhd')).uuid


def test_vhd_util_has_the_last_word(area, vhd_util):
    vhd_util.change('check*')
    with pytest.raises(errors.UnsafeImage) as caught:
        seal(area, make_chain(2))
    assert 'the reason' in str(caught.value)


def test_an_old_vhd_util_without_an_option(area, vhd_util):
    """`check -B` came with blktap 3.5."""
    vhd_util.change('check*-B', 'echo "check: invalid option -- B" >&2; exit 22')
    seal(area, make_chain(2))
    checks = [call for call in vhd_util.calls if call.startswith('check')]
    assert [call.endswith('-B') for call in checks] == [True, False, True, False]


def test_without_vhd_util(area, monkeypatch, tmpdir):
    monkeypatch.setenv('PATH', str(tmpdir))
    with pytest.raises(errors.CommandNotFound):
        seal(area, make_chain(2))


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


@pytest.mark.parametrize('disk_type', [vhd.DYNAMIC, vhd.DIFFERENCING])
def test_hold_one(area, repository, disk_type):
    put_in_sr(repository, [make_disk(disk_type, LEAF, PARENT if disk_type == vhd.DIFFERENCING else None)])
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
