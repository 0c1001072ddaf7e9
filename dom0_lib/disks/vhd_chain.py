# SPDX-License-Identifier: Apache-2.0
"""A chain of VHDs, leaf first: in a staging area on its way into an SR, or in an SR while it is read.

    arrange   names in the archive -> order: 0.vhd is the leaf, the highest number the base
    check     each file by itself (dom0_lib.disks.vhd_check), then how each fits its parent
    relink    <uuid>.vhd, each child's locators written anew: ./<uuid of its parent>.vhd
    hold      VDIs of an SR -> links in a staging area, while hold_still() keeps the garbage collection out
"""

from __future__ import absolute_import, division

import os

from dom0_lib import errors
from dom0_lib import faults
from dom0_lib import log
from dom0_lib import paths
from dom0_lib.disks import vhd
from dom0_lib.disks import vhd_check
from dom0_lib.disks import vhd_repair
from dom0_lib.disks import vhd_util
from dom0_lib.storage import sr_lock
from dom0_lib.system import proc
from dom0_lib.system import sparse_file

MAX_LENGTH = 16
# Images made before sequences were numbered, leaf first.
_OLD_NAMES = ('snap.vhd', 'image.vhd', 'base.vhd')
_STOP_DEADLINE_S = 90
# XenServer 9's place, then that of 8 and before.
_CLEANUP = ('/usr/libexec/sm/cleanup', '/opt/xensource/sm/cleanup.py')


def arrange(names):
    """The file names of an image in order, leaf first.  Raises errors.InvalidImage for a gap or a mixture."""
    if not names:
        raise errors.InvalidImage('the image has no VHD')
    if len(names) == 1 or set(names).issubset(_OLD_NAMES):
        return sorted(names, key=lambda name: _OLD_NAMES.index(name) if name in _OLD_NAMES else 0)
    expected = ['%d.vhd' % number for number in range(len(names))]
    if set(names) != set(expected):
        raise errors.InvalidImage('the image should have %s, it has %s' % (', '.join(expected), ', '.join(sorted(names))))
    return expected


def take_uuids(uuid_stack, names):
    """The uuid of each file: callers' stacks are consumed from the end, the leaf first."""
    if len(uuid_stack) < len(names):
        raise errors.ArgumentError('uuid_stack', 'has %d uuids, the image has %d VHDs' % (len(uuid_stack), len(names)))
    return [uuid_stack[-1 - number] for number in range(len(names))]


def check(area, names):
    """Check the staged files of a chain, leaf first, by our own parser; no tool has seen them yet.

    What can be repaired without doubt is.  Raises errors.UnsafeImage that lists everything else that is wrong.
    """
    problems, chain = [], []
    for name in names:
        metadata, found = _check_file(area.join(name), name)
        problems.extend('%s: %s' % (name, text) for text in found)
        chain.append(metadata)
    problems.extend(_find_chain_misfits(names, chain))
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


def hold_still(repository, wait_s, check):
    """A sr_lock.Stillness of the SR: within it chains are resolved and read.  check() is called while it waits and works."""
    return sr_lock.Stillness(repository.uuid, wait_s, lambda: _stop_collection(repository.uuid), check)


def _stop_collection(sr_uuid):
    """Ask the storage manager to stop its garbage collection of an SR; it repairs what it was coalescing."""
    for command in _CLEANUP:
        if os.path.exists(paths.locate(command)):
            proc.run([paths.locate(command), '-a', '-u', sr_uuid], _STOP_DEADLINE_S, ok_statuses=None)
            return


class HeldChain(object):
    """The VHDs of some VDIs, leaf first, linked into an area under `names` (0.vhd and so on); `sizes` are in bytes.

    Links protect names, not contents, and SM's locks are of one host.  So who has read everything asks check_unchanged().
    """

    def __init__(self, area, uuids, names):
        self._area = area
        self._uuids = uuids
        self.names = names
        self._seen = self._look()
        self.sizes = [size_bytes for _, size_bytes, _ in self._seen]

    def _look(self):
        statuses = [self._area.stat(name) for name in self.names]
        return [(status.st_ino, status.st_size, status.st_mtime) for status in statuses]

    def read(self, name, size_bytes, piece_bytes):
        """Yield a file in pieces."""
        return self._area.read(name, size_bytes, piece_bytes)

    def check_unchanged(self):
        """Raises errors.RetryableError if a file was written to since it was held."""
        for uuid, before, now in zip(self._uuids, self._seen, self._look()):
            if before != now:
                raise errors.RetryableError('the VHD of VDI %s was changed while it was read' % uuid)


def hold(area, repository, uuids):
    """The HeldChain of VDIs, leaf first, in `area`.

    Raises errors.StorageError if one is missing or they are not one chain from a leaf to its base.
    """
    names = ['%d.vhd' % number for number in range(len(uuids))]
    for name, uuid in zip(names, uuids):
        _link(area, repository, uuid, name)
    held = HeldChain(area, uuids, names)
    chain = [_read_metadata(area.join(name), uuid) for name, uuid in zip(names, uuids)]
    problems = list(_find_chain_misfits(uuids, chain))
    if problems:
        raise errors.StorageError('the VDIs are not a chain: %s' % '; '.join(problems))
    return held


def hold_one(area, repository, uuid, name):
    """The HeldChain of one VDI, under `name` in `area`, whatever its parents are.

    Raises errors.StorageError if it is missing, damaged, or of a kind that no chain can have.
    """
    _link(area, repository, uuid, name)
    held = HeldChain(area, [uuid], [name])
    if _read_metadata(area.join(name), uuid).disk_type == vhd.FIXED:
        raise errors.StorageError('VDI %s is a fixed disk, which no chain can have' % uuid)
    return held


def _link(area, repository, uuid, name):
    if not os.path.lexists(repository.vhd_path(uuid)):
        raise errors.StorageError('the SR has no VHD of VDI %s' % uuid)
    area.link(repository.vhd_path(uuid), name)


def follow(repository, leaf_uuid):
    """The uuids of a disk and its ancestors in the SR, leaf first.

    Raises errors.StorageError if a file is missing or damaged, or there is no end of them.
    """
    uuids = [leaf_uuid]
    while True:
        path = repository.vhd_path(uuids[-1])
        if not os.path.isfile(path):
            raise errors.StorageError('the SR has no VHD of VDI %s' % uuids[-1])
        metadata = _read_metadata(path, uuids[-1])
        if metadata.disk_type != vhd.DIFFERENCING:
            return uuids
        parents = set(os.path.basename(locator.path or '') for locator in metadata.locators) - set([''])
        if len(parents) != 1 or len(uuids) == MAX_LENGTH:
            raise errors.StorageError('the chain of VDI %s does not end: VDI %s names %d parents' % (
                leaf_uuid, uuids[-1], len(parents)))
        uuids.append(parents.pop()[:-len('.vhd')])


def _read_metadata(path, uuid):
    try:
        with sparse_file.StorageErrors('cannot read from the SR'), open(path, 'rb') as fileobj:
            return vhd.read_metadata(fileobj)
    except vhd.FormatError as error:
        raise errors.StorageError('the VHD of VDI %s is damaged: %s' % (uuid, error))


def _find_chain_misfits(names, chain):
    for child, (name, metadata) in enumerate(zip(names, chain)):
        if metadata:
            parent = chain[child + 1] if child + 1 < len(chain) else None
            for text in _find_misfits(metadata, parent, child == 0, names[child + 1:]):
                yield '%s: %s' % (name, text)


def _find_misfits(metadata, parent, is_leaf, followers):
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
