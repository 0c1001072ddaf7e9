# SPDX-License-Identifier: Apache-2.0
"""Lists of records that change while they are read; the rest is in tests/integration/test_guest_records.py."""

from __future__ import absolute_import, division

import json

import pytest

from dom0_lib import errors
from dom0_lib import guest_records
from tests.unit.scripted_xenstored import DIRECTORY, ERROR, READ, WATCH, WATCH_EVENT, message

TOP = b'/local/domain/5/data'


class Records(object):
    """A daemon's records; change(kind, path, number of the request): events for the watch, sent before the answer."""

    def __init__(self, change):
        self.values = {TOP: b'', TOP + b'/a': b'1', TOP + b'/b': b'2'}
        self._change = change
        self._count = 0

    def answer(self, kind, request_id, payload):
        path = payload.partition(b'\0')[0]
        if kind == WATCH:
            return message(kind, request_id, b'OK\0') + message(WATCH_EVENT, 0, TOP + b'\0list\0')
        self._count += 1
        events = self._change(self, kind, path, self._count) or b''
        if path not in self.values:
            return events + message(ERROR, request_id, b'ENOENT\0')
        if kind == READ:
            return events + message(kind, request_id, self.values[path])
        assert kind == DIRECTORY
        names = sorted(other[len(path) + 1:] for other in self.values if other.rpartition(b'/')[0] == path)
        return events + message(kind, request_id, b''.join(name + b'\0' for name in names))


def list_records(start_xenstored, change):
    records = Records(change)
    start_xenstored(records.answer)
    return json.loads(guest_records.list_all(u'', 5, u'data')), records


def test_a_list(start_xenstored):
    assert list_records(start_xenstored, lambda *_: None)[0] == {'a': 1, 'b': 2}


def test_a_change_makes_the_list_begin_anew(start_xenstored):
    def change(records, kind, path, number):
        if number == 3:  # `a` has been read, `b` has not
            records.values.update({TOP + b'/a': b'10', TOP + b'/b': b'20'})
            return message(WATCH_EVENT, 0, TOP + b'/a\0list\0')
    assert list_records(start_xenstored, change)[0] == {'a': 10, 'b': 20}


@pytest.mark.parametrize('number', [3, 4, 5])
def test_records_that_go_untold_make_the_list_begin_anew(start_xenstored, number):
    """As a domain's records go with it in OCaml's xenstored: before a value is read, or before it is listed."""
    def change(records, kind, path, count):
        if count == number:
            records.values.pop(TOP + b'/a')
            records.values.pop(TOP + b'/b')
    assert list_records(start_xenstored, change)[0] == {}


def test_records_that_never_stand_still(start_xenstored, monkeypatch):
    monkeypatch.setattr(guest_records, '_CHANGES_S', 0.2)
    with pytest.raises(errors.RetryableError) as caught:
        list_records(start_xenstored, lambda *_: message(WATCH_EVENT, 0, TOP + b'/a\0list\0'))
    assert '/local/domain/5/data' in str(caught.value)


def test_too_many_records(start_xenstored, monkeypatch):
    monkeypatch.setattr(guest_records, '_MAX_RECORDS', 1)
    with pytest.raises(errors.PluginError) as caught:
        list_records(start_xenstored, lambda *_: None)
    assert '1 records' in str(caught.value)
