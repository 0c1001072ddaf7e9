#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A guest's network settings into the iPXE ISO that it boots from."""

from __future__ import absolute_import, division

from dom0_lib import args
from dom0_lib import boot_args
from dom0_lib.plugin import Arg, Call, dispatch

CALLS = {
    'inject': Call(
        'dom0_lib.boot_iso:inject',
        Arg('sr_path', args.SR_PATH),
        Arg('vdi_uuid', args.UUID),
        Arg('boot_menu_url', boot_args.BOOT_URL),
        Arg('ip_address', boot_args.IPV4),
        Arg('netmask', boot_args.NETMASK),
        Arg('gateway', boot_args.IPV4),
        Arg('dns', boot_args.IPV4),
        Arg('mkisofs_cmd', boot_args.ISO_MAKER, default='mkisofs'),
        Arg('sr_uuid', args.SR_UUID, into='sr_path'),
        Arg('task', args.TASK, default=None),
    ),
}

if __name__ == '__main__':
    dispatch(CALLS)
