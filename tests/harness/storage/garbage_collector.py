# SPDX-License-Identifier: Apache-2.0
"""The storage manager's garbage collection of one SR, run when it is asked for, under SM's locks.

    hidden leaf                                 deleted
    hidden, its parent's only child, with       coalesced into its parent; the children go to the parent
    children of its own
    visible leaf, its parent's only child,      coalesced into its parent, whose file then takes the leaf's name
    parent hidden

Order of locks: `sr` for a moment, in it `gc_active` (tried once, held to the end), `running` for each piece of work, then
`sr` for its short steps. A merge into the parent holds neither `sr` nor a lock on the files: the parent changes in place.
"""

import contextlib
import os

from tests.harness.storage.sm_locks import LockTimeout


class GarbageCollectorBusy(Exception):
    """gc_active or running is held: by another collection, or by a reader of a chain."""


class GarbageCollector(object):

    def __init__(self, repository, is_attached):
        """is_attached: function(uuid) -> bool; a disk in use is not leaf-coalesced here."""
        self._repository = repository
        self._is_attached = is_attached

    def collect(self):
        """Work until nothing is left to do. Returns [(kind, uuid)]. Raises GarbageCollectorBusy, or as Repository.scan()."""
        done = []
        try:
            with contextlib.ExitStack() as stack:
                with self._repository.hold_lock():
                    stack.enter_context(self._repository.try_lock("gc_active"))
                while self._work(done):
                    pass
        except LockTimeout as error:
            raise GarbageCollectorBusy(str(error))
        return done

    def _work(self, done):
        with self._repository.try_lock("running"):
            with self._repository.hold_lock():
                disks = self._repository.list_disks()
                children = _list_children(disks)
                for disk in disks.values():
                    if disk.is_hidden and disk.uuid not in children:
                        os.unlink(disk.path)
                        done.append(("delete", disk.uuid))
                        return True
            for disk in disks.values():
                if disk.parent is None or children[disk.parent] != [disk.uuid]:
                    continue
                if disk.is_hidden:
                    self._coalesce(disk)
                    done.append(("coalesce", disk.uuid))
                    return True
                if disk.uuid not in children and disks[disk.parent].is_hidden and not self._is_attached(disk.uuid):
                    if self._coalesce_leaf(disk):
                        done.append(("leaf-coalesce", disk.uuid))
                    return True
        return False

    def _coalesce(self, disk):
        self._repository.coalesce_disk(disk.uuid)
        with self._repository.hold_lock():
            # Those of now: without the lock a clone may have come, or gone.
            for child in _list_children(self._repository.list_disks()).get(disk.uuid, []):
                self._repository.relink_disk(child, disk.parent)
            os.unlink(disk.path)

    def _coalesce_leaf(self, disk):
        """Coalesce a leaf. Returns False if, once locked, the leaf is gone or is not its parent's only child."""
        with self._repository.hold_lock():
            disks = self._repository.list_disks()
            children = _list_children(disks)
            if disk.uuid not in disks or disk.uuid in children or children[disk.parent] != [disk.uuid]:
                return False
            self._repository.coalesce_disk(disk.uuid)
            self._repository.show_disk(disk.parent)
            os.rename(self._repository.disk_path(disk.parent), disk.path)
            return True


def _list_children(disks):
    children = {}
    for disk in disks.values():
        if disk.parent:
            children.setdefault(disk.parent, []).append(disk.uuid)
    return children
