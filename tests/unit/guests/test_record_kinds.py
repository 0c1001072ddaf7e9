# SPDX-License-Identifier: Apache-2.0
"""The kinds of arguments of xenstore.py."""

from __future__ import absolute_import, division

import pytest

from dom0_lib.guests import record_kinds

NO_TEXTS = [(value, 'needs text') for value in (None, 5, True, [], {}, b'\xff')]
BAD_PATHS = [(value, 'needs a path') for value in (
    u'/', u'/a', u'a/', u'a//b', u'..', u'a/../b', u'a.b', u'a b', u'a:b', u'a\n', u'a\0', u'caf\xe9', u'\u0661', u'x' * 2049)]


@pytest.mark.parametrize('kind, value, checked', [
    (record_kinds.PATH, u'vm-data/networking/0123', u'vm-data/networking/0123'), (record_kinds.PATH, u'a_b@C', u'a_b@C'),
    (record_kinds.PATH, u'x' * 2048, u'x' * 2048), (record_kinds.DIRECTORY, u'', u''), (record_kinds.DIRECTORY, u'a/b', u'a/b'),
    (record_kinds.VALUE, u'', u''), (record_kinds.VALUE, u' \n\x1b', u' \n\x1b'),
    (record_kinds.VALUE, u'\xe9' * 1024, u'\xe9' * 1024), (record_kinds.TRUTH, u'True', True), (record_kinds.TRUTH, u'False', False),
    (record_kinds.TRUTH, u'true', True), (record_kinds.TRUTH, u'false', False), (record_kinds.TRUTH, True, True),
    (record_kinds.TRUTH, False, False),
])
def test_taken(kind, value, checked):
    assert kind.check(value) == checked and type(kind.check(value)) is type(checked)


@pytest.mark.parametrize('kind, value, reason', [
    (kind, value, reason) for kind, cases in (
        (record_kinds.PATH, [(u'', 'is empty')] + BAD_PATHS + NO_TEXTS), (record_kinds.DIRECTORY, BAD_PATHS + NO_TEXTS),
        (record_kinds.VALUE, [(u'x' * 2049, 'has 2049 bytes'), (u'\xe9' * 1025, 'holds at most 2048')] + NO_TEXTS),
        (record_kinds.TRUTH, [(value, 'needs True or False') for value in (u'', u'yes', u'1', u'None', u' True', 1, 0, [], {})]))
    for value, reason in cases])
def test_refused(kind, value, reason):
    with pytest.raises(ValueError) as caught:
        kind.check(value)
    assert reason in str(caught.value)
