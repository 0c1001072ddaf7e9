# SPDX-License-Identifier: Apache-2.0
"""Lists of records that change while they are read; tests/calls/guests/test_guest_records.py tests all else."""

from __future__ import absolute_import, division

import json

import pytest

from dom0_lib import errors
from dom0_lib.guests import guest_records
from tests.unit.scripted_xenstored import DIRECTORY, ERROR, READ, WATCH, WATCH_EVENT, message

TOP = b'/local/domain/5/data'


class Records(object):
    """A daemon's records; change(records, kind, path), called before each answer, returns whether the watch gets an event.

    As in a real daemon, the event is sent on the connection of the watch, before the next answer there.
    """

    def __init__(self, change):
        self.values = {TOP: b'', TOP + b'/a': b'1', TOP + b'/b': b'2'}
        self._change = change
        self._events = b''

    def answer(self, kind, request_id, payload):
        path = payload.partition(b'\0')[0]
        if kind == WATCH:
            return message(kind, request_id, b'OK\0') + message(WATCH_EVENT, 0, TOP + b'\0list\0')
        if self._change(self, kind, path):
            self._events += message(WATCH_EVENT, 0, TOP + b'/a\0list\0')
        if path not in self.values:
            reply = message(ERROR, request_id, b'ENOENT\0')
        elif kind == READ:
            reply = message(kind, request_id, self.values[path])
        else:
            assert kind == DIRECTORY
            names = sorted(other[len(path) + 1:] for other in self.values if other.rpartition(b'/')[0] == path)
            reply = message(kind, request_id, b''.join(name + b'\0' for name in names))
        if kind == READ or path == TOP:  # the watch's connection
            reply, self._events = self._events + reply, b''
        return reply


def list_records(start_xenstored, change):
    records = Records(change)
    start_xenstored(records.answer)
    return json.loads(guest_records.list_all(u'', 5, u'data')), records


def test_a_list(start_xenstored):
    assert list_records(start_xenstored, lambda *_: None)[0] == {'a': 1, 'b': 2}


# The last requests for records, one on each connection: values are read on that of the watch, lists on the other one.
@pytest.mark.parametrize('kind, name', [(READ, b'/b'), (DIRECTORY, b'/b')])
def test_a_change_makes_the_list_begin_anew(start_xenstored, kind, name):
    """Both records change after `a` has been read: the list has no old value."""
    asked = []

    def change(records, now_kind, path):
        asked.append((now_kind, path))
        if asked.count((kind, TOP + name)) == 1 and asked[-1] == (kind, TOP + name):
            records.values.update({TOP + b'/a': b'10', TOP + b'/b': b'20'})
            return True
    assert list_records(start_xenstored, change)[0] == {'a': 10, 'b': 20}
    assert asked.index((READ, TOP + b'/a')) < asked.index((kind, TOP + name))
    assert asked.index((READ, TOP + b'/b')) <= asked.index((kind, TOP + name))


@pytest.mark.parametrize('kind, name', [(READ, b'/a'), (DIRECTORY, b'/a'), (READ, b'/b'), (DIRECTORY, b'/b')])
def test_records_that_go_untold_make_the_list_begin_anew(start_xenstored, kind, name):
    """OCaml's xenstored removes a domain's records without an event: here before a value is read, or before it is listed."""
    def change(records, now_kind, path):
        if (now_kind, path) == (kind, TOP + name):
            records.values.pop(TOP + b'/a', None)
            records.values.pop(TOP + b'/b', None)
    assert list_records(start_xenstored, change)[0] == {}


def test_records_that_never_stand_still(start_xenstored, monkeypatch):
    monkeypatch.setattr(guest_records, '_CHANGES_S', 0.2)
    with pytest.raises(errors.RetryableError) as caught:
        list_records(start_xenstored, lambda *_: True)
    assert '/local/domain/5/data' in str(caught.value)


def test_too_many_records(start_xenstored, monkeypatch):
    monkeypatch.setattr(guest_records, '_MAX_RECORDS', 1)
    with pytest.raises(errors.PluginError) as caught:
        list_records(start_xenstored, lambda *_: None)
    assert '1 records' in str(caught.value)
