# SPDX-License-Identifier: Apache-2.0
"""Errors of the operating system as errors that callers see; all others pass."""

from __future__ import absolute_import, division

import errno
import os

import pytest

from dom0_lib import errors
from dom0_lib.system import os_errors


def test_a_plugin_error(tmpdir):
    path = str(tmpdir.join('absent'))
    with pytest.raises(errors.PluginError) as caught:
        with os_errors.Errors('cannot read it'), open(path):
            raise AssertionError('opened')
    assert type(caught.value) is errors.PluginError
    assert str(caught.value) == "cannot read it: [Errno 2] No such file or directory: '%s'" % path


@pytest.mark.parametrize('code, text', [(errno.ENOSPC, 'it is full'), (errno.EDQUOT, 'it is full'), (errno.EIO, '[Errno 5] Input/output error')])
def test_a_storage_error(code, text):
    with pytest.raises(errors.StorageError) as caught:
        with os_errors.StorageErrors('cannot write'):
            raise OSError(code, os.strerror(code))
    assert str(caught.value) == 'cannot write: ' + text


@pytest.mark.parametrize('kind', [os_errors.Errors, os_errors.StorageErrors])
@pytest.mark.parametrize('error', [KeyError('x'), errors.RetryableError('again'), errors.Terminated(15)])
def test_other_errors_pass(kind, error):
    with pytest.raises(type(error)) as caught:
        with kind('cannot write'):
            raise error
    assert caught.value is error
