#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The disks of a guest that moves: sent to another host, and taken from /images there into an SR."""

from __future__ import absolute_import, division

from dom0_lib.call import kinds
from dom0_lib.call.dispatch import Arg, Call, dispatch
from dom0_lib.migration import migration_kinds

CALLS = {
    'transfer_vhd': Call(
        'dom0_lib.migration.vm_move:transfer',
        Arg('instance_uuid', migration_kinds.LABEL),
        Arg('host', migration_kinds.HOST),
        Arg('vdi_uuid', kinds.UUID),
        Arg('sr_path', kinds.SR_PATH),
        Arg('sr_uuid', kinds.SR_UUID, alias_of='sr_path'),
        Arg('seq_num', migration_kinds.PLACE),
        Arg('task', kinds.TASK, default=None),
    ),
    'move_vhds_into_sr': Call(
        'dom0_lib.migration.vm_move:receive',
        Arg('instance_uuid', migration_kinds.LABEL),
        Arg('sr_path', kinds.SR_PATH),
        Arg('sr_uuid', kinds.SR_UUID, alias_of='sr_path'),
        Arg('uuid_stack', kinds.UUID_LIST),
        Arg('task', kinds.TASK, default=None),
    ),
}

if __name__ == '__main__':
    dispatch(CALLS)
