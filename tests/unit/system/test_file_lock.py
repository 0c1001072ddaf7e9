# SPDX-License-Identifier: Apache-2.0
"""Locks among our own calls."""

from __future__ import absolute_import, division

import errno
import fcntl
import os
import threading

import pytest

from dom0_lib import errors
from dom0_lib.system import file_lock


def test_one_at_a_time(tmpdir):
    first, second = [os.open(str(tmpdir), os.O_RDONLY) for _ in range(2)]
    file_lock.wait(first, '/x', 0)
    with pytest.raises(errors.RetryableError) as caught:
        file_lock.wait(second, '/x', 0.1)
    assert 'at work on /x' in str(caught.value)
    os.close(first)
    file_lock.wait(second, '/x', 0)
    os.close(second)


def test_a_lock_that_becomes_free_is_taken(tmpdir):
    first, second = [os.open(str(tmpdir), os.O_RDONLY) for _ in range(2)]
    file_lock.wait(first, '/x', 0)
    timer = threading.Timer(0.2, os.close, [first])
    timer.start()
    file_lock.wait(second, '/x', 60)
    timer.join()
    os.close(second)


def test_no_child_keeps_it(tmpdir):
    fd = os.open(str(tmpdir), os.O_RDONLY)
    file_lock.wait(fd, '/x', 0)
    assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    os.close(fd)


def test_a_lock_that_cannot_be(tmpdir):
    """That is not waited for: the file system has none, or as here the descriptor is for its name alone."""
    fd = os.open(str(tmpdir), 0o10000000)  # O_PATH
    with pytest.raises(EnvironmentError) as caught:
        file_lock.wait(fd, '/x', 60)
    assert caught.value.errno == errno.EBADF
    os.close(fd)
