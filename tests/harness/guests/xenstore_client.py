# SPDX-License-Identifier: Apache-2.0
"""A client of xenstored for tests: as dom0 over the socket, or as a guest over the page that it shares with the daemon.

It also sends wrong requests, and knows nothing of dom0_lib.guests.xenstore, which is tested against the same
daemons.  Types and structures: xen/include/public/io/xs_wire.h.
"""

import collections
import enum
import mmap
import os
import select
import socket
import struct
import time

HEADER = struct.Struct("=IIII")
PAYLOAD_MAX_BYTES = 4096
TIMEOUT_S = 60


class Type(enum.IntEnum):
    CONTROL, DIRECTORY, READ, GET_PERMS, WATCH, UNWATCH, TRANSACTION_START, TRANSACTION_END = range(8)
    INTRODUCE, RELEASE, GET_DOMAIN_PATH, WRITE, MKDIR, RM, SET_PERMS, WATCH_EVENT = range(8, 16)
    ERROR, IS_DOMAIN_INTRODUCED, RESUME, SET_TARGET = range(16, 20)
    RESET_WATCHES, DIRECTORY_PART = 21, 22


Message = collections.namedtuple("Message", "type request_id transaction_id payload")


class Refused(Exception):
    """The daemon's error; `name` as it sent it."""

    def __init__(self, name):
        super().__init__(name)
        self.name = name


class Closed(Exception):
    """The daemon has closed the connection."""


class Client(object):
    """Paths, tokens and values are bytes. An operation raises Refused, Closed, or TimeoutError after TIMEOUT_S."""

    def __init__(self, channel):
        self._channel = channel
        self._data = b""
        self._request_id = 0
        self._events = collections.deque()

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

    def close(self):
        self._channel.close()

    def request(self, kind, payload, transaction=0):
        """The payload of the reply."""
        self._request_id += 1
        self.send(kind, payload, transaction, self._request_id)
        reply = self.receive_reply()
        if reply.request_id != self._request_id or reply.type not in (kind, Type.ERROR):
            raise AssertionError("%s is no answer to request %d of type %d" % (reply, self._request_id, kind))
        if reply.type == Type.ERROR:
            raise Refused(reply.payload.rstrip(b"\0").decode("ascii"))
        return reply.payload

    def send(self, kind, payload, transaction=0, request_id=0):
        self.send_raw(HEADER.pack(kind, request_id, transaction, len(payload)) + payload)

    def send_raw(self, data):
        self._channel.send(data, time.monotonic() + TIMEOUT_S)

    def receive_reply(self):
        """The next message that is no event; events before it are kept."""
        while True:
            message = self._receive(time.monotonic() + TIMEOUT_S)
            if message is None:
                raise TimeoutError("no answer from xenstored within %d s" % TIMEOUT_S)
            if message.type != Type.WATCH_EVENT:
                return message
            self._keep_event(message)

    def event(self, timeout_s=TIMEOUT_S):
        """(path, token) of the next event; None after the timeout."""
        deadline = time.monotonic() + timeout_s
        while not self._events:
            message = self._receive(deadline)
            if message is None:
                return None
            if message.type != Type.WATCH_EVENT:
                raise AssertionError("%s is no event" % (message,))
            self._keep_event(message)
        return self._events.popleft()

    def _keep_event(self, message):
        path, token, rest = message.payload.split(b"\0")
        if rest:
            raise AssertionError("%s has too much in it" % (message,))
        self._events.append((path, token))

    def _receive(self, deadline):
        while len(self._data) < HEADER.size or len(self._data) < HEADER.size + HEADER.unpack_from(self._data)[3]:
            data = self._channel.receive(deadline)
            if data is None:
                return None
            self._data += data
        kind, request_id, transaction, length = HEADER.unpack_from(self._data)
        end = HEADER.size + length
        payload, self._data = self._data[HEADER.size:end], self._data[end:]
        return Message(kind, request_id, transaction, payload)

    # The operations of the protocol, by their usual names.

    def read(self, path, transaction=0):
        return self.request(Type.READ, path + b"\0", transaction)

    def write(self, path, value, transaction=0):
        self.request(Type.WRITE, path + b"\0" + value, transaction)

    def mkdir(self, path, transaction=0):
        self.request(Type.MKDIR, path + b"\0", transaction)

    def rm(self, path, transaction=0):
        self.request(Type.RM, path + b"\0", transaction)

    def directory(self, path, transaction=0):
        return self.request(Type.DIRECTORY, path + b"\0", transaction).split(b"\0")[:-1]

    def get_perms(self, path, transaction=0):
        return self.request(Type.GET_PERMS, path + b"\0", transaction).split(b"\0")[:-1]

    def set_perms(self, path, *perms, transaction=0):
        self.request(Type.SET_PERMS, b"".join(item + b"\0" for item in (path,) + perms), transaction)

    def watch(self, path, token):
        self.request(Type.WATCH, path + b"\0" + token + b"\0")

    def unwatch(self, path, token):
        self.request(Type.UNWATCH, path + b"\0" + token + b"\0")

    def begin(self):
        """The number of a new transaction."""
        return int(self.request(Type.TRANSACTION_START, b"\0").rstrip(b"\0"))

    def end(self, transaction, commits=True):
        self.request(Type.TRANSACTION_END, b"T\0" if commits else b"F\0", transaction)

    def introduce(self, domid):
        self.request(Type.INTRODUCE, b"%d\0%d\0%d\0" % (domid, 1, 1))

    def is_introduced(self, domid):
        return self.request(Type.IS_DOMAIN_INTRODUCED, b"%d\0" % domid) == b"T\0"


