# SPDX-License-Identifier: Apache-2.0
"""/boot/guest: files get all their names or none, and replace nothing.  tests/calls/boot/test_kernel.py has the plug-in."""

from __future__ import absolute_import, division

import errno
import os
import stat

import pytest

from dom0_lib import errors
from dom0_lib.boot import boot_directory
from tests.unit.dom0_tree import Tree

CONTENT = b'k' * (3 << 20)
NAMES = ['a', 'b', 'c']


class Boot(object):

    def __init__(self, root):
        self.tree = Tree(root)
        self.directory = boot_directory.BootDirectory()

    def publish(self, names, content=CONTENT):
        with self.directory.stage(0) as area:
            with open(area.join('kernel'), 'wb') as target:
                target.write(content)
            self.directory.publish(area, area.join('kernel'), names)

    def write(self, name, content):
        with open(self.directory.join(name), 'wb') as target:
            target.write(content)

    def read(self):
        """{name: content}"""
        found = {}
        for name in os.listdir(self.directory.path):
            with open(self.directory.join(name), 'rb') as source:
                found[name] = source.read()
        return found


@pytest.fixture
def boot(tmpdir, monkeypatch):
    monkeypatch.setenv('DOM0_ROOT', str(tmpdir))
    return Boot(tmpdir)


@pytest.fixture(params=[True, False], ids=['links', 'no links'])
def has_links(request, monkeypatch):
    """Whether the file system has hard links."""
    if not request.param:
        def refuse(source, target):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        monkeypatch.setattr(os, 'link', refuse)
    return request.param


def test_the_directory_is_made(boot):
    assert stat.S_IMODE(os.stat(boot.directory.path).st_mode) == 0o755
    assert boot.directory.path == os.path.realpath(boot.tree.locate('/boot/guest'))


@pytest.mark.parametrize('make', [lambda path: open(path, 'w').close(), lambda path: os.symlink('nowhere', path)], ids=['file', 'link'])
def test_what_is_no_directory(boot, make):
    os.rmdir(boot.directory.path)
    make(boot.directory.path)
    with pytest.raises(errors.StorageError) as caught:
        boot_directory.BootDirectory()
    assert 'which is no directory: is the SR attached?' in str(caught.value)


def test_names(boot, has_links):
    boot.publish(NAMES)
    assert boot.read() == dict.fromkeys(NAMES, CONTENT)
    assert os.stat(boot.directory.join('a')).st_nlink == (3 if has_links else 1)
    boot.publish(NAMES + ['d'])
    assert boot.read() == dict.fromkeys(NAMES + ['d'], CONTENT)


@pytest.mark.parametrize('other', [CONTENT[:-1], CONTENT + b'x', CONTENT[:-1] + b'x', b''],
                         ids=['shorter', 'longer', 'last byte', 'empty'])
@pytest.mark.parametrize('taken', NAMES)
def test_nothing_is_replaced_and_all_is_taken_back(boot, has_links, taken, other):
    boot.write(taken, other)
    with pytest.raises(errors.StorageError) as caught:
        boot.publish(NAMES)
    assert '/boot/guest/%s already exists with other content; remove it first' % taken in str(caught.value)
    assert boot.read() == {taken: other}


def test_a_name_that_was_there_stays_when_a_later_one_fails(boot, has_links):
    boot.write('a', CONTENT)
    boot.write('c', b'x')
    with pytest.raises(errors.StorageError):
        boot.publish(NAMES)
    assert boot.read() == {'a': CONTENT, 'c': b'x'}


def test_a_name_that_is_given_again_is_young(boot, has_links):
    boot.publish(['a'])
    os.utime(boot.directory.join('a'), (1, 1))
    boot.publish(['a'])
    assert os.stat(boot.directory.join('a')).st_mtime > 1


@pytest.mark.parametrize('make', [
    os.mkdir, os.mkfifo, lambda path: os.symlink('nowhere', path), lambda path: os.symlink('/dev/null', path)],
    ids=['directory', 'FIFO', 'dangling', 'link'])
def test_what_is_no_file(boot, has_links, make):
    make(boot.directory.join('a'))
    for call in (lambda: boot.directory.has('a'), lambda: boot.publish(['a'])):
        with pytest.raises(errors.StorageError) as caught:
            call()
        assert '/boot/guest/a is not a plain file' in str(caught.value)
    assert not boot.directory.has('b')


@pytest.mark.parametrize('path, name', [
    ('/boot/guest/a', 'a'), ('/boot/./guest//a', 'a'), ('/boot/guest/x/../a', 'a'), ('/boot/a', None), ('/boot/guest/x/a', None),
    ('/linked/a', 'a'), ('/boot/guest2/a', None), ('a', None)])
def test_paths_of_records(boot, path, name):
    os.symlink('boot/guest', boot.tree.locate('/linked'))
    os.mkdir(boot.tree.locate('/boot/guest2'))
    assert boot.directory.resolve(path) == name


def test_staging_directories(boot):
    with boot.directory.stage(0) as area:
        name = os.path.basename(area.path)
        assert boot.directory.is_staging(name)
        assert not boot.directory.is_staging('x') and not boot.directory.is_staging('../guest')
    assert not boot.directory.is_staging(name)
    os.mkdir(boot.directory.join('.dom0-plugins-dead'))
    assert boot.directory.sweep() == ['.dom0-plugins-dead'] and boot.read() == {}
