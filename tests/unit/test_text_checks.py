# SPDX-License-Identifier: Apache-2.0
"""Numbers in texts and bytes: only 0 to 9, and never too long."""

from __future__ import absolute_import, division

import pytest

from dom0_lib import text_checks

NONE = [u'', u' ', u'-1', u'+1', u' 1', u'1 ', u'1\n', u'1_0', u'1.0', u'1e3', u'0x1', u'one', u'1a2', u'\xb2', u'1\xb2', u'\xb23', u'1\xb23',
        u'\u0663', u'\uff11', u'\u2460', u'\xbd', u'1\x00']


@pytest.mark.parametrize('text', NONE)
def test_what_is_none(text):
    data = text.encode('utf-8')
    assert not text_checks.is_number(text) and not text_checks.is_number(data)
    assert text_checks.parse_number(text) is text_checks.parse_number(data) is text_checks.to_number(text, 18) is None
    assert not text_checks.is_number(text.encode('latin-1', 'replace'))


@pytest.mark.parametrize('text, number', [(u'0', 0), (u'7', 7), (u'007', 7), (u'1234567890', 1234567890), (u'9' * 18, 10 ** 18 - 1)])
def test_numbers(text, number):
    data = text.encode('ascii')
    assert text_checks.is_number(text) is text_checks.is_number(data) is True
    assert text_checks.parse_number(text) == text_checks.parse_number(data) == text_checks.to_number(text, 18) == number


def test_the_limit_is_one_of_digits():
    assert text_checks.is_number(u'123', 3) and not text_checks.is_number(u'1234', 3) and not text_checks.is_number(u'0001', 3)
    assert text_checks.parse_number(b'9' * 19) is None
    # int() of so many digits is an error on new Pythons, and takes seconds on old ones.
    assert text_checks.parse_number(u'9' * 100000) is None
    assert (text_checks.to_number(99, 2), text_checks.to_number(100, 2), text_checks.to_number(u'100', 2)) == (99, None, None)


@pytest.mark.parametrize('value', [None, True, False, 1.0, -1, [], {}, b'1' if str is not bytes else bytearray(b'1')])
def test_arguments_that_are_no_numbers(value):
    assert text_checks.to_number(value, 5) is None


@pytest.mark.parametrize('word, numbers', [
    (u'2.23.2', (2, 23, 2)), (u'3', (3,)), (u'v3.2.7', (3, 2, 7)), (u'3.1.3pre1', (3, 1, 3)), (u'2.13-pre7', (2, 13)),
    (u'', None), (u'v', None), (u'2.', None), (u'.30', None), (u'x.30', None), (u'2.x', None), (u'version', None), (u'2.\xb2', None)])
def test_versions(word, numbers):
    assert text_checks.parse_version(word) == numbers


@pytest.mark.parametrize('value', [None, 1, [], b'x' if str is not bytes else bytearray(b'x')])
def test_what_is_no_text(value):
    for check in (text_checks.require_text, text_checks.require):
        with pytest.raises(ValueError) as caught:
            check(value)
        assert str(caught.value) == 'needs text'


def test_an_empty_text():
    assert text_checks.require_text(u'') == u''
    with pytest.raises(ValueError) as caught:
        text_checks.require(u'')
    assert str(caught.value) == 'is empty'
