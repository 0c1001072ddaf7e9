# SPDX-License-Identifier: Apache-2.0
"""The image service's sockets: one thread per connection, one record per request, an end to all of them."""
from __future__ import absolute_import, division

import json
import socket
import socketserver
import threading
import time

from tests.harness.image_service.service_http import BrokenMessage, HangUp, Response, Wire, read_request
from tests.harness.system.prompt_server import PromptServer

DRAIN_BYTES = 65536  # an answered request's body is read so far to keep the connection; beyond, it is closed
STOP_LIMIT_S = 60


class RequestRecord(object):
    """One request as it came in. `headers` is a dict with the token in it: it goes to tests, never to /_status.

    status: what was answered, None when nothing was; received_bytes, sent_bytes: body bytes so far; done: an Event.
    """

    def __init__(self, request):
        self.method = request.method
        self.target = request.target
        self.path = request.path
        self.headers = dict(request.headers.items())
        self.status = None
        self.sent_bytes = 0
        self.fault = None
        self.done = threading.Event()
        self._body = request.body

    @property
    def received_bytes(self):
        return self._body.received_bytes

    def count_sent(self, size_bytes):
        self.sent_bytes += size_bytes

    def summary(self):
        return {"method": self.method, "path": self.path, "status": self.status, "done": self.done.is_set(),
                "received_bytes": self.received_bytes, "sent_bytes": self.sent_bytes}


class Server(PromptServer, socketserver.TCPServer):
    """One thread per connection; remembers them, so that a stop ends all."""

    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, address, service):
        super().__init__(address, None)
        self._service = service
        self._lock = threading.Lock()
        self._live = {}  # thread -> socket

    def process_request(self, request, client_address):
        thread = threading.Thread(target=self._serve, args=(request,), daemon=True)
        with self._lock:
            self._live[thread] = request
        thread.start()

    def _serve(self, connection):
        try:
            _Connection(connection, self._service).serve()
        finally:
            with self._lock:
                del self._live[threading.current_thread()]
                connection.close()

    def end_connections(self):
        with self._lock:
            live = dict(self._live)
            for connection in live.values():
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # it ended by itself
        deadline = time.monotonic() + STOP_LIMIT_S
        for thread in live:
            thread.join(max(0, deadline - time.monotonic()))
            if thread.is_alive():
                raise RuntimeError("the image service: a connection did not end within %d s" % STOP_LIMIT_S)


class _Connection(object):
    def __init__(self, connection, service):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connection
        self._service = service
        self._wire = Wire(connection, service.stopping)

    def serve(self):
        with self._socket.makefile("rb", 65536) as stream:
            try:
                while self._exchange(stream):
                    pass
            except HangUp as end:
                self._wire.hang_up(end.reset)
            except OSError:
                pass  # the client went away, or took too long

    def _exchange(self, stream):
        """One request and its answer; whether another may follow."""
        self._socket.settimeout(self._service.idle_timeout_s)
        if not stream.peek(1):
            return False
        self._socket.settimeout(self._service.stall_timeout_s)
        try:
            request = read_request(stream, self._wire)
        except BrokenMessage as error:
            self._wire.send(_bad_request(error).head())
            return False
        if request.path == "/_status":
            return self._send(request, None, Response(200, [("Content-Type", "application/json")],
                                                      json.dumps(self._service.status()).encode("utf-8")))
        record = RequestRecord(request)
        self._service.requests.append(record)
        self._wire.count = record.count_sent
        try:
            return self._answer(request, record)
        finally:
            record.done.set()

    def _answer(self, request, record):
        fault = self._service.faults.pick(request)
        record.fault = fault
        try:
            response = fault.receive(request, self._wire) if fault else None
            response = response or self._service.answer(request)
        except BrokenMessage:
            return False
        record.status = response.status
        return self._send(request, fault, response)

    def _send(self, request, fault, response):
        response.version = request.version
        response.closes = not (request.keeps_alive and self._service.keeps_alive)
        if request.method == "HEAD":
            response.sends_body = False
        for step in (fault.transmit(response) if fault else response.steps()):
            step.run(self._wire)
        return request.body.drain(DRAIN_BYTES) and not response.closes


def _bad_request(error):
    response = Response(400, reason="Bad Request: %s" % error)
    response.closes = True
    return response
