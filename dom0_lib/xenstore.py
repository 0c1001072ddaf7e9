# SPDX-License-Identifier: Apache-2.0
"""A client of xenstored, C's or OCaml's, over its socket in dom0: bytes in, bytes out, no process for each key.

The only module that knows the protocol (xen/include/public/io/xs_wire.h).  A message is a header of four 32 bit words in the
machine's order and a payload:

    type   request id   transaction id   length of the payload

The daemons differ in: a directory whose names exceed 4096 bytes (C refuses it and has DIRECTORY_PART; OCaml sends one long
reply), the longest value (OCaml: 2048 bytes), and the name of the error when a quota is used up (C: ENOSPC; OCaml: EQUOTA).
"""

from __future__ import absolute_import, division

import errno
import struct

import _socket

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib import paths

MAX_PAYLOAD_BYTES = 4096
MAX_VALUE_BYTES = 2048

# What is raised when xenstored is not there, has gone, or does not answer in time: callers retry on that class's name.
Unavailable = errors.RetryableError

_DIRECTORY, _READ, _GET_PERMS, _WATCH, _UNWATCH, _TRANSACTION_START, _TRANSACTION_END = range(1, 8)
_WRITE, _MKDIR, _RM, _SET_PERMS, _WATCH_EVENT, _ERROR = range(11, 17)
_DIRECTORY_PART = 22

_HEADER = struct.Struct('=IIII')
# OCaml's reply to a directory is as long as the names; a guest's quota keeps them far below this.
_MAX_REPLY_BYTES = 16 << 20
_RECEIVE_BYTES = 64 * 1024
# Requests that are sent before the first reply is read: both directions fit into the socket's buffers.
_PIPELINE = 32
_SHOWN_CHARACTERS = 200

_REASONS = {
    'ENOENT': 'there is no such record',
    'EACCES': 'it is not permitted',
    'EINVAL': 'it is not valid',
    'E2BIG': 'it is too long',
    'EAGAIN': 'somebody else changed what it read or wrote',
    'EQUOTA': 'the quota of the guest is used up',
    'ENOSPC': 'the quota of the guest is used up',
}


class StoreError(Exception):
    """xenstored refused an operation; `name` is the error's name as the daemon gave it.

    What leaves the `with` block of a Connection has become errors.PluginError, a Conflict errors.RetryableError.
    """

    def __init__(self, name, attempt, reason=None):
        reason = reason or '%s (%s)' % (_REASONS.get(name, 'xenstored refused it'), name)
        super(StoreError, self).__init__('xenstore: cannot %s: %s' % (attempt, reason))
        self.name = name


class NotFound(StoreError):
    """ENOENT: there is no such record."""


class Conflict(StoreError):
    """EAGAIN: the transaction was not carried out, because somebody else changed what it read or wrote."""


class QuotaExceeded(StoreError):
    """EQUOTA, or C's ENOSPC: the guest that owns the record has no room left for it."""


class TooLong(StoreError):
    """E2BIG, most often found before anything was sent: a value, or path and value together, beyond what xenstore takes."""


_CLASSES = {'ENOENT': NotFound, 'EAGAIN': Conflict, 'EQUOTA': QuotaExceeded, 'ENOSPC': QuotaExceeded, 'E2BIG': TooLong}


def connect(timeout_s):
    """A Connection to this host's xenstored, for a `with` statement; each of its operations takes at most `timeout_s` seconds.

    Raises errors.RetryableError.
    """
    return Connection(timeout_s)


