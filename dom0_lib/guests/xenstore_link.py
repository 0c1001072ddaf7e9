# SPDX-License-Identifier: Apache-2.0
"""Messages to and from xenstored; no other module knows their format (xen/include/public/io/xs_wire.h).

A message is a header of four 32-bit words in the machine's byte order, and a payload:

    type   request id   transaction id   length of the payload

Texts in a payload end with a NUL.  The value of a record may hold any byte and has no NUL at its end.
"""

from __future__ import absolute_import, division

import errno
import struct
import time

import _socket

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib import paths

DIRECTORY, READ, GET_PERMS, WATCH, UNWATCH, TRANSACTION_START, TRANSACTION_END = range(1, 8)
WRITE, MKDIR, RM, SET_PERMS, WATCH_EVENT, ERROR = range(11, 17)
DIRECTORY_PART = 22

MAX_PAYLOAD_BYTES = 4096

_HEADER = struct.Struct('=IIII')
# OCaml's reply to DIRECTORY is as long as all the names; a guest's quota keeps that far below this limit.
_MAX_REPLY_BYTES = 16 << 20
_RECEIVE_BYTES = 64 * 1024
# Number and bytes of requests that are sent at once.  Two such batches fit into the socket's buffer: we never wait for a daemon
# to read while it waits for us to read.
_BATCH = 32
_BATCH_BYTES = 32 * 1024
_MAX_NAME = 200
# The daemon sends each reply separately, and each one would wake us.  Sleep for one timer tick first, and many replies arrive
# together: listing 1,000 keys takes 15 ms instead of 20.
_PAUSE_S = 0.00001


class ReplyReader(object):
    """Cuts the bytes that a daemon sends into messages, without a socket."""

    def __init__(self):
        self._data = b''

    def feed(self, data):
        """[(type, request id, payload)] of the messages that are complete now that `data` has been received.

        Raises ValueError for bytes that no daemon sends.
        """
        data = self._data + data
        messages = []
        start, begin = 0, _HEADER.size
        while begin <= len(data):
            kind, request_id, _, length = _HEADER.unpack_from(data, start)
            if kind > DIRECTORY_PART or length > _MAX_REPLY_BYTES:
                raise ValueError('sent bytes that are no message: type %d, %d bytes' % (kind, length))
            end = begin + length
            if end > len(data):
                break
            messages.append((kind, request_id, data[begin:end]))
            start, begin = end, end + _HEADER.size
        self._data = data[start:]
        return messages


