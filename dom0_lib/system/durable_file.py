# SPDX-License-Identifier: Apache-2.0
"""Files that are replaced as a whole: whatever ends this process, or the host, a file is the old or the new one."""

from __future__ import absolute_import, division

import errno
import io
import os
import stat

from dom0_lib import compat

# How open(2) refuses links (with O_NOFOLLOW), directories (for writing), sockets and pipes (without a reader).
_NOT_REGULAR = (errno.ELOOP, errno.EISDIR, errno.ENXIO)


def replace(path, data, mode=0o644, check=lambda: None):
    """Write bytes to the file `path`, in the place of what is there.  Raises EnvironmentError.

    check(): called when all is written, just before the file is put in its place; what it raises leaves the old one there
    A link there is replaced, not followed.  Callers that may do this at the same time need a lock of their own.
    """
    directory, name = os.path.split(path)
    # The leading dot keeps cron, and whoever else reads all files of a directory, away from it.
    scratch = os.path.join(directory, '.%s.new' % name)
    _remove(scratch)  # what a killed call has left, whatever its mode
    fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        os.fchmod(fd, mode)  # whatever the umask
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
    """Remove a file, or a link; returns whether it was there.  Raises EnvironmentError."""
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
    """Make a directory, and those above it, where there is none, and bring their names to the disk.  Raises EnvironmentError."""
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
    """Bring a file's content, or the names in a directory, to the disk.  Raises EnvironmentError."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    except EnvironmentError as error:
        # What a file system answers that cannot do it for a directory: CIFS, before Linux 4.17.
        if error.errno != errno.EINVAL or not os.path.isdir(path):
            raise
    finally:
        os.close(fd)
