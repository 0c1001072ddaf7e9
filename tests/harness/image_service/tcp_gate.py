# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy that shuts once some bytes have passed, so that a test can act in the middle of a transfer."""

import contextlib
import socket
import threading
import urllib.parse

_PIECE_BYTES = 16 * 1024
# Little enough that a transfer of a few MiB cannot be over while the gate is shut.
_BUFFER_BYTES = 64 * 1024
_LIMIT_S = 60


class Gate(object):
    """A proxy to the server of `url`, which shuts after `limit_bytes` in all and stays so until it is opened; a context manager.

    ip       of the gate
    url      of the server, through the gate
    passed_bytes    in both directions so far
    shut     an Event: the bytes have passed, nothing moves any more
    heads    what each client sent first
    """

    def __init__(self, url, limit_bytes, ip="127.0.0.1"):
        server = urllib.parse.urlsplit(url)
        self._server = server.hostname, server.port
        self._left_bytes = limit_bytes
        self._lock = threading.Lock()
        self._opened = threading.Event()
        self._sockets = []
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)  # inherited by what it accepts
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        self._listener.bind((ip, 0))
        self._listener.listen(16)
        self.url = server._replace(netloc="%s:%d" % self._listener.getsockname()).geturl()
        self.passed_bytes = 0
        self.shut = threading.Event()
        self.heads = []

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc_info):
        self._opened.set()
        _end(self._listener)
        for each in list(self._sockets):
            _end(each)

    def open(self):
        """Let everything pass from now on."""
        self._opened.set()

    def pass_more(self, limit_bytes):
        """Let so much pass, and shut again."""
        with self._lock:
            self._left_bytes = limit_bytes
            self.shut.clear()
            opened, self._opened = self._opened, threading.Event()
        opened.set()

    def cut(self):
        """Break the connections that there are; new ones pass."""
        broken, self._sockets = self._sockets, []
        self._opened.set()
        for each in broken:
            _end(each)

    def _accept(self):
        with contextlib.suppress(OSError):  # the listener is closed at the end
            while True:
                self._connect(self._listener.accept()[0])

    def _connect(self, client):
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        self._sockets += [client, server]
        try:
            server.connect(self._server)
        except OSError:
            _end(client)
            return
        threading.Thread(target=self._pump, args=(client, server, True), daemon=True).start()
        threading.Thread(target=self._pump, args=(server, client, False), daemon=True).start()

    def _pump(self, source, target, is_request):
        """Pass on what comes from `source`; when either side breaks, both are closed."""
        try:
            for number, data in enumerate(iter(lambda: source.recv(_PIECE_BYTES), b"")):
                if is_request and number == 0:
                    self.heads.append(data)
                self._pass(len(data))
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            _end(source)
            _end(target)

    def _pass(self, size_bytes):
        with self._lock:
            self.passed_bytes += size_bytes
            self._left_bytes -= size_bytes
            if self._left_bytes > 0:
                return
            opened = self._opened
        if not opened.is_set():
            self.shut.set()
            opened.wait(_LIMIT_S)


def _end(connection):
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
