# SPDX-License-Identifier: Apache-2.0
"""The reader and writer of legacy pickles, held to what Python 2.7 wrote and to this Python's own pickle."""

from __future__ import absolute_import, division

import io
import math
import os
import pickle
import pickletools
import resource
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dom0_lib import compat
from dom0_lib.call import pickles
from tests import patience
from tests.contract import captures
from tests.contract.plain_data import typed
from tests.unit.texts import texts_with

picklers = [pickle]
if compat.PYTHON2:
    import cPickle
    picklers.append(cPickle)

PRINTABLE = frozenset([0x0a] + list(range(0x20, 0x7f)))

TEXT = texts_with(u'\0\t\n\r\x1a\x1b\x7f\x80\xff"\'\\ u.\u0100\ufffe\U0001f600')
KEY = st.one_of(TEXT, st.integers(), st.booleans(), st.none())
PLAIN_DATA = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), TEXT),
    lambda values: st.one_of(st.lists(values, max_size=4), st.lists(values, max_size=4).map(tuple),
                             st.dictionaries(KEY, values, max_size=4)), max_leaves=12)


@pytest.mark.parametrize('data, expected', captures.read('python27_pickles.txt'))
def test_a_pickle_by_python27_is_read(data, expected):
    assert typed(pickles.loads(data.decode('latin-1'))) == typed(expected)


@pytest.mark.parametrize('text, expected', [
    # Before 2.7 a narrow Python wrote a character beyond the BMP as its two surrogates.
    (u'V\\ud83d\\ude00\n.', u'\U0001f600'),
    (u'V\\U0001f600\n.', u'\U0001f600'),
    (u'V\\ud83d \\ude00\n.', u'\ufffd \ufffd'),
    # Python 3.6 writes small integers as long ones, and control characters raw.
    (u'L5L\n.', 5), (u'L5\n.', 5), (u'Va\r\0\x1a\n.', u'a\r\0\x1a'),
    (u'I00\n.', False), (u'I01\n.', True), (u'I-7\n.', -7), (u'F-0.0\n.', -0.0), (u'F1e400\n.', float('inf')),
    # Records of protocol 1 that protocol 0 may hold, and the ways to build a map.
    (u'].', []), (u'}.', {}), (u').', ()), (u'](I1\nI2\ne.', [1, 2]), (u'}(I1\nI2\nu.', {1: 2}), (u'(I1\nI2\nd.', {1: 2}),
    (u'NI5\n0.', None), (u'N(I1\nI2\n1.', None), (u'(I5\n2t.', (5, 5)), (u'(lp0\n0g0\n.', []),
    (u"(S'a'\np0\ng0\nt.", (u'a', u'a')), (u'}(NI1\nu.', {None: 1}),
])
def test_the_records_of_plain_data_are_read(text, expected):
    assert typed(pickles.loads(text)) == typed(expected)


@settings(max_examples=50)
@given(PLAIN_DATA)
def test_what_pickle_writes_is_read(value):
    for module in picklers:
        assert typed(pickles.loads(module.dumps(value, 0).decode('latin-1'))) == typed(value)


@settings(max_examples=50)
@given(PLAIN_DATA)
def test_what_is_written_pickle_reads(value):
    text = pickles.dumps(value)
    assert PRINTABLE.issuperset(map(ord, text))
    for module in picklers:
        assert typed(module.loads(text.encode('ascii'))) == typed(value)
    assert typed(pickles.loads(text)) == typed(value)


@settings(max_examples=50)
@given(texts_with(u'\ud800\udbff\udc00\udfff\U0001f600', exclude_surrogates=False))
def test_no_text_is_too_strange_to_be_written(text):
    written = pickles.dumps(text)
    assert PRINTABLE.issuperset(map(ord, written))
    assert pickle.loads(written.encode('ascii')) == text


@pytest.mark.parametrize('value, text', [
    (u'2.1', u"S'2.1'\n."),  # the reply of get_version, which must stay a str for Python 2 callers
    (u"it's", u"Vit's\n."), (u'a\\b', u'Va\\u005cb\n.'), (u'a\nb', u'Va\\u000ab\n.'), (u'\xe9\x80', u'V\\u00e9\\u0080\n.'),
    (u'\U0001f600', u'V\\U0001f600\n.'), (u'', u"S''\n."), (True, u'I01\n.'), (False, u'I00\n.'), (None, u'N.'),
    (5, u'I5\n.'), (2 ** 70, u'I1180591620717411303424\n.'), (1.5, u'F1.5\n.'), ([], u'(l.'), ((), u'(t.'), ({}, u'(d.'),
    ({u'root': {u'uuid': u'x'}}, u"(S'root'\n(S'uuid'\nS'x'\ndd."), ([1, (2,)], u'(I1\n(I2\ntl.'),
])
def test_the_records_that_are_written(value, text):
    assert pickles.dumps(value) == text


