#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Partitions and file systems on disks that are plugged into dom0."""

from __future__ import absolute_import, division

from dom0_lib.call import kinds
from dom0_lib.call.dispatch import Arg, Call, dispatch
from dom0_lib.devices import device_kinds

CALLS = {
    'make_partition': Call(
        'dom0_lib.devices.partition:make_partition',
        Arg('dev', device_kinds.DEVICE),
        Arg('partition_start', device_kinds.SECTOR, into='start_sector'),
        Arg('partition_end', device_kinds.PARTITION_END, default='-'),
    ),
    'mkfs': Call(
        'dom0_lib.devices.partition:mkfs',
        Arg('dev', device_kinds.DEVICE),
        Arg('partnum', device_kinds.PARTITION_NUMBER),
        Arg('fs_type', device_kinds.FILE_SYSTEM),
        Arg('fs_label', device_kinds.OPTIONAL_LABEL, default=None),
        Arg('task', kinds.TASK, default=None),
    ),
    'wait_for_dev': Call(
        'dom0_lib.devices.partition:wait_for_dev',
        Arg('dev_path', device_kinds.DEVICE_PATH),
        Arg('max_seconds', device_kinds.WAIT_S, into='max_wait_s', default=10),
    ),
}

if __name__ == '__main__':
    dispatch(CALLS)
