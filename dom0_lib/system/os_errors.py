# SPDX-License-Identifier: Apache-2.0
"""Errors of the operating system as errors that a caller can see.

    with os_errors.Errors('cannot read /proc/stat'): ...              errors.PluginError: cannot read /proc/stat: [Errno 5] ...
    with os_errors.StorageErrors('cannot write to the SR'): ...       errors.StorageError: cannot write to the SR: it is full
"""

from __future__ import absolute_import, division

import errno

from dom0_lib import compat
from dom0_lib import errors


class Errors(object):
    """Within, an operating system error becomes errors.PluginError.

    failure: the beginning of the error's text, such as 'cannot read <file>'
    """

    error_class = errors.PluginError

    def __init__(self, failure):
        self._failure = failure

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        if isinstance(value, EnvironmentError):
            raise self.error_class('%s: %s' % (self._failure, self._describe(value)))

    def _describe(self, error):
        return compat.to_text(error)


class StorageErrors(Errors):
    """Within, an operating system error becomes errors.StorageError."""

    error_class = errors.StorageError

    def _describe(self, error):
        return 'it is full' if error.errno in (errno.ENOSPC, errno.EDQUOT) else compat.to_text(error)
