# SPDX-License-Identifier: Apache-2.0
"""Locks among our own calls."""

from __future__ import absolute_import, division

import os

import pytest

from dom0_lib import errors
from dom0_lib import file_lock


def test_one_at_a_time(tmpdir):
    first, second = [os.open(str(tmpdir), os.O_RDONLY) for _ in range(2)]
    file_lock.wait(first, '/x', 0)
    with pytest.raises(errors.RetryableError) as caught:
        file_lock.wait(second, '/x', 0.1)
    assert 'at work on /x' in str(caught.value)
    os.close(first)
    file_lock.wait(second, '/x', 0)
    os.close(second)
