# SPDX-License-Identifier: Apache-2.0
"""Staged chains become VDIs of an SR.  vhd-util is the harness's stand-in, run by the host's Python whatever Python tests here."""

from __future__ import absolute_import, division

import errno
import os
import stat

import pytest

from dom0_lib import errors
from dom0_lib import termination
from dom0_lib.disks import vhd
from dom0_lib.storage import arrival_files
from dom0_lib.storage import publication
from tests.unit.directory_watch import Watch
from tests.unit.storage import chains
from tests.unit.storage.chains import BASE, LEAF, PARENT, UUIDS, make_chain, make_disk, metadata_of, seal

area, repository, vhd_util = chains.area, chains.repository, chains.vhd_util
OTHER = '9' + LEAF[1:]


def publish(area, repository):
    publication.publish(area, repository, UUIDS, check=lambda: None)


@pytest.fixture(autouse=True)
def signals_matter(monkeypatch):
    """A published chain settles the process's fate; here the process goes on to the next test."""
    monkeypatch.setattr(termination._receiver, 'is_ending', False)


def describe(directory):
    """Everything that must not change: names, inodes, sizes, times, contents."""
    found = {}
    for parent, directories, names in os.walk(directory):
        for name in directories + names:
            if name == 'journal':  # done with, it goes with the staging directory
                continue
            path = os.path.join(parent, name)
            status = os.lstat(path)
            content = None
            if stat.S_ISREG(status.st_mode):
                with open(path, 'rb') as fileobj:
                    content = fileobj.read()
            # The journal comes and goes in the staging directory, which changes its time.
            modified_at = None if stat.S_ISDIR(status.st_mode) and name.startswith('.dom0') else status.st_mtime
            found[os.path.relpath(path, directory)] = status.st_ino, status.st_size, modified_at, content
    return found


def test_publish(area, repository, vhd_util):
    seal(area, make_chain())
    inodes = [os.stat(area.join('%s.vhd' % uuid)).st_ino for uuid in UUIDS]
    before = len(vhd_util.calls)
    watch = Watch(repository.path)
    publish(area, repository)
    assert watch.read_events() == ['+%s.vhd' % uuid for uuid in (BASE, PARENT, LEAF)]
    assert [os.stat(repository.vhd_path(uuid)).st_ino for uuid in UUIDS] == inodes
    assert [metadata_of(repository.vhd_path(uuid)).hidden for uuid in UUIDS] == [False, True, True]
    assert [call.split()[2] for call in vhd_util.calls[before:]] == [repository.vhd_path(uuid) for uuid in (BASE, PARENT)]


@pytest.fixture(params=[True, False], ids=['links', 'no links'])
def has_links(request, monkeypatch):
    """Whether the file system has hard links."""
    if not request.param:
        def refuse(source, target):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        monkeypatch.setattr(os, 'link', refuse)
    return request.param


@pytest.mark.parametrize('taken', UUIDS)
@pytest.mark.parametrize('make', [
    lambda path: open(path, 'w').close(), os.mkdir, lambda path: os.symlink('nowhere', path)], ids=['file', 'directory', 'link'])
def test_publish_replaces_nothing(area, repository, vhd_util, has_links, taken, make):
    """A uuid may be taken between our first look and this moment."""
    seal(area, make_chain())
    make(repository.vhd_path(taken))
    before = describe(repository.path)
    with pytest.raises(errors.StorageError) as caught:
        publish(area, repository)
    assert ('cannot publish in the SR: ' if has_links else 'is already there') in str(caught.value)
    assert describe(repository.path) == before


@pytest.mark.parametrize('uuid', [PARENT, BASE])
def test_publish_undoes_itself(area, repository, vhd_util, uuid):
    seal(area, make_chain())
    before = set(os.listdir(repository.path))
    vhd_util.change('set*%s*' % uuid)
    watch = Watch(repository.path)
    with pytest.raises(errors.CommandFailed):
        publish(area, repository)
    assert set(os.listdir(repository.path)) == before
    # The leaf goes first: nobody ever sees a child without its parent.
    assert watch.read_events() == ['+%s.vhd' % uuid for uuid in (BASE, PARENT, LEAF)] + [
        '-%s.vhd' % uuid for uuid in (LEAF, PARENT, BASE)]


def test_publish_when_a_staged_file_is_gone(area, repository, vhd_util):
    seal(area, make_chain())
    os.unlink(area.join(LEAF + '.vhd'))
    with pytest.raises(errors.StorageError):
        publish(area, repository)
    assert os.listdir(repository.path) == [os.path.basename(area.path)]


# After a death

class Dead(object):
    """A sealed chain that a process was publishing when it died."""

    def __init__(self, area, repository):
        seal(area, make_chain())
        self.path = area.path
        self._repository = repository
        self.journal = [(os.stat(area.join(uuid + '.vhd')).st_ino, uuid + '.vhd') for uuid in (BASE, PARENT, LEAF)]

    def publish(self, count):
        """Give so many of them their names, base first."""
        for _, name in self.journal[:count]:
            publication._move_in(os.path.join(self.path, name), os.path.join(self._repository.path, name))

    def recover(self, origins=()):
        publication.recover(self._repository, self.path, self.journal + list(origins))

    def list_published(self):
        return [uuid for uuid in UUIDS + [OTHER] if os.path.lexists(self._repository.vhd_path(uuid))]


@pytest.fixture
def dead(area, repository, vhd_util):
    return Dead(area, repository)


