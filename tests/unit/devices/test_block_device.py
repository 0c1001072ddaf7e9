# SPDX-License-Identifier: Apache-2.0
"""Files and other entries, opened as disks below a test's /dev."""

from __future__ import absolute_import, division

import fcntl
import os

import pytest

from dom0_lib import errors
from dom0_lib.devices import block_device

SIZE = 5000


@pytest.fixture
def devices(tmpdir, monkeypatch):
    """/dev."""
    monkeypatch.setenv('DOM0_ROOT', str(tmpdir))
    return tmpdir.mkdir('dev')


@pytest.fixture
def data(devices):
    """The content of the disk xvdb."""
    data = os.urandom(SIZE)
    devices.join('xvdb').write_binary(data)
    return data


def list_descriptors():
    return sorted(os.listdir('/proc/self/fd'))


def read(disk, offset, size_bytes):
    buffer = bytearray(size_bytes)
    disk.read_into(memoryview(buffer), offset)
    return bytes(buffer)


@pytest.mark.parametrize('is_exclusive', [False, True])
def test_a_disk_is_read_up_to_its_end(data, devices, is_exclusive):
    before = list_descriptors()
    with block_device.Disk('xvdb', is_exclusive) as disk:
        assert (disk.path, disk.size_bytes) == (str(devices.join('xvdb')), SIZE)
        assert os.fstat(disk.fd).st_size == SIZE and fcntl.fcntl(disk.fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
        assert read(disk, 0, SIZE) == data and read(disk, 17, 100) == data[17:117] and read(disk, SIZE - 1, 1) == data[-1:]
        assert read(disk, SIZE, 0) == b''
    assert list_descriptors() == before


@pytest.mark.parametrize('offset, size_bytes', [(SIZE, 1), (SIZE - 1, 2), (0, SIZE + 1), (SIZE + 1000, 1)])
def test_what_is_beyond_the_end_is_an_error(data, offset, size_bytes):
    with block_device.Disk('xvdb') as disk:
        with pytest.raises(errors.StorageError, match='xvdb ends at byte %d$' % max(offset, SIZE)):
            read(disk, offset, size_bytes)


def test_a_disk_is_written_only_if_it_was_opened_for_that(data):
    with block_device.Disk('xvdb') as disk:
        with pytest.raises(EnvironmentError):
            os.write(disk.fd, b'x')
    with block_device.Disk('xvdb', is_exclusive=True) as disk:
        assert os.write(disk.fd, b'x') == 1
        disk.sync()


def test_a_descriptor_that_cannot_be_written_or_read_is_an_error_of_the_disk(data):
    with block_device.Disk('xvdb') as disk:
        pipe, other = os.pipe()
        os.dup2(pipe, disk.fd)  # a device that fails
        with pytest.raises(errors.StorageError, match='cannot write disk xvdb: '):
            disk.sync()
        with pytest.raises(errors.StorageError, match='cannot read disk xvdb: '):
            read(disk, 0, 1)
        os.close(pipe)
        os.close(other)


@pytest.mark.parametrize('is_exclusive', [False, True])
def test_what_is_no_disk_is_refused_without_a_wait(devices, is_exclusive):
    os.mkfifo(str(devices.join('pipe')))
    os.symlink('/dev/null', str(devices.join('null')))
    before = list_descriptors()
    for name in ('pipe', 'null'):
        with pytest.raises(errors.StorageError, match='%s is not a disk$' % name):
            block_device.Disk(name, is_exclusive).__enter__()
    for name in ('gone', '.'):
        with pytest.raises(errors.StorageError, match='cannot open disk|is not a disk'):
            block_device.Disk(name, is_exclusive).__enter__()
    assert list_descriptors() == before


def test_in_a_real_dev_a_plain_file_is_no_disk(data, devices, monkeypatch):
    monkeypatch.delenv('DOM0_ROOT')
    with pytest.raises(errors.StorageError, match='is not a disk'):
        block_device.Disk(os.path.join('..', str(devices.join('xvdb')).lstrip('/'))).__enter__()


def test_a_terminal_does_not_become_the_one_of_this_process(devices):
    """Opened by the leader of a session that has none, it would become the controlling one, and its end would kill the call."""
    master, slave = os.openpty()
    os.symlink(os.ttyname(slave), str(devices.join('tty')))
    pid = os.fork()
    if not pid:
        try:
            os.setsid()
            with pytest.raises(errors.StorageError):
                block_device.Disk('tty').__enter__()
            try:
                os.close(os.open('/dev/tty', os.O_RDWR))
            except EnvironmentError:
                os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    os.close(master)
    os.close(slave)
