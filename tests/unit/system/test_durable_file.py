# SPDX-License-Identifier: Apache-2.0
"""Files replaced as a whole: what is there at any moment, whatever was there before."""

from __future__ import absolute_import, division

import contextlib
import errno
import fcntl
import os
import socket
import stat

import pytest

from dom0_lib.system import durable_file


def read(path):
    with open(path, 'rb') as source:
        return source.read()


def get_mode(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


@pytest.fixture
def path(tmpdir):
    return str(tmpdir.join('crontab'))


def test_a_new_file_and_another_in_its_place(path):
    before = os.umask(0o077)
    try:
        durable_file.replace(path, b'old')
        assert get_mode(path) == 0o644
        durable_file.replace(path, b'new', 0o600)
    finally:
        os.umask(before)
    assert (read(path), get_mode(path)) == (b'new', 0o600)
    assert os.listdir(os.path.dirname(path)) == ['crontab']


def test_what_a_killed_call_left(path, tmpdir):
    tmpdir.join('.crontab.new').write_binary(b'half a li')
    os.chmod(str(tmpdir.join('.crontab.new')), 0o400)
    durable_file.replace(path, b'new')
    assert read(path) == b'new' and os.listdir(str(tmpdir)) == ['crontab']


def test_a_link_is_replaced(path, tmpdir):
    target = tmpdir.join('target')
    target.write_binary(b'untouched')
    os.symlink(str(target), path)
    durable_file.replace(path, b'new')
    assert not os.path.islink(path) and read(path) == b'new' and target.read_binary() == b'untouched'
    os.unlink(path)
    os.symlink(str(target), path)
    assert durable_file.remove(path) and target.check() and not os.path.lexists(path)
    assert not durable_file.remove(path)


def test_it_is_the_old_one_until_the_new_one_is_complete(path, monkeypatch):
    durable_file.replace(path, b'old')

    def fail(fd):
        raise EnvironmentError(errno.ENOSPC, 'full')
    monkeypatch.setattr(durable_file.os, 'fsync', fail)
    with pytest.raises(EnvironmentError):
        durable_file.replace(path, b'new')
    assert read(path) == b'old'


def test_a_directory_of_a_file_system_that_cannot_sync_one():
    """As /proc, and CIFS of old kernels; for a file that is an error."""
    durable_file.sync('/proc')
    with pytest.raises(EnvironmentError):
        durable_file.sync('/proc/self/status')


def test_directories_are_made(tmpdir):
    path = tmpdir.join('one', 'two', 'three')
    for _ in range(2):
        durable_file.make_directory(str(path), 0o700)
    assert [get_mode(str(name)) for name in (path, path.join('..'), path.join('..', '..'))] == [0o700, 0o755, 0o755]


@pytest.mark.parametrize('make', [lambda path: path.write(b''), lambda path: os.symlink('nowhere', str(path))], ids=['file', 'link'])
def test_what_is_in_the_way_of_a_directory(tmpdir, make):
    make(tmpdir.join('x'))
    with pytest.raises(EnvironmentError) as caught:
        durable_file.make_directory(str(tmpdir.join('x')))
    assert caught.value.errno == errno.EEXIST
    with pytest.raises(EnvironmentError):
        durable_file.make_directory(str(tmpdir.join('x', 'y')))


def test_another_call_makes_the_same_directory(tmpdir, monkeypatch):
    real_mkdir = os.mkdir

    def make_first(path, mode):
        real_mkdir(path, mode)
        return real_mkdir(path, mode)
    monkeypatch.setattr(os, 'mkdir', make_first)
    durable_file.make_directory(str(tmpdir.join('one', 'two')))
    assert tmpdir.join('one', 'two').check(dir=True)


def test_a_check_that_fails_leaves_the_old_file(path):
    durable_file.replace(path, b'old')

    def fail():
        assert read(path) == b'old'
        raise ValueError
    with pytest.raises(ValueError):
        durable_file.replace(path, b'new', check=fail)
    assert read(path) == b'old' and os.listdir(os.path.dirname(path)) == ['crontab']


def test_it_is_written_to_its_end(path, monkeypatch):
    real_write = os.write
    monkeypatch.setattr(os, 'write', lambda fd, data: real_write(fd, data[:3]))
    durable_file.replace(path, b'ten bytes!')
    assert read(path) == b'ten bytes!'


def test_a_link_to_nothing_is_removed(path):
    os.symlink('nowhere', path)
    assert durable_file.remove(path) and not os.path.lexists(path)


def test_a_link_that_somebody_puts_in_the_way_is_not_followed(path, tmpdir, monkeypatch):
    tmpdir.join('target').write_binary(b'untouched')
    real_open = os.open

    def link_and_open(name, *options):
        monkeypatch.undo()
        os.symlink('target', name)
        return real_open(name, *options)
    monkeypatch.setattr(os, 'open', link_and_open)
    with pytest.raises(EnvironmentError):
        durable_file.replace(path, b'new')
    assert tmpdir.join('target').read_binary() == b'untouched'


def test_a_disk_that_fails_is_an_error(tmpdir, monkeypatch):
    def fail(fd):
        raise EnvironmentError(errno.EIO, 'broken')
    monkeypatch.setattr(durable_file.os, 'fsync', fail)
    with pytest.raises(EnvironmentError):
        durable_file.sync(str(tmpdir))


def test_reading(path, tmpdir):
    assert durable_file.read(path) is None
    tmpdir.join('crontab').write_binary(b'ten bytes!')
    assert (durable_file.read(path), durable_file.read(path, 3)) == (b'ten bytes!', b'ten')
    with pytest.raises(EnvironmentError):
        durable_file.read(str(tmpdir))


def test_a_regular_file_is_opened(path, tmpdir):
    tmpdir.join('crontab').write_binary(b'ten bytes!')
    fd = durable_file.open_regular(path, os.O_RDWR)
    try:
        assert os.read(fd, 3) == b'ten' and os.write(fd, b'x') == 1
        assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    finally:
        os.close(fd)


def make_socket(path):
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(path)


@pytest.mark.parametrize('flags', [os.O_RDONLY, os.O_WRONLY, os.O_RDWR])
@pytest.mark.parametrize('make', [os.mkfifo, os.mkdir, make_socket, lambda path: os.symlink('/etc/passwd', path),
                                  lambda path: os.symlink(path, path)], ids=['pipe', 'directory', 'socket', 'link', 'loop'])
def test_nothing_else_is_opened_or_waited_for(path, make, flags):
    make(path)
    before = os.listdir('/proc/self/fd')
    assert durable_file.open_regular(path, flags) is None
    assert os.listdir('/proc/self/fd') == before


def test_a_file_that_is_not_there_is_an_error(path):
    with pytest.raises(EnvironmentError) as caught:
        durable_file.open_regular(path)
    assert caught.value.errno == errno.ENOENT
