#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The disks of a guest that moves: to another host, and from where they arrive there into an SR."""

from __future__ import absolute_import, division

from dom0_lib import args
from dom0_lib import move_args
from dom0_lib.plugin import Arg, Call, dispatch

CALLS = {
    'transfer_vhd': Call(
        'dom0_lib.vm_move:transfer',
        Arg('instance_uuid', move_args.LABEL),
        Arg('host', move_args.HOST),
        Arg('vdi_uuid', args.UUID),
        Arg('sr_path', args.SR_PATH),
        Arg('sr_uuid', args.SR_UUID, into='sr_path'),
        Arg('seq_num', move_args.PLACE),
        Arg('task', args.TASK, default=None),
    ),
    'move_vhds_into_sr': Call(
        'dom0_lib.vm_move:receive',
        Arg('instance_uuid', move_args.LABEL),
        Arg('sr_path', args.SR_PATH),
        Arg('sr_uuid', args.SR_UUID, into='sr_path'),
        Arg('uuid_stack', args.UUID_LIST),
        Arg('task', args.TASK, default=None),
    ),
}

if __name__ == '__main__':
    dispatch(CALLS)
