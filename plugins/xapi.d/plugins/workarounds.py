#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Copies of disks that hold still while they are copied."""

from __future__ import absolute_import, division

from dom0_lib import args
from dom0_lib.plugin import Arg, Call, dispatch

CALLS = {
    'safe_copy_vdis': Call(
        'dom0_lib.disk_copy:copy',
        Arg('sr_path', args.SR_PATH),
        Arg('sr_uuid', args.SR_UUID, into='sr_path'),
        Arg('vdi_uuids', args.UUID_LIST),
        Arg('uuid_stack', args.UUID_LIST),
        Arg('task', args.TASK, default=None),
    ),
}

if __name__ == '__main__':
    dispatch(CALLS)
