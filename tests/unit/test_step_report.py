# SPDX-License-Identifier: Apache-2.0
"""The maps for steps: four outcomes, and texts only."""

from __future__ import absolute_import, division

import pytest

from dom0_lib import step_report


@pytest.mark.parametrize('is_changed, is_dry, outcome', [
    (False, False, 'already'), (False, True, 'already'), (True, True, 'would'), (True, False, 'done')])
def test_outcomes(is_changed, is_dry, outcome):
    assert step_report.choose_outcome(is_changed, is_dry) == outcome


def test_a_map_has_texts():
    made = step_report.make('/images', step_report.PROBLEM, b'leads to /\xff' if str is bytes else '/x', 'rm it')
    assert sorted(made) == ['detail', 'fix', 'outcome', 'step'] and made['outcome'] == 'problem'
    made['detail'].encode('utf-8')
    assert step_report.make('/images', step_report.DONE, 'made') == {'step': '/images', 'outcome': 'done', 'detail': u'made', 'fix': None}
