# SPDX-License-Identifier: Apache-2.0
"""A staged chain becomes VDIs of an SR: the one way in, wherever the disks come from.

                0.vhd  -->  1.vhd  -->  2.vhd          staged, written anew (dom0_lib.storage.new_disk), then sealed as
                leaf        parent      base           <uuid>.vhd, none hidden
    SR          3rd         2nd         1st            linked in this order: a scan in between sees disks, not rubbish
                -           hidden      hidden         to collect; parents are hidden last

Nobody ever sees a child whose parent is missing.
"""

from __future__ import absolute_import, division

import errno
import os

from dom0_lib import errors
from dom0_lib import faults
from dom0_lib import log
from dom0_lib import termination
from dom0_lib.disks import vhd
from dom0_lib.storage import arrival_files
from dom0_lib.storage import sr
from dom0_lib.storage import sr_lock
from dom0_lib.storage import staging
from dom0_lib.storage import vhd_chain
from dom0_lib.storage import vhd_util
from dom0_lib.system import os_errors
from dom0_lib.system import sparse_file

_SR_LOCK_WAIT_S = 120


def open_repository(session_ref, sr_path, new_uuids=()):
    """The sr.Repository at `sr_path`, swept, which has none of the VDIs `new_uuids`.  Every call for an SR begins with this.

    Raises errors.StorageError, errors.RetryableError, and what xapi.Errors raises.
    """
    repository = sr.locate(session_ref, sr_path)
    sweep(repository)
    repository.refuse_existing(new_uuids)
    return repository


def admit(area, repository, disks, uuid_stack, check, origins=()):
    """Make VDIs of complete new_disk.NewDisk, leaf first, all or none: check, seal, publish; returns the leaf's uuid.

    uuid_stack: uuids for them, taken from its end
    origins:    (inode, name) of the files of /images whose disks they are; these files go when the VDIs are there
    check():    called before the last step and while that waits; what it raises ends the import
    Raises errors.ArgumentError, errors.UnsafeImage, errors.StorageError, errors.RetryableError.
    """
    uuids = take_uuids(uuid_stack, disks)
    vhd_chain.check(disks)
    vhd_chain.seal(area, disks, uuids)
    check()
    publish(area, repository, uuids, check, origins)
    return uuids[0]


def publish(area, repository, uuids, check, origins=()):
    """Move a sealed chain, leaf first in `uuids`, into the SR: all of it or, on an error, nothing.

    The journal comes first: a process that dies here leaves what recover() finishes or undoes.  SM's lock `sr` is held, so no
    scan sees a part of it; where the lock does not reach, on a shared SR of which this host is not the coordinator, the order
    alone keeps a scan right.  check() is called while the lock is waited for.
    Raises errors.StorageError, errors.RetryableError.
    """
    base_first = ['%s.vhd' % uuid for uuid in reversed(uuids)]
    with sr_lock.Lock(repository.uuid, 'sr', _SR_LOCK_WAIT_S, check), termination.Shield():
        faults.point('publish.begun')
        journal = [(area.stat(name).st_ino, name) for name in base_first]
        area.begin_journal(journal + list(origins))
        faults.point('publish.journalled')
        try:
            with os_errors.StorageErrors('cannot publish in the SR'):
                for name in base_first:
                    _move_in(area.join(name), os.path.join(repository.path, name))
                    faults.point('publish.linked')
                faults.point('publish.leaf_linked')
                _complete(repository, journal)
        except BaseException:
            with os_errors.StorageErrors('cannot take a chain back out of the SR, the next call for the SR will'):
                _undo(repository, area.path, journal)
            area.end_journal()
            raise
        # A caller that hears of a signal repeats the call, and would find its uuids taken.
        termination.settle()
    arrival_files.forget(origins)
    area.end_journal()
    log.info('published %s in %s', ', '.join(base_first), repository.path)


