# SPDX-License-Identifier: Apache-2.0
"""Where a differencing disk's parent is: writing and following parent locators exactly as vhd-util does.

As recorded, there is no containment of any kind: a locator may lead to any file of the host.
"""

import errno
import os
import stat

from dom0_lib.disks import vhd

# The space that vhd-util reserves for each locator's data.
LOCATOR_SPACE = 512


def encode_locators(child_path, parent_path):
    """[(code, data), ...] that lead from a child to its parent; OSError(EILSEQ) if the path is not ASCII."""
    start = os.path.dirname(os.path.realpath(child_path))
    relative = os.path.relpath(os.path.realpath(parent_path), start)
    if any(ord(character) > 127 for character in relative):
        raise OSError(errno.EILSEQ, os.strerror(errno.EILSEQ), parent_path)
    url = 'file://' + ('' if relative.startswith('../') else './') + relative
    windows_path = ('.\\' + relative.replace('/', '\\')).encode('utf-16-le')
    return [(vhd.MACX, url.encode('ascii')), (vhd.W2KU, windows_path), (vhd.W2RU, windows_path)]


def find_parent(child_path, locators):
    """The path of the parent: the first locator that resolves wins; OSError if none does."""
    error = OSError(errno.EINVAL, 'no usable parent locator', child_path)
    for locator in locators:
        if locator.path is None:
            error = OSError(errno.EINVAL, 'unusable parent locator', child_path)
            continue
        try:
            return resolve(child_path, locator.path)
        except OSError as reason:
            error = reason
    raise error


def resolve(child_path, location):
    """The path that a locator's text means, seen from the child; OSError if nothing readable is there."""
    if os.path.isabs(location) and os.access(location, os.R_OK):
        return location
    path = os.path.realpath(os.path.dirname(os.path.realpath(child_path)) + '/' + location)
    os.stat(path)
    if not os.access(path, os.R_OK):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), path)
    return path


def read_modification_time(path):
    """The parent timestamp that a child records: the file's modification time, in VHD time."""
    # A field of 32 bits: a file from before 2000 gets a time far ahead.
    return int(os.stat(path)[stat.ST_MTIME]) - vhd.EPOCH_UNIX_S & 0xffffffff