class Operations(object):
    """What can be done on a connection and in a transaction alike.

    Paths are bytes or ASCII text, values and names bytes.  Every operation may raise StoreError, and errors.RetryableError when
    the daemon is gone or too slow.
    """

    def __init__(self, link, transaction_id=0):
        self._link = link
        self._transaction_id = transaction_id

    def read(self, path):
        """The value of a record.  Raises NotFound."""
        return self._ask(_READ, 'read', path)

    def read_all(self, paths):
        """The values of many records, None where there is none, in a fraction of the time that reading each takes."""
        return [None if isinstance(reply, NotFound) else reply for reply in self._ask_all(_READ, 'read', paths, NotFound)]

    def list_all(self, paths):
        """What list() returns for many records, None where there is none."""
        replies = self._ask_all(_DIRECTORY, 'list', paths, (NotFound, TooLong))
        return [_split(reply) if isinstance(reply, bytes) else self._list_parts(path) if isinstance(reply, TooLong) else None
                for path, reply in zip(paths, replies)]

    def write(self, path, value):
        """Make or change a record, and what lacks above it.  Raises TooLong, QuotaExceeded."""
        if len(value) > MAX_VALUE_BYTES:
            raise TooLong('E2BIG', _attempt('write', _terminate(path)), 'a value has at most %d bytes, this one %d' % (
                MAX_VALUE_BYTES, len(value)))
        self._ask(_WRITE, 'write', path, value)

    def remove(self, path):
        """Remove a record and everything below it.  Raises NotFound."""
        # For a record that is not there C answers OK, if there is one above it.
        self._ask(_READ, 'remove', path)
        self._ask(_RM, 'remove', path)

    def list(self, path):
        """The names directly below a record, in no order.  Raises NotFound."""
        try:
            return _split(self._ask(_DIRECTORY, 'list', path))
        except TooLong:
            return self._list_parts(path)

    def _list_parts(self, path):
        ends_at = compat.monotonic_s() + self._link.timeout_s
        generation, names = None, b''
        while compat.monotonic_s() < ends_at:
            offset = '%d' % len(names)
            now, _, part = self._ask(_DIRECTORY_PART, 'list', path, _terminate(offset)).partition(b'\0')
            if generation not in (None, now):
                generation, names = None, b''  # it was changed meanwhile
                continue
            generation = now
            names += part
            if part == b'\0' or part.endswith(b'\0\0'):
                return [name for name in names.split(b'\0') if name]
        raise self._link.fail('did not list a directory that keeps changing within %g s' % self._link.timeout_s)

    def get_permissions(self, path):
        """A list such as [b'n5', b'r0']: the owner and what all others may, then what single domains may.  Raises NotFound."""
        return _split(self._ask(_GET_PERMS, 'read permissions of', path))

    def set_permissions(self, path, permissions):
        """Set what get_permissions() returns.  Raises NotFound."""
        self._ask(_SET_PERMS, 'set permissions of', path, b''.join(_terminate(item) for item in permissions))

    def _ask(self, kind, verb, path, more=b''):
        return self._link.ask(kind, self._transaction_id, _terminate(path) + more, verb)

    def _ask_all(self, kind, verb, paths, accepted):
        """For each path a payload or one of the accepted errors; another one is raised."""
        replies = self._link.exchange(kind, self._transaction_id, [_terminate(path) for path in paths], verb)
        for reply in replies:
            if isinstance(reply, StoreError) and not isinstance(reply, accepted):
                raise reply
        return replies


