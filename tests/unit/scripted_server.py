# SPDX-License-Identifier: Apache-2.0
"""A server that says what a script tells it to say, byte by byte: what no proper server would."""

from __future__ import absolute_import, division

import contextlib
import socket
import struct
import threading

_SOCKET_TIMEOUT_S = 120
_JOIN_TIMEOUT_S = 60

RESET = object()      # end the connection with RST
DEAF = object()       # at the beginning of a script: do not even read the request


class ScriptedServer(object):
    """`with ScriptedServer(script, ...) as server:` answers one connection after the other, each by its script.

    A script is an iterable of bytes to send and of numbers, seconds to wait; at its end the connection is closed.  After
    the last script connections are refused.

    scripts:  those to come
    requests: the head of each request as text
    wrap:     what makes a TLS socket of an accepted one
    """

    def __init__(self, *scripts, **options):
        family = options.get('family', socket.AF_INET)
        self.scripts = list(scripts)
        self.requests = []
        self._wrap = options.get('wrap', lambda accepted: accepted)
        self._stopping = threading.Event()
        self._listener = socket.socket(family, socket.SOCK_STREAM)
        self._listener.bind(('::1' if family == socket.AF_INET6 else '127.0.0.1', 0))
        self._listener.listen(16)
        self._thread = threading.Thread(target=self._serve)
        self._thread.daemon = True
        self.port = self._listener.getsockname()[1]
        self.netloc = ('[::1]:%d' if family == socket.AF_INET6 else '127.0.0.1:%d') % self.port
        self.url = 'http://%s' % self.netloc

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc_info):
        self._stopping.set()
        try:
            # Wakes an accept(), which a close() would not.
            self._listener.shutdown(socket.SHUT_RDWR)
        except EnvironmentError:
            pass  # closed after the last script
        self._thread.join(_JOIN_TIMEOUT_S)
        assert not self._thread.is_alive(), 'the server did not end'

    def _serve(self):
        while self.scripts:
            try:
                accepted = self._listener.accept()[0]
            except EnvironmentError:
                break
            script = self.scripts.pop(0)
            if not self.scripts:
                self._listener.close()
            accepted.settimeout(_SOCKET_TIMEOUT_S)
            with contextlib.closing(accepted):
                try:
                    self._converse(self._wrap(accepted), script)
                except EnvironmentError:
                    pass  # the client has gone, which some tests want to see
        self._listener.close()

    def _converse(self, connection, script):
        steps = iter(script)
        step = next(steps, b'')
        if step is not DEAF:
            self.requests.append(read_head(connection))
        while step is not None:
            if isinstance(step, (int, float)):
                self._stopping.wait(step)
            elif step is RESET:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
                break
            elif step is not DEAF:
                connection.sendall(step)
            if self._stopping.is_set():
                break
            step = next(steps, None)
        connection.close()


def read_head(connection):
    """What comes up to an empty line, as text."""
    head = b''
    while not head.endswith(b'\r\n\r\n'):
        data = connection.recv(1)
        if not data:
            break
        head += data
    return head.decode('utf-8')
