# SPDX-License-Identifier: Apache-2.0
"""Which error is which other one: handlers, and callers, go by it."""

from __future__ import absolute_import, division

import pytest

from dom0_lib import errors

BASES = {
    'PluginError': Exception, 'UnknownFunction': Exception, 'Failure': Exception, 'Terminated': BaseException,
    'RequestError': errors.PluginError, 'ArgumentError': errors.PluginError, 'Denied': errors.PluginError,
    'RetryableError': errors.PluginError, 'ImageNotFound': errors.PluginError, 'InvalidImage': errors.PluginError,
    'UnsafeImage': errors.InvalidImage, 'StorageError': errors.PluginError, 'CommandNotFound': errors.PluginError,
    'CommandFailed': errors.PluginError, 'RebootDetectedError': errors.PluginError, 'NotImplementedError': errors.PluginError,
}


def test_every_class_has_its_base():
    """A Failure that were a PluginError would be reworded where it must pass; a Terminated that were an Exception, swallowed."""
    classes = {name: value for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, BaseException)}
    assert {name: found.__bases__ for name, found in classes.items()} == {name: (base,) for name, base in BASES.items()}


@pytest.mark.parametrize('error, text', [
    (errors.CommandNotFound('rsync'), "command 'rsync' was not found on PATH"),
    (errors.CommandNotFound('rsync', 'no rsync there'), 'no rsync there'),
    (errors.CommandFailed('tar', 0, 'odd'), "command 'tar' ended with status 0: odd"),
    (errors.CommandFailed('tar', None, ''), "command 'tar' was killed: no output"),
])
def test_the_text_of_an_error(error, text):
    assert str(error) == text


def test_a_failure_keeps_its_own_list():
    params = ['OpaqueRef:1']
    failure = errors.Failure('VDI_IN_USE', params)
    params.append('later')
    assert failure.params == ['OpaqueRef:1'] and errors.Failure('X', ('a',)).params == ['a']
