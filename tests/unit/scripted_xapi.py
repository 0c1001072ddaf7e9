# SPDX-License-Identifier: Apache-2.0
"""A XAPI on a real socket below DOM0_ROOT that gives each call the answer of a test's function."""

from __future__ import absolute_import, division

import os
import shutil
import socket
import tempfile
import threading

import pytest

from dom0_lib import compat

SESSION = 'OpaqueRef:session'
HOST_UUID = '6a5d8e32-0000-4000-8000-000000000001'
DOM0_UUID = '6a5d8e32-0000-4000-8000-000000000002'
_SOCKET_TIMEOUT_S = 30
_JOIN_TIMEOUT_S = 10


class Refusal(Exception):
    """An answer of XAPI: Refusal(code, parameter, ...)."""


class ScriptedXapi(object):
    """answer(method, parameters without the session) -> value, or raises Refusal or a Fault of XML-RPC; None: no answer at all.

    calls: [(method, parameters)] in their order; sessions: the first parameters
    """

    def __init__(self, root):
        self.root = root
        self.calls = []
        self.sessions = set()
        self.answer = None
        self._stopping = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(os.path.join(root, 'var/lib/xcp/xapi'))
        self._listener.listen(5)
        self._thread = threading.Thread(target=self._serve)
        self._thread.daemon = True
        self._thread.start()

    def close(self):
        self._stopping.set()
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except EnvironmentError:
            pass
        self._thread.join(_JOIN_TIMEOUT_S)
        self._listener.close()

    def list_methods(self):
        return [method for method, _ in self.calls]

    def _serve(self):
        while True:
            try:
                link = self._listener.accept()[0]
            except EnvironmentError:
                return
            link.settimeout(_SOCKET_TIMEOUT_S)
            try:
                while self._answer_one(link):
                    pass
            except EnvironmentError:
                pass  # the client has gone
            link.close()

    def _answer_one(self, link):
        """Whether there was a request, which has been answered."""
        received = b''
        while b'</methodCall>' not in received:
            piece = link.recv(65536)
            if not piece:
                return False
            received += piece
        body = self._answer(received.partition(b'\r\n\r\n')[2])
        if body is None:
            self._stopping.wait()
            return False
        body = body.encode('utf-8')
        link.sendall(b'HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: %s\r\n\r\n' % str(len(body)).encode('ascii') + body)
        return True

    def _answer(self, request):
        client = compat.import_xmlrpc_client()
        parameters, method = client.loads(request)
        self.sessions.add(parameters[0])
        self.calls.append((method, parameters[1:]))
        try:
            value = self.answer(method, parameters[1:])
        except Refusal as refusal:
            return client.dumps(({'Status': 'Failure', 'ErrorDescription': list(refusal.args)},), methodresponse=True)
        except client.Fault as fault:
            return client.dumps(fault, methodresponse=True)
        if value is None:
            return None
        return client.dumps(({'Status': 'Success', 'Value': value},), methodresponse=True)


@pytest.fixture
def scripted_xapi(monkeypatch):
    """A ScriptedXapi on a host that knows its uuid, and that of its dom0."""
    root = tempfile.mkdtemp(prefix='dom0-')
    os.makedirs(os.path.join(root, 'var/lib/xcp'))
    os.makedirs(os.path.join(root, 'etc'))
    with open(os.path.join(root, 'etc/xensource-inventory'), 'w') as inventory:
        inventory.write("INSTALLATION_UUID='%s'\nCONTROL_DOMAIN_UUID='%s'\n" % (HOST_UUID, DOM0_UUID))
    monkeypatch.setenv('DOM0_ROOT', root)
    xapi = ScriptedXapi(root)
    try:
        yield xapi
    finally:
        xapi.close()
        shutil.rmtree(root)
