# SPDX-License-Identifier: Apache-2.0
"""xapi's two servers: HTTP on an address, and HTTP on the Unix socket in dom0. XML-RPC at any path, JSON-RPC at /jsonrpc.

A request that is not understood (too big, no length, not XML) is answered with status 500, as xapi does with every
exception outside a call. HTTPS, which real hosts have besides, is not served.
"""

import collections
import http.server
import json
import os
import re
import socket
import socketserver
import sys
import threading
import urllib.parse

from tests.harness.system.prompt_server import PromptServer
from tests.harness.xapi import xapi_xml
from tests.harness.xapi.failures import Failure, Fault
from tests.harness.xapi.faults import XapiDied

BODY_MAX_BYTES = 300 * 1024

# What a handler of another path answers; pieces: an iterable of bytes.
Reply = collections.namedtuple("Reply", "status content_type pieces")

# xapi checks every text parameter: UTF-8 that XML can hold. Only JSON can bring anything else this far.
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "xapi/harness"
    # Headers and body leave in one piece: the second would wait for the client's delayed acknowledgement of the first.
    wbufsize = -1

    def setup(self):
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self):
        self.server.connections.discard(self.connection)
        super().finish()

    def address_string(self):
        return "local"

    def log_message(self, *args):
        pass

    def do_POST(self):
        try:
            length = int(self.headers["Content-Length"])
            if length > BODY_MAX_BYTES:
                raise ValueError("the request has %d bytes, the limit is %d" % (length, BODY_MAX_BYTES))
            body = self.rfile.read(length)
            codec = _JsonRpc if self.path.split("?")[0] == "/jsonrpc" else _XmlRpc
            content_type, answer = codec(self.server.serve).answer(body)
        except XapiDied:
            self.close_connection = True
            return
        except Exception as error:
            self.close_connection = True
            self.send_error(500, "Internal Error", str(error))
            return
        self._send(content_type, answer)

    def do_GET(self):
        """A handler's: its answer is streamed until the connection ends."""
        url = urllib.parse.urlsplit(self.path)
        handler = self.server.handlers.get("%s %s" % (self.command, url.path))
        self.close_connection = True
        if handler is None:
            self.send_error(404)
            return
        reply = handler(dict(urllib.parse.parse_qsl(url.query)), self.headers, self.rfile)
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Connection", "close")
        self.end_headers()
        for piece in reply.pieces:
            self.wfile.write(piece)

    do_PUT = do_GET

    def _send(self, content_type, answer):
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


class _XmlRpc(object):

    def __init__(self, serve):
        self._serve = serve

    def answer(self, body):
        call = xapi_xml.decode_call(body)
        try:
            answer = xapi_xml.encode_success(self._serve(call.method, call.params))
        except Failure as failure:
            answer = xapi_xml.encode_failure(failure.details)
        except Fault as fault:
            answer = xapi_xml.encode_fault(str(fault))
        return "text/xml", answer


class _JsonRpc(object):
    """Version 2.0."""

    def __init__(self, serve):
        self._serve = serve

    def answer(self, body):
        call = json.loads(body.decode("utf-8"), parse_int=xapi_xml.Integer)
        answer = {"jsonrpc": "2.0", "id": call.get("id")}
        try:
            _check_texts(call["params"])
            result = self._serve(call["method"], call["params"])
            answer["result"] = "" if result is None else result
        except Failure as failure:
            answer["error"] = {"code": 1, "message": failure.code, "data": list(failure.params)}
        except Fault as fault:
            answer["error"] = {"code": 1, "message": str(fault), "data": []}
        return "application/json", json.dumps(answer).encode("ascii")


def _check_texts(value):
    if isinstance(value, dict):
        _check_texts(list(value) + list(value.values()))
    elif isinstance(value, list):
        for item in value:
            _check_texts(item)
    elif isinstance(value, str) and _NOT_XML.search(value):
        raise Failure("INVALID_VALUE", "Invalid UTF-8 string in parameter", value)


class _ServerMixIn(PromptServer, socketserver.ThreadingMixIn):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        # A client that went away, or a connection that stop() has cut, is nobody's error.
        if not isinstance(sys.exc_info()[1], (OSError, ValueError)):
            super().handle_error(request, client_address)


class _HttpServer(_ServerMixIn, socketserver.TCPServer):
    pass


class _UnixServer(_ServerMixIn, socketserver.UnixStreamServer):
    pass


class RpcServer(object):
    """One server.

    serve       function(method, params) -> result
    handlers    {"METHOD /path": function(query, headers, body) -> Reply}, for HTTP that is no call
    """

    def __init__(self, address, serve, handlers):
        """address: (host, port), port 0 for any free one; or the path of a Unix socket."""
        if isinstance(address, str):
            if os.path.lexists(address):
                os.unlink(address)
            self._server = _UnixServer(address, _Handler)
        else:
            self._server = _HttpServer(address, _Handler)
        self._server.serve = serve
        self._server.handlers = handlers
        self._server.connections = set()
        self.address = self._server.server_address
        self._thread = threading.Thread(target=self._server.serve_forever, name="xapi %s" % (self.address,), daemon=True)
        self._thread.start()

    def stop(self):
        """Close the socket and all connections; calls that are running lose their client."""
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self._server.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        if isinstance(self.address, str) and os.path.lexists(self.address):
            os.unlink(self.address)
