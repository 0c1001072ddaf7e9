# SPDX-License-Identifier: Apache-2.0
"""Staged chains become VDIs of an SR.  vhd-util is the harness's stand-in, run by the host's Python whatever Python tests here."""

from __future__ import absolute_import, division

import ctypes
import os
import stat
import struct

import pytest

from dom0_lib import errors
from dom0_lib import publication
from dom0_lib import termination
from dom0_lib import vhd_chain
from tests.unit import chains
from tests.unit.chains import BASE, LEAF, PARENT, UUIDS, make_chain, metadata_of, stage

area, repository, vhd_util = chains.area, chains.repository, chains.vhd_util


def publish(area, repository):
    publication.publish(area, repository, UUIDS, check=lambda: None)


@pytest.fixture(autouse=True)
def signals_matter(monkeypatch):
    """A published chain settles the process's fate; here the process goes on to the next test."""
    monkeypatch.setattr(termination._State, 'ending', False)


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


class Watch(object):
    """inotify: the names that appear in a directory and go, in order."""

    _CREATE, _DELETE, _MOVED_TO, _MOVED_FROM = 0x100, 0x200, 0x80, 0x40

    def __init__(self, directory):
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_NONBLOCK)
        assert self._fd >= 0
        mask = self._CREATE | self._DELETE | self._MOVED_TO | self._MOVED_FROM
        assert libc.inotify_add_watch(self._fd, directory.encode('utf-8'), mask) >= 0

    def read_events(self):
        data, events = os.read(self._fd, 65536), []
        os.close(self._fd)
        while data:
            _, mask, _, length = struct.unpack('iIII', data[:16])
            name = data[16:16 + length].rstrip(b'\0').decode('utf-8')
            events.append(('+' if mask & (self._CREATE | self._MOVED_TO) else '-') + name)
            data = data[16 + length:]
        return events


def test_publish(area, repository, vhd_util):
    vhd_chain.relink(area, stage(area, make_chain()), UUIDS)
    inodes = [os.stat(area.join('%s.vhd' % uuid)).st_ino for uuid in UUIDS]
    before = len(vhd_util.calls)
    watch = Watch(repository.path)
    publish(area, repository)
    assert watch.read_events() == ['+%s.vhd' % uuid for uuid in (BASE, PARENT, LEAF)]
    assert [os.stat(repository.vhd_path(uuid)).st_ino for uuid in UUIDS] == inodes
    assert [metadata_of(repository.vhd_path(uuid)).hidden for uuid in UUIDS] == [False, True, True]
    assert [call.split()[2] for call in vhd_util.calls[before:]] == [repository.vhd_path(uuid) for uuid in (BASE, PARENT)]


@pytest.mark.parametrize('taken', UUIDS)
@pytest.mark.parametrize('make', [
    lambda path: open(path, 'w').close(), os.mkdir, lambda path: os.symlink('nowhere', path)], ids=['file', 'directory', 'link'])
def test_publish_replaces_nothing(area, repository, vhd_util, taken, make):
    """A uuid may be taken between our first look and this moment."""
    names = stage(area, make_chain())
    for name, uuid in zip(names, UUIDS):
        area.rename(name, '%s.vhd' % uuid)
    make(repository.vhd_path(taken))
    before = describe(repository.path)
    with pytest.raises(errors.StorageError) as caught:
        publish(area, repository)
    assert 'cannot publish in the SR: ' in str(caught.value)
    assert describe(repository.path) == before


@pytest.mark.parametrize('uuid', [PARENT, BASE])
def test_publish_undoes_itself(area, repository, vhd_util, uuid):
    vhd_chain.relink(area, stage(area, make_chain()), UUIDS)
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
    names = stage(area, make_chain())
    for name, uuid in zip(names, UUIDS):
        area.rename(name, '%s.vhd' % uuid)
    os.unlink(area.join(LEAF + '.vhd'))
    with pytest.raises(errors.StorageError):
        publish(area, repository)
    assert os.listdir(repository.path) == [os.path.basename(area.path)]
