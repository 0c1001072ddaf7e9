# SPDX-License-Identifier: Apache-2.0
"""Partitions and file systems on VDIs that are plugged into dom0."""

from __future__ import absolute_import, division

import os
import struct
import time

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib import log
from dom0_lib import text_checks
from dom0_lib.devices import block_device
from dom0_lib.devices import loop_device
from dom0_lib.devices import vbd
from dom0_lib.system import proc
from dom0_lib.toolstack import task_watch

_SECTOR_BYTES = 512
_LINUX = 0x83
# sfdisk since 2.26 keeps the kind of table that it finds, unless the script names one.  Older versions know only one kind and count
# in cylinders without -uS; 2.23 to 2.25 refuse a wrong number of cylinders without --force.
_SCRIPTED_SINCE = (2, 26)
_NEEDS_FORCE_SINCE = (2, 23)
# An old sfdisk ends partitions at the end of a cylinder, up to this many sectors before the end of the disk.
_CYLINDER_SECTORS = 255 * 63
_MAX_SECTORS = 1 << 32
# A DOS partition table; of an entry its type, its first sector and its number of sectors.
_TABLE_OFFSET, _SIGNATURE_OFFSET, _SIGNATURE = 446, 510, b'\x55\xaa'
_ENTRY = struct.Struct('<4x B 3x II')
_PARTITION_DEADLINE_S = 120
_FORMAT_DEADLINE_S = 2 * 3600
_MAX_SWAP_LABEL = 15
_PAUSE_S = 0.1


def make_partition(session_ref, dev, start_sector, partition_end):
    """Write a partition table with one Linux partition from a sector (of 512 bytes) to the end of the disk `dev`.

    Raises errors.StorageError, errors.CommandFailed, errors.CommandNotFound, and the errors of xapi.Errors.
    """
    vbd.require_plugged(session_ref, dev)
    with block_device.Disk(dev, is_exclusive=True) as disk:
        if start_sector >= disk.size_bytes // _SECTOR_BYTES:
            raise errors.ArgumentError('partition_start', 'the disk has only %d sectors (got %d)' % (
                disk.size_bytes // _SECTOR_BYTES, start_sector))
    # Close the disk first: sfdisk has the kernel read the new table, which fails while the disk is open exclusively.
    command, header = _sfdisk()
    script = '%s%d,,%x\n' % (header, start_sector, _LINUX)
    proc.run(command + [disk.path], _PARTITION_DEADLINE_S, input_data=script.encode('ascii'))
    with block_device.Disk(dev, is_exclusive=True) as disk:
        disk.sync()
        _check_partition(disk, start_sector)
    log.info('partitioned %s', dev)


def _sfdisk():
    """(command, first lines of its script) for this host's sfdisk."""
    version = _find_version(proc.run(['sfdisk', '--version'], _PARTITION_DEADLINE_S).output)
    if version >= _SCRIPTED_SINCE:
        return ['sfdisk', '-q'], 'label: dos\n'
    return ['sfdisk', '-q', '-uS'] + (['--force'] if version >= _NEEDS_FORCE_SINCE else []), ''


def _find_version(text):
    """(major, minor) in the last word that is a version: sfdisk from util-linux 2.23.2, sfdisk (util-linux 2.13-pre7)."""
    for word in reversed(text.split()):
        version = text_checks.parse_version(word.strip('()'))
        if version and len(version) > 1:
            return version[:2]
    raise errors.PluginError('sfdisk does not tell its version: %s' % text.strip()[:100])


def _check_partition(disk, start):
    """Raises errors.StorageError unless the first partition is right: sfdisk may succeed and still make another one."""
    found_start, sectors, kind = _read_partition(disk, 1)
    end = found_start + sectors
    disk_end = min(disk.size_bytes // _SECTOR_BYTES, _MAX_SECTORS)
    if found_start != start or kind != _LINUX or not disk_end - _CYLINDER_SECTORS <= end <= disk_end:
        raise errors.StorageError('sfdisk made a partition of type %x from sector %d to %d, not of type %x from %d to %d' % (
            kind, found_start, end, _LINUX, start, disk_end))


def _read_partition(disk, number):
    """(first sector, sectors, type) of a partition of the disk's DOS partition table.  Raises errors.StorageError."""
    table = bytearray(_SECTOR_BYTES)
    disk.read_into(memoryview(table), 0)
    kind, start, sectors = _ENTRY.unpack_from(bytes(table), _TABLE_OFFSET + (number - 1) * _ENTRY.size)
    if bytes(table[_SIGNATURE_OFFSET:]) != _SIGNATURE or not start or not sectors:
        raise errors.StorageError('the disk has no partition %d' % number)
    if (start + sectors) * _SECTOR_BYTES > disk.size_bytes:
        raise errors.StorageError('partition %d, from sector %d to %d, is not on the disk' % (number, start, start + sectors))
    return start, sectors, kind


def mkfs(session_ref, dev, partnum, fs_type, fs_label, task):
    """Make a file system, or swap space, in a partition of the disk `dev`.

    Raises errors.StorageError, errors.CommandFailed, errors.CommandNotFound, and the errors of xapi.Errors.
    """
    command = _format_command(fs_type, fs_label)
    vbd.require_plugged(session_ref, dev)
    with task_watch.Watch(session_ref, task) as watch, block_device.Disk(dev, is_exclusive=True) as disk:
        start, sectors, _ = _read_partition(disk, partnum)
        with loop_device.Loop(disk.fd, start * _SECTOR_BYTES, sectors * _SECTOR_BYTES) as path:
            proc.run(command + [path], _FORMAT_DEADLINE_S, check=watch.check)
        disk.sync()
    log.info('made %s in partition %s of %s', fs_type, partnum, dev)


def _format_command(fs_type, label):
    if fs_type == 'swap' and len(label or '') > _MAX_SWAP_LABEL:
        raise errors.ArgumentError('fs_label', 'needs at most %d characters for swap' % _MAX_SWAP_LABEL)
    options = ['-L', label] if label else []
    return (['mkswap'] if fs_type == 'swap' else ['mkfs.ext3', '-q', '-F']) + options


def wait_for_dev(session_ref, dev_path, max_wait_s):
    """Wait until the device exists.  Returns `dev_path`, or '' if there is still no device after `max_wait_s` seconds."""
    ends_at = compat.monotonic_s() + max_wait_s
    path = block_device.locate(dev_path.partition('/dev/')[2])
    while not os.path.exists(path):
        if compat.monotonic_s() >= ends_at:
            return u''
        time.sleep(_PAUSE_S)
    return dev_path