def _complete(repository, journal):
    """Hide the parents of a published chain and bring its names to the disk."""
    for inode, name in journal[:-1]:
        path = os.path.join(repository.path, name)
        if _is_inode(path, inode):
            vhd_util.set_hidden(path, True)
            sparse_file.sync(path)
            faults.point('publish.hidden')
    sparse_file.sync(repository.path)
    faults.point('publish.synced')


def _undo(repository, area_path, journal):
    """Take the names of a chain whose leaf was not published out of the SR again, unless somebody builds on them."""
    for inode, name in reversed(journal):
        path, staged = os.path.join(repository.path, name), os.path.join(area_path, name)
        if _is_inode(path, inode) and not _has_children(repository, name):
            if os.path.lexists(staged):
                os.unlink(path)
            else:
                os.rename(path, staged)  # moved, for want of hard links; a leaf that is in neither place counts as published
    sparse_file.sync(repository.path)


def recover(repository, area_path, journal):
    """Finish or undo what a dead process was publishing from `area_path`; `journal` is its list of (inode, name)."""
    origins = [entry for entry in journal if '/' in entry[1]]
    journal = [entry for entry in journal if '/' not in entry[1]]
    leaf_inode, leaf_name = journal[-1]
    with sr_lock.Lock(repository.uuid, 'sr', _SR_LOCK_WAIT_S), termination.Shield():
        if _was_published(os.path.join(area_path, leaf_name), os.path.join(repository.path, leaf_name), leaf_inode, origins):
            _complete(repository, journal)
            arrival_files.forget(origins)
            faults.point('sweep.finished')
            log.warning('finished publishing %s, which a dead process had begun', leaf_name)
        else:
            _undo(repository, area_path, journal)
            faults.point('sweep.undone')
            log.warning('took back the parents of %s, which a dead process had not published', leaf_name)


def _was_published(staged, final, inode, origins):
    if _is_inode(final, inode):
        return True
    try:
        # SM may have given the leaf another name since: a snapshot does.  One more may be that of its origin.
        return os.stat(staged).st_nlink > 1 + arrival_files.count_names(inode, origins)
    except EnvironmentError as error:
        if error.errno != errno.ENOENT:
            raise
        return True  # moved, for want of hard links


def _is_inode(path, inode):
    try:
        return os.lstat(path).st_ino == inode
    except EnvironmentError as error:
        if error.errno != errno.ENOENT:
            raise
        return False


def _has_children(repository, name):
    for other in os.listdir(repository.path):
        path = os.path.join(repository.path, other)
        if other.endswith('.vhd') and other != name and os.path.isfile(path):
            parents = _list_parents(path)
            if parents is None or name in parents:
                return True
    return False


def _list_parents(path):
    """The file names of a VHD's parents; None if it cannot be read."""
    try:
        with open(path, 'rb') as fileobj:
            return [os.path.basename(locator.path or '') for locator in vhd.read_metadata(fileobj).locators]
    except vhd.FormatError:
        return []  # nobody can read it, so nobody reads its parent
    except EnvironmentError as error:
        log.warning('cannot read %s, so it may be a child of any VHD: %s', path, error)
        return None


def sweep(repository):
    """Finish or undo what dead processes left in the SR; returns the names of the staging directories removed."""
    return staging.sweep(repository.path, lambda path, journal: recover(repository, path, journal))


def _move_in(staged, final):
    """Give a staged file its final name; unlike a rename, a link never replaces what is there."""
    try:
        os.link(staged, final)
    except EnvironmentError as error:
        if error.errno not in sparse_file.NO_HARD_LINKS:
            raise
        if os.path.lexists(final):
            raise errors.StorageError('%s is already there' % final)
        os.rename(staged, final)


def take_uuids(uuid_stack, disks):
    """The uuid of each disk: callers' stacks are consumed from the end, the leaf first."""
    if len(uuid_stack) < len(disks):
        raise errors.ArgumentError('uuid_stack', 'has %d uuids, the image has %d VHDs' % (len(uuid_stack), len(disks)))
    return [uuid_stack[-1 - number] for number in range(len(disks))]
