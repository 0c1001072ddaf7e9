# SPDX-License-Identifier: Apache-2.0
"""A daemon that answers as a test tells it, for what no real xenstored sends, or only at a bad moment."""

from __future__ import absolute_import, division

import os
import shutil
import socket
import struct
import tempfile
import threading

import pytest

HEADER = struct.Struct('=IIII')
DIRECTORY, READ, WATCH, TRANSACTION_START, WRITE, WATCH_EVENT, ERROR = 1, 2, 4, 6, 11, 15, 16
DEADLINE_S = 10


def message(kind, request_id, payload, transaction_id=0):
    return HEADER.pack(kind, request_id, transaction_id, len(payload)) + payload


class Daemon(object):
    """Answers each request on its one connection with what answer(type, request id, payload) returns; b'' closes."""

    def __init__(self, directory, answer):
        self._answer = answer
        self.listener = socket.socket(socket.AF_UNIX)
        os.makedirs(directory + '/var/run/xenstored')
        self.listener.bind(directory + '/var/run/xenstored/socket')
        self.listener.listen(5)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        connection, _ = self.listener.accept()
        connection.settimeout(DEADLINE_S)
        stream = connection.makefile('rb')
        while True:
            header = stream.read(HEADER.size)
            if len(header) < HEADER.size:
                break
            kind, request_id, _, length = HEADER.unpack(header)
            reply = self._answer(kind, request_id, stream.read(length))
            if not reply:
                break
            connection.sendall(reply)
        stream.close()
        connection.close()

    def close(self):
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()
        self.listener.close()


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
