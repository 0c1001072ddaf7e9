# SPDX-License-Identifier: Apache-2.0
"""What differs between the Pythons of dom0, and must not."""

from __future__ import absolute_import, division

import errno
import os
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies

from dom0_lib import compat
from tests.unit.texts import texts_with


class Wide(object):
    """Its text is not ASCII."""

    def __str__(self):
        return u'caf\xe9'

    __unicode__ = __str__


class Broken(object):
    """It has no text."""

    def __str__(self):
        raise KeyError('no')

    __unicode__ = __repr__ = __str__


class Undecodable(object):
    """Its text is bytes: right on Python 2, an error on 3."""

    def __str__(self):
        return b'\xff'  # noqa: PLE0307

    def __repr__(self):
        return 'repr'


@pytest.mark.parametrize('value, text', [
    (u'', u''), (u'caf\xe9', u'caf\xe9'), (u'\ud800', u'\ud800'), (b'abc', u'abc'), (u'caf\xe9'.encode('utf-8'), u'caf\xe9'),
    (b'\xff\xfe', u'\ufffd\ufffd'), (5, u'5'), (None, u'None'), (True, u'True'), (1.5, u'1.5'), ([1], u'[1]'),
    (ValueError('x'), u'x'), (ValueError(), u''), (ValueError(u'caf\xe9 \u20ac'), u'caf\xe9 \u20ac'),
    (KeyError('x'), u"'x'"), (Wide(), u'caf\xe9'), (Broken(), u'Broken'),
    (Undecodable(), u'\ufffd' if compat.PYTHON2 else u'Undecodable'),
])
def test_everything_has_a_text(value, text):
    result = compat.to_text(value)
    assert result == text and isinstance(result, compat.text_type)


@given(texts_with(u'\ud800\udbff\udc00\udfff\U0001f600a', exclude_surrogates=False))
def test_joined_surrogates_are_text_that_utf8_can_carry(text):
    joined = compat.join_surrogates(text)
    assert joined.encode('utf-8').decode('utf-8') == joined
    assert not any(u'\ud800' <= c <= u'\udfff' for c in joined)
    if not any(u'\ud800' <= c <= u'\udfff' for c in text):
        assert joined == text


@pytest.mark.parametrize('text, joined', [
    (u'\ud83d' + u'\ude00', u'\U0001f600'), (u'\ude00' + u'\ud83d', u'\ufffd\ufffd'), (u'a\ud83d', u'a\ufffd'),
    (u'\ud83da', u'\ufffda'),
    (u'\ud83d' + u'\ud83d' + u'\ude00', u'\ufffd\U0001f600'), (u'', u''),
])
def test_only_a_pair_is_a_character(text, joined):
    assert compat.join_surrogates(text) == joined


@pytest.mark.parametrize('data', [
    b'\xff', b'a\x80b', b'\xc3', b'\xe2\x82', b'\xf0\x9f\x98', b'\xe9t\xe9', b'\xc0\xaf', b'ok', bytes(bytearray(range(256)))])
def test_bytes_that_are_no_utf8_survive(data):
    """Python 2 has no 'surrogateescape' of its own; a pickled byte string that is no UTF-8 must not lose its bytes."""
    text = data.decode('utf-8', 'surrogateescape')
    kept = b''.join(bytes(bytearray([ord(c) - 0xdc00])) if u'\udc80' <= c <= u'\udcff' else c.encode('utf-8') for c in text)
    assert kept == data


def test_decoding_alone_can_be_escaped():
    with pytest.raises(UnicodeEncodeError):
        u'\u20ac'.encode('ascii', 'surrogateescape')


@pytest.mark.parametrize('environment', [{}, {'LC_ALL': 'C', 'PYTHONCOERCECLOCALE': '0', 'PYTHONUTF8': '0'}, {'LC_ALL': 'C.UTF-8'}],
                         ids=['as XAPI', 'ASCII', 'UTF-8'])
