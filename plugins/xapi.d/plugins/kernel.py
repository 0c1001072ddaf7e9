#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Kernels and ramdisks of paravirtual guests: from a VDI, or from the cache, into /boot/guest."""

from __future__ import absolute_import, division

from dom0_lib import args
from dom0_lib import boot_args
from dom0_lib.plugin import Arg, Call, HostCall, dispatch

CALLS = {
    'copy_vdi': Call(
        'dom0_lib.guest_kernel:copy_vdi',
        Arg('vdi-ref', boot_args.VDI_REF),
        Arg('image-size', boot_args.BYTE_COUNT),
        Arg('cached-image', boot_args.OPTIONAL_IMAGE_ID, default=None),
        Arg('task', args.TASK, default=None),
        replies_text=True,
    ),
    'create_kernel_ramdisk': Call(
        'dom0_lib.guest_kernel:create',
        Arg('cached-image', args.IMAGE_ID),
        Arg('new-image-uuid', args.UUID),
        replies_text=True,
    ),
    'remove_kernel_ramdisk': Call(
        'dom0_lib.guest_kernel:remove',
        Arg('kernel-file', boot_args.OPTIONAL_BOOT_FILE, default=None),
        Arg('ramdisk-file', boot_args.OPTIONAL_BOOT_FILE, default=None),
        replies_text=True,
    ),
    'sweep': HostCall(
        'dom0_lib.guest_kernel:sweep',
        Arg('remove', args.TRUTH, default=False),
        Arg('grace', boot_args.AGE_S, default=24 * 3600),
        Arg('keep', boot_args.NAMES, default=[]),
    ),
}

if __name__ == '__main__':
    dispatch(CALLS)
