# SPDX-License-Identifier: Apache-2.0
"""Faults of the image service: what it does wrong, and to which request.

    service.faults.append(faults.HangUp(at=4096, reset=True, path="/file$", nth=2))

Every fault takes `method` (None: any), `path` (regular expression, searched for in the path), `nth` (1: the first
request that fits) and `times` (how many from then on; None: all). The first fault in the list that applies to a
request takes it; `hits` counts. Nothing is random: a test that wants chance draws the numbers itself.

Offsets count body bytes: at=0 is after the headers, at=None before them. An offset beyond the body is its end.

| answers                          | what the client sees                                                       |
|----------------------------------|----------------------------------------------------------------------------|
| Refusal(status, headers, body)   | that answer; the request's body is not read (after=N: N bytes of it are)   |
| NoContent()                      | 204                                                                        |
| Redirect(location, status)       | 302 or another                                                             |
| GarbageStatus(line)              | a first line that is no HTTP, then the connection ends                     |
| HangUp(at, reset)                | the connection ends: FIN, or RST (after which less than `at` may arrive)   |
| Stall(seconds, at)               | silence, then the rest                                                     |
| Truncation(at)                   | a whole and valid response that is too short                               |
| WrongLength(difference)          | a Content-Length that differs from what is sent; then the connection ends  |
| Corruption(at)                   | one byte with all its bits turned                                          |
| Chunking(size)                   | nothing wrong: chunks in place of Content-Length                           |
| BadChunk(at)                     | chunks, one of them with a size that is no number; the connection ends     |
| Drip(piece, interval_s)          | `piece` bytes at a time                                                    |
| WrongDigest(), NoDigest()        | Content-MD5, ETag and x-image-meta-checksum of other data, or none of them |
| RangeIgnored()                   | the whole image with 200, whatever Range says                              |

| uploads                          | what the service does with the request's body                              |
|----------------------------------|----------------------------------------------------------------------------|
| UploadHangUp(at, reset)          | reads `at` bytes, ends the connection; the image is queued again           |
| UploadStall(seconds, at)         | stops reading for a while                                                  |
| UploadTruncation(at)             | drops all after `at` bytes, says 204; the image is active, and too short   |
| AnswerLost(reset)                | does all that was asked, then ends the connection without an answer        |
"""
from __future__ import absolute_import, division

import re
import sys
import threading

from tests.harness.image_service.service_http import End, HangUp as ConnectionEnd, Pause, Response, Send

DIGEST_HEADERS = ("Content-MD5", "ETag", "x-image-meta-checksum")
MAX_STALL_S = 120


class Faults(list):
    """The faults of one service. A list: append, clear, remove."""

    def __init__(self):
        super().__init__()
        self._lock = threading.Lock()

    def pick(self, request):
        """The fault for this request, None for none. Every fault counts every request that fits it."""
        with self._lock:
            taken = [fault for fault in list(self) if fault.claims(request)]
            if not taken:
                return None
            taken[0].hits += 1
            return taken[0]


class Fault(object):
    """Base: claims requests, changes nothing."""

    def __init__(self, method=None, path=None, nth=1, times=1):
        self.method = method
        self.path = path
        self.nth = nth
        self.times = times
        self.hits = 0
        self._seen = 0

    def __repr__(self):
        settings = ("%s=%r" % item for item in sorted(vars(self).items()) if not item[0].startswith("_"))
        return "%s(%s)" % (type(self).__name__, ", ".join(settings))

    def claims(self, request):
        if self.method not in (None, request.method) or not re.search(self.path or "", request.path):
            return False
        self._seen += 1
        return self._seen >= self.nth and (self.times is None or self._seen < self.nth + self.times)

    def receive(self, request, wire):
        """Before the service acts: may change the request, answer it (a Response) or end the connection."""

    def transmit(self, response):
        """The wire steps of the service's own answer."""
        return response.steps()


class Refusal(Fault):
    def __init__(self, status, headers=(), body=b"", after=0, **match):
        super().__init__(**match)
        self.status = status
        self.headers = list(headers.items()) if isinstance(headers, dict) else list(headers)
        self.body = body
        self.after = after

    def receive(self, request, wire):
        _read(request.body, self.after)
        return Response(self.status, self.headers, self.body)


class NoContent(Refusal):
    def __init__(self, **match):
        super().__init__(204, **match)


class Redirect(Refusal):
    def __init__(self, location, status=302, **match):
        super().__init__(status, [("Location", location)], **match)


class GarbageStatus(Fault):
    def __init__(self, line=b"\x16\x03\x01 this is not HTTP\r\n\r\n", **match):
        super().__init__(**match)
        self.line = line

    def transmit(self, response):
        return [Send(self.line), End()]


