# SPDX-License-Identifier: Apache-2.0
"""JSON without the json module, held to the standard library's json."""

from __future__ import absolute_import, division

import json
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dom0_lib import compat
from dom0_lib import light_json
from tests.unit.texts import texts_with

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TEXT = texts_with(u'\0\t\n\r\x1b\x7f\x80"\'\\/\u2028\ud800\udfff\uffff\U0001f600', exclude_surrogates=False)
PLAIN_DATA = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXT),
    lambda values: st.one_of(st.lists(values, max_size=4), st.dictionaries(TEXT, values, max_size=4)), max_leaves=15)


@settings(max_examples=50)
@given(PLAIN_DATA)
def test_json_reads_what_is_written(value):
    text = light_json.dumps(value)
    assert isinstance(text, compat.text_type)
    assert all(u' ' <= c <= u'\x7f' for c in text)
    assert typed(json.loads(text)) == typed(json.loads(json.dumps(value)))  # two surrogates in a row come back as one character


def typed(value):
    """`value` so that True differs from 1 and 1 from 1.0."""
    if isinstance(value, dict):
        return sorted((key, typed(item)) for key, item in value.items())
    if isinstance(value, list):
        return [typed(item) for item in value]
    return ('number' if isinstance(value, compat.integer_types) and not isinstance(value, bool) else type(value).__name__, value)


@pytest.mark.parametrize('value, text', [
    (None, u'null'), (True, u'true'), (False, u'false'), (0, u'0'), (2 ** 70, u'1180591620717411303424'), (1.5, u'1.5'),
    (1e22, u'1e+22'),
    (u'2.1', u'"2.1"'), (u'', u'""'), (u'\xe9"\n\U0001f600', u'"\\u00e9\\"\\n\\ud83d\\ude00"'),
    ([], u'[]'), ((1, u'a'), u'[1, "a"]'), ({}, u'{}'), ({u'b': 1, u'a': {u'c': []}}, u'{"a": {"c": []}, "b": 1}'),
    ({u'root': {u'uuid': u'x'}}, u'{"root": {"uuid": "x"}}'),
])
def test_the_text_of_a_reply(value, text):
    assert light_json.dumps(value) == text


@pytest.mark.parametrize('value', [
    object(), set(), 1j, float('nan'), float('inf'), -float('inf'), [object()], {u'key': set()}, {1: u'x'}, {None: u'x'},
    {(): u'x'},
    b'\xff\xfe', {b'\xff': 1},
])
def test_what_is_no_json_cannot_be_written(value):
    with pytest.raises((TypeError, ValueError)):
        light_json.dumps(value)


@settings(max_examples=50)
@given(PLAIN_DATA, st.booleans())
def test_what_json_writes_is_read(value, is_ascii):
    text = compat.to_text(json.dumps(value, ensure_ascii=is_ascii, indent=1))
    assert typed(light_json.loads(u' \r\n' + text + u'\t\n')) == typed(json.loads(text))


PIECES = [u'{', u'}', u'[', u']', u'"', u'\\', u'\\u', u'd83d', u',', u':', u' ', u'\t', u'\n', u'\x0b', u'\xa0', u'\0', u'\x1b', u'a',
          u'"a"', u'"a":', u'0', u'01', u'-', u'1.', u'.5', u'1e5', u'1e400', u'true', u'null', u'nul', u'NaN', u'Infinity', u'\ufeff', u"'"]


@settings(max_examples=300)
@given(st.lists(st.sampled_from(PIECES), max_size=8).map(u''.join))
def test_what_json_refuses_is_refused(text):
    try:
        expected = json.loads(text, parse_constant=lambda name: {}[name])
    except (ValueError, KeyError):
        with pytest.raises(ValueError):
            light_json.loads(text)
    else:
        assert typed(light_json.loads(text)) == typed(expected)


