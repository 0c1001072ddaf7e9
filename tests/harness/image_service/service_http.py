# SPDX-License-Identifier: Apache-2.0
"""The image service's side of HTTP/1.1: reading a request, and sending a response as a list of wire steps.

A response is not written by one routine but planned as steps (send these bytes, send this part of that file, pause,
hang up), so that a fault (image_service_faults.py) can edit the plan and everything else stays as it is.

    bytes on the socket --Request--> application --Response--> steps() --fault--> steps --Step.run(wire)--> socket
"""
from __future__ import absolute_import, division

import http.client
import re
import select
import socket
import struct
import time
import urllib.parse

MAX_LINE_BYTES = 8192
# How often a pause looks whether its client is still there.
_LOOK_S = 0.05
PIECE_BYTES = 1 << 20  # how much is sent or received between two looks at the counters


class HangUp(Exception):
    """The server ends the connection here. `reset`: with RST, not FIN."""

    def __init__(self, reset=False):
        super().__init__("reset" if reset else "close")
        self.reset = reset


class BrokenMessage(Exception):
    """What the client sent is not HTTP, or its body ended too early."""


class Request(object):
    """Method, target as sent, path (decoded; repeated slashes count as one, as Glance's router has it), headers, body."""

    def __init__(self, method, target, version, headers, body):
        self.method = method
        self.target = target
        self.path = re.sub("/+", "/", urllib.parse.unquote(urllib.parse.urlsplit("//host" + _strip_host(target)).path))
        self.version = version
        self.headers = headers
        self.body = body

    @property
    def keeps_alive(self):
        return self.version == "HTTP/1.1" and self.headers.get("Connection", "").lower() != "close"


def _strip_host(target):
    return re.sub("^[a-z]+://[^/]*", "", target)


def read_request(stream, wire):
    """The next Request on the connection, None at its end; BrokenMessage when it is no HTTP."""
    line = stream.readline(MAX_LINE_BYTES)
    if not line:
        return None
    words = line.decode("latin-1").split()
    if len(words) != 3 or not words[2].startswith("HTTP/1.") or not line.endswith(b"\n"):
        raise BrokenMessage("not a request line")
    try:
        headers = http.client.parse_headers(stream)
    except http.client.HTTPException as error:
        raise BrokenMessage(str(error))
    return Request(words[0], words[1], words[2], headers, RequestBody(stream, headers, wire))


class RequestBody(object):
    """The body of one request: `read` until b"". Raises BrokenMessage when it ends early or is framed wrongly.

    size_bytes      Content-Length, None for chunks
    received_bytes  read so far, without framing
    complete        the end was reached
    """

    def __init__(self, stream, headers, wire):
        self._stream = stream
        self._wire = wire
        self._chunked = "chunked" in headers.get("Transfer-Encoding", "").lower()
        length = headers.get("Content-Length")
        if self._chunked and length is not None or length is not None and not length.isdigit():
            raise BrokenMessage("bad Content-Length")
        self.size_bytes = None if self._chunked else int(length or 0)
        self.received_bytes = 0
        self.complete = self.size_bytes == 0
        self._left = 0 if self._chunked else self.size_bytes  # of the message, or of the current chunk
        self._continue_awaited = headers.get("Expect", "").lower() == "100-continue"
        self._break = None
        self._is_cut = False

    def break_at(self, offset, action):
        """Run `action` once, when `offset` bytes or all have been read; a true result ends the body for the reader."""
        self._break = (offset, action)

    def read(self, max_bytes=PIECE_BYTES):
        if self._break is not None:
            offset, action = self._break
            data = self._receive(min(max_bytes, offset - self.received_bytes)) if self.received_bytes < offset else b""
            if data:
                return data
            self._break = None
            self._is_cut = bool(action())
        return b"" if self._is_cut else self._receive(max_bytes)

    def drain(self, max_bytes):
        """Read what is left, at most `max_bytes`; False when there is more, or it cannot be read."""
        end = self.received_bytes + max_bytes
        if self._continue_awaited or not self._chunked and self._left > max_bytes:
            return self.complete
        try:
            while not self.complete and self.received_bytes < end:
                self._receive(end - self.received_bytes)
        except (BrokenMessage, OSError):
            return False
        return self.complete

    def _receive(self, max_bytes):
        if self._continue_awaited:
            self._continue_awaited = False
            self._wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._chunked and not self._left and not self.complete:
            self._begin_chunk()
        if self.complete:
            return b""
        try:
            data = self._stream.read1(min(max_bytes, self._left))
        except OSError as error:
            raise BrokenMessage("the body could not be read: %s" % error)
        if not data:
            raise BrokenMessage("the body ended early")
        self.received_bytes += len(data)
        self._left -= len(data)
        if not self._left:
            self._end_part()
        return data

    def _begin_chunk(self):
        size = self._read_line().split(b";")[0].strip()
        if not re.match(b"^[0-9a-fA-F]{1,12}$", size):
            raise BrokenMessage("bad chunk size")
        self._left = int(size, 16)
        if self._left == 0:
            while self._read_line():  # trailers
                pass
            self.complete = True

    def _end_part(self):
        if not self._chunked:
            self.complete = True
        elif self._read_line():
            raise BrokenMessage("a chunk runs over its size")

    def _read_line(self):
        try:
            line = self._stream.readline(MAX_LINE_BYTES)
        except OSError as error:
            raise BrokenMessage("the body could not be read: %s" % error)
        if not line.endswith(b"\n"):
            raise BrokenMessage("the body ended early")
        return line.rstrip(b"\r\n")


