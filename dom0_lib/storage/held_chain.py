# SPDX-License-Identifier: Apache-2.0
"""VDIs of an SR while they are read: kept still by SM's locks, held by links, compared afterwards."""

from __future__ import absolute_import, division

import os

from dom0_lib import errors
from dom0_lib import paths
from dom0_lib.disks import vhd
from dom0_lib.storage import sr_lock
from dom0_lib.storage import vhd_chain
from dom0_lib.system import os_errors
from dom0_lib.system import proc

_STOP_DEADLINE_S = 90
# XenServer 9's place, then that of 8 and before.
_CLEANUP = ('/usr/libexec/sm/cleanup', '/opt/xensource/sm/cleanup.py')


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
    problems = list(vhd_chain.find_misfits(uuids, chain))
    if chain[0].hidden:
        # Other readers of an image take the mark over, and the storage manager deletes a hidden disk without children.
        problems.append('%s: the leaf is marked hidden' % uuids[0])
    if problems:
        raise errors.StorageError('the VDIs are not a chain: %s' % '; '.join(problems))
    return held


def hold_one(area, repository, uuid, name):
    """The HeldChain of one VDI, under `name` in `area`, whatever its parents are.

    Raises errors.StorageError if it is missing or damaged.
    """
    _link(area, repository, uuid, name)
    held = HeldChain(area, [uuid], [name])
    _read_metadata(area.join(name), uuid)
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
        if len(parents) != 1 or len(uuids) == vhd_chain.MAX_LENGTH:
            raise errors.StorageError('the chain of VDI %s does not end: VDI %s names %d parents' % (
                leaf_uuid, uuids[-1], len(parents)))
        uuids.append(parents.pop()[:-len('.vhd')])


def _read_metadata(path, uuid):
    try:
        with os_errors.StorageErrors('cannot read from the SR'), open(path, 'rb') as fileobj:
            return vhd.read_metadata(fileobj)
    except vhd.FormatError as error:
        raise errors.StorageError('the VHD of VDI %s is damaged: %s' % (uuid, error))
