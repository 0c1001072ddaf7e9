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
import time

from dom0_lib import errors
from dom0_lib import faults
from dom0_lib import log
from dom0_lib import paths
from dom0_lib import text_checks
from dom0_lib.disks import vhd_chain
from dom0_lib.migration import rsync
from dom0_lib.storage import staging
from dom0_lib.system import sparse_file

_PREFIX = 'instance'
_FILE_NAMES = frozenset('%d.vhd' % number for number in range(vhd_chain.MAX_LENGTH))


def directory(label):
    """Where the disks of `label` arrive, as every dom0 calls it."""
    return '%s/%s%s' % (paths.IMAGES, _PREFIX, label)


def locate(label, is_here):
    """The same as a path for programs: under the root of this dom0, or as another dom0 has it."""
    return paths.locate(directory(label)) if is_here else directory(label)


def name_file(number):
    """What the file of that place in a chain is called; the leaf has 0."""
    return '%d.vhd' % number


def list_abandoned(age_s):
    """Names of the directories in /images that nobody has, and in which nothing has changed for so many seconds."""
    top = paths.locate(paths.IMAGES)
    names = sorted(os.listdir(top)) if os.path.isdir(top) else []
    return [name for name in names if name.startswith(_PREFIX) and _is_abandoned(os.path.join(top, name), age_s)]


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
        self._path = paths.locate(directory(label))
        self._owner_fd = None

    def __enter__(self):
        if not os.path.lexists(self._path):
            raise errors.StorageError('nothing has arrived: there is no directory %s' % directory(self._label))
        if os.path.islink(self._path) or not os.path.isdir(self._path):
            raise errors.UnsafeImage('%s is not a directory; remove it' % directory(self._label))
        with sparse_file.StorageErrors('cannot use %s' % directory(self._label)):
            self._owner_fd = staging.lock_owner(self._path, needs_lock=False)
        if self._owner_fd is None:
            raise errors.RetryableError('another call makes VDIs of %s' % directory(self._label))
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
        expected = [name_file(number) for number in range(len(names))]
        if not names or len(names) > vhd_chain.MAX_LENGTH or set(names) != set(expected):
            raise errors.InvalidImage('it should hold 0.vhd and so on, at most %d of them, it holds %s: something is missing, or'
                                      ' left from an earlier migration' % (
                                          vhd_chain.MAX_LENGTH, ', '.join(sorted(names)[:2 * vhd_chain.MAX_LENGTH]) or 'nothing'))
        return expected

    def bring(self, area, names, report):
        """Have the files in a staging area; returns what forget() takes once they are VDIs.

        report(fraction): called as the work goes on; what it raises ends it
        """
        paths_of = [os.path.join(self._path, name) for name in names]
        total_bytes = sum(os.lstat(path).st_size for path in paths_of)
        done_bytes = [0]

        def add(size_bytes):
            done_bytes[0] += size_bytes
            report(done_bytes[0] / total_bytes)
        return [(area.take(path, name, add), '%s%s/%s' % (_PREFIX, self._label, name)) for path, name in zip(paths_of, names)]

    def discard(self):
        """Remove all that has arrived; a failure is only logged."""
        with _Logged('cannot remove', self._path):
            staging.remove_tree(self._path)
            faults.point('arrival.removed')

    def clear(self):
        """Remove what is left when the files have become VDIs, unless others have come; a failure is only logged."""
        with _Logged('cannot remove', self._path):
            if all(name.startswith('.') or name == staging.OWNER for name in os.listdir(self._path)):
                staging.remove_tree(self._path)
                faults.point('arrival.removed')


def forget(origins):
    """Remove files that have become VDIs: (inode, 'instance<label>/<n>.vhd'); one that has been replaced since is left alone.

    Their directory goes when it is empty.  After a crash this comes from a journal in the SR: nothing outside /images can be meant.
    """
    for path in _find(origins):
        with _Logged('cannot remove', path):
            os.unlink(path)
            faults.point('arrival.forgotten')
    for parent in set(os.path.dirname(path) for _, path in _locate(origins)):
        with _Logged('cannot remove', parent):
            if not set(os.listdir(parent)) - set([staging.OWNER]):
                staging.remove_tree(parent)


def count_names(inode, origins):
    """How many of `origins` are still names of the file `inode`."""
    return len(_find([entry for entry in origins if entry[0] == inode]))


def _find(origins):
    """The paths of those origins that are still the files which they were."""
    return [path for inode, path in _locate(origins) if os.path.lexists(path) and os.lstat(path).st_ino == inode]


def _locate(origins):
    """(inode, path) of each that can be meant: a file of a chain in a directory of /images that is no link."""
    found = []
    for inode, name in origins:
        parent, _, file_name = name.partition('/')
        if parent.startswith(_PREFIX) and text_checks.is_label(parent[len(_PREFIX):]) and file_name in _FILE_NAMES:
            path = paths.locate('%s/%s' % (paths.IMAGES, name))
            if not os.path.islink(os.path.dirname(path)):
                found.append((inode, path))
    return found


class _Logged(object):
    """What fails in here is logged and then ignored: the VDIs are there, or will not be, whatever is left of their origin."""

    def __init__(self, what, path):
        self._text = '%s %s' % (what, path)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        if not isinstance(value, EnvironmentError):
            return False
        if value.errno != errno.ENOENT:
            log.warning('%s: %s', self._text, value)
        return True