def write_child(repository, parent_uuid):
    """Another VHD of the SR, which names a file of it as its parent."""
    disk = make_disk(vhd.DIFFERENCING, OTHER)
    disk.add_locator(vhd.W2RU, (u'.\\%s.vhd' % parent_uuid).encode('utf-16-le'))
    with open(repository.vhd_path(OTHER), 'wb') as target:
        target.write(disk.build().read())


@pytest.mark.parametrize('count', [0, 1, 2])
def test_parents_without_their_leaf_go(dead, repository, has_links, count):
    dead.publish(count)
    dead.recover()
    assert dead.list_published() == []
    assert sorted(os.listdir(dead.path)) == sorted([uuid + '.vhd' for uuid in UUIDS] + ['owner'])


def test_a_leaf_that_is_there_keeps_its_parents(dead, repository, has_links):
    dead.publish(3)
    dead.recover()
    assert dead.list_published() == UUIDS
    assert [metadata_of(repository.vhd_path(uuid)).hidden for uuid in UUIDS] == [False, True, True]


@pytest.mark.parametrize('is_replaced', [False, True])
def test_a_parent_that_has_gone_meanwhile(dead, repository, vhd_util, is_replaced):
    """SM has merged it into its child, and a file that has its name now is none of this chain."""
    dead.publish(3)
    os.rename(repository.vhd_path(BASE), repository.vhd_path(OTHER))
    if is_replaced:
        with open(repository.vhd_path(BASE), 'wb') as target:
            target.write(make_disk().build().read())
    before = len(vhd_util.calls)
    dead.recover()
    assert [call.split()[2] for call in vhd_util.calls[before:]] == [repository.vhd_path(PARENT)]


def test_a_leaf_that_has_got_another_name_keeps_its_parents(dead, repository, has_links):
    """As a snapshot renames it; where there are no links, it is in neither of its places then."""
    dead.publish(3)
    os.rename(repository.vhd_path(LEAF), repository.vhd_path(OTHER))
    dead.recover()
    assert dead.list_published() == [PARENT, BASE, OTHER]
    assert [metadata_of(repository.vhd_path(uuid)).hidden for uuid in (PARENT, BASE)] == [True, True]


def test_a_leaf_that_cannot_be_looked_at(dead, repository):
    """It may be published, so nothing is taken back."""
    dead.publish(2)
    os.unlink(os.path.join(dead.path, LEAF + '.vhd'))
    os.symlink(LEAF + '.vhd', os.path.join(dead.path, LEAF + '.vhd'))
    with pytest.raises(EnvironmentError):
        dead.recover()
    assert dead.list_published() == [PARENT, BASE]


@pytest.mark.parametrize('parent, kept', [(PARENT, [PARENT, BASE, OTHER]), (BASE, [BASE, OTHER])])
def test_a_parent_that_somebody_has_built_on_stays(dead, repository, has_links, parent, kept):
    dead.publish(2)
    write_child(repository, parent)
    dead.recover()
    assert dead.list_published() == kept


def test_a_vhd_that_cannot_be_read_may_be_a_child(dead, repository):
    dead.publish(2)
    os.symlink('/sys/bus/platform/uevent', repository.vhd_path(OTHER))  # only to be written, also by root
    dead.recover()
    assert dead.list_published() == [PARENT, BASE, OTHER]


@pytest.mark.parametrize('make', [
    lambda path: open(path, 'w').close(), os.mkdir, lambda path: os.symlink('nowhere', path)], ids=['no VHD', 'directory', 'link'])
def test_what_nobody_can_read_is_no_child(dead, repository, make):
    dead.publish(2)
    make(repository.vhd_path(OTHER))
    dead.recover()
    assert dead.list_published() == [OTHER]


@pytest.mark.parametrize('count, kept', [(2, []), (3, UUIDS)])
def test_files_that_have_arrived_have_a_name_more(dead, repository, tmpdir, count, kept):
    """That of their origin does not make a leaf a published one; when it is one, the origin goes."""
    label = OTHER
    directory = tmpdir.join('images', 'instance' + label).ensure(dir=True)
    origins = []
    for number, (inode, name) in enumerate(reversed(dead.journal)):
        os.link(os.path.join(dead.path, name), str(directory.join('%d.vhd' % number)))
        origins.append((inode, 'instance%s/%d.vhd' % (label, number)))
    assert [arrival_files.count_names(inode, origins) for inode, _ in origins] == [1, 1, 1]
    dead.publish(count)
    dead.recover(origins)
    assert dead.list_published() == kept
    assert directory.check() is (not kept)


def test_each_call_for_an_sr_cleans_it_first(repository, tmpdir):
    mounted = tmpdir.join('run', 'sr-mount', repository.uuid).ensure(dir=True)
    tmpdir.join('var').ensure(dir=True)
    os.symlink('../run', str(tmpdir.join('var', 'run')))
    mounted.join('.dom0-plugins-dead').ensure(dir=True).join('0.vhd').write(b'x')
    mounted.join('%s.vhd' % OTHER).write(b'x')
    path = '/var/run/sr-mount/' + repository.uuid
    assert publication.open_repository(u'OpaqueRef:session', path, UUIDS).path == str(mounted)
    assert [child.basename for child in mounted.listdir()] == ['%s.vhd' % OTHER]
    with pytest.raises(errors.StorageError):
        publication.open_repository(u'OpaqueRef:session', path, UUIDS + [OTHER])