class Connection(Operations):
    """An open connection; use it in one thread, in a `with` statement."""

    def __init__(self, timeout_s):
        super(Connection, self).__init__(_Link(timeout_s))

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        self.close()
        if isinstance(value, Conflict):
            raise errors.RetryableError(value)
        if isinstance(value, StoreError):
            raise errors.PluginError(value)

    def close(self):
        """Its watches and transactions end, too."""
        self._link.close()

    def transaction(self):
        """`with store.transaction() as changes:` everything done by `changes` happens at the end of the block, or nothing does.

        Raises Conflict at the end when somebody else changed what it read or wrote; transact() tries again.
        """
        return Transaction(self._link)

    def transact(self, function, timeout_s):
        """What function(changes) returns once its transaction has been carried out; it is called again after each Conflict.

        Raises Conflict after `timeout_s` seconds.
        """
        ends_at = compat.monotonic_s() + timeout_s
        while True:
            try:
                with self.transaction() as changes:
                    result = function(changes)
                return result
            except Conflict:
                if compat.monotonic_s() >= ends_at:
                    raise

    def watch(self, path, token):
        """From now on wait_event() tells of changes of this record and below it; at once it tells of one.

        `path` may be @releaseDomain, which tells that some domain has ended, or @introduceDomain.
        """
        self._ask(_WATCH, 'watch', path, _terminate(token))

    def unwatch(self, path, token):
        """End a watch.  Events that have come already are still returned.  Raises NotFound."""
        self._ask(_UNWATCH, 'unwatch', path, _terminate(token))

    def wait_event(self, timeout_s):
        """(path, token), bytes, of the next change that a watch tells of; None after `timeout_s` seconds.

        Of changes that are the same and have not been returned yet, one is kept.
        """
        return self._link.wait_event(timeout_s)


class Transaction(Operations):
    """See Connection.transaction()."""

    def __init__(self, link):
        super(Transaction, self).__init__(link)

    def __enter__(self):
        reply = self._link.ask(_TRANSACTION_START, 0, b'\0', 'begin a transaction').rstrip(b'\0')
        if not reply.isdigit() or len(reply) > 10:
            raise self._link.fail('gave a transaction no number')
        self._transaction_id = int(reply)
        return self

    def __exit__(self, kind, value, traceback):
        if not self._link.is_open:
            return
        try:
            decision = b'F\0' if kind else b'T\0'
            self._link.ask(_TRANSACTION_END, self._transaction_id, decision, 'carry out')
        except StoreError:
            if not kind:
                raise


class ReplyReader(object):
    """Cuts messages out of the bytes that a daemon sends; knows nothing of sockets."""

    def __init__(self):
        self._data = b''

    def feed(self, data):
        """[(type, request id, payload)] of the messages that are complete with what has been received next.

        Raises ValueError for what no daemon sends.
        """
        data = self._data + data
        messages = []
        start = 0
        while len(data) - start >= _HEADER.size:
            kind, request_id, _, length = _HEADER.unpack_from(data, start)
            if kind > _DIRECTORY_PART or length > _MAX_REPLY_BYTES:
                raise ValueError('sent what is no message: type %d, %d bytes' % (kind, length))
            end = start + _HEADER.size + length
            if end > len(data):
                break
            messages.append((kind, request_id, data[start + _HEADER.size:end]))
            start = end
        self._data = data[start:]
        return messages


