# SPDX-License-Identifier: Apache-2.0
"""/images and /boot/guest.  A freshly installed host has neither.  They should be links to directories in an SR, because dom0's own
file system is small.

    /images      -> <SR>/dom0-plugins-<host's uuid>/images
    /boot/guest  -> <SR>/dom0-plugins-<host's uuid>/guest-kernels

By the host's uuid, undo_prepare knows its own directories, and hosts stay apart in a shared SR.  Anything else at these two paths,
such as a link from the OpenStack guide, belongs to an administrator and stays.
"""

from __future__ import absolute_import, division

import errno
import os

from dom0_lib import faults
from dom0_lib import paths
from dom0_lib.fitness import attached_sr
from dom0_lib.system import durable_file

# Kinds of State.
MISSING, LINK, DANGLING, DIRECTORY, OTHER = 'missing', 'link', 'dangling', 'directory', 'other'
_GONE = (errno.ENOENT, errno.ENOTDIR)


class Directory(object):
    """
    path            the directory's path in dom0
    name, mode      of the directory that is made in an SR
    may_be_on_root  whether dom0's own file system is large enough for its content
    """

    def __init__(self, path, name, mode, may_be_on_root):
        self.path = path
        self._name = name
        self._mode = mode
        self._may_be_on_root = may_be_on_root

    def inspect(self):
        """The State of the path.  Raises EnvironmentError; errors.StorageError if its file server does not answer."""
        return State(self.path)

    def find_problem(self, state, again):
        """(problem, fix) for a State that calls cannot use, None for one that they can.

        again: for the fix, how prepare() is called: 'repeat the call', for instance
        """
        if state.kind == MISSING:
            return 'there is no %s' % self.path, again
        if state.kind == DANGLING:
            return ('%s leads to %s, which does not exist' % (self.path, state.target),
                    'if it is in an SR that is not attached, attach that (xe pbd-plug); else rm %s, and %s' % (self.path, again))
        if state.kind == OTHER:
            return '%s is no directory' % self.path, 'move it away, and %s' % again
        if state.is_on_root and not self._may_be_on_root:
            return ("%s is in dom0's own file system, and arriving disks would fill that" % self.path,
                    'when no migration runs, move its content away, remove it, and %s' % again)
        return None

    @staticmethod
    def describe(state):
        """A State that find_problem() finds nothing wrong with, in a few words."""
        if state.kind == LINK:
            return 'leads to %s' % state.target
        return "a directory in dom0's own file system" if state.is_on_root else 'a file system of its own'

    def make(self, sr_path, host_uuid):
        """Make the directory in the SR, and the link to it.  Raises EnvironmentError; EEXIST if the path in dom0 exists."""
        target = self._target(sr_path, host_uuid)
        self._make_target(target)
        faults.point('directory.made')
        parent = os.path.dirname(paths.locate(self.path))
        durable_file.make_directory(parent)
        os.symlink(paths.locate(target), paths.locate(self.path))
        faults.point('directory.linked')
        durable_file.sync(parent)

    def make_again(self):
        """Make the directory to which a dangling link of ours leads; its SR must be attached.  Raises EnvironmentError."""
        self._make_target(self.inspect().target)

    def _make_target(self, target):
        path = paths.locate(target)
        for name, mode in ((os.path.dirname(path), 0o755), (path, self._mode)):
            try:
                os.mkdir(name, mode)
            except EnvironmentError as error:
                if error.errno != errno.EEXIST:
                    raise
            os.chmod(name, mode)  # for any umask, and for a directory that a killed call has left
            faults.point('directory.begun')
            durable_file.sync(os.path.dirname(name))

    def is_ours(self, state, host_uuid):
        """Whether make() has made the link that a State describes."""
        return state.sr_path is not None and state.target == self._target(state.sr_path, host_uuid)

    def find_left(self, sr_paths, host_uuid):
        """Those of `sr_paths`, directories of SRs in dom0, in which make() has made its directory or a part of it."""
        return [sr_path for sr_path in sr_paths if self._has_left(paths.locate(self._target(sr_path, host_uuid)))]

    @staticmethod
    def _has_left(path):
        parent = os.path.dirname(path)
        # A parent that is not empty belongs to the other Directory.
        return os.path.isdir(path) or os.path.isdir(parent) and not os.listdir(parent)

    def count_entries(self, sr_path, host_uuid):
        """The number of entries in the directory that make() has made; 0 if it does not exist."""
        try:
            return len(os.listdir(paths.locate(self._target(sr_path, host_uuid))))
        except EnvironmentError as error:
            if error.errno in _GONE:
                return 0
            raise

    def remove(self, sr_path, host_uuid):
        """Remove the directory in the SR, which must be empty, and then the link to it.  Raises EnvironmentError."""
        path = paths.locate(self._target(sr_path, host_uuid))
        _remove_directory(path, _GONE)
        faults.point('directory.removed')
        # The other Directory's may still be in there.
        _remove_directory(os.path.dirname(path), _GONE + (errno.ENOTEMPTY, errno.EEXIST))
        link = paths.locate(self.path)
        if os.path.islink(link) and os.readlink(link) == path:
            durable_file.remove(link)

    def _target(self, sr_path, host_uuid):
        return '%s/dom0-plugins-%s/%s' % (sr_path, host_uuid, self._name)


class State(object):
    """
    kind        MISSING; LINK to a directory; DANGLING, a link to nothing; DIRECTORY; OTHER, a file for instance
    target      the link's target in dom0, or None
    sr_path     the SR's directory in dom0 that has `target` in it, or None
    is_on_root  whether it is in dom0's own file system
    """

    def __init__(self, path):
        located = paths.locate(path)
        attached_sr.probe(path)
        self.target = self.sr_path = None
        self.is_on_root = False
        if os.path.islink(located):
            self.target = _strip_root(os.path.join(os.path.dirname(located), os.readlink(located)))
            self.sr_path = _find_sr_path(self.target)
            self.kind = LINK if os.path.isdir(located) else OTHER if os.path.exists(located) else DANGLING
        else:
            self.kind = DIRECTORY if os.path.isdir(located) else OTHER if os.path.lexists(located) else MISSING
        if self.kind in (LINK, DIRECTORY) and self.sr_path is None:
            self.is_on_root = os.stat(located).st_dev == os.stat(paths.locate('/')).st_dev


IMAGES = Directory(paths.IMAGES, 'images', 0o700, may_be_on_root=False)
BOOT_GUEST = Directory(paths.BOOT_GUEST, 'guest-kernels', 0o755, may_be_on_root=True)


def _strip_root(path):
    root = paths.locate('')
    return path[len(root):] if path.startswith(root + '/') else path


def _find_sr_path(target):
    """The SR's directory that has a path of dom0 in it, by the path's name or with its links followed; None if there is none."""
    for mount in paths.SR_MOUNTS:
        for path, top in ((target, mount), (os.path.realpath(paths.locate(target)), os.path.realpath(paths.locate(mount)))):
            name, slash, _ = path[len(top) + 1:].partition('/')
            if path.startswith(top + '/') and slash:
                return '%s/%s' % (paths.SR_MOUNT, name)
    return None


def _remove_directory(path, expected):
    """Remove a directory; failures with the error numbers `expected` are passed over."""
    try:
        os.rmdir(path)
        durable_file.sync(os.path.dirname(path))
    except EnvironmentError as error:
        if error.errno not in expected:
            raise
