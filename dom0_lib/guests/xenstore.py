# SPDX-License-Identifier: Apache-2.0
"""A client of xenstored, written in C or in OCaml, over its socket in dom0: bytes in and out, without a process for each key.

The two daemons differ in three points.  If the names in a directory exceed 4096 bytes, C's refuses the request and has
DIRECTORY_PART, OCaml's sends one long reply.  OCaml's limits values to 2048 bytes.  When a quota is used up, the error is ENOSPC
from C's and EQUOTA from OCaml's.
"""

from __future__ import absolute_import, division

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib import text_checks
from dom0_lib.guests import xenstore_link

MAX_VALUE_BYTES = 2048

# Raised when xenstored cannot be reached, ends, or does not answer in time: callers retry on the name of this class.
Unavailable = errors.RetryableError

_SHOWN_CHARACTERS = 200

_REASONS = {
    'ENOENT': 'there is no such record',
    'EACCES': 'it is not permitted',
    'EINVAL': 'it is not valid',
    'E2BIG': 'it is too long',
    'EAGAIN': 'another client changed a record that it read or wrote',
    'EQUOTA': 'the quota of the guest is used up',
    'ENOSPC': 'the quota of the guest is used up',
}


class StoreError(Exception):
    """xenstored refused an operation; `name` is the daemon's name for the error.

    The `with` block of a Connection turns it into errors.PluginError, and a Conflict into errors.RetryableError.
    """

    def __init__(self, name, attempt, reason=None):
        reason = reason or '%s (%s)' % (_REASONS.get(name, 'xenstored refused it'), name)
        super(StoreError, self).__init__('xenstore: cannot %s: %s' % (attempt, reason))
        self.name = name


class NotFound(StoreError):
    """ENOENT: there is no such record."""


class Conflict(StoreError):
    """EAGAIN: the transaction was not carried out, because another client changed a record that it read or wrote."""


class QuotaExceeded(StoreError):
    """EQUOTA, or C's ENOSPC: the guest that owns the record has no room left for it."""


class TooLong(StoreError):
    """E2BIG: a value, or path and value together, exceed xenstore's limit.  Mostly raised before anything is sent."""


_CLASSES = {'ENOENT': NotFound, 'EAGAIN': Conflict, 'EQUOTA': QuotaExceeded, 'ENOSPC': QuotaExceeded, 'E2BIG': TooLong}


class Operations(object):
    """The operations that a connection and a transaction have in common.

    Paths are bytes or ASCII text, values and names bytes.  Every operation may raise StoreError, and errors.RetryableError if
    the daemon has ended or is too slow.
    """

    def __init__(self, link):
        self._link = link
        self._transaction_id = 0

    def read(self, path):
        """The value of a record.  Raises NotFound."""
        return self._ask(xenstore_link.READ, 'read', path)

    def read_all(self, paths):
        """The values of many records, None for each missing one, much faster than by as many calls of read()."""
        replies = self._link.exchange(xenstore_link.READ, self._transaction_id, [_terminate(path) for path in paths])
        return [reply if isinstance(reply, bytes) else _none_if_not_found(reply, 'read', path)
                for path, reply in zip(paths, replies)]

    def write(self, path, value):
        """Make or change a record; make the records above it if they are missing.  Raises TooLong, QuotaExceeded."""
        if len(value) > MAX_VALUE_BYTES:
            raise _error('E2BIG', 'write', path, 'a value has at most %d bytes, this one %d' % (
                MAX_VALUE_BYTES, len(value)))
        self._ask(xenstore_link.WRITE, 'write', path, value)

    def remove(self, path):
        """Remove a record and everything below it.  Raises NotFound."""
        # C's daemon answers OK for a missing record if its parent exists.
        self._ask(xenstore_link.READ, 'remove', path)
        self._ask(xenstore_link.RM, 'remove', path)

    def list(self, path):
        """The names directly below a record, in no order.  Raises NotFound."""
        try:
            return _split(self._ask(xenstore_link.DIRECTORY, 'list', path))
        except TooLong:
            return self._list_parts(path)

    def _list_parts(self, path):
        ends_at = compat.monotonic_s() + self._link.timeout_s
        generation, names = None, b''
        while compat.monotonic_s() < ends_at:
            offset = '%d' % len(names)
            now, _, part = self._ask(xenstore_link.DIRECTORY_PART, 'list', path, _terminate(offset)).partition(b'\0')
            if generation not in (None, now):
                generation, names = None, b''  # the directory was changed meanwhile
                continue
            generation = now
            names += part
            if part == b'\0' or part.endswith(b'\0\0'):
                return [name for name in names.split(b'\0') if name]
        raise self._link.fail('did not list a directory that keeps changing within %g s' % self._link.timeout_s)

    def get_permissions(self, path):
        """A list such as [b'n5', b'r0']: the owner and the rights of all others, then those of single domains.  Raises NotFound."""
        return _split(self._ask(xenstore_link.GET_PERMS, 'read permissions of', path))

    def set_permissions(self, path, permissions):
        """Set permissions, in the form of get_permissions().  Raises NotFound."""
        self._ask(xenstore_link.SET_PERMS, 'set permissions of', path, b''.join(_terminate(item) for item in permissions))

    def _ask(self, kind, verb, path, more=b''):
        return self._send(kind, _terminate(path) + more, verb, path)

    def _send(self, kind, payload, verb, path=''):
        if len(payload) > xenstore_link.MAX_PAYLOAD_BYTES:
            raise _error('E2BIG', verb, path, 'a request has at most %d bytes, this one %d' % (
                xenstore_link.MAX_PAYLOAD_BYTES, len(payload)))
        reply, = self._link.exchange(kind, self._transaction_id, [payload])
        if not isinstance(reply, bytes):
            raise _error(reply, verb, path)
        return reply


