# SPDX-License-Identifier: Apache-2.0
"""A chain of VHDs, leaf first, in a staging area on its way into an SR.

    check     each file by itself (dom0_lib.disks.vhd_check), then how each fits its parent
    relink    <uuid>.vhd, each child's locators written anew: ./<uuid of its parent>.vhd
"""

from __future__ import absolute_import, division

from dom0_lib import errors
from dom0_lib import faults
from dom0_lib import log
from dom0_lib.disks import vhd
from dom0_lib.disks import vhd_check
from dom0_lib.disks import vhd_repair
from dom0_lib.disks import vhd_util
from dom0_lib.system import sparse_file

MAX_LENGTH = 16


def check(area, names):
    """Check the staged files of a chain, leaf first, by our own parser; no tool has seen them yet.

    What can be repaired without doubt is.  Raises errors.UnsafeImage that lists everything else that is wrong.
    """
    problems, chain = [], []
    for name in names:
        metadata, found = _check_file(area.join(name), name)
        problems.extend('%s: %s' % (name, text) for text in found)
        chain.append(metadata)
    problems.extend(find_misfits(names, chain))
    if problems:
        raise errors.UnsafeImage('; '.join(problems))


def _check_file(path, name):
    """(metadata or None, texts of what is wrong) of one staged file, after what can be repaired has been."""
    with sparse_file.StorageErrors('cannot read from the SR'), open(path, 'r+b') as fileobj:
        try:
            metadata = vhd.read_metadata(fileobj)
            problems = vhd_check.find_problems(fileobj, metadata)
            if problems and vhd_repair.can_repair(problems):
                vhd_repair.repair(fileobj, metadata)
                faults.point('chain.repaired')
                log.warning('repaired %s: %s', name, '; '.join(problem.text for problem in problems))
                metadata = vhd.read_metadata(fileobj)
                problems = vhd_check.find_problems(fileobj, metadata)
        except vhd.FormatError as error:
            return None, [str(error)]
    faults.point('chain.checked')
    return metadata, [problem.text for problem in problems]


def find_misfits(names, chain):
    """Yield what is wrong with how each of these VHDs, leaf first, fits the next: one text each."""
    for child, (name, metadata) in enumerate(zip(names, chain)):
        if metadata:
            parent = chain[child + 1] if child + 1 < len(chain) else None
            for text in _judge_child(metadata, parent, child == 0, names[child + 1:]):
                yield '%s: %s' % (name, text)


def _judge_child(metadata, parent, is_leaf, followers):
    if is_leaf and metadata.hidden:
        yield 'the leaf is marked hidden, so the SR would delete it'
    if metadata.disk_type == vhd.FIXED:
        yield 'a fixed disk, which breaks SR.scan; convert it to a dynamic one'
    elif not followers and metadata.disk_type != vhd.DYNAMIC:
        yield 'differencing, but its parent %s is not in the image' % metadata.parent_uuid
    elif followers and metadata.disk_type != vhd.DIFFERENCING:
        yield 'not differencing, but %s follow%s it' % (', '.join(followers), '' if followers[1:] else 's')
    elif parent:
        if metadata.parent_uuid != parent.uuid:
            yield 'made on parent %s, but the next file is %s' % (metadata.parent_uuid, parent.uuid)
        if metadata.virtual_size_bytes < parent.virtual_size_bytes:
            yield 'smaller than its parent: %d bytes on %d' % (metadata.virtual_size_bytes, parent.virtual_size_bytes)


def relink(area, names, uuids):
    """Name the staged files by their uuids, write every parent locator anew, show all, and check the result.

    Raises errors.UnsafeImage if vhd-util, or our own reading of what it wrote, disagrees.
    """
    files = ['%s.vhd' % uuid for uuid in uuids]
    for name, new_name in zip(names, files):
        area.rename(name, new_name)
    for child, parent in reversed(list(zip(files, files[1:]))):
        vhd_util.set_parent(area.join(child), area.join(parent))
        faults.point('chain.relinked')
    for name in files:
        vhd_util.set_hidden(area.join(name), False)
        faults.point('chain.shown')
        vhd_util.check(area.join(name), name)
    for child, parent in zip(files, files[1:] + [None]):
        _check_result(area.join(child), child, parent)
        sparse_file.sync(area.join(child))
    faults.point('chain.synced')


def _check_result(path, name, parent):
    """vhd-util may have moved metadata: a locator that it misses it puts behind the blocks."""
    with sparse_file.StorageErrors('cannot read from the SR'), open(path, 'rb') as fileobj:
        metadata = vhd.read_metadata(fileobj)
        problems = vhd_check.find_problems(fileobj, metadata)
    found = set(locator.path for locator in metadata.locators)
    expected = set(['./%s' % parent] if parent else [])
    if found != expected:
        raise errors.UnsafeImage('after relinking a VHD names %s as its parent instead of %s' % (
            sorted(map(str, found)) or 'nothing', parent or 'nothing'))
    if problems:
        raise errors.UnsafeImage('after relinking %s: %s' % (name, '; '.join(problem.text for problem in problems)))
