# SPDX-License-Identifier: Apache-2.0
"""The kinds of arguments of xenstore.py; dom0_lib.call.binding explains kinds."""

from __future__ import absolute_import, division

from dom0_lib import compat
from dom0_lib import text_checks
from dom0_lib.call import binding

_PATH_CHARACTERS = frozenset(text_checks.LETTERS_AND_DIGITS + u'-_@/')
# Both daemons take a path of this length below a domain's, and OCaml's takes a value of this length.
_MAX_PATH = 2048
_MAX_VALUE_BYTES = 2048
# True is os-xenapi's spelling, true is JSON's.
_TRUTHS = {True: True, False: False, u'True': True, u'False': False, u'true': True, u'false': False}


def _check_path(value):
    return _check_directory(text_checks.require(value))


def _check_directory(value):
    if not text_checks.require_text(value):
        return value
    if len(value) > _MAX_PATH or not _PATH_CHARACTERS.issuperset(value) or u'' in value.split(u'/'):
        raise ValueError('needs a path below the domain\'s: letters, digits, "-", "_", "@", with "/" between names; '
                         'at most %d characters' % _MAX_PATH)
    return value


def _check_value(value):
    text_checks.require_text(value)
    size_bytes = len(compat.join_surrogates(value).encode('utf-8'))
    if size_bytes > _MAX_VALUE_BYTES:
        raise ValueError('has %d bytes; a record of xenstore holds at most %d' % (size_bytes, _MAX_VALUE_BYTES))
    return value


def _check_truth(value):
    if not isinstance(value, (bool, compat.text_type)) or value not in _TRUTHS:
        raise ValueError('needs True or False')
    return _TRUTHS[value]


PATH = binding.Kind(_check_path)
DIRECTORY = binding.Kind(_check_directory)
VALUE = binding.Kind(_check_value, secret=True)
TRUTH = binding.Kind(_check_truth)
