# SPDX-License-Identifier: Apache-2.0
"""A private directory inside an SR, where files become complete before anybody else can see them.

It is on the SR's file system, so a finished file moves in by a link.  Its name begins with a dot: SR.scan and the storage
manager's garbage collection look at names in the SR and skip such.

    .dom0-plugins-<random>/
        owner       held locked by the process that works here; who can lock it has found what a dead process left
        journal     there while names are published: "<inode> <name>" a line, those in the SR in the order of publication
        ...         the files themselves
"""

from __future__ import absolute_import, division

import binascii
import errno
import fcntl
import os

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib import faults
from dom0_lib import log
from dom0_lib import termination
from dom0_lib.storage import sr_lock
from dom0_lib.system import os_errors
from dom0_lib.system import sparse_file

OWNER = 'owner'
_PREFIX = '.dom0-plugins-'
_JOURNAL = 'journal'
_MAX_JOURNAL_BYTES = 64 * 1024
_ATTEMPTS = 10


class Area(object):
    """`with Area(directory, reserve_bytes) as area:` makes the staging directory and removes it, whatever happens inside.

    reserve_bytes: what must stay free in the file system
    place: what an error calls the directory
    """

    def __init__(self, directory, reserve_bytes=0, place=sparse_file.PLACE):
        self._directory = directory
        self._reserve_bytes = reserve_bytes
        self._place = place
        self._owner_fd = None
        self._is_publishing = False
        self._files = []
        self.path = None

    def __enter__(self):
        with os_errors.StorageErrors('cannot stage in %s' % self._place):
            with termination.Shield():
                self._make()
                termination.remember(self.remove)
            try:
                faults.point('staging.made')
            except BaseException:
                self.remove()
                raise
        return self

    def _make(self):
        for _ in range(_ATTEMPTS):
            self.path = os.path.join(self._directory, _PREFIX + binascii.hexlify(os.urandom(8)).decode('ascii'))
            os.mkdir(self.path, 0o700)
            # A sweep that comes in between takes the directory for a dead one's: then the next one is made.
            try:
                self._owner_fd = lock_owner(self.path, needs_lock=False)
            except EnvironmentError:
                os.rmdir(self.path)
                raise
            if self._owner_fd is not None:
                return
        raise errors.StorageError('cannot keep a staging directory in %s' % self._directory)

    def __exit__(self, kind, value, traceback):
        self.remove()

    def remove(self):
        """Remove the directory and all in it, unless that is done; a failure is only logged.

        One with a publication that could be neither finished nor undone stays for the next sweep.
        """
        with termination.Shield():
            if self._owner_fd is None:
                return
            try:
                for unfinished in self._files:
                    unfinished.close()  # NFS keeps a file that is removed while open, under another name
                faults.point('staging.cleaning')
                if self._is_publishing:
                    log.warning('%s stays: the next call finishes or undoes what was published from it', self.path)
                else:
                    remove_tree(self.path)
                faults.point('staging.cleaned')
            except EnvironmentError as error:
                # The outcome of the call matters more than the rubbish it leaves, which the next call sweeps.
                log.warning('cannot remove the staging directory %s: %s', self.path, error)
            finally:
                fd, self._owner_fd = self._owner_fd, None
                os.close(fd)
                termination.forget(self.remove)

    def join(self, name):
        """The path of a file in the area."""
        return os.path.join(self.path, name)

    def create(self, name, size_bytes):
        """A new sparse_file.File of `size_bytes` in the area.  Raises errors.StorageError if there is no room for it."""
        self.require_room(size_bytes)
        return self._keep(sparse_file.File(self.join(name), size_bytes, self.require_room, self._place))

    def create_disk(self, name):
        """A new sparse_file.PlacedFile in the area, whose writer asks it for room."""
        return self._keep(sparse_file.PlacedFile(self.join(name), self.require_room, self._place))

    def _keep(self, created):
        """Have an open file closed when the area is removed."""
        self._files.append(created)
        faults.point('staging.file_made')
        return created

    def discard(self, created, name):
        """Close a file that was created here, and remove it."""
        created.close()
        self._files.remove(created)
        with os_errors.StorageErrors('cannot write to %s' % self._place):
            os.unlink(self.join(name))

    def copy(self, fd, name, report):
        """A copy of an open file in the area; report(size_bytes) is called for each piece.

        Raises errors.StorageError if the SR has no room for it, or if it changes its size.
        """
        copied = self._keep(sparse_file.File(self.join(name), os.fstat(fd).st_size, self.require_room, self._place))
        copied.copy(fd, report)
        copied.finish()

    def require_room(self, size_bytes):
        """Raises errors.StorageError unless the file system has so much to spare beside the reserve."""
        with os_errors.StorageErrors('cannot write to %s' % self._place):
            status = os.statvfs(self.path)
        free_bytes = status.f_bavail * status.f_frsize
        if size_bytes + self._reserve_bytes > free_bytes:
            raise errors.StorageError('%s has %d MiB free, this needs %d MiB and a reserve of %d MiB' % (
                self._place, free_bytes >> 20, size_bytes >> 20, self._reserve_bytes >> 20))

    def link(self, path, name):
        """Hold a file of the SR under another name: it stays when the storage manager renames or removes its own."""
        with os_errors.StorageErrors('cannot stage in %s' % self._place):
            try:
                os.link(path, self.join(name))
            except EnvironmentError as error:
                if error.errno not in sparse_file.NO_HARD_LINKS:
                    raise
                os.symlink(path, self.join(name))
            faults.point('staging.linked')

    def stat(self, name):
        """The os.stat of a file in the area."""
        with os_errors.StorageErrors('cannot read from %s' % self._place):
            return os.stat(self.join(name))

    def read(self, name, size_bytes, piece_bytes):
        """Yield the first `size_bytes` of a file in pieces.  Raises errors.StorageError if it has become shorter."""
        with os_errors.StorageErrors('cannot read from %s' % self._place):
            with open(self.join(name), 'rb', 0) as fileobj:
                while size_bytes:
                    piece = fileobj.read(min(size_bytes, piece_bytes))
                    if not piece:
                        raise errors.StorageError('%s became shorter while it was read' % name)
                    size_bytes -= len(piece)
                    yield piece

    def rename(self, name, new_name):
        """Give a file in the area another name."""
        with os_errors.StorageErrors('cannot rename in %s' % self._place):
            os.rename(self.join(name), self.join(new_name))
            faults.point('staging.renamed')

    def begin_journal(self, entries):
        """Record, on the disk, what is about to be published, in this order: `entries` are (inode, name)."""
        with os_errors.StorageErrors('cannot write to %s' % self._place):
            lines = ['%d %s\n' % entry for entry in entries]
            with open(self.join(_JOURNAL), 'wb') as journal:
                journal.write((''.join(lines) + 'end\n').encode('ascii'))
                journal.flush()
                os.fsync(journal.fileno())
            # Its name, and those of the files that it lists: a name in the SR may be on the disk before they are.
            sparse_file.sync(self.path, self._place)
        self._is_publishing = True

    def end_journal(self):
        """The publication is complete, or undone: the journal goes with the directory, and doing it again does no harm."""
        self._is_publishing = False


