# SPDX-License-Identifier: Apache-2.0
"""Comparison of values from pickles, types included."""

from __future__ import absolute_import, division

from dom0_lib import compat


def typed(value):
    """`value` with the name of every type in it: True is not 1, a list no tuple; on Python 2 int is long and str text."""
    if isinstance(value, dict):
        return 'dict', sorted(((typed(key), typed(item)) for key, item in value.items()), key=repr)
    if isinstance(value, (list, tuple)):
        return type(value).__name__, [typed(item) for item in value]
    if isinstance(value, bool) or value is None:
        return repr(value)
    if isinstance(value, float):
        return 'float', repr(value)
    if isinstance(value, compat.integer_types):
        return 'int', int(value)
    if compat.PYTHON2 and isinstance(value, str):
        value = value.decode('ascii')
    assert isinstance(value, compat.text_type)
    return 'text', value
