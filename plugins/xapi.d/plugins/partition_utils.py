#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Partitions and file systems on disks that are plugged into dom0."""

from __future__ import absolute_import, division

from dom0_lib import args
from dom0_lib import boot_args
from dom0_lib.plugin import Arg, Call, dispatch

CALLS = {
    'make_partition': Call(
        'dom0_lib.disk_format:make_partition',
        Arg('dev', boot_args.DEVICE),
        Arg('partition_start', boot_args.SECTOR),
        Arg('partition_end', boot_args.PARTITION_END, default='-'),
    ),
    'mkfs': Call(
        'dom0_lib.disk_format:mkfs',
        Arg('dev', boot_args.DEVICE),
        Arg('partnum', boot_args.PARTITION_NUMBER),
        Arg('fs_type', boot_args.FILE_SYSTEM),
        Arg('fs_label', boot_args.OPTIONAL_LABEL, default=None),
        Arg('task', args.TASK, default=None),
    ),
    'wait_for_dev': Call(
        'dom0_lib.disk_format:wait_for_dev',
        Arg('dev_path', boot_args.DEVICE_PATH),
        Arg('max_seconds', boot_args.WAIT_S, default=10),
    ),
}

if __name__ == '__main__':
    dispatch(CALLS)