def test_python2_callers_get_a_str_for_ascii():
    if not compat.PYTHON2:
        pytest.skip('not applicable: Python 3 has one text type')
    assert type(cPickle.loads(pickles.dumps(u'2.1').encode('ascii'))) is str
    assert type(cPickle.loads(pickles.dumps(u'\xe9').encode('ascii'))) is compat.text_type


def test_not_a_number_passes_both_ways():
    assert math.isnan(pickles.loads(u'Fnan\n.'))
    assert math.isnan(pickle.loads(pickles.dumps(float('nan')).encode('ascii')))


@pytest.mark.parametrize('value', [object(), set(), b'\xff', 1j, range, [object()], {u'key': object()}, (b'\xe9',)])
def test_what_is_no_plain_data_cannot_be_written(value):
    with pytest.raises((TypeError, ValueError)):
        pickles.dumps(value)


MARKER = '/tmp/dom0-pickle-was-run'
HOSTILE = [
    ('GLOBAL and REDUCE', u"cos\nsystem\n(S'touch %s'\ntR." % MARKER, 'code 0x63'),
    ('GLOBAL alone', u'cos\nsystem\n.', 'code 0x63'),
    ('GLOBAL of a harmless name', u'c_codecs\nencode\n.', 'code 0x63'),
    ('INST', u"(S'touch %s'\nios\nsystem\n." % MARKER, 'code 0x69'),
    ('OBJ', u"(S'x'\no.", 'code 0x6f'),
    ('REDUCE', u'(NtR.', 'code 0x52'),
    ('BUILD', u'}}b.', 'code 0x62'),
    ('PERSID', u'P1\n.', 'code 0x50'),
    ('BINPERSID', u'NQ.', 'code 0x51'),
    ('EXT1', u'\x82\x01.', 'code 0x82'),
    ('NEWOBJ', u')\x81.', 'code 0x81'),
    ('PROTO', u'\x80\x02N.', 'code 0x80'),
    ('protocol 2', pickle.dumps({u'args': (), u'kwargs': {}}, 2).decode('latin-1'), 'code 0x80'),
    ('protocol 1', pickle.dumps({u'args': (), u'kwargs': {}}, 1).decode('latin-1'), 'does not need'),
    ('no bytes', u'V\u20ac\n.', 'not bytes'),
    ('a list that holds itself', u'(lp0\ng0\na.', 'nested deeper'),
    ('a map that holds itself', u"(dp0\nS'a'\ng0\ns.", 'nested deeper'),
    ('two lists that hold each other', u']p0\n]p1\ng0\naa.', 'nested deeper'),
    ('a list that grows by itself', u'(lp0\n(g0\ng0\ne.', 'more than'),
    ('lists in lists', u'(' * 33 + u'l' * 33 + u'.', 'nested deeper'),
    ('maps in maps', u'(N' * 33 + u'N' + u'd' * 33 + u'.', 'nested deeper'),
    ('20,000 tuples', u'(' * 20000 + u't' * 20000 + u'.', 'nested deeper'),
    ('shared ten times, ten levels', u'(lp0\n0' + u''.join(
        u'(' + u'g%d\n' % level * 10 + u'lp%d\n0' % (level + 1) for level in range(10)) + u'g10\n.', 'more than'),
    ('shared twice, thirty levels', u'(lp0\n0' + u''.join(
        u'(g%d\ng%d\nlp%d\n0' % (level, level, level + 1) for level in range(30)) + u'g30\n.', 'more than'),
    ('a map as key', u'(}Nd.', 'key'), ('a list as key', u'}]Ns.', 'key'), ('a tuple as key', u'}()Nu.', 'key'),
    ('too many values', u'(' + u'N' * 100001 + u'l.', 'more than'),
    ('too long', u"S'%s'\n." % (u'x' * pickles.MAX_BYTES), 'longer than'),
    ('int of 401 digits', u'I%s\n.' % (u'9' * 401), '401 digits'),
    ('long of 5,000 digits', u'L%sL\n.' % (u'9' * 5000), '5001 digits'),
    ('float of 500 digits', u'F%s\n.' % (u'9' * 500), '500 digits'),
]


@pytest.mark.parametrize('text, reason', [pytest.param(text, reason, id=name) for name, text, reason in HOSTILE])
def test_what_no_caller_sends_is_refused(text, reason):
    started = time.time()
    with pytest.raises(pickles.PickleError) as caught:
        pickles.loads(text)
    assert reason in str(caught.value)
    assert time.time() - started < patience.LIMIT_S
    assert not os.path.exists(MARKER)


