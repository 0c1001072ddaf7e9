# SPDX-License-Identifier: Apache-2.0
"""Texts for property-based tests."""

from __future__ import absolute_import, division

from hypothesis import strategies as st


def texts_with(special, excluded=u'', exclude_surrogates=True):
    """Texts of all kinds of characters in which the special ones are frequent.

    Hypothesis 6 draws a special character of a joint alphabet no more often than any other: hence two alphabets.
    """
    categories = ['Cs'] if exclude_surrogates else []
    anything = st.characters(blacklist_categories=categories, blacklist_characters=excluded)
    mixed = st.tuples(st.text(special, max_size=2), st.text(anything, max_size=8)).map(u''.join)
    return st.one_of(st.text(special, max_size=10), mixed)
