# SPDX-License-Identifier: Apache-2.0
"""Partition tables as bytes: entries that are read, and results of sfdisk that count as a success."""

from __future__ import absolute_import, division

import os
import struct

import pytest

from dom0_lib import errors
from dom0_lib.devices import block_device
from dom0_lib.devices import partition

SECTOR = 512
# More than a cylinder of an old sfdisk.
DISK_SECTORS = 40000
CYLINDER = 255 * 63
START = 2048
LINUX = 0x83


@pytest.fixture
def devices(tmpdir, monkeypatch):
    monkeypatch.setenv('DOM0_ROOT', str(tmpdir))
    return tmpdir.mkdir('dev')


def write_table(devices, *entries, **options):
    """entries: (type, first sector, sectors); options: signature, sectors of the disk"""
    table = bytearray(SECTOR)
    for number, (kind, start, sectors) in enumerate(entries):
        struct.pack_into('<4xB3xII', table, 446 + 16 * number, kind, start, sectors)
    table[510:] = options.get('signature', b'\x55\xaa')
    with open(str(devices.join('xvdb')), 'wb') as disk:
        disk.write(table)
        disk.truncate(options.get('disk_sectors', DISK_SECTORS) * SECTOR)


def read_partition(number):
    with block_device.Disk('xvdb') as disk:
        return partition._read_partition(disk, number)


def check(start=START):
    with block_device.Disk('xvdb') as disk:
        partition._check_partition(disk, start)


def test_each_entry_is_read(devices):
    write_table(devices, (0x83, 1, 10), (0x82, 11, 5), (0x07, 16, 1), (0xff, DISK_SECTORS - 1, 1))
    assert [read_partition(number) for number in (1, 2, 3, 4)] == [(1, 10, 0x83), (11, 5, 0x82), (16, 1, 0x07), (DISK_SECTORS - 1, 1, 0xff)]


@pytest.mark.parametrize('entry', [(LINUX, 0, 10), (LINUX, 10, 0), (0, 0, 0)])
def test_an_empty_entry_is_no_partition(devices, entry):
    write_table(devices, (LINUX, 1, 1), entry)
    with pytest.raises(errors.StorageError, match='the disk has no partition 2$'):
        read_partition(2)


@pytest.mark.parametrize('signature', [b'\0\0', b'\x55\0', b'\xaa\x55'])
def test_without_a_signature_there_is_none(devices, signature):
    write_table(devices, (LINUX, 1, 1), signature=signature)
    with pytest.raises(errors.StorageError, match='the disk has no partition 1$'):
        read_partition(1)


def test_a_partition_ends_on_the_disk(devices):
    write_table(devices, (LINUX, START, DISK_SECTORS - START), (LINUX, START, DISK_SECTORS - START + 1))
    assert read_partition(1) == (START, DISK_SECTORS - START, LINUX)
    with pytest.raises(errors.StorageError, match='partition 2, from sector 2048 to 40001, is not on the disk$'):
        read_partition(2)


def test_a_disk_of_less_than_a_sector(devices):
    devices.join('xvdb').write_binary(b'x' * (SECTOR - 1))
    with pytest.raises(errors.StorageError, match='xvdb ends at byte 511$'):
        read_partition(1)


@pytest.mark.parametrize('kind, start, end, is_right', [
    (LINUX, START, DISK_SECTORS, True),
    (LINUX, START, DISK_SECTORS - CYLINDER, True),
    (LINUX, START, DISK_SECTORS - CYLINDER - 1, False),
    (LINUX, START - 1, DISK_SECTORS, False),
    (LINUX, START + 1, DISK_SECTORS, False),
    (LINUX - 1, START, DISK_SECTORS, False),
    (0xee, START, DISK_SECTORS, False),
])
def test_what_counts_as_made(devices, kind, start, end, is_right):
    write_table(devices, (kind, start, end - start))
    if is_right:
        check()
    else:
        with pytest.raises(errors.StorageError, match='sfdisk made a partition of type %x from sector %d to %d, not of type 83 from '
                                                      '2048 to 40000$' % (kind, start, end)):
            check()


@pytest.mark.parametrize('end, is_right', [((1 << 32), True), ((1 << 32) - CYLINDER, True), ((1 << 32) - CYLINDER - 1, False)])
def test_a_disk_of_more_sectors_than_a_table_can_count(devices, end, is_right):
    try:
        write_table(devices, (LINUX, START, end - START), disk_sectors=(1 << 32) + 5 * CYLINDER)
    except EnvironmentError:
        pytest.skip('not applicable: this file system has no files of 2 TiB')
    if is_right:
        check()
    else:
        with pytest.raises(errors.StorageError, match='not of type 83 from 2048 to 4294967296$'):
            check()


@pytest.mark.parametrize('text, version', [
    ('sfdisk from util-linux 2.23.2', (2, 23)), ('sfdisk from util-linux 2.38.1\n', (2, 38)), ('sfdisk (util-linux 2.13-pre7)', (2, 13)),
    ('sfdisk 9.9 from util-linux 2.26', (2, 26)), ('util-linux 2.x 2.30', (2, 30)), ('util-linux 2.30 x.30 2 .30', (2, 30))])
def test_the_version_of_sfdisk(text, version):
    assert partition._find_version(text) == version


@pytest.mark.parametrize('text', ['', 'sfdisk', 'sfdisk 2', 'sfdisk two.three', 'sfdisk 2.'])
def test_an_sfdisk_without_a_version(text):
    with pytest.raises(errors.PluginError, match='sfdisk does not tell its version: %s$' % text):
        partition._find_version(text)


@pytest.mark.parametrize('version, command, header', [
    ('2.26', ['sfdisk', '-q'], 'label: dos\n'), ('2.25.9', ['sfdisk', '-q', '-uS', '--force'], ''),
    ('2.23', ['sfdisk', '-q', '-uS', '--force'], ''), ('2.22', ['sfdisk', '-q', '-uS'], ''), ('3.1', ['sfdisk', '-q'], 'label: dos\n')])
def test_what_each_sfdisk_is_told(tmpdir, monkeypatch, version, command, header):
    program = tmpdir.join('sfdisk')
    program.write('#!/bin/sh\necho sfdisk from util-linux %s\n' % version)
    program.chmod(0o755)
    monkeypatch.setenv('PATH', '%s:%s' % (tmpdir, os.environ['PATH']))
    assert partition._sfdisk() == (command, header)


@pytest.mark.parametrize('fs_type, label, command', [
    ('ext3', None, ['mkfs.ext3', '-q', '-F']), ('ext3', 'x' * 16, ['mkfs.ext3', '-q', '-F', '-L', 'x' * 16]),
    ('swap', None, ['mkswap']), ('swap', 'x' * 15, ['mkswap', '-L', 'x' * 15])])
def test_the_program_that_formats(fs_type, label, command):
    assert partition._format_command(fs_type, label) == command


def test_a_label_that_swap_cannot_have_is_refused_before_anything_else():
    with pytest.raises(errors.ArgumentError, match='fs_label'):
        partition.mkfs('no session', 'xvdb', 1, 'swap', 'x' * 16, None)


def test_waiting_for_a_device(devices):
    assert partition.wait_for_dev(None, '/dev/xvdb', 0) == u''
    devices.join('xvdb').write('')
    assert partition.wait_for_dev(None, '/dev/xvdb', 0) == '/dev/xvdb'
    assert partition.wait_for_dev(None, '/dev/xvdb1', 0) == u''