DAMAGED = [
    'I010\n.', 'I+1\n.', 'I-0\n.', 'I 1\n.', 'I1_0\n.', 'L01L\n.', "S'\\q'\n.", "S'\\101'\n.", "S'a\\'\n.",
    '', '.', '(.', 'NN.', '(N.', 'N', '0.', '1.', '2.', '(1.', '(2.', 't.', 'l.', 'd.', 'Nt.', 'Nl.', 'Nd.', 'a.', 's.', 'e.', 'u.',
    '(p0\n0g0\nt.',
    'F\r1\n.', 'F 1.0\n.', 'F1_0.0\n.', 'F1.0 \n.',
    'Npx\n.', 'Np\n.', 'Np-1\n.', 'Np01\n.', 'Np 1\n.', 'Np1000000\n.', 'Np1\n0g01\n.',
    'Na.', 'NNa.', '](a.', '(Na.', '}Na.', ')Na.', "S''\nNa.", 'NNNs.', '}(Ns.', '}N(s.', ']NNs.', '(NNs.', '}NNNs.',
    '(Nd.', '(NNNd.', '}(Nu.', '](Nu.', '}(Ne.', '(e.', '(u.', 'N(Ne.', 'p0\n.', '(p0\n.', 'Np0.', 'g0\n.', 'Np0\n0g1\n.', 'Ng.',
    'I', 'I1', 'I\n.', 'Ix\n.', 'I1.5\n.', 'I1L\n.', 'I0x10\n.', 'I1 2\n.', 'L\n.', 'LL\n.', 'L1LL\n.', 'L1.0L\n.', 'F\n.',
    'Fx\n.', 'F1,5\n.',
    'S\n.', "S'\n.", 'Sx\n.', "S'x\n.", "Sx'\n.", 'S\'x"\n.', "S'\\'\n.", "S'\\x'\n.", "S'\\xz1'\n.", "S'x'", 'V', 'Vx',
    'V\\u12\n.', 'V\\u\n.',
    'V\\U00110000\n.', 'V\\Uffffffff\n.', 'X.', '\n.', ' N.', 'N .', 'N\n.', 'j.', '\\.',
]


@pytest.mark.parametrize('text', DAMAGED)
def test_a_damaged_pickle_is_refused(text):
    with pytest.raises(pickles.PickleError):
        pickles.loads(text if isinstance(text, compat.text_type) else text.decode('ascii'))


@pytest.mark.parametrize('code', [pytest.param(ord(opcode.code), id=opcode.name) for opcode in pickletools.opcodes
                                  if opcode.code not in '(012NILFSVtldaseu])}pg.'])
def test_a_record_that_plain_data_does_not_need_is_refused(code):
    for before in (u'', u'N', u'(', u'(NN', u'}NN', u'](N'):
        with pytest.raises(pickles.PickleError) as caught:
            pickles.loads(before + u'%c1\n1\n.' % code)
        assert 'code 0x%02x' % code in str(caught.value)


@pytest.mark.parametrize('data, _', [
    parameter for parameter in captures.read('python27_pickles.txt') if not parameter.id.endswith(', pickle')])
def test_a_pickle_cut_anywhere_is_refused(data, _):
    text = data.decode('latin-1')
    for size in range(len(text)):
        with pytest.raises(pickles.PickleError):
            pickles.loads(text[:size])


@pytest.mark.parametrize('containers, fits', [(pickles.MAX_DEPTH - 1, True), (pickles.MAX_DEPTH, False)])
def test_the_limit_of_depth(containers, fits):
    text = u'(' * containers + u'N' + u'l' * containers + u'.'
    if fits:
        assert pickles.dumps(pickles.loads(text)) == text
    else:
        with pytest.raises(pickles.PickleError):
            pickles.loads(text)


@pytest.mark.parametrize('more, fits', [(0, True), (1, False)])
def test_the_limits_of_lengths(more, fits):
    for text in (u'V' + u'x' * (pickles.MAX_BYTES - 3 + more) + u'\n.', u'I' + u'9' * (400 + more) + u'\n.',
                 u'F' + u'9' * (400 + more) + u'\n.', u'Np' + u'9' * (6 + more) + u'\n.'):
        if fits:
            pickles.loads(text)
        else:
            with pytest.raises(pickles.PickleError):
                pickles.loads(text)


@pytest.mark.parametrize('values, fits', [(pickles.MAX_VALUES, True), (pickles.MAX_VALUES + 1, False)])
def test_the_limit_of_values_in_one_level(values, fits):
    check_limit(u'(' + u'N' * values + u'l.', fits)


