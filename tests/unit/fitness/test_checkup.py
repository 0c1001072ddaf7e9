# SPDX-License-Identifier: Apache-2.0
"""An examination goes on, and reports, whatever a check does."""

from __future__ import absolute_import, division

import time

import pytest

from dom0_lib import errors
from dom0_lib.fitness import checkup


def _raise(error):
    def check(_host):
        raise error
    return check


@pytest.mark.parametrize('error, words, fix', [
    (checkup.Unfit('it is full', 'empty it', '0 MiB'), 'it is full', 'empty it'),
    (errors.RetryableError('xenstored is away'), 'xenstored is away', 'repeat the call'),
    (EnvironmentError(5, 'Input/output error'), 'the check failed: [Errno 5] Input/output error', 'repeat the call'),
    (KeyError('metrics'), "the check failed: KeyError: 'metrics'", 'defect'),
])
def test_what_a_check_raises_is_its_problem(error, words, fix):
    rows = checkup.examine([('first', _raise(error)), ('second', lambda host: host)], 'well', 60)
    assert [row['check'] for row in rows] == ['first', 'second'] and [row['ok'] for row in rows] == [False, True]
    assert words in rows[0]['problem'] and fix in rows[0]['fix']
    assert rows[0]['found'] == getattr(error, 'found', None)
    assert rows[1] == {'check': 'second', 'ok': True, 'found': 'well', 'problem': None, 'fix': None}


def test_the_end_of_the_process_is_no_problem_of_a_check():
    with pytest.raises(errors.Terminated):
        checkup.examine([('first', _raise(errors.Terminated(15)))], None, 60)


def test_no_check_begins_after_the_limit():
    rows = checkup.examine([('slow', lambda host: time.sleep(0.2) or 'done'), ('late', _raise(AssertionError))], None, 0.1)
    assert [row['ok'] for row in rows] == [True, False] and 'not run' in rows[1]['problem']


def test_what_failed_once_is_not_asked_for_again(monkeypatch, tmpdir):
    monkeypatch.setenv('DOM0_ROOT', str(tmpdir))
    host = checkup.Host('OpaqueRef:x', None)
    messages = []
    for _ in range(2):
        with pytest.raises(errors.PluginError) as caught:
            host.find_sr()
        messages.append(str(caught.value))
    assert messages[0] == messages[1] and '/etc/xensource-inventory' in messages[0]
