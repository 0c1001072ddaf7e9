# SPDX-License-Identifier: Apache-2.0
"""Chains of VHDs, leaf first: the rules for all of them, wherever they come from or go to, and the names in those written here.

    check     each disk fits the next, its parent
    seal      <uuid>.vhd, base first: fresh uuids in the footers, each child names ./<uuid of its parent>.vhd
"""

from __future__ import absolute_import, division

import os

from dom0_lib import faults
from dom0_lib.disks import vhd
from dom0_lib.formats import canonical_vhd
from dom0_lib.formats import refusal
from dom0_lib.storage import vhd_util

# The storage manager's own limit.
MAX_LENGTH = 30
_RAW_PARENT = vhd.format_uuid(vhd.NULL_UUID)


def check(disks):
    """Raises errors.UnsafeImage that lists the misfits of these new_disk.NewDisk, leaf first."""
    problems = list(find_misfits([disk.name for disk in disks], [disk.image for disk in disks]))
    if problems:
        # Where the base alone is missing it can still come.
        is_incomplete = len(problems) == 1 and disks[-1].image.is_child
        raise refusal.unsafe('incomplete_chain' if is_incomplete else 'chain', '; '.join(problems))
    faults.point('chain.checked')


def find_misfits(names, chain):
    """Yield a text for each rule that these VHDs, leaf first, break.

    chain: objects with is_child, size_bytes, uuid and parent_uuid
    """
    if len(chain) > MAX_LENGTH:
        yield 'a chain of %d disks, an SR takes %d' % (len(chain), MAX_LENGTH)
    for child, (name, image) in enumerate(zip(names, chain)):
        parent = chain[child + 1] if child + 1 < len(chain) else None
        for text in _judge_child(image, parent, names[child + 1:]):
            yield '%s: %s' % (name, text)


def _judge_child(image, parent, followers):
    if canonical_vhd.canonical_size(image.size_bytes) > canonical_vhd.MAX_SIZE_BYTES:
        yield 'the disk size of %d bytes is beyond the limit of %d' % (image.size_bytes, canonical_vhd.MAX_SIZE_BYTES)
    if not followers and image.is_child:
        yield 'differencing, but its parent %s is not in the image' % image.parent_uuid
    elif followers and not image.is_child:
        yield 'not differencing, but %s follow%s it' % (', '.join(followers), '' if followers[1:] else 's')
    elif parent:
        if image.parent_uuid == _RAW_PARENT:
            yield 'made on a raw parent, which a chain of VHDs cannot have'
        elif image.parent_uuid != parent.uuid:
            yield 'made on parent %s, but the next file is %s' % (image.parent_uuid, parent.uuid)
        if image.size_bytes < parent.size_bytes:
            yield 'smaller than its parent: %d bytes on %d' % (image.size_bytes, parent.size_bytes)


def seal(area, disks, uuids):
    """Make VHDs named by `uuids` of complete new_disk.NewDisk, leaf first; vhd-util has the last word on each.

    All of them are shown: parents are hidden when their children are in the SR.
    Raises errors.UnsafeImage if vhd-util refuses one, errors.StorageError, errors.CommandNotFound.
    """
    parent = None
    for disk, uuid in reversed(list(zip(disks, uuids))):
        file_name, footer_uuid = u'%s.vhd' % uuid, _make_uuid()
        area.rename(disk.name, file_name)
        disk.seal(footer_uuid, parent)
        faults.point('chain.sealed')
        vhd_util.check(area.join(file_name), file_name)
        parent = canonical_vhd.Parent(footer_uuid, file_name)
    faults.point('chain.synced')


def _make_uuid():
    """A random uuid: that of a foreign footer could be one by which another disk names its parent."""
    raw = bytearray(os.urandom(16))
    raw[6] = raw[6] & 0x0f | 0x40
    raw[8] = raw[8] & 0x3f | 0x80
    return vhd.format_uuid(bytes(raw))
