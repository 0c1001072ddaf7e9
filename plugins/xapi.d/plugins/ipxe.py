#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Network settings of a guest, put into the iPXE ISO from which it boots."""

from __future__ import absolute_import, division

from dom0_lib.boot import boot_kinds
from dom0_lib.call import kinds
from dom0_lib.call.dispatch import Arg, Call, dispatch

CALLS = {
    'inject': Call(
        'dom0_lib.boot.boot_iso:inject',
        Arg('sr_path', kinds.SR_PATH),
        Arg('vdi_uuid', kinds.UUID),
        Arg('boot_menu_url', boot_kinds.BOOT_URL),
        Arg('ip_address', boot_kinds.IPV4),
        Arg('netmask', boot_kinds.NETMASK),
        Arg('gateway', boot_kinds.IPV4),
        Arg('dns', boot_kinds.IPV4),
        Arg('mkisofs_cmd', boot_kinds.ISO_MAKER, default='mkisofs'),
        Arg('sr_uuid', kinds.SR_UUID, alias_of='sr_path'),
        Arg('task', kinds.TASK, default=None),
    ),
}

if __name__ == '__main__':
    dispatch(CALLS)
