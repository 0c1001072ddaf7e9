# SPDX-License-Identifier: Apache-2.0
"""/boot/guest, from which XAPI takes kernels and ramdisks of paravirtual guests; a directory, or a link to one in an SR.

    <uuid>              a kernel or ramdisk; a VM's record has its path
    <image id>          the same content, kept for the next VM from that image; usually a uuid as well
    .dom0-plugins-*/    staging directories

A file gets its name after it is complete and on the disk.  Names of the same content are hard links: nobody writes to these
files, and each name stays when others are removed.
"""

from __future__ import absolute_import, division

import errno
import os
import stat

from dom0_lib import errors
from dom0_lib import faults
from dom0_lib import paths
from dom0_lib import termination
from dom0_lib.storage import staging
from dom0_lib.system import durable_file
from dom0_lib.system import os_errors
from dom0_lib.system import sparse_file

_COPY = 'copy'
_PIECE_BYTES = 1 << 20


class BootDirectory(object):
    """/boot/guest itself, made if it is missing.  Raises errors.StorageError."""

    def __init__(self):
        located = paths.locate(paths.BOOT_GUEST)
        self.path = os.path.realpath(located)
        with errors_here():
            if not os.path.lexists(located):
                durable_file.make_directory(located)
            if not os.path.isdir(self.path):
                raise errors.StorageError('%s leads to %s, which is no directory: is the SR attached?' % (
                    paths.BOOT_GUEST, self.path))

    def stage(self, reserve_bytes):
        """A staging.Area in the directory."""
        return staging.Area(self.path, reserve_bytes, paths.BOOT_GUEST)

    def sweep(self):
        """Remove the staging directories of dead processes; returns their names."""
        with errors_here():
            return staging.sweep(self.path, recover=None)

    def is_staging(self, name):
        """Whether there is a staging directory of this name.  After a sweep, its process is alive."""
        return '/' not in name and os.path.isdir(os.path.join(self.path, name))

    def join(self, name):
        return os.path.join(self.path, name)

    def resolve(self, path):
        """The name in this directory that a path in dom0 leads to; None if it leads elsewhere."""
        parent, _, name = path.rpartition('/')
        return name if os.path.realpath(paths.locate(parent)) == self.path else None

    def has(self, name):
        """Whether there is a file of this name.  Raises errors.StorageError for a link, a directory or a device."""
        try:
            mode = os.lstat(self.join(name)).st_mode
        except EnvironmentError as error:
            if error.errno == errno.ENOENT:
                return False
            raise
        if not stat.S_ISREG(mode):
            raise errors.StorageError('%s/%s is not a plain file, but a link, a directory or a device' % (paths.BOOT_GUEST, name))
        return True

    def publish(self, area, path, names):
        """Give the file at `path`, which is complete and on the disk, these names: all of them or, on an error, none.

        If a name is taken, its file must have the same content: nothing is ever replaced.
        """
        made = []
        with errors_here(), termination.Shield():
            try:
                for name in names:
                    if self._publish_as(area, path, name):
                        made.append(name)
                    faults.point('kernel.linked')
                sparse_file.sync(self.path, paths.BOOT_GUEST)
            except BaseException:
                for name in made:
                    os.unlink(self.join(name))
                raise

    def _publish_as(self, area, path, name):
        """Give the file one name.  Returns whether the name is new."""
        try:
            os.link(path, self.join(name))
            return True
        except EnvironmentError as error:
            if error.errno != errno.EEXIST and error.errno not in sparse_file.NO_HARD_LINKS:
                raise
        if not self.has(name):
            self._publish_copy(area, path, name)
            return True
        self._require_same(path, name)
        # Make it young again: a sweep could remove an old file before the VM's record has its path.
        os.utime(self.join(name), None)
        return False

    def _publish_copy(self, area, path, name):
        with open(path, 'rb', 0) as source:
            area.copy(source.fileno(), _COPY, lambda size_bytes: None)
        sparse_file.sync(area.join(_COPY), paths.BOOT_GUEST)
        os.rename(area.join(_COPY), self.join(name))

    def _require_same(self, path, name):
        if not self.has(name) or not _is_same(path, self.join(name)):
            raise errors.StorageError('%s/%s already exists with other content; remove it first' % (paths.BOOT_GUEST, name))


def errors_here():
    """`with errors_here():` makes operating system errors errors.StorageError."""
    return os_errors.StorageErrors('cannot use %s' % paths.BOOT_GUEST)


def _read_pieces(source):
    while True:
        piece = source.read(_PIECE_BYTES)
        if not piece:
            return
        yield piece


def _is_same(path, other_path):
    if os.path.samefile(path, other_path):
        return True
    if os.path.getsize(path) != os.path.getsize(other_path):
        return False
    with open(path, 'rb', 0) as one, open(other_path, 'rb', 0) as other:
        return all(piece == other.read(_PIECE_BYTES) for piece in _read_pieces(one))
