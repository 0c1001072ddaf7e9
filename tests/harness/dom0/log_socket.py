# SPDX-License-Identifier: Apache-2.0
"""A host's syslog: the datagram socket /dev/log and the file behind it."""

import os
import re
import socket
import threading
import uuid

_PRIORITY = re.compile(rb"^<\d+>")
_DRAIN_TIMEOUT_S = 60


class LogSocket(object):

    def __init__(self, socket_path, file_path):
        self._path = socket_path
        self._file = open(file_path, "ab", buffering=0)
        self._lines = []
        self._markers = {}
        self._is_closing = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        if os.path.lexists(socket_path):
            os.unlink(socket_path)
        self._socket.bind(socket_path)
        os.chmod(socket_path, 0o666)
        self._thread = threading.Thread(target=self._receive, name="syslog", daemon=True)
        self._thread.start()

    def write(self, line):
        """Log a line of the host's own."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            # A line may be as long as a plug-in's whole argument.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            client.sendto(line.encode("utf-8", "surrogateescape"), self._path)

    def lines(self):
        """All lines so far, priorities removed. Waits for the messages that were sent before."""
        marker = uuid.uuid4().hex
        is_in = self._markers[marker] = threading.Event()
        self.write(marker)
        if not is_in.wait(_DRAIN_TIMEOUT_S):
            raise TimeoutError("%s: no answer from the log thread within %d s" % (self._path, _DRAIN_TIMEOUT_S))
        return list(self._lines)

    def close(self):
        self._is_closing = True
        self.write("")
        self._thread.join(_DRAIN_TIMEOUT_S)
        self._socket.close()
        self._file.close()
        os.unlink(self._path)

    def _receive(self):
        while True:
            data = self._socket.recv(1 << 20)
            if self._is_closing and not data:
                return
            line = _PRIORITY.sub(b"", data).rstrip(b"\0\n").decode("utf-8", "backslashreplace")
            if line in self._markers:
                self._markers.pop(line).set()
                continue
            self._lines.append(line)
            self._file.write(line.encode("utf-8") + b"\n")
