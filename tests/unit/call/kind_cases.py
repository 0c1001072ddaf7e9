# SPDX-License-Identifier: Apache-2.0
"""A value as an argument of one kind, in a legacy call and in a plain one: taken, or refused with a reason."""

from __future__ import absolute_import, division

import json

import pytest
from hypothesis import strategies as st

from dom0_lib import errors
from dom0_lib.call import binding
from tests.unit.texts import texts_with

NO_TEXTS = [(5, 'needs text'), (True, 'needs text'), (1.5, 'needs text'), ([u'x'], 'needs text'), ({u'x': u'y'}, 'needs text'),
            ((), 'needs text'), ([], 'needs text')]
ANY_TEXT = texts_with(u'\0\n\x7f/.:-[]\xe9\ud800', exclude_surrogates=False)
ANY_DATA = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), ANY_TEXT),
    lambda values: st.one_of(st.lists(values, max_size=3), st.lists(values, max_size=3).map(tuple),
                             st.dictionaries(st.one_of(ANY_TEXT, st.integers(), st.none()), values, max_size=3)), max_leaves=6)


def list_cases(table):
    """The cases (name of the kind, value, outcome) of a table {name of the kind: [(value, outcome)]}."""
    return [pytest.param(name, value, outcome, id='%s %d' % (name, number))
            for name in sorted(table) for number, (value, outcome) in enumerate(table[name])]


def bind_legacy(kind, value):
    return binding.bind_legacy([binding.Arg('thing', kind)], (), {u'thing': value})['thing']


def bind_plain(kind, value):
    return binding.bind_plain([binding.Arg('thing', kind)], {u'thing': json.dumps(value) if kind.structured else value})['thing']


def check_message(error, *secrets):
    """One line of printable ASCII, not too long, with the argument's name and without the secrets."""
    message = str(error)
    assert all(' ' <= c <= '~' for c in message)
    assert len(message) < 250
    for secret in secrets:
        assert secret not in message and secret not in repr(error.args)
    return message


def _is_text(value):
    return isinstance(value, type(u''))


def _list_binders(kind, value):
    """A plain call sends texts; values of structured kinds are JSON in them."""
    return [bind_legacy] + ([bind_plain] if kind.structured or _is_text(value) else [])


def check_taken(kind, value, expected):
    for bind in _list_binders(kind, value):
        result = bind(kind, value)
        assert result == expected and type(result) is type(expected)


def check_refused(kind, value, reason, *secrets):
    for bind in _list_binders(kind, value):
        with pytest.raises(errors.ArgumentError) as caught:
            bind(kind, value)
        message = check_message(caught.value, *secrets)
        assert message.startswith("argument 'thing': ") and reason in message
        assert caught.value.argument == 'thing'


def check_errors(kind, value, text):
    """A legacy call with any value, and a plain one with any text, raise nothing but errors.ArgumentError."""
    for bind, sent in ((binding.bind_legacy, ((), {u'thing': value})), (binding.bind_plain, ({u'thing': text},))):
        try:
            bind([binding.Arg('thing', kind, default=None)], *sent)
        except errors.ArgumentError as error:
            check_message(error)