def test_an_argument_is_its_bytes_in_every_locale(environment):
    program = 'import os, sys; from dom0_lib import compat; os.write(1, compat.argument_bytes(1))'
    for argument in (u'caf\xe9 \u20ac \U0001f600'.encode('utf-8'), b'\xff\xfe \xed\xa0\x80', b'', b'a b'):
        output = subprocess.check_output([sys.executable, '-c', program, argument], env=dict(
            environment, PYTHONPATH=os.path.dirname(os.path.dirname(os.path.abspath(compat.__file__))), PATH=os.environ['PATH']))
        assert output == argument


@pytest.mark.parametrize('data, text', [
    (b'', u''), (b'plain\n\0', u'plain\n\0'), (u'caf\xe9 \u20ac \U0001f600'.encode('utf-8'), u'caf\xe9 \u20ac \U0001f600'),
    (b'\xff\xfe', u'\udcff\udcfe'), (b'a\xc3', u'a\udcc3'), (b'\xc3\xa9\x80', u'\xe9\udc80'),
    (u'\ud7ff\ue000'.encode('utf-8'), u'\ud7ff\ue000'),
])
def test_text_of_bytes(data, text):
    assert compat.text_of_bytes(data) == text
    assert compat.bytes_of_text(text) == data


@given(strategies.one_of(strategies.binary(), strategies.lists(strategies.sampled_from(
    [b'\xed', b'\xa0', b'\xb2', b'\xb3', b'\x80', b'\xbf', b'a', b'\xf0\x9f\x98\x80'])).map(b''.join)))
def test_text_of_bytes_gives_them_back(data):
    text = compat.text_of_bytes(data)
    assert isinstance(text, compat.text_type) and compat.bytes_of_text(text) == data


@pytest.mark.parametrize('text', [u'\ud800', u'a\udc00', u'\udc7f', u'\udd00', u'\udbff\n'])
def test_other_halves_of_characters_are_no_bytes(text):
    with pytest.raises(ValueError):
        compat.bytes_of_text(text)


def test_a_descriptor_is_kept_from_children():
    fd = os.dup(2)
    try:
        compat.keep_from_children(fd)
        seen = subprocess.check_output(['ls', '/proc/self/fd'], close_fds=False).split()
        assert ('%d' % fd).encode('ascii') not in seen
    finally:
        os.close(fd)


@pytest.mark.parametrize('dies_with_us', [False, True])
@pytest.mark.parametrize('name', ['PIPE', 'XFSZ'])
def test_a_program_has_the_signals_that_python_ignores(name, dies_with_us):
    number = getattr(signal, 'SIG' + name)
    old = signal.signal(number, signal.SIG_IGN)
    try:
        pid = compat.start_program('/bin/sh', ['sh', '-c', 'kill -%s $$; exit 7' % name], {}, (0, 1, 2), dies_with_us)
    finally:
        signal.signal(number, old)
    status = os.waitpid(pid, 0)[1]
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == number


@pytest.mark.parametrize('dies_with_us', [False, True])
def test_a_program_that_cannot_be_started_leaves_no_process(dies_with_us):
    with pytest.raises(EnvironmentError) as caught:
        compat.start_program('/no/such/program', ['x'], {}, (0, 1, 2), dies_with_us)
    assert caught.value.errno == errno.ENOENT
    with pytest.raises(EnvironmentError) as caught:
        os.waitpid(-1, os.WNOHANG)
    assert caught.value.errno == errno.ECHILD


def test_bytes_that_are_no_ascii_stay_or_are_seen():
    assert compat.native_ascii(b'a\xffb') == (b'a\xffb' if compat.PYTHON2 else u'a\ufffdb')


def test_the_clock_goes_on():
    first = compat.monotonic_s()
    time.sleep(0.05)
    second = compat.monotonic_s()
    assert 0.03 <= second - first < 20


def test_the_modules_are_those_of_this_python():
    assert compat.import_http_client().HTTPConnection
    assert compat.import_urlparse().urlsplit(u'http://host:80/path').port == 80
    assert compat.import_queue().Queue(1).maxsize == 1
    assert compat.import_xmlrpc_client().loads(compat.import_xmlrpc_client().dumps((1,), 'f')) == ((1,), 'f')
    assert compat.interpreter() == 'Python %d.%d' % sys.version_info[:2]
