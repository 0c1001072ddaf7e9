# SPDX-License-Identifier: Apache-2.0
"""/images and /boot/guest, which a host as it is installed has not got, and which should be links to directories in an SR: dom0's
own file system is small.

    /images      -> <SR>/dom0-plugins-<host's uuid>/images
    /boot/guest  -> <SR>/dom0-plugins-<host's uuid>/guest-kernels

The name tells whose they are when a host is set back, and keeps hosts apart where the SR is shared.  Whatever else is in these
places, a link of the OpenStack guide for instance, is an administrator's and stays as it is.
"""

from __future__ import absolute_import, division

import errno
import os

from dom0_lib import faults
from dom0_lib import paths
from dom0_lib.fitness import attached_sr
from dom0_lib.system import durable_file

# Kinds of what is in such a place.
MISSING, LINK, DANGLING, DIRECTORY, OTHER = 'missing', 'link', 'dangling', 'directory', 'other'
_GONE = (errno.ENOENT, errno.ENOTDIR)


class Directory(object):
    """path: in dom0; name: in the directory of an SR; mode: of what is made there"""

    def __init__(self, path, name, mode):
        self.path = path
        self._name = name
        self._mode = mode

    def inspect(self):
        """The State of what is there.  Raises EnvironmentError; errors.StorageError if it does not answer."""
        return State(self.path)

    def make(self, sr_path, host_uuid):
        """Make the directory in the SR, and the link to it.  Raises EnvironmentError; EEXIST if something is in its place."""
        target = self._target(sr_path, host_uuid)
        self._make_target(target)
        faults.point('directory.made')
        parent = os.path.dirname(paths.locate(self.path))
        durable_file.make_directory(parent)
        os.symlink(paths.locate(target), paths.locate(self.path))
        faults.point('directory.linked')
        durable_file.sync(parent)

    def make_again(self):
        """Make the directory that a dangling link of ours leads to, in an SR that is there.  Raises EnvironmentError."""
        self._make_target(self.inspect().target)

    def _make_target(self, target):
        path = paths.locate(target)
        for name, mode in ((os.path.dirname(path), 0o755), (path, self._mode)):
            try:
                os.mkdir(name, mode)
            except EnvironmentError as error:
                if error.errno != errno.EEXIST:
                    raise
            os.chmod(name, mode)  # whatever the umask, also of a call that was killed
            faults.point('directory.begun')
            durable_file.sync(os.path.dirname(name))

    def is_ours(self, state, host_uuid):
        """Whether a State is that of a link that make() has made."""
        return state.sr_path is not None and state.target == self._target(state.sr_path, host_uuid)

    def find_left(self, sr_paths, host_uuid):
        """Those SRs, of these directories in dom0, that have what make() has made, or a part of it."""
        return [sr_path for sr_path in sr_paths if self._has_left(paths.locate(self._target(sr_path, host_uuid)))]

    @staticmethod
    def _has_left(path):
        parent = os.path.dirname(path)
        # The other directory's is none of this one's.
        return os.path.isdir(path) or os.path.isdir(parent) and not os.listdir(parent)

    def count_entries(self, sr_path, host_uuid):
        """How much is in a directory that make() has made; 0 where it is not there."""
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
        # The other one's may be in there.
        _remove_directory(os.path.dirname(path), _GONE + (errno.ENOTEMPTY, errno.EEXIST))
        link = paths.locate(self.path)
        if os.path.islink(link) and os.readlink(link) == path:
            durable_file.remove(link)

    def _target(self, sr_path, host_uuid):
        return '%s/dom0-plugins-%s/%s' % (sr_path, host_uuid, self._name)


class State(object):
    """
    kind        MISSING; LINK to a directory, DANGLING, that is to nothing; DIRECTORY; OTHER, a file for instance
    target      where a link leads, in dom0; None for others
    sr_path     the SR's directory in dom0 that `target` is below; None elsewhere
    is_on_root  whether what is written there goes into dom0's own file system
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


IMAGES = Directory(paths.IMAGES, 'images', 0o700)
BOOT_GUEST = Directory(paths.BOOT_GUEST, 'guest-kernels', 0o755)


def _strip_root(path):
    root = paths.locate('')
    return path[len(root):] if path.startswith(root + '/') else path


def _find_sr_path(target):
    """The SR's directory that a path of dom0 is below, by its name; or else, links followed, by where it leads."""
    for mount in paths.SR_MOUNTS:
        for path, top in ((target, mount), (os.path.realpath(paths.locate(target)), os.path.realpath(paths.locate(mount)))):
            name, slash, _ = path[len(top) + 1:].partition('/')
            if path.startswith(top + '/') and slash:
                return '%s/%s' % (paths.SR_MOUNT, name)
    return None


def _remove_directory(path, expected):
    """Remove a directory that may be absent, or whatever else `expected`, error numbers, says."""
    try:
        os.rmdir(path)
        durable_file.sync(os.path.dirname(path))
    except EnvironmentError as error:
        if error.errno not in expected:
            raise
