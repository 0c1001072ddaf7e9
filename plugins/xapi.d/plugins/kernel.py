#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Kernels and ramdisks of paravirtual guests, copied from a VDI or from the cache into /boot/guest."""

from __future__ import absolute_import, division

from dom0_lib.boot import boot_kinds
from dom0_lib.call import kinds
from dom0_lib.call.dispatch import Arg, Call, dispatch

CALLS = {
    'copy_vdi': Call(
        'dom0_lib.boot.guest_kernel:copy_vdi',
        Arg('vdi-ref', boot_kinds.VDI_REF),
        Arg('image-size', boot_kinds.BYTE_COUNT, into='size_bytes'),
        Arg('cached-image', boot_kinds.OPTIONAL_IMAGE_ID, default=None),
        Arg('task', kinds.TASK, default=None),
        replies_text=True,
    ),
    'create_kernel_ramdisk': Call(
        'dom0_lib.boot.guest_kernel:create',
        Arg('cached-image', kinds.IMAGE_ID),
        Arg('new-image-uuid', kinds.UUID),
        replies_text=True,
    ),
    'remove_kernel_ramdisk': Call(
        'dom0_lib.boot.guest_kernel:remove',
        Arg('kernel-file', boot_kinds.OPTIONAL_BOOT_FILE, default=None),
        Arg('ramdisk-file', boot_kinds.OPTIONAL_BOOT_FILE, default=None),
        replies_text=True,
    ),
    'sweep': Call(
        'dom0_lib.boot.guest_kernel:sweep',
        Arg('remove', kinds.TRUTH, default=False),
        Arg('grace', boot_kinds.AGE_S, into='grace_s', default=24 * 3600),
        Arg('keep', boot_kinds.NAMES, default=[]),
        acts_on_host=True,
    ),
}

if __name__ == '__main__':
    dispatch(CALLS)
