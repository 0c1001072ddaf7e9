# SPDX-License-Identifier: Apache-2.0
"""Console logs as files of a directory: they are found, cut, emptied and removed."""

from __future__ import absolute_import, division

import errno
import fcntl
import os
import stat

import pytest

from dom0_lib import errors
from dom0_lib.guests import console_files

LIMIT, KEPT = 1 << 20, 256 << 10
UNIT = 64 * 1024
BLOCK = 4096


@pytest.fixture
def logs(tmpdir, monkeypatch):
    """The directory, made."""
    monkeypatch.setenv('DOM0_ROOT', str(tmpdir))
    console_files.make_directory()
    return tmpdir.join('var', 'log', 'xen', 'guest')


def write(logs, dom_id, data):
    path = logs.join('console.%d' % dom_id)
    with open(str(path), 'wb') as target:
        target.write(data)
        target.flush()
        os.fsync(target.fileno())  # some file systems count blocks when they are written
    return path


def is_locked(logs):
    fd = os.open(str(logs), os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except EnvironmentError:
        return True
    finally:
        os.close(fd)


def test_the_directory_is_for_root_alone_and_made_once(tmpdir, monkeypatch):
    monkeypatch.setenv('DOM0_ROOT', str(tmpdir))
    directory = tmpdir.join('var', 'log', 'xen', 'guest')
    before = os.umask(0)
    try:
        console_files.make_directory()
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(str(directory)).st_mode) == 0o700
    directory.chmod(0o750)
    console_files.make_directory()
    assert stat.S_IMODE(os.stat(str(directory)).st_mode) == 0o750
    directory.remove()
    directory.write('a file')
    with pytest.raises(errors.PluginError, match='cannot make /var/log/xen/guest: '):
        console_files.make_directory()


def test_the_lock_is_for_the_block(logs):
    with console_files.locked():
        assert is_locked(logs)
        with pytest.raises(errors.RetryableError, match='another call has been at work on /var/log/xen/guest'):
            with console_files.locked():
                pass
    assert not is_locked(logs)
    logs.remove()
    for make in (lambda: None, lambda: logs.write('a file')):
        make()
        with pytest.raises(errors.PluginError, match='cannot lock /var/log/xen/guest: '):
            with console_files.locked():
                pass


def test_only_plain_files_of_a_domain_id_are_logs(logs):
    for name in ('console.1', 'console.99999', 'console.0'):
        logs.join(name).write('x')
    for name in ('console.', 'console.01', 'console.100000', 'console.x', 'console.1x', 'console.-1', 'console.1.gz', 'xonsole.1',
                 'hvc.3', u'console.\u0663'):
        logs.join(name).write('x')
    logs.mkdir('console.2')
    os.symlink(str(logs.join('console.1')), str(logs.join('console.3')))
    os.symlink('/nowhere', str(logs.join('console.4')))
    os.mkfifo(str(logs.join('console.5')))
    found = console_files.list_logs()
    assert sorted(found) == [0, 1, 99999]
    assert found[1].st_size == 1
    logs.remove()
    with pytest.raises(errors.PluginError, match='cannot list /var/log/xen/guest: '):
        console_files.list_logs()


@pytest.mark.parametrize('size_bytes, is_cut', [(KEPT, False), (LIMIT - BLOCK, False), (LIMIT, False), (LIMIT + 1, True), (3 * LIMIT, True)])
def test_a_log_is_cut_beyond_its_limit(logs, size_bytes, is_cut):
    data = os.urandom(size_bytes)
    path = write(logs, 7, data)
    assert console_files.cut(console_files.list_logs()) == ([7] if is_cut else [])
    after = path.read_binary()
    assert after[-KEPT:] == data[-KEPT:] and (after != data) == is_cut
    # A log that has just been cut is not cut again.
    assert console_files.cut(console_files.list_logs()) == []


def test_a_hole_counts_for_nothing(logs):
    path = write(logs, 7, b'')
    with open(str(path), 'r+b') as target:
        target.truncate(3 * LIMIT)
    assert console_files.cut(console_files.list_logs()) == []


@pytest.mark.parametrize('size_bytes, is_cut', [(KEPT + UNIT - 1, False), (KEPT + UNIT, True)])
def test_a_short_log_with_space_reserved_behind_it_is_not_cut(logs, size_bytes, is_cut):
    ctypes = pytest.importorskip('ctypes')
    path = write(logs, 7, b'x' * size_bytes)
    fallocate = ctypes.CDLL(None, use_errno=True).fallocate64
    fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    with open(str(path), 'r+b') as target:
        if fallocate(target.fileno(), 1, 0, 2 * LIMIT) != 0:
            assert ctypes.get_errno() == errno.EOPNOTSUPP
            pytest.skip('not applicable: this file system reserves no space')
        os.fsync(target.fileno())
    assert console_files.cut(console_files.list_logs()) == ([7] if is_cut else [])


def test_a_log_that_is_gone_or_was_replaced_is_not_cut_and_the_others_are(logs):
    for dom_id in (1, 2, 3, 4):
        write(logs, dom_id, b'x' * (2 * LIMIT))
    found = console_files.list_logs()
    logs.join('console.1').remove()
    logs.join('console.2').move(logs.join('elsewhere'))
    os.symlink('elsewhere', str(logs.join('console.2')))
    logs.join('console.3').remove()
    os.mkfifo(str(logs.join('console.3')))
    assert console_files.cut(found) == [4]
    assert logs.join('elsewhere').read_binary() == b'x' * (2 * LIMIT)


def test_the_log_of_a_living_domain_becomes_empty(logs):
    path = write(logs, 7, b'of the guest before')
    inode = path.stat().ino
    assert console_files.forget(7, is_alive=True) is True
    assert path.read_binary() == b'' and path.stat().ino == inode


def test_the_log_of_a_dead_domain_goes_and_no_other(logs):
    write(logs, 7, b'x')
    other = write(logs, 8, b'y')
    assert console_files.forget(7, is_alive=False) is True
    assert logs.listdir() == [other] and other.read_binary() == b'y'
    assert console_files.forget(7, is_alive=False) is True  # it is gone already


def test_what_cannot_be_forgotten_is_told(logs):
    logs.join('target').write('untouched')
    os.symlink('target', str(logs.join('console.1')))
    os.mkfifo(str(logs.join('console.2')))
    logs.mkdir('console.3')
    assert [console_files.forget(dom_id, is_alive=True) for dom_id in (1, 2, 3, 4)] == [False] * 4
    assert console_files.forget(3, is_alive=False) is False
    assert logs.join('target').read() == 'untouched'


def test_no_descriptor_stays_open(logs):
    write(logs, 1, b'x' * (2 * LIMIT))
    os.mkfifo(str(logs.join('console.2')))
    before = sorted(os.listdir('/proc/self/fd'))
    with console_files.locked():
        console_files.cut(console_files.list_logs())
        console_files.forget(1, is_alive=True)
        console_files.forget(2, is_alive=True)
    assert sorted(os.listdir('/proc/self/fd')) == before
