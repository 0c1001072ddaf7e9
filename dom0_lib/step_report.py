# SPDX-License-Identifier: Apache-2.0
"""The answer of a call that changes a host in steps: a list of maps, one for each step.

    step     the name of the step
    outcome  done; would, with dry_run; already: nothing was to be done; problem
    detail   a text: the change, the state, or the problem
    fix      a text: the remedy; else None
"""

from __future__ import absolute_import, division

from dom0_lib import compat

DONE, WOULD, ALREADY, PROBLEM = 'done', 'would', 'already', 'problem'


def choose_outcome(is_changed, is_dry):
    """The outcome of a step without a problem."""
    if not is_changed:
        return ALREADY
    return WOULD if is_dry else DONE


def make(step, outcome, detail, fix=None):
    """The map for one step."""
    # On Python 2 texts that hold a path may be bytes, of any encoding.
    detail, fix = [text and compat.to_text(text) for text in (detail, fix)]
    return {'step': step, 'outcome': outcome, 'detail': detail, 'fix': fix}
