# SPDX-License-Identifier: Apache-2.0
"""The client of xenstored against a scripted daemon, which sends messages that real ones never send, or only at a bad moment.

tests/simulator/test_xenstore_contract.py and tests/calls/guests/test_xenstore_client.py use real daemons.
"""

from __future__ import absolute_import, division

import time

import pytest

from dom0_lib import errors
from dom0_lib.guests import xenstore
from dom0_lib.guests import xenstore_link
from tests import patience
from tests.unit.scripted_xenstored import DEADLINE_S, DIRECTORY, ERROR, HEADER, READ, WATCH_EVENT, WRITE, message

DIRECTORY_PART = 22
EVENT = message(WATCH_EVENT, 0, b'/a\0token\0')


def read_messages(data, size):
    reader = xenstore_link.ReplyReader()
    return [found for begin in range(0, len(data), size) for found in reader.feed(data[begin:begin + size])]


@pytest.mark.parametrize('size', [1, 15, 16, 17, 4096, 1 << 20])
def test_messages_come_in_any_pieces(size):
    expected = [(READ, 1, b''), (WATCH_EVENT, 0, b'/a\0t\0'), (ERROR, 2, b'ENOENT\0'), (READ, 0xffffffff, b'\0\xff' * 5000),
                (DIRECTORY_PART, 3, b'7\0a\0')]
    assert read_messages(b''.join(message(*parts) for parts in expected), size) == expected


@pytest.mark.parametrize('data', [
    message(23, 1, b''), message(0xffffffff, 1, b''), HEADER.pack(READ, 1, 0, (16 << 20) + 1), b'HTTP/1.1 400 Bad Request\r\n'])
def test_what_is_no_message(data):
    with pytest.raises(ValueError):
        xenstore_link.ReplyReader().feed(data)


@pytest.mark.parametrize('case, answer', [
    ('another request', lambda kind, request_id, payload: message(kind, request_id + 1, b'x')),
    ('another type', lambda kind, request_id, payload: message(WRITE, request_id, b'OK\0')),
    ('no message', lambda kind, request_id, payload: b'\xff' * 100),
    ('an event without a token', lambda kind, request_id, payload: message(WATCH_EVENT, 0, b'/a\0')),
    ('half a message', lambda kind, request_id, payload: b'' if payload == b'/b\0' else message(kind, request_id, b'x')[:-1]),
    ('nothing', lambda kind, request_id, payload: b''),
])
def test_an_answer_that_cannot_be_trusted_ends_the_connection(start_xenstored, case, answer):
    start_xenstored(answer)
    with pytest.raises(errors.RetryableError) as caught:
        with xenstore.Connection(0.3) as store:
            store.read('/a')
    assert str(caught.value).startswith('xenstored ')
    with pytest.raises(errors.RetryableError):
        store.read('/b')


def test_an_event_without_a_token(start_xenstored):
    start_xenstored(lambda kind, request_id, payload: message(WATCH_EVENT, 0, b'/a\0') + message(kind, request_id, b'x'))
    with pytest.raises(errors.RetryableError, match='xenstored sent an event without a path and a token$'):
        with xenstore.Connection(DEADLINE_S) as store:
            store.read('/a')


def test_request_ids_begin_anew_after_32_bits(start_xenstored):
    start_xenstored(lambda kind, request_id, payload: message(kind, request_id, payload[1:-1]))
    with xenstore.Connection(DEADLINE_S) as store:
        store._link._sent_id = store._link._answered_id = 0xfffffffe
        assert store.read_all(['/a', '/b', '/c']) == [b'a', b'b', b'c']
        assert store.read('/d') == b'd'


def test_a_reply_that_nobody_asked_for(start_xenstored):
    start_xenstored(lambda kind, request_id, payload: message(kind, request_id, b'x') * 2)
    with pytest.raises(errors.RetryableError):
        with xenstore.Connection(DEADLINE_S) as store:
            assert store.read('/a') == b'x'
            store.wait_event(DEADLINE_S)


def test_events_before_a_reply_are_kept(start_xenstored):
    other = message(WATCH_EVENT, 0, b'/b\0token\0')
    start_xenstored(lambda kind, request_id, payload: EVENT + other + EVENT + message(kind, request_id, b'x'))
    with xenstore.Connection(DEADLINE_S) as store:
        assert store.read('/a') == b'x'
        assert store.read('/a') == b'x'
        assert [store.wait_event(0.1) for _ in range(3)] == [(b'/a', b'token'), (b'/b', b'token'), None]


def test_a_flood_of_events_does_not_outlast_the_deadline(start_xenstored):
    start_xenstored(lambda kind, request_id, payload: EVENT * 20000)
    started = time.time()
    with pytest.raises(errors.RetryableError):
        with xenstore.Connection(0.5) as store:
            store.read('/a')
    assert 0.4 < time.time() - started < patience.LIMIT_S


def test_a_daemon_that_is_silent(start_xenstored):
    start_xenstored(lambda kind, request_id, payload: time.sleep(0.6))
    started = time.time()
    with pytest.raises(errors.RetryableError) as caught:
        with xenstore.Connection(0.3) as store:
            store.read('/a')
    assert 'did not answer within 0.3 s' in str(caught.value)
    assert 0.2 < time.time() - started < patience.LIMIT_S


