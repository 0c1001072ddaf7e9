# SPDX-License-Identifier: Apache-2.0
"""A daemon that answers as a test tells it, for what no real xenstored sends, or only at a bad moment."""

from __future__ import absolute_import, division

import os
import select
import shutil
import socket
import struct
import tempfile
import threading

import pytest

HEADER = struct.Struct('=IIII')
DIRECTORY, READ, WATCH, TRANSACTION_START, WRITE, WATCH_EVENT, ERROR = 1, 2, 4, 6, 11, 15, 16
DEADLINE_S = 60


def message(kind, request_id, payload, transaction_id=0):
    return HEADER.pack(kind, request_id, transaction_id, len(payload)) + payload


class Daemon(object):
    """Answers a request of each connection in turn with what answer(type, request id, payload) returns; b'' closes."""

    def __init__(self, directory, answer):
        self._answer = answer
        self._listener = socket.socket(socket.AF_UNIX)
        os.makedirs(directory + '/var/run/xenstored')
        self._listener.bind(directory + '/var/run/xenstored/socket')
        self._listener.listen(5)
        self._connections = []
        self._told_to_end, self._end = socket.socketpair()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        while True:
            pause_s = 0 if any(connection.holds_request() for connection in self._connections) else None
            ready, _, _ = select.select([self._told_to_end, self._listener] + self._connections, [], [], pause_s)
            if self._told_to_end in ready:
                break
            if self._listener in ready:
                self._connections.append(_Connection(self._listener.accept()[0]))
            self._connections = [connection for connection in self._connections
                                 if connection.serve(connection in ready, self._answer)]
        for connection in self._connections:
            connection.close()

    def close(self):
        self._end.close()
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()
        self._told_to_end.close()
        self._listener.close()


class _Connection(object):

    def __init__(self, connected):
        self._socket = connected
        self._socket.settimeout(DEADLINE_S)
        self._received = b''
        self.fileno = connected.fileno

    def holds_request(self):
        data = self._received
        return len(data) >= HEADER.size and len(data) >= HEADER.size + HEADER.unpack_from(data)[3]

    def serve(self, is_ready, answer):
        """Receive what there is and answer one request; whether the connection goes on."""
        try:
            goes_on = self._receive() if is_ready else True
            if goes_on and self.holds_request():
                kind, request_id, _, length = HEADER.unpack_from(self._received)
                payload = self._received[HEADER.size:HEADER.size + length]
                self._received = self._received[HEADER.size + length:]
                reply = answer(kind, request_id, payload)
                self._socket.sendall(reply or b'')
                goes_on = bool(reply)
        except EnvironmentError:
            goes_on = False
        if not goes_on:
            self.close()
        return goes_on

    def _receive(self):
        data = self._socket.recv(1 << 16)
        self._received += data
        return bool(data)

    def close(self):
        self._socket.close()


@pytest.fixture
def start_xenstored(monkeypatch):
    """Function(answer): start a Daemon."""
    directory = tempfile.mkdtemp(prefix='xs-')
    monkeypatch.setenv('DOM0_ROOT', directory)
    daemons = []
    yield lambda answer: daemons.append(Daemon(directory, answer))
    for daemon in daemons:
        daemon.close()
    shutil.rmtree(directory)