class SocketChannel(object):

    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.settimeout(TIMEOUT_S)
            self._socket.connect(path)
        except BaseException:
            self._socket.close()
            raise

    def send(self, data, deadline):
        try:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            raise Closed

    def receive(self, deadline):
        """Bytes; None when the deadline has passed."""
        try:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            data = self._socket.recv(1 << 16)
        except socket.timeout:
            return None
        except ConnectionResetError:
            raise Closed
        if not data:
            raise Closed
        return data

    def close(self):
        self._socket.close()


class PageChannel(object):
    """The page that a guest shares with the daemon, and events both ways; see xenstored_shim.c.

    In the page: 1024 bytes of requests, 1024 of replies, and four counters of 32 bits that only grow: requests read by the
    daemon, requests written, replies read by the guest, replies written (xen/include/public/io/xs_wire.h).
    """

    _RING_BYTES = 1024
    _COUNTERS = slice(2048, 2064)
    _REQUESTS_READ, _REQUESTS_WRITTEN, _REPLIES_READ, _REPLIES_WRITTEN = range(4)

    def __init__(self, page_path, notify_path, events_path, port):
        fd = os.open(page_path, os.O_RDWR)
        try:
            self._page = mmap.mmap(fd, 4096)
        finally:
            os.close(fd)
        # Changed in one store each. struct.pack_into() writes zeros first, and a daemon that sees them ignores the guest for good.
        self._counters = memoryview(self._page)[self._COUNTERS].cast("I")
        self._notify_fd = os.open(notify_path, os.O_RDWR | os.O_NONBLOCK)
        self._events_path = events_path
        self._port = port

    def _advance(self, counter, count):
        self._counters[counter] = (self._counters[counter] + count) & 0xffffffff
        raise_event(self._events_path, self._port)

    def _wait(self, deadline):
        """Whether the daemon has touched the page before the deadline."""
        if not select.select([self._notify_fd], [], [], max(deadline - time.monotonic(), 0))[0]:
            return False
        os.read(self._notify_fd, 4096)
        return True

    def send(self, data, deadline):
        while data:
            used = (self._counters[self._REQUESTS_WRITTEN] - self._counters[self._REQUESTS_READ]) & 0xffffffff
            start = self._counters[self._REQUESTS_WRITTEN] % self._RING_BYTES
            count = min(len(data), self._RING_BYTES - used, self._RING_BYTES - start)
            if count:
                self._page[start:start + count] = data[:count]
                data = data[count:]
                self._advance(self._REQUESTS_WRITTEN, count)
            elif not self._wait(deadline):
                raise TimeoutError("xenstored does not read the guest's requests")

    def receive(self, deadline):
        while True:
            start = self._counters[self._REPLIES_READ] % self._RING_BYTES
            there = (self._counters[self._REPLIES_WRITTEN] - self._counters[self._REPLIES_READ]) & 0xffffffff
            count = min(there, self._RING_BYTES - start)
            if count:
                data = self._page[1024 + start:1024 + start + count]
                self._advance(self._REPLIES_READ, count)
                return data
            if not self._wait(deadline):
                return None

    def close(self):
        os.close(self._notify_fd)
        self._counters.release()
        self._page.close()


def raise_event(events_path, port):
    """Raise an event in the daemon. One that is not there any more misses nothing."""
    try:
        fd = os.open(events_path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return
    try:
        os.write(fd, struct.pack("=I", port))
    finally:
        os.close(fd)
