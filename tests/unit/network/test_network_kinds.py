# SPDX-License-Identifier: Apache-2.0
"""Values that each kind of argument of a network command takes, and values that it refuses."""

from __future__ import absolute_import, division

import base64
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dom0_lib.call import binding
from dom0_lib.network import network_kinds
from tests.unit.call import kind_cases

KINDS = dict((name, value) for name, value in vars(network_kinds).items() if isinstance(value, binding.Kind))


def deflate(data):
    return base64.b64encode(zlib.compress(data)).decode('ascii')


# For each kind: pairs of a value that it takes and the value that the function gets, and pairs of a value that it refuses and the reason.
TAKEN = {
    'COMMAND': [
        ([u'ip'], ['ip']), ([u'ip', u'', u'a b~'], ['ip', '', 'a b~']),
    ],
    'PROGRAM_INPUT': [
        (u'', b''), (u'x\n\0', b'x\n\0'), (u'caf\xe9 \udcff', b'caf\xc3\xa9 \xff'),
    ],
    'DEFLATED_INPUT': [
        (deflate(b''), b''), (deflate(b'\xff\0\n'), b'\xff\0\n'), (deflate(b'x' * (8 << 20)), b'x' * (8 << 20)),
        (deflate(b'x') + u'\n', b'x'),
    ],
    'PROGRAM_TEXT': [
        (u'*filter\n', b'*filter\n'), (u'caf\xe9', b'caf\xc3\xa9'), (u'', b''),
    ],
}
REFUSED = {
    'COMMAND': [
        (value, 'needs a list of texts') for value in (u'', u'ip link', [], {}, 5, [5], [u'ip', None], [[u'ip']])
    ] + [
        ([u'ip', text], 'needs printable ASCII') for text in (u'a\n', u'\n', u'a\0b', u'\t', u'\x7f', u'caf\xe9', u'\udcff')
    ],
    'PROGRAM_INPUT': [
        (value, 'needs text or null') for value in (5, True, [u'x'], {})
    ] + [
        (text, 'has half a character') for text in (u'\ud800', u'x\udc7f', u'\udfff', u'\udc00')
    ],
    'DEFLATED_INPUT': kind_cases.NO_TEXTS + [(u'', 'is empty'), (deflate(b'x' * ((8 << 20) + 1)), 'inflates to more than 8388608 bytes')] + [
        (text, 'needs data that zlib has deflated')
        for text in (u'x', u'eNo', u'caf\xe9', u'eJw=', deflate(b'x' * 1000)[:-8], base64.b64encode(b'plain').decode('ascii'),
                     base64.b64encode(zlib.compress(b'x') + b'more').decode('ascii'))
    ],
    'PROGRAM_TEXT': [
        (value, 'needs text or null') for value in (5, True, [u'x'], {})
    ] + [
        (text, 'has half a character') for text in (u'\ud800', u'\udc00')
    ],
}


def test_every_kind_is_in_the_tables():
    assert sorted(KINDS) == sorted(TAKEN) == sorted(REFUSED)


@pytest.mark.parametrize('name, value, expected', kind_cases.list_cases(TAKEN))
def test_a_right_value_is_taken(name, value, expected):
    kind_cases.check_taken(KINDS[name], value, expected)


@pytest.mark.parametrize('name, value, reason', kind_cases.list_cases(REFUSED))
def test_a_wrong_value_is_refused_by_name(name, value, reason):
    kind_cases.check_refused(KINDS[name], value, reason)


@settings(max_examples=60)
@given(kind_cases.ANY_DATA, kind_cases.ANY_TEXT, st.sampled_from(sorted(TAKEN)))
def test_nothing_but_an_argument_error_comes_out(value, text, name):
    kind_cases.check_errors(KINDS[name], value, text)
