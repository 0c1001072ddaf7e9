# SPDX-License-Identifier: Apache-2.0
"""Files that survive a crash: a file is replaced as a whole, so that after a kill or a power cut it is the old or the new one."""

from __future__ import absolute_import, division

import errno
import io
import os
import stat

from dom0_lib import compat

# How open(2) refuses links (with O_NOFOLLOW), directories (for writing), sockets and pipes (without a reader).
_NOT_REGULAR = (errno.ELOOP, errno.EISDIR, errno.ENXIO)


def replace(path, data, mode=0o644, check=lambda: None):
    """Write bytes to the file `path`, in place of the old file, if there is one.  Raises EnvironmentError.

    check(): called when all is written, just before the file gets its name; an exception from it keeps the old file
    A link is replaced, not followed.  Callers that may run at the same time need a lock of their own.
    """
    directory, name = os.path.split(path)
    # Programs that read all files of a directory, such as cron, skip a name with a leading dot.
    scratch = os.path.join(directory, '.%s.new' % name)
    _remove(scratch)  # a killed call may have left one, with any mode
    fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        os.fchmod(fd, mode)  # independent of the umask
        write_all(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    try:
        check()
    except Exception:
        _remove(scratch)
        raise
    os.rename(scratch, path)
    sync(directory)


def write_all(fd, data):
    """Write all of `data`, bytes or a memoryview, to an open file.  Raises EnvironmentError."""
    while data:
        data = data[os.write(fd, data):]


def read(path, max_bytes=-1):
    """The first `max_bytes` of a file, by default all of it; None if there is no such file.  Raises EnvironmentError."""
    try:
        with io.open(path, 'rb') as source:
            return source.read(max_bytes)
    except EnvironmentError as error:
        if error.errno == errno.ENOENT:
            return None
        raise


def open_regular(path, flags=os.O_RDONLY):
    """A descriptor of the regular file at `path`; None if it is a link, a pipe, or anything else.  Raises EnvironmentError."""
    try:
        # Without O_NONBLOCK this would wait for the other end of a pipe.
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
    except EnvironmentError as error:
        if error.errno in _NOT_REGULAR:
            return None
        raise
    try:
        compat.keep_from_children(fd)
        is_regular = stat.S_ISREG(os.fstat(fd).st_mode)
    except BaseException:
        os.close(fd)
        raise
    if is_regular:
        return fd
    os.close(fd)
    return None


def remove(path):
    """Remove a file, or a link; returns whether there was one.  Raises EnvironmentError."""
    if not _remove(path):
        return False
    sync(os.path.dirname(path))
    return True


def _remove(path):
    if not os.path.lexists(path):
        return False
    os.unlink(path)
    return True


def make_directory(path, mode=0o755):
    """Make a directory and its parents, where they are missing, and sync their names to the disk.  Raises EnvironmentError."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    make_directory(parent)
    try:
        os.mkdir(path, mode)
    except EnvironmentError as error:
        if error.errno != errno.EEXIST or not os.path.isdir(path):
            raise
    sync(parent)


def sync(path):
    """Sync the content of a file, or the names in a directory, to the disk.  Raises EnvironmentError."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    except EnvironmentError as error:
        # The answer of a file system that cannot sync a directory: CIFS before Linux 4.17.
        if error.errno != errno.EINVAL or not os.path.isdir(path):
            raise
    finally:
        os.close(fd)
