# SPDX-License-Identifier: Apache-2.0
"""/images, where disks arrive that another host's dom0 sends here.

    /images/                        usually a link to a directory of the SR
        instance<label>/            label: an instance's uuid, or <uuid>_ephemeral_<n>
            0.vhd ... n.vhd         the chain, leaf first, each whole: senders write aside and rename
            .dom0-plugins-partial/  what a sender of ours left unfinished (dom0_lib.migration.rsync)
            .0.vhd.<random>         what a sender writes to just now, or did when this host crashed
            owner                   locked by the call that makes VDIs of it

What lies there is as hostile as an image, and may be of more than one attempt.
"""

from __future__ import absolute_import, division

import errno
import os
import stat
import time

from dom0_lib import errors
from dom0_lib import faults
from dom0_lib import paths
from dom0_lib.migration import rsync
from dom0_lib.storage import arrival_files
from dom0_lib.storage import new_disk
from dom0_lib.storage import staging
from dom0_lib.storage import vhd_chain
from dom0_lib.system import os_errors


def list_abandoned(age_s):
    """Names of the directories in /images that nobody has, and in which nothing has changed for so many seconds."""
    top = paths.locate(paths.IMAGES)
    names = sorted(os.listdir(top)) if os.path.isdir(top) else []
    return [name for name in names if name.startswith(arrival_files.PREFIX) and _is_abandoned(os.path.join(top, name), age_s)]


def _is_abandoned(path, age_s):
    try:
        latest_s = max(os.lstat(name).st_mtime for name in [path] + [os.path.join(path, name) for name in os.listdir(path)])
        return latest_s < time.time() - age_s and (staging.is_dead(path) or staging.OWNER not in os.listdir(path))
    except EnvironmentError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return False  # gone meanwhile, or not one
        raise


class Arrival(object):
    """`with Arrival(label) as arrival:` keeps the directory of a label for this call.

    Raises errors.StorageError if nothing has arrived, errors.RetryableError if another call has it.
    """

    def __init__(self, label):
        self._label = label
        self._path = paths.locate(arrival_files.directory(label))
        self._owner_fd = None

    def __enter__(self):
        if not os.path.lexists(self._path):
            raise errors.StorageError('nothing has arrived: there is no directory %s' % arrival_files.directory(self._label))
        if os.path.islink(self._path) or not os.path.isdir(self._path):
            raise errors.UnsafeImage('%s is not a directory; remove it' % arrival_files.directory(self._label))
        with os_errors.StorageErrors('cannot use %s' % arrival_files.directory(self._label)):
            self._owner_fd = staging.lock_owner(self._path, needs_lock=False)
        if self._owner_fd is None:
            raise errors.RetryableError('another call makes VDIs of %s' % arrival_files.directory(self._label))
        return self

    def __exit__(self, kind, value, traceback):
        os.close(self._owner_fd)

    def list(self):
        """The names of the chain's files, leaf first.

        Raises errors.InvalidImage for what is unfinished, for a gap, and for what is no file of a chain.
        """
        present = os.listdir(self._path)
        if rsync.PARTIAL_DIR in present:
            unfinished = os.listdir(os.path.join(self._path, rsync.PARTIAL_DIR))
            if unfinished:
                raise errors.InvalidImage('the transfer of %s was not finished' % ', '.join(sorted(unfinished)))
        names = [name for name in present if not name.startswith('.') and name != staging.OWNER]
        expected = [arrival_files.name_file(number) for number in range(len(names))]
        if not names or len(names) > vhd_chain.MAX_LENGTH or set(names) != set(expected):
            raise errors.InvalidImage('it should hold 0.vhd and so on, at most %d of them, it holds %s: something is missing, or'
                                      ' left from an earlier migration' % (
                                          vhd_chain.MAX_LENGTH, ', '.join(sorted(names)[:2 * vhd_chain.MAX_LENGTH]) or 'nothing'))
        return expected

    def take(self, area, names, report):
        """Write the disks of these files anew in a staging area; returns ([new_disk.NewDisk], [(inode, name) of the file]).

        The files are read only, each byte once: another process that still writes to one changes the guest's data at most.
        report(fraction): called as the work goes on; an exception of it ends the work
        Raises errors.InvalidImage and errors.UnsafeImage with a `rule` where a file's content is refused.
        """
        disks, origins, done_bytes = [], [], [0]
        total_bytes = sum(os.lstat(os.path.join(self._path, name)).st_size for name in names)

        def add(size_bytes):
            done_bytes[0] += size_bytes
            report(done_bytes[0] / total_bytes)
        for name in names:
            fd = self._open(name)
            try:
                disks.append(new_disk.NewDisk(area, name))
                disks[-1].take_file(fd, add)
                origins.append((os.fstat(fd).st_ino, '%s%s/%s' % (arrival_files.PREFIX, self._label, name)))
            finally:
                os.close(fd)
            faults.point('arrival.taken')
        return disks, origins

    def _open(self, name):
        """A descriptor of a file that has no other name, where it could be another's."""
        path = os.path.join(self._path, name)
        with os_errors.StorageErrors('cannot read %s/%s' % (arrival_files.directory(self._label), name)):
            _require_single(os.lstat(path), name)
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                _require_single(os.fstat(fd), name)
                kept, fd = fd, None
                return kept
            finally:
                if fd is not None:
                    os.close(fd)

    def discard(self):
        """Remove all that has arrived; a failure is only logged."""
        with arrival_files.Logged('cannot remove', self._path):
            staging.remove_tree(self._path)
            faults.point('arrival.removed')

    def clear(self):
        """Remove what is left when the files have become VDIs, unless others have come; a failure is only logged."""
        with arrival_files.Logged('cannot remove', self._path):
            if all(name.startswith('.') or name == staging.OWNER for name in os.listdir(self._path)):
                staging.remove_tree(self._path)
                faults.point('arrival.removed')


def _require_single(status, name):
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise errors.UnsafeImage("'%s' is not a file, or is one that has another name elsewhere" % name)