@pytest.mark.parametrize('text', [
    u'', u' ', u'[' * 100000, u'{"a":' * 100000, u'{"a": NaN}', u'Infinity', u'-Infinity', u'{} {}', u"{'a': 1}", u'"\x1b"', u'\ufeff{}'])
def test_what_is_no_json_cannot_be_read(text):
    with pytest.raises(ValueError):
        light_json.loads(text)


@pytest.mark.parametrize('text', ['{', '{"a" 1}', '[1,', 'x', '"', '["\\x"]', '{"a": NaN}', '{} {}'])
def test_what_is_no_json_where_nobody_has_imported_json(text):
    """As in a plug-in: the scanner raises an error of a module that is not there."""
    program = ('import sys; from dom0_lib import light_json\n'
               'for name in list(sys.modules):\n    if name.partition(".")[0] == "json": del sys.modules[name]\n'
               'try: light_json.loads(sys.argv[1] if sys.version_info[0] > 2 else sys.argv[1].decode("ascii"))\n'
               'except ValueError: print("refused")')
    assert subprocess.check_output([sys.executable, '-c', program, text], cwd=CHECKOUT) == b'refused\n'


def test_reading_needs_no_module():
    # virtualenv's Python 2.7 has it from its start.
    program = ('import sys; sys.modules.pop("json", None); from dom0_lib import light_json; light_json.loads(u\'{"a": [1, 2.5]}\'); '
               'print("json" in sys.modules)')
    assert subprocess.check_output([sys.executable, '-c', program], cwd=CHECKOUT) == b'False\n'


@settings(max_examples=200)
@given(st.one_of(st.binary(max_size=40), st.lists(st.sampled_from(PIECES), max_size=8).map(u''.join).map(
    lambda text: text.encode('utf-8')), PLAIN_DATA.map(lambda value: light_json.dumps(value).encode('ascii'))))
def test_whatever_is_stored_can_be_read(data):
    text = light_json.from_stored(data)
    # What XML and XAPI carry as it is.
    assert not [c for c in text if c < u' ' and c not in u'\t\n\r' or c in u'\ufffe\uffff']
    value = json.loads(text, parse_constant=lambda name: {}[name])
    try:
        assert typed(value) == typed(light_json.loads(data.decode('utf-8')))
    except ValueError:
        if u'\ufffd' not in text and u'\\ufffd' not in text:
            assert value == data.decode('utf-8')


@pytest.mark.parametrize('data, text', [
    (b'{"a": 1}', u'{"a": 1}'), (b' 4\n', u' 4\n'), (b'-1', u'-1'), (b'', u'""'), (b'vm', u'"vm"'), (b'NaN', u'"NaN"'), (b'[NaN]', u'"[NaN]"'),
    (b'\xff', u'"\\ufffd"'), (b'"\xff"', u'"\\"\\ufffd\\""'), (b'\0\x1b', u'"\\u0000\\u001b"'),
    (u'"\xe9"'.encode('utf-8'), u'"\xe9"'), (u'["\ufffe\uffff"]'.encode('utf-8'), u'["\\ufffe\\uffff"]'), (u'\ufffe'.encode('utf-8'), u'"\\ufffe"'),
    (b'[' * 64 + b']' * 64, u'[' * 64 + u']' * 64), (b'[' * 65 + b']' * 65, u'"' + u'[' * 65 + u']' * 65 + u'"'),
    (b'[' * 64 + b'1' + b']' * 64, u'[' * 64 + u'1' + u']' * 64),
    (b'[' * 66 + b']' * 66, u'"' + u'[' * 66 + u']' * 66 + u'"'),
    (b'{"a":' * 66 + b'1' + b'}' * 66, None), (b'[' * 5000, u'"' + u'[' * 5000 + u'"'), (b'[' * 2000 + b']' * 2000, None),
])
def test_what_a_guest_stored(data, text):
    found = light_json.from_stored(data)
    if text is None:
        assert json.loads(found) == data.decode('ascii')
    else:
        assert found == text