class Link(object):
    """A connection to xenstored: it matches replies to requests and keeps the events that come between replies."""

    def __init__(self, timeout_s):
        self.timeout_s = timeout_s
        self._reader = ReplyReader()
        self._messages = []  # received, but not looked at yet
        self._sent_id = self._answered_id = 0
        self._events = []
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            # With settimeout(), connect() would fail at once if the daemon's queue is full, and OCaml's holds two clients.
            # Without a limit it would wait for ever.
            timeout = struct.pack('ll', int(timeout_s), max(int(timeout_s % 1 * 1000000), 1))
            self._socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, timeout)
            self._socket.connect(paths.locate(paths.XENSTORE_SOCKET))
        except EnvironmentError as error:
            raise self.fail('cannot be reached at %s: %s' % (paths.XENSTORE_SOCKET, compat.to_text(error)))

    @property
    def is_open(self):
        return self._socket is not None

    def close(self):
        if self._socket:
            self._socket.close()
            self._socket = None

    def fail(self, reason):
        """Close the connection, which cannot be trusted any more, and return the error to raise."""
        self.close()
        return errors.RetryableError('xenstored %s' % reason)

    def exchange(self, kind, transaction_id, payloads):
        """Send each payload as a request of this kind.  Returns for each the reply's payload (bytes) or an error's name (text)."""
        return [reply for replies in self.stream(kind, transaction_id, payloads) for reply in replies]

    def stream(self, kind, transaction_id, payloads):
        """The result of exchange() as an iterator of lists.  Until the last list has been taken, nothing else can be sent.

        While the caller works on one list, the daemon already has the requests of the next one.
        """
        ends_at = compat.monotonic_s() + self.timeout_s
        batches = _cut(payloads) + [[]]
        self._send(kind, transaction_id, batches[0], ends_at)
        return self._go_on(kind, transaction_id, batches, ends_at)

    def _go_on(self, kind, transaction_id, batches, ends_at):
        for batch, following in zip(batches, batches[1:]):
            self._send(kind, transaction_id, following, ends_at)
            yield self._receive_replies(kind, len(batch), ends_at)

    def _send(self, kind, transaction_id, payloads, ends_at):
        data = b''.join([_HEADER.pack(kind, number & 0xffffffff, transaction_id, len(payload)) + payload
                         for number, payload in enumerate(payloads, self._sent_id + 1)])
        self._sent_id += len(payloads)
        while data:
            data = data[self._wait_for('send', data, ends_at):]

    def _receive_replies(self, kind, count, ends_at):
        """The result of exchange() for the next `count` requests."""
        replies = []
        while len(replies) < count:
            if replies and not self._messages:
                time.sleep(_PAUSE_S)
            messages = self._receive(count - len(replies), ends_at)
            if not messages:
                raise self.fail('did not answer within %g s' % self.timeout_s)
            for reply_kind, reply_id, payload in messages:
                if reply_kind == WATCH_EVENT:
                    self._keep_event(payload)
                    continue
                self._answered_id = expected_id = self._answered_id + 1 & 0xffffffff
                if reply_id != expected_id or reply_kind not in (kind, ERROR):
                    raise self.fail('answered request %d of type %d with number %d, type %d' % (
                        expected_id, kind, reply_id, reply_kind))
                replies.append(payload if reply_kind == kind else payload.rstrip(b'\0').decode('ascii', 'replace')[:_MAX_NAME])
        return replies

    def wait_event(self, timeout_s):
        ends_at = compat.monotonic_s() + timeout_s
        while not self._events:
            messages = self._receive(1, ends_at)
            if not messages:
                return None
            (kind, _, payload), = messages
            if kind != WATCH_EVENT:
                raise self.fail('sent a reply without a request')
            self._keep_event(payload)
        return self._events.pop(0)

    def _keep_event(self, payload):
        parts = payload.split(b'\0')
        if len(parts) < 3:
            raise self.fail('sent an event without a path and a token')
        event = parts[0], parts[1]
        if event not in self._events:
            self._events.append(event)

    def _receive(self, count, ends_at):
        """The next messages: at least one and at most `count`, or none if the time is up."""
        while not self._messages:
            data = self._wait_for('recv', _RECEIVE_BYTES, ends_at)
            if data is None:
                return []
            if not data:
                raise self.fail('has closed the connection')
            try:
                self._messages = self._reader.feed(data)
            except ValueError as error:
                raise self.fail(str(error))
        messages, self._messages = self._messages[:count], self._messages[count:]
        return messages

    def _wait_for(self, operation, argument, ends_at):
        """The result of a socket's operation; if the time is up, None for recv and errors.RetryableError for send."""
        while True:
            if self._socket is None:
                raise errors.RetryableError('the connection to xenstored is closed')
            try:
                self._socket.settimeout(max(ends_at - compat.monotonic_s(), 0))
                return getattr(self._socket, operation)(argument)
            except EnvironmentError as error:
                if error.errno == errno.EINTR:  # Python 2 does not resume after a signal
                    continue
                # With a timeout of 0 the socket does not wait at all, and the error is EAGAIN.
                if not isinstance(error, _socket.timeout) and error.errno != errno.EAGAIN:
                    raise self.fail('has gone: %s' % compat.to_text(error))
            if operation == 'recv':
                return None
            raise self.fail('did not take a request within %g s' % self.timeout_s)


def _cut(payloads):
    """The payloads as lists that are sent at once."""
    longest_bytes = max(map(len, payloads)) if payloads else 0
    count = _BATCH if longest_bytes * _BATCH <= _BATCH_BYTES else _BATCH_BYTES // MAX_PAYLOAD_BYTES
    return [payloads[start:start + count] for start in range(0, len(payloads), count)]