class Connection(Operations):
    """A connection to this host's xenstored; use it in one thread, in a `with` statement.

    timeout_s: how long each of its operations may take
    Raises errors.RetryableError if the daemon cannot be reached.
    """

    def __init__(self, timeout_s):
        super(Connection, self).__init__(xenstore_link.Link(timeout_s))

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        self.close()
        if isinstance(value, Conflict):
            raise errors.RetryableError(value)
        if isinstance(value, StoreError):
            raise errors.PluginError(value)

    def close(self):
        """Close the connection; its watches and transactions end, too."""
        self._link.close()

    def transaction(self):
        """`with store.transaction() as changes:` all operations on `changes` take effect at the end of the block, or none.

        Raises Conflict at the end if another client changed a record that it read or wrote; transact() tries again.
        """
        return Transaction(self._link)

    def transact(self, function, timeout_s):
        """Call function(changes) in a transaction, again after each Conflict, and return its result.

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

    def survey(self, helper, paths):
        """Yield (path, value, names below it) of many records, in no order; value or names are None if the record is missing.

        helper: another Connection.  In each turn of its loop a daemon answers one request of each connection, and oxenstored
        spends most of its time on the turns.  Until the last tuple has been taken, neither connection can do anything else.
        """
        payloads = [_terminate(path) for path in paths]
        values = self._link.stream(xenstore_link.READ, 0, payloads)
        lists = helper._link.stream(xenstore_link.DIRECTORY, 0, payloads)
        left = iter(paths)
        too_long = []
        for batch in values:
            for value, names, path in zip(batch, next(lists), left):
                if not isinstance(value, bytes):
                    value = _none_if_not_found(value, 'read', path)
                if names == b'':
                    yield path, value, []
                elif isinstance(names, bytes):
                    yield path, value, _split(names)
                elif names == 'E2BIG':
                    too_long.append((path, value))
                else:
                    yield path, value, _none_if_not_found(names, 'list', path)
        for path, value in too_long:
            try:
                yield path, value, self.list(path)
            except NotFound:
                yield path, value, None

    def watch(self, path, token):
        """From now on wait_event() returns an event for each change of this record or below it; one event comes at once.

        `path` may also be @releaseDomain, for events when any domain has ended, or @introduceDomain.
        """
        self._ask(xenstore_link.WATCH, 'watch', path, _terminate(token))

    def unwatch(self, path, token):
        """End a watch.  Events that were received already are still returned.  Raises NotFound."""
        self._ask(xenstore_link.UNWATCH, 'unwatch', path, _terminate(token))

    def wait_event(self, timeout_s):
        """(path, token), bytes, of the next event of a watch; None after `timeout_s` seconds.

        Equal events that have not been returned yet are merged into one.
        """
        return self._link.wait_event(timeout_s)


class Transaction(Operations):
    """See Connection.transaction()."""

    def __enter__(self):
        number = self._send(xenstore_link.TRANSACTION_START, b'\0', 'begin a transaction').rstrip(b'\0')
        self._transaction_id = text_checks.parse_number(number, 10)
        if self._transaction_id is None:
            raise self._link.fail('began a transaction without a number')
        return self

    def __exit__(self, kind, value, traceback):
        if not self._link.is_open:
            return
        try:
            self._send(xenstore_link.TRANSACTION_END, b'F\0' if kind else b'T\0', 'carry out a transaction')
        except StoreError:
            if not kind:
                raise


def _terminate(text):
    """The bytes to send for a path, token or permission."""
    data = text if isinstance(text, bytes) else text.encode('ascii')
    if b'\0' in data:
        raise ValueError('a path, token or permission must not contain NUL')
    return data + b'\0'


def _split(payload):
    return payload.split(b'\0')[:-1]


def _none_if_not_found(name, verb, path):
    if name != 'ENOENT':
        raise _error(name, verb, path)


def _error(name, verb, path, reason=None):
    """The exception for a request that xenstored has refused, or would refuse."""
    attempt = ('%s %s' % (verb, compat.to_text(path)[:_SHOWN_CHARACTERS])).rstrip()
    return _CLASSES.get(name, StoreError)(name, attempt, reason)