def sweep(directory, recover):
    """Remove the staging directories in `directory` that no living process owns; returns their names.

    recover(path, journal) is called first for one that was publishing: `journal` is a list of (inode, name).
    Raises errors.StorageError, and what recover() raises.
    """
    with os_errors.StorageErrors('cannot remove what a dead call left in %s' % directory):
        return _sweep(directory, recover)


def _sweep(directory, recover):
    swept = []
    for name in sorted(os.listdir(directory)):
        path = os.path.join(directory, name)
        if not name.startswith(_PREFIX) or os.path.islink(path) or not os.path.isdir(path):
            continue
        owner_fd = lock_owner(path, needs_lock=True)
        if owner_fd is None:
            continue
        try:
            faults.point('sweep.found')
            journal = _read_journal(path)
            if journal:
                recover(path, journal)
            remove_tree(path)
            swept.append(name)
        finally:
            os.close(owner_fd)
    return swept


def list_dead(directory):
    """Names of the staging directories in `directory`, if that is there, that sweep() would remove; nothing is changed."""
    if not os.path.isdir(directory):
        return []
    with os_errors.StorageErrors('cannot look into %s' % directory):
        return [name for name in sorted(os.listdir(directory)) if name.startswith(_PREFIX)
                and not os.path.islink(os.path.join(directory, name)) and is_dead(os.path.join(directory, name))]


def is_dead(path):
    """Whether a process that has owned a directory owns it no more.  Raises EnvironmentError."""
    owner_path = os.path.join(path, OWNER)
    # Without the file it may be one that is made just now.
    return os.path.isfile(owner_path) and not sr_lock.is_held(owner_path)


def _read_journal(path):
    """The lines of the journal; None without one, or if it was not complete when the process died: nothing was linked yet."""
    try:
        with open(os.path.join(path, _JOURNAL), 'rb') as journal:
            lines = journal.read(_MAX_JOURNAL_BYTES).decode('ascii', 'replace').split('\n')
    except EnvironmentError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    if lines[-2:] != ['end', '']:
        return None
    return [(int(inode), name) for inode, _, name in (line.partition(' ') for line in lines[:-2])]


def lock_owner(path, needs_lock):
    """A descriptor that holds the owner file of a directory locked; None if another process does, or the directory has gone.

    needs_lock: None also where the file system has no locks: there nobody can tell the dead from the living
    """
    owner_path = os.path.join(path, OWNER)
    try:
        fd = os.open(owner_path, os.O_RDWR | os.O_CREAT, 0o600)
    except EnvironmentError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    try:
        compat.keep_from_children(fd)
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = os.path.samestat(os.fstat(fd), os.stat(owner_path))
        except EnvironmentError as error:
            is_ours = not needs_lock and error.errno not in (errno.EAGAIN, errno.EACCES, errno.ENOENT)
        if is_ours:
            kept, fd = fd, None
            return kept
        return None
    finally:
        if fd is not None:
            os.close(fd)


def remove_tree(path):
    """Remove a directory with all that is in it; links are removed, not followed."""
    # The journal goes first, as what it says is judged by the files beside it; the owner file last, as what is left by a crash
    # in between can be told to be dead by it.
    for name in sorted(os.listdir(path), key=lambda name: (name == OWNER, name != _JOURNAL)):
        child = os.path.join(path, name)
        if os.path.isdir(child) and not os.path.islink(child):
            remove_tree(child)
        else:
            os.unlink(child)
    os.rmdir(path)