class HangUp(Fault):
    def __init__(self, at=None, reset=False, **match):
        super().__init__(**match)
        self.at = at
        self.reset = reset

    def receive(self, request, wire):
        if self.at is None:
            raise ConnectionEnd(self.reset)

    def transmit(self, response):
        return [Send(response.head())] + response.body_steps(0, self.at) + [End(self.reset)]


class AnswerLost(Fault):
    def __init__(self, reset=False, **match):
        super().__init__(**match)
        self.reset = reset

    def transmit(self, response):
        return [End(self.reset)]


class Stall(Fault):
    def __init__(self, seconds, at=None, **match):
        super().__init__(**match)
        self.seconds = min(seconds, MAX_STALL_S)
        self.at = at

    def transmit(self, response):
        if self.at is None:
            return [Pause(self.seconds)] + response.steps()
        return ([Send(response.head())] + response.body_steps(0, self.at) + [Pause(self.seconds)]
                + response.body_steps(self.at))


class Truncation(Fault):
    def __init__(self, at, **match):
        super().__init__(**match)
        self.at = at

    def transmit(self, response):
        response.length = min(self.at, len(response.body))
        return [Send(response.head())] + response.body_steps(0, response.length)


class WrongLength(Fault):
    def __init__(self, difference, **match):
        super().__init__(**match)
        self.difference = difference

    def transmit(self, response):
        response.length = max(0, len(response.body) + self.difference)
        response.closes = True
        return response.steps() + [End()]


class Corruption(Fault):
    def __init__(self, at, **match):
        super().__init__(**match)
        self.at = at

    def transmit(self, response):
        if not len(response.body):
            return response.steps()
        at = min(self.at, len(response.body) - 1)
        turned = bytes(bytearray(byte ^ 0xFF for byte in response.body.read(at, at + 1)))
        return ([Send(response.head())] + response.body_steps(0, at) + [Send(turned, payload=True)]
                + response.body_steps(at + 1))


class Chunking(Fault):
    def __init__(self, size=65536, **match):
        super().__init__(**match)
        self.size = size

    def transmit(self, response):
        return _chunk_head(response) + self._chunks(response, len(response.body)) + [Send(b"0\r\n\r\n")]

    def _chunks(self, response, stop):
        steps = []
        for start in range(0, stop, self.size):
            end = min(start + self.size, stop)
            steps += [Send(b"%x\r\n" % (end - start))] + response.body_steps(start, end) + [Send(b"\r\n")]
        return steps


class BadChunk(Chunking):
    def __init__(self, at, size=65536, **match):
        super().__init__(size, **match)
        self.at = at

    def transmit(self, response):
        stop = min(self.at, len(response.body))
        return _chunk_head(response) + self._chunks(response, stop) + [Send(b"no size\r\n"), End()]


class Drip(Fault):
    def __init__(self, piece=1, interval_s=0.05, **match):
        super().__init__(**match)
        self.piece = piece
        self.interval_s = interval_s

    def transmit(self, response):
        yield Send(response.head())
        for start in range(0, len(response.body), self.piece):
            for step in response.body_steps(start, start + self.piece):
                yield step
            yield Pause(self.interval_s)


class NoDigest(Fault):
    _value = None

    def transmit(self, response):
        for name in DIGEST_HEADERS:
            if response.get_header(name) is not None:
                response.set_header(name, self._value)
        return response.steps()


class WrongDigest(NoDigest):
    _value = "0" * 32


class RangeIgnored(Fault):
    def receive(self, request, wire):
        del request.headers["Range"]


class UploadHangUp(Fault):
    def __init__(self, at, reset=False, **match):
        super().__init__(**match)
        self.at = at
        self.reset = reset

    def receive(self, request, wire):
        def end():
            raise ConnectionEnd(self.reset)
        request.body.break_at(self.at, end)


class UploadStall(Fault):
    def __init__(self, seconds, at=0, **match):
        super().__init__(**match)
        self.seconds = min(seconds, MAX_STALL_S)
        self.at = at

    def receive(self, request, wire):
        request.body.break_at(self.at, lambda: wire.pause(self.seconds))


class UploadTruncation(Fault):
    def __init__(self, at, **match):
        super().__init__(**match)
        self.at = at

    def receive(self, request, wire):
        # The rest is read and dropped, so that the sender notices nothing.
        request.body.break_at(self.at, lambda: request.body.drain(sys.maxsize))


def _read(body, size_bytes):
    while body.received_bytes < size_bytes and body.read(size_bytes - body.received_bytes):
        pass


def _chunk_head(response):
    response.length = None
    response.set_header("Transfer-Encoding", "chunked")
    return [Send(response.head())]
