#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Copies of disks that hold still while they are copied."""

from __future__ import absolute_import, division

from dom0_lib.call import kinds
from dom0_lib.call.dispatch import Arg, Call, dispatch

CALLS = {
    'safe_copy_vdis': Call(
        'dom0_lib.storage.disk_copy:copy',
        Arg('sr_path', kinds.SR_PATH),
        Arg('sr_uuid', kinds.SR_UUID, alias_of='sr_path'),
        Arg('vdi_uuids', kinds.UUID_LIST),
        Arg('uuid_stack', kinds.UUID_LIST),
        Arg('task', kinds.TASK, default=None),
    ),
}

if __name__ == '__main__':
    dispatch(CALLS)
