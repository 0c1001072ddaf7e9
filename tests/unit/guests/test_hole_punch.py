# SPDX-License-Identifier: Apache-2.0
"""The space of a file's beginning is given back, with a hole and by copying, on this machine's file system."""

from __future__ import absolute_import, division

import errno
import os
import sys

import pytest

from dom0_lib.guests import hole_punch

UNIT = 64 * 1024
KEPT = 100


@pytest.fixture(params=['hole', 'no hole'])
def has_hole(request, monkeypatch):
    if request.param == 'no hole':
        monkeypatch.setitem(sys.modules, 'ctypes', None)  # as in an interpreter without ctypes
    return request.param == 'hole'


def give_back(path, size_bytes):
    """Give back all but the end of a new file.  Returns (content before, content after, bytes on the disk after)."""
    data = os.urandom(size_bytes)
    path.write_binary(data)
    fd = os.open(str(path), os.O_RDWR)
    try:
        hole_punch.give_back(fd, KEPT)
        os.fsync(fd)
        return data, path.read_binary(), os.fstat(fd).st_blocks * 512
    finally:
        os.close(fd)


@pytest.mark.parametrize('more_bytes, units', [(-1, 0), (0, 1), (1, 1), (UNIT - 1, 1), (UNIT, 2), (5 * UNIT + 7, 6)])
def test_whole_units_go_and_the_end_stays(tmpdir, has_hole, more_bytes, units):
    before, after, disk_bytes = give_back(tmpdir.join('log'), UNIT + KEPT + more_bytes)
    gone = units * UNIT
    assert after == (b'\0' * gone if has_hole else b'') + before[gone:]
    assert disk_bytes <= len(before) - gone + 4096


def test_a_file_that_is_all_to_be_kept(tmpdir, has_hole):
    for size_bytes in (0, 1, KEPT - 1, KEPT, KEPT + 1):
        before, after, _ = give_back(tmpdir.join('log'), size_bytes)
        assert after == before


def test_a_file_open_for_reading_alone_is_an_error_and_unchanged(tmpdir, has_hole):
    data = os.urandom(3 * UNIT)
    tmpdir.join('log').write_binary(data)
    fd = os.open(str(tmpdir.join('log')), os.O_RDONLY)
    try:
        with pytest.raises(EnvironmentError) as caught:
            hole_punch.give_back(fd, KEPT)
        assert caught.value.errno == errno.EBADF
    finally:
        os.close(fd)
    assert tmpdir.join('log').read_binary() == data


@pytest.mark.parametrize('end_bytes', [(64 << 20) - 1, 64 << 20, (64 << 20) + 1])
def test_copying_ends_where_a_writer_is_faster(tmpdir, monkeypatch, end_bytes):
    monkeypatch.setitem(sys.modules, 'ctypes', None)
    path = tmpdir.join('log')
    with open(str(path), 'w+b') as log:
        log.truncate(UNIT + end_bytes)
        hole_punch.give_back(log.fileno(), end_bytes)
    assert path.size() == min(end_bytes, 64 << 20)


def test_a_file_of_more_than_four_gigabytes(tmpdir):
    path = tmpdir.join('log')
    with open(str(path), 'w+b') as log:
        for offset in (0, 1 << 32, 5 << 30):
            log.seek(offset)
            log.write(b'x' * UNIT)
        log.truncate((5 << 30) + UNIT + KEPT)
        hole_punch.give_back(log.fileno(), KEPT)
        os.fsync(log.fileno())
        assert os.fstat(log.fileno()).st_blocks * 512 <= 4096