class _Link(object):
    """The socket, the matching of replies to requests, and events that have come between them."""

    def __init__(self, timeout_s):
        self.timeout_s = timeout_s
        self._reader = ReplyReader()
        self._messages = []  # received and not looked at, the first one last
        self._request_id = 0
        self._events = []
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            # Not settimeout(): where a queue is full, and OCaml's takes two, it fails at once instead of waiting.
            timeout = struct.pack('ll', int(timeout_s), int(timeout_s % 1 * 1000000))
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
        """Close the connection, on which nothing can be trusted any more; returns the error to raise."""
        self.close()
        return errors.RetryableError('xenstored %s' % reason)

    def ask(self, kind, transaction_id, payload, verb):
        """The payload of the reply to one request.  Raises StoreError."""
        reply, = self.exchange(kind, transaction_id, [payload], verb)
        if isinstance(reply, StoreError):
            raise reply
        return reply

    def exchange(self, kind, transaction_id, payloads, verb):
        """For each payload, sent as a request of this kind: the reply's payload, or a StoreError.  verb: for errors."""
        ends_at = compat.monotonic_s() + self.timeout_s
        for payload in payloads:
            if len(payload) > MAX_PAYLOAD_BYTES:
                raise TooLong('E2BIG', _attempt(verb, payload), 'a request has at most %d bytes, this one %d' % (
                    MAX_PAYLOAD_BYTES, len(payload)))
        replies = []
        for start in range(0, len(payloads), _PIPELINE):
            batch = payloads[start:start + _PIPELINE]
            self._send(kind, transaction_id, batch, ends_at)
            for payload in batch:
                reply = self._receive_reply(kind, ends_at)
                if isinstance(reply, bytes):
                    replies.append(reply)
                else:
                    replies.append(_CLASSES.get(reply, StoreError)(reply, _attempt(verb, payload)))
        return replies

    def _send(self, kind, transaction_id, payloads, ends_at):
        request_id = self._request_id
        pieces = []
        for payload in payloads:
            request_id = request_id + 1 & 0xffffffff
            pieces += [_HEADER.pack(kind, request_id, transaction_id, len(payload)), payload]
        data = b''.join(pieces)
        while data:
            data = data[self._wait_for('send', data, ends_at):]

    def _receive_reply(self, kind, ends_at):
        """The payload of the reply to the next request, bytes, or the name of an error, text."""
        while True:
            message = self._receive(ends_at)
            if message is None:
                raise self.fail('did not answer within %g s' % self.timeout_s)
            reply_kind, reply_id, payload = message
            if reply_kind != _WATCH_EVENT:
                break
            self._keep_event(payload)
        self._request_id = self._request_id + 1 & 0xffffffff
        if reply_id != self._request_id or reply_kind not in (kind, _ERROR):
            raise self.fail('answered request %d of type %d with number %d, type %d' % (
                self._request_id, kind, reply_id, reply_kind))
        return payload if reply_kind == kind else payload.rstrip(b'\0').decode('ascii', 'replace')[:_SHOWN_CHARACTERS]

    def wait_event(self, timeout_s):
        ends_at = compat.monotonic_s() + timeout_s
        while not self._events:
            message = self._receive(ends_at)
            if message is None:
                return None
            if message[0] != _WATCH_EVENT:
                raise self.fail('answered what nobody had asked')
            self._keep_event(message[2])
        return self._events.pop(0)

    def _keep_event(self, payload):
        parts = payload.split(b'\0')
        if len(parts) < 3:
            raise self.fail('sent an event without a path and a token')
        event = parts[0], parts[1]
        if event not in self._events:
            self._events.append(event)

    def _receive(self, ends_at):
        """The next message; None when the time is up."""
        while not self._messages:
            data = self._wait_for('recv', _RECEIVE_BYTES, ends_at)
            if data is None:
                return None
            if not data:
                raise self.fail('has closed the connection')
            try:
                self._messages = self._reader.feed(data)[::-1]
            except ValueError as error:
                raise self.fail(str(error))
        return self._messages.pop()

    def _wait_for(self, operation, argument, ends_at):
        """What the socket's operation returns; when the time is up, None for recv."""
        while True:
            if self._socket is None:
                raise errors.RetryableError('the connection to xenstored is closed')
            try:
                self._socket.settimeout(max(ends_at - compat.monotonic_s(), 0))
                return getattr(self._socket, operation)(argument)
            except EnvironmentError as error:
                if error.errno == errno.EINTR:  # Python 2 does not resume after a signal
                    continue
                # With a timeout of 0 nothing is waited for, and the error is another one.
                if not isinstance(error, _socket.timeout) and error.errno != errno.EAGAIN:
                    raise self.fail('has gone: %s' % compat.to_text(error))
            if operation == 'recv':
                return None
            raise self.fail('did not take a request within %g s' % self.timeout_s)


def _terminate(text):
    """A path, token or permission as it is sent."""
    data = text if isinstance(text, bytes) else text.encode('ascii')
    if b'\0' in data:
        raise ValueError('no path, token or permission holds a NUL')
    return data + b'\0'


def _split(payload):
    return payload.split(b'\0')[:-1]


def _attempt(verb, payload):
    """What a request was to do, for an error."""
    return '%s %s' % (verb, compat.to_text(payload.partition(b'\0')[0] or b'a transaction')[:_SHOWN_CHARACTERS])