@pytest.mark.parametrize('more, fits', [(0, True), (1, False)])
def test_the_limit_of_values_in_all_levels(more, fits):
    """Two levels, neither of which has too many alone; the list inside is a value, too."""
    half = pickles.MAX_VALUES // 2
    check_limit(u'((' + u'N' * half + u'l' + u'N' * (half - 1 + more) + u'l.', fits)
    # A list of ten lists that are one and the same, each of which holds the tenth less one.
    tenth = pickles.MAX_VALUES // 10 - 1
    check_limit(u'((' + u'N' * tenth + u'lp0\n' + u'g0\n' * 9 + u'N' * more + u'l.', fits)


def check_limit(text, fits):
    if fits:
        pickles.loads(text)
        return
    with pytest.raises(pickles.PickleError) as caught:
        pickles.loads(text)
    assert str(caught.value) == 'holds more than 100000 values'


PICKLES = [parameter.values[0] for parameter in captures.read('python27_pickles.txt') if len(parameter.values[0]) < 2000]
PIECES = [b'(', b't', b'l', b'd', b'a', b's', b'e', b'u', b'0', b'1', b'2', b'N', b'.', b']', b'}', b')', b'p1\n', b'g1\n',
          b'p0\n', b'g0\n', b'I1\n', b'L1L\n', b'F1\n', b"S'x'\n", b'V\\u0041\n', b'\n', b"'", b'\\', b'\\x', b'\\u',
          b'\\U', b'c', b'R', b'\xff', b'\0', b'g2\na']


@st.composite
def damaged_pickles(draw):
    data = draw(st.sampled_from(PICKLES))
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 20)))
        piece = draw(st.one_of(st.sampled_from(PIECES), st.binary(max_size=3), st.just(data[start:end] * 2)))
        data = data[:start] + piece + data[end:]
    return data


class PowerlessUnpickler(pickle.Unpickler, object):
    """Python's own reader, without the power to build objects."""

    def find_class(self, module, name):
        raise ValueError('%s.%s' % (module, name))

    def persistent_load(self, pid):
        raise ValueError(pid)


def read_by_pickle(data):
    if not compat.PYTHON2:
        return PowerlessUnpickler(io.BytesIO(data), encoding='utf-8', errors='surrogateescape').load()
    return as_text(PowerlessUnpickler(io.BytesIO(data)).load())


def as_text(value):
    """`value` with Python 2's str decoded as the plug-ins do."""
    if isinstance(value, dict):
        return dict((as_text(key), as_text(item)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return type(value)(as_text(item) for item in value)
    return value.decode('utf-8', 'surrogateescape') if isinstance(value, bytes) else value


@given(st.one_of(damaged_pickles(), st.lists(st.sampled_from(PIECES), max_size=30).map(
    lambda pieces: b''.join(pieces) + b'.')))
def test_a_damaged_pickle_is_refused_or_read_as_pickle_reads_it(data):
    try:
        value = pickles.loads(data.decode('latin-1'))
    except pickles.PickleError:
        return
    try:
        expected = read_by_pickle(data)
    except Exception:
        typed(value)  # fails on anything that is not plain data
        return
    assert typed(value) == typed(expected)


def fill(text):
    return text * ((pickles.MAX_BYTES - 20) // len(text))


# Small integers that all have the same hash on Python 3: a map of them takes quadratic time.
EQUAL_HASHES = u''.join(u'I%d\nN' % ((2 ** 61 - 1) * number) for number in range(1, pickles.MAX_BYTES // 26))
LARGEST = [
    ('lists', fill(u']')), ('maps', fill(u'}')), ('filled maps', fill(u'}NNs')), ('marks', fill(u'(')), ('tuples', fill(u'(t')),
    ('repeats', u'N' + fill(u'2')), ('stored', u'N' + fill(u'p12345\n')), ('numbers', fill(u'I%s\n' % (u'9' * 300))),
    ('a list', u'(' + fill(u'N') + u'l.'), ('escapes', u"S'" + fill(u'\\x41') + u"'\n."),
    ('a list that grows by itself', u'(lp0\n' + fill(u'(g0\ng0\ne') + u'.'), ('equal hashes', u'(' + EQUAL_HASHES + u'd.'),
]


@pytest.mark.parametrize('text', [pytest.param(text, id=name) for name, text in LARGEST])
def test_the_largest_pickle_costs_little(text):
    assert 0.9 * pickles.MAX_BYTES < len(text) <= pickles.MAX_BYTES
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.time()
    try:
        pickles.loads(text)
    except pickles.PickleError:
        pass
    assert time.time() - started < patience.LIMIT_S
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 48 * 1024