class DataSlice(object):
    """`length` bytes of a file from `offset` on, sent by the kernel."""

    def __init__(self, path, offset, length):
        self.path = path
        self.offset = offset
        self.length = length

    def __len__(self):
        return self.length

    def steps(self, start, stop):
        return [SendFile(self.path, self.offset + start, stop - start)]

    def read(self, start, stop):
        with open(self.path, "rb") as data:
            data.seek(self.offset + start)
            return data.read(stop - start)


class Text(object):
    """A body that is in memory."""

    def __init__(self, content):
        self.content = content

    def __len__(self):
        return len(self.content)

    def steps(self, start, stop):
        return [Send(self.content[start:stop], payload=True)]

    def read(self, start, stop):
        return self.content[start:stop]


class Response(object):
    """Status, headers (list of pairs, Content-Length not among them), body (bytes or DataSlice).

    length        what Content-Length says; None: no such header
    sends_body    false for HEAD, 204, 304: the headers stay
    """

    def __init__(self, status, headers=(), body=b"", reason=None):
        self.status = status
        self.reason = reason or http.client.responses.get(status, "Unknown")
        self.headers = list(headers)
        self.body = Text(body) if isinstance(body, bytes) else body
        self.length = None if status in (204, 304) else len(self.body)
        self.sends_body = status not in (204, 304)
        self.version = "HTTP/1.1"
        self.closes = False

    def set_header(self, name, value):
        """Replace or add; with None, remove."""
        self.headers = [pair for pair in self.headers if pair[0].lower() != name.lower()]
        if value is not None:
            self.headers.append((name, value))

    def get_header(self, name):
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def head(self):
        lines = ["%s %d %s" % (self.version, self.status, self.reason)]
        lines += ["%s: %s" % pair for pair in self.headers]
        lines.append("Connection: %s" % ("close" if self.closes else "keep-alive"))
        if self.length is not None:
            lines.append("Content-Length: %d" % self.length)
        return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8")

    def body_steps(self, start=0, stop=None):
        """Steps that send the body's bytes from `start` to `stop`."""
        end = len(self.body) if stop is None else min(stop, len(self.body))
        return self.body.steps(start, end) if self.sends_body and start < end else []

    def steps(self):
        return [Send(self.head())] + self.body_steps()


class Send(object):
    def __init__(self, data, payload=False):
        self.data = data
        self.payload = payload  # counts as body in the statistics

    def run(self, wire):
        wire.send(self.data)
        if self.payload:
            wire.count(len(self.data))


class SendFile(object):
    def __init__(self, path, offset, length):
        self.path = path
        self.offset = offset
        self.length = length

    def run(self, wire):
        with open(self.path, "rb") as data:
            wire.send_file(data, self.offset, self.length)


class Pause(object):
    def __init__(self, seconds):
        self.seconds = seconds

    def run(self, wire):
        wire.pause(self.seconds)


class End(object):
    def __init__(self, reset=False):
        self.reset = reset

    def run(self, wire):
        raise HangUp(self.reset)


class Wire(object):
    """One connection's sending side. `stopping`: an Event that ends every pause. `count` is set for each request."""

    def __init__(self, connection, stopping):
        self._socket = connection
        self._stopping = stopping
        self.count = lambda sent_bytes: None

    def send(self, data):
        self._socket.sendall(data)

    def send_file(self, data, offset, length):
        end = offset + length
        while offset < end:
            sent = self._socket.sendfile(data, offset, min(PIECE_BYTES, end - offset))
            if not sent:
                raise HangUp()  # the file became shorter
            offset += sent
            self.count(sent)

    def pause(self, seconds):
        """Do nothing for so long. A client that ends its side meanwhile, or the end of the service, ends the connection."""
        poll = select.poll()
        poll.register(self._socket, select.POLLRDHUP)
        ends_at = time.monotonic() + seconds
        while True:
            left_s = ends_at - time.monotonic()
            if left_s <= 0:
                return
            if self._stopping.wait(min(left_s, _LOOK_S)) or poll.poll(0):
                raise HangUp()

    def hang_up(self, reset):
        """End the connection with FIN (what was sent arrives), or with RST (the client sees ECONNRESET)."""
        try:
            if reset:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the client was quicker

