# SPDX-License-Identifier: Apache-2.0
"""Files of /images that become VDIs: where they are, and how they go once they are VDIs, also after a crash.

    /images/instance<label>/<n>.vhd     label: an instance's uuid, or <uuid>_ephemeral_<n>
"""

from __future__ import absolute_import, division

import errno
import os

from dom0_lib import faults
from dom0_lib import log
from dom0_lib import paths
from dom0_lib import text_checks
from dom0_lib.storage import staging
from dom0_lib.storage import vhd_chain

PREFIX = 'instance'
_FILE_NAMES = frozenset('%d.vhd' % number for number in range(vhd_chain.MAX_LENGTH))


def directory(label):
    """Where the disks of `label` arrive, as every dom0 calls it."""
    return '%s/%s%s' % (paths.IMAGES, PREFIX, label)


def locate(label, is_here):
    """The same as a path for programs: under the root of this dom0, or as another dom0 has it."""
    return paths.locate(directory(label)) if is_here else directory(label)


def name_file(number):
    """What the file of that place in a chain is called; the leaf has 0."""
    return '%d.vhd' % number


def forget(origins):
    """Remove files that have become VDIs: (inode, 'instance<label>/<n>.vhd'); one that has been replaced since is left alone.

    Their directory goes when it is empty.  After a crash this comes from a journal in the SR: nothing outside /images can be meant.
    """
    for path in _find(origins):
        with Logged('cannot remove', path):
            os.unlink(path)
            faults.point('arrival.forgotten')
    for parent in set(os.path.dirname(path) for _, path in _locate(origins)):
        with Logged('cannot remove', parent):
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
        if parent.startswith(PREFIX) and text_checks.is_label(parent[len(PREFIX):]) and file_name in _FILE_NAMES:
            path = paths.locate('%s/%s' % (paths.IMAGES, name))
            if not os.path.islink(os.path.dirname(path)):
                found.append((inode, path))
    return found


class Logged(object):
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
