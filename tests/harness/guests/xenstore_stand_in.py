# SPDX-License-Identifier: Apache-2.0
"""A stand-in for xenstored: a thread that serves its protocol, for machines that cannot have a real one.

It passes the same tests (tests/simulator/test_xenstore_contract.py). Not there: control commands, SET_TARGET, RESUME, live
update, OCaml's limits on how often a guest may make conflicts.
"""

import os
import queue
import selectors
import socket
import threading

from tests.harness.guests import xenstore_client
from tests.harness.guests import xenstored
from tests.harness.guests.xenstore_client import HEADER, PAYLOAD_MAX_BYTES
from tests.harness.guests.xenstore_requests import DOM0, Peer, Requests

_STOP_TIMEOUT_S = 60


class StandIn(xenstored.Xenstored):

    _server = None

    def start(self):
        self._server = _Server(self.is_like_c, self.socket, self._domains)

    def stop(self):
        server, self._server = self._server, None
        if server:
            server.stop()

    def pause(self, is_paused=True):
        """It answers nobody, until pause(False)."""
        if is_paused:
            self._server.resumes.clear()
        else:
            self._server.resumes.set()
        self._server.wake()

    def _begin_domain(self, domid):
        self._server.do(lambda: self._server.requests.begin_domain(domid))

    def _end_domain(self, domid):
        self._server.do(lambda: self._server.requests.end_domain(domid))

    def _guest_channel(self, domid):
        ours, theirs = socket.socketpair()
        self._server.do(lambda: self._server.add_connection(theirs, domid))
        return _PairChannel(ours)


class _PairChannel(xenstore_client.SocketChannel):

    def __init__(self, connected):
        self._socket = connected


class _Connection(Peer):

    def __init__(self, sock, domid):
        super().__init__(domid)
        self.socket = sock
        self.received = b""


class _Server(object):
    """The socket and its connections, served by a thread; `requests` answers them."""

    def __init__(self, is_like_c, socket_path, domids):
        self._is_like_c = is_like_c
        self.requests = Requests(is_like_c, domids)
        self._connections = self.requests.peers
        self._jobs = queue.Queue()
        self.resumes = threading.Event()
        self.resumes.set()
        self._is_stopping = False
        self._socket_path = socket_path
        if os.path.lexists(socket_path):
            os.unlink(socket_path)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(socket_path)
        self._listener.listen(16)
        self._listener.setblocking(False)
        self._wake_read, self._wake_write = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._run_jobs)
        self._thread = threading.Thread(target=self._serve, name="xenstored", daemon=True)
        self._thread.start()

    # From other threads

    def do(self, function):
        """Run it in the server's thread, and wait until it has."""
        done = threading.Event()
        self._jobs.put(lambda: (function(), done.set()))
        self.wake()
        if not done.wait(_STOP_TIMEOUT_S):
            raise TimeoutError("the stand-in for xenstored does not answer")

    def wake(self):
        self._wake_write.send(b"\0")

    def stop(self):
        self._is_stopping = True
        self.resumes.set()
        self.wake()
        self._thread.join(_STOP_TIMEOUT_S)
        for connection in list(self._connections):
            self._drop(connection)
        for item in (self._selector, self._listener, self._wake_read, self._wake_write):
            item.close()
        os.unlink(self._socket_path)

    # The thread

    def _serve(self):
        while not self._is_stopping:
            for key, _ in self._selector.select():
                self.resumes.wait()
                key.data()
            for connection in list(self._connections):
                if connection.is_over:
                    self._drop(connection)
                else:
                    self._flush(connection)

    def _run_jobs(self):
        self._wake_read.recv(4096)
        while not self._jobs.empty():
            self._jobs.get()()

    def _accept(self):
        self.add_connection(self._listener.accept()[0], DOM0)

    def add_connection(self, sock, domid):
        sock.setblocking(False)
        connection = _Connection(sock, domid)
        self._connections.append(connection)
        self._selector.register(sock, selectors.EVENT_READ, lambda: self._receive(connection))

    def _drop(self, connection):
        if connection in self._connections:
            self._connections.remove(connection)
            self._selector.unregister(connection.socket)
            connection.socket.close()

    def _receive(self, connection):
        if connection not in self._connections:
            return
        try:
            data = connection.socket.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(connection)
            return
        connection.received += data
        while len(connection.received) >= HEADER.size and connection in self._connections:
            kind, request_id, transaction, length = HEADER.unpack_from(connection.received)
            if length > PAYLOAD_MAX_BYTES and self._is_like_c:
                self._drop(connection)
                return
            end = HEADER.size + length
            if len(connection.received) < end:
                return
            payload, connection.received = connection.received[HEADER.size:end], connection.received[end:]
            self.requests.answer(connection, kind, request_id, transaction, payload)

    def _flush(self, connection):
        if connection.unsent:
            try:
                connection.unsent = connection.unsent[connection.socket.send(connection.unsent):]
            except BlockingIOError:
                pass
            except OSError:
                self._drop(connection)
                return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.unsent else 0)
        key = self._selector.get_key(connection.socket)
        if key.events != wanted:
            self._selector.modify(connection.socket, wanted, key.data)