def test_a_daemon_that_is_not_there(monkeypatch, tmpdir):
    monkeypatch.setenv('DOM0_ROOT', str(tmpdir))
    with pytest.raises(errors.RetryableError) as caught:
        xenstore.Connection(1)
    assert '/var/run/xenstored/socket' in str(caught.value)


@pytest.mark.parametrize('name, inside, outside', [
    (b'ENOENT', xenstore.NotFound, errors.PluginError), (b'EAGAIN', xenstore.Conflict, errors.RetryableError),
    (b'EQUOTA', xenstore.QuotaExceeded, errors.PluginError), (b'ENOSPC', xenstore.QuotaExceeded, errors.PluginError),
    (b'E2BIG', xenstore.TooLong, errors.PluginError), (b'EWHATEVER', xenstore.StoreError, errors.PluginError)])
def test_an_error_has_the_name_that_the_daemon_gave_it(start_xenstored, name, inside, outside):
    start_xenstored(lambda kind, request_id, payload: message(ERROR, request_id, name + b'\0'))
    with pytest.raises(outside) as caught:
        with xenstore.Connection(DEADLINE_S) as store:
            try:
                store.write('/local/domain/5/data', b'')
            except xenstore.StoreError as error:
                assert type(error) is inside and error.name == name.decode('ascii')
                raise
    assert type(caught.value) is outside
    assert '/local/domain/5/data' in str(caught.value) and name.decode('ascii') in str(caught.value)


def test_what_is_too_long_is_not_sent(start_xenstored):
    asked = []
    start_xenstored(lambda kind, request_id, payload: asked.append(payload) or message(kind, request_id, b'OK\0'))
    with xenstore.Connection(DEADLINE_S) as store:
        for path, value, limit in (('/a', b'x' * 2049, '2048'), (b'/' + b'a' * 2200, b'x' * 2000, '4096')):
            with pytest.raises(xenstore.TooLong) as caught:
                store.write(path, value)
            assert limit in str(caught.value)
        with pytest.raises(ValueError):
            store.write(b'/a\0b', b'')
        store.write('/a', b'x' * 2048)
    assert asked == [b'/a\0' + b'x' * 2048]


def test_a_transaction_without_a_number(start_xenstored):
    start_xenstored(lambda kind, request_id, payload: message(kind, request_id, b'one\0'))
    with pytest.raises(errors.RetryableError):
        with xenstore.Connection(DEADLINE_S) as store:
            with store.transaction():
                pass


def test_conflicts_are_repeated_until_the_deadline(start_xenstored):
    def answer(kind, request_id, payload):
        if payload == b'T\0':
            return message(ERROR, request_id, b'EAGAIN\0')
        return message(kind, request_id, b'7\0')
    start_xenstored(answer)
    calls = []
    started = time.time()
    with pytest.raises(errors.RetryableError):
        with xenstore.Connection(DEADLINE_S) as store:
            store.transact(lambda changes: calls.append(changes.read('/a')), 0.2)
    assert len(calls) > 1 and 0.1 < time.time() - started < patience.LIMIT_S


@pytest.mark.parametrize('count, size', [(1, 1), (31, 10), (32, 10), (33, 10), (100, 10), (200, 3000), (3, 4000)])
def test_many_requests_are_answered_in_order(start_xenstored, count, size):
    start_xenstored(lambda kind, request_id, payload: message(kind, request_id, payload[:-1].replace(b'/', b'=')) if b'7' not in payload else
          message(ERROR, request_id, b'ENOENT\0'))
    names = [b'/' + b'a' * size + b'%d' % number for number in range(count)]
    with xenstore.Connection(DEADLINE_S) as store:
        assert store.read_all(names) == [None if b'7' in name else name.replace(b'/', b'=') for name in names]
        assert store.read_all([]) == []


@pytest.mark.parametrize('count', [0, 1, 31, 32, 33, 100])
def test_a_survey_is_shared_by_two_connections(start_xenstored, count):
    """A record that is missing, or that is removed between the two requests, is None."""
    def answer(kind, request_id, payload):
        if b'7' in payload or kind == DIRECTORY and b'8' in payload:
            return message(ERROR, request_id, b'ENOENT\0')
        return message(kind, request_id, payload[1:-1] if kind == READ else payload.replace(b'/', b'below-') * 2)
    start_xenstored(answer)
    paths = [b'/%d' % number for number in range(count)]
    expected = [(path, None if b'7' in path else path[1:], None if b'7' in path or b'8' in path else [b'below-' + path[1:]] * 2)
                for path in paths]
    with xenstore.Connection(DEADLINE_S) as store:
        with xenstore.Connection(DEADLINE_S) as helper:
            for _ in range(2):
                assert sorted(store.survey(helper, paths)) == sorted(expected)
            assert store.read('/a') == b'a' and helper.list('/a') == [b'below-a'] * 2


@pytest.mark.parametrize('kind', [DIRECTORY, READ])
def test_a_survey_that_is_refused(start_xenstored, kind):
    start_xenstored(lambda asked, request_id, payload: message(ERROR, request_id, b'EACCES\0') if asked == kind else
                    message(asked, request_id, b''))
    with pytest.raises(errors.PluginError) as caught:
        with xenstore.Connection(DEADLINE_S) as store:
            with xenstore.Connection(DEADLINE_S) as helper:
                list(store.survey(helper, [b'/a', b'/b']))
    assert '/a' in str(caught.value) and 'EACCES' in str(caught.value)
