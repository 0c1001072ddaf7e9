# SPDX-License-Identifier: Apache-2.0
"""Only a plain yes of XAPI is a yes; the answers come over a socket, as XAPI's do."""

from __future__ import absolute_import, division

import os
import shutil
import socket
import tempfile
import threading
import time

import pytest

from dom0_lib.call import session_role

REF = 'OpaqueRef:6a5d8e32-0000-4000-8000-000000000001'


class Xapi(object):
    """Answers one connection with each of `answers`, after `delay_s`, and keeps the requests.

    unheard: how many answers were not heard to their ends
    """

    def __init__(self, socket_path, answers, delay_s=0):
        self.requests = []
        self.unheard = 0
        self._delay_s = delay_s
        self._answers = answers
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(socket_path)
        self._server.listen(5)
        self._thread = threading.Thread(target=self._serve)
        self._thread.daemon = True
        self._thread.start()

    def _serve(self):
        for answer in self._answers:
            try:
                link, _ = self._server.accept()
            except socket.error:
                return  # nobody asks any more
            request = b''
            while b'</methodCall>' not in request:
                request += link.recv(65536)
            self.requests.append(request)
            time.sleep(self._delay_s)
            piece = max(100, len(answer) // 100)
            try:
                for position in range(0, len(answer), piece):
                    link.sendall(answer[position:position + piece])
            except socket.error:
                self.unheard += 1
            link.close()

    def join(self):
        self._thread.join(30)
        assert not self._thread.is_alive()

    def close(self):
        self._server.close()


@pytest.fixture
def ask(monkeypatch):
    """Function(answers..., session_ref=) -> (what is_surely_pool_admin() says, the requests)."""
    root = tempfile.mkdtemp(prefix='dom0-')
    os.makedirs(os.path.join(root, 'var/lib/xcp'))
    monkeypatch.setenv('DOM0_ROOT', root)
    path = os.path.join(root, 'var/lib/xcp/xapi')

    def ask_xapi(*answers, **options):
        xapi = Xapi(path, answers)
        try:
            return session_role.is_surely_pool_admin(options.get('session_ref', REF)), xapi.requests
        finally:
            xapi.close()
            os.unlink(path)
    yield ask_xapi
    shutil.rmtree(root)


def make_answer(value, status='Success', head='HTTP/1.1 200 OK\r\ncontent-length: %d\r\nContent-Type: text/xml'):
    body = ('<?xml version="1.0"?><methodResponse><params><param><value><struct><member><name>Status</name><value>%s</value></member>'
            '<member><name>Value</name><value>%s</value></member></struct></value></param></params></methodResponse>' % (status, value))
    return ((head % len(body) if '%d' in head else head) + '\r\n\r\n' + body).encode('ascii')


YES, NO = make_answer('<boolean>1</boolean>'), make_answer('<boolean>0</boolean>')


def make_permissions(*names):
    return make_answer('<array><data>%s</data></array>' % ''.join(
        '<value><string>%s</string></value><value>%s</value>' % (name, name) for name in names))


def test_a_superuser(ask):
    is_admin, requests = ask(YES)
    assert is_admin is True
    head, _, body = requests[0].partition(b'\r\n\r\n')
    assert head.startswith(b'POST /RPC2 HTTP/1.1\r\n') and b'\r\nConnection: close\r\n' in head
    assert ('Content-Length: %d' % len(body)).encode('ascii') in head
    assert b'<methodName>session.get_is_local_superuser</methodName>' in body and body.count(REF.encode('ascii')) == 2


def test_a_role_that_has_the_permission(ask):
    assert ask(NO, make_permissions(*['vm.start_%d' % number for number in range(3000)] + ['host.call_plugin']))[0] is True


@pytest.mark.parametrize('value', ['<array><data><value>host.call_plugin</value></data></array>',
                                   '<array><data><value><string>host.call_plugin</string></value></data></array>'])
def test_a_permission_in_either_form(ask, value):
    assert ask(NO, make_answer(value))[0] is True


def test_a_line_break_before_the_answer(ask):
    assert ask(make_answer('\n  <boolean>1</boolean>'))[0] is True


@pytest.mark.parametrize('answers', [
    [NO, make_permissions('vm.start', 'host.call_plugin/key:x', 'Host.call_plugin', 'xhost.call_plugin')],
    [NO, NO], [NO, make_answer('host.call_plugin', 'Failure')],
    [make_answer('<boolean>1</boolean>', 'Failure')] * 2, [make_answer('<string>true</string>')] * 2,
    [make_answer('<boolean>1</boolean><boolean>1</boolean>')] * 2,
    [make_answer('<boolean>1</boolean>', head='HTTP/1.1 500 Internal Error\r\nContent-Length: %d')],
    [make_answer('<boolean>1</boolean>', head='HTTP/1.1 302 Found\r\nContent-Length: %d')],
    [make_answer('<boolean>1</boolean>', head='HTTP/1.1 200 OK')],
    [make_answer('<boolean>1</boolean>', head='HTTP/1.1 200 OK\r\nContent-Length: many')],
    [YES[:-1]], [YES[:60]], [b''], [b'HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n<a>'], [b'x' * (2 << 20)],
])
def test_what_is_no_yes(ask, answers):
    assert ask(*answers)[0] is False


def test_what_follows_the_answer_is_not_part_of_it(ask):
    assert ask(YES + b'HTTP/1.1 200 OK')[0] is True


@pytest.fixture
def xapi_path(monkeypatch):
    root = tempfile.mkdtemp(prefix='dom0-')
    os.makedirs(os.path.join(root, 'var/lib/xcp'))
    monkeypatch.setenv('DOM0_ROOT', root)
    yield os.path.join(root, 'var/lib/xcp/xapi')
    shutil.rmtree(root)


def test_an_answer_without_an_end_is_not_heard_out(xapi_path):
    xapi = Xapi(xapi_path, [b'x' * (16 << 20)])
    assert session_role.is_surely_pool_admin(REF) is False
    xapi.join()
    assert xapi.unheard == 1


def test_an_answer_that_is_too_late_is_none(xapi_path, monkeypatch):
    monkeypatch.setattr(session_role, '_TIMEOUT_S', 0.2)
    xapi = Xapi(xapi_path, [YES], delay_s=3)
    assert session_role.is_surely_pool_admin(REF) is False
    xapi.join()


def test_nobody_answers(monkeypatch, tmpdir):
    monkeypatch.setenv('DOM0_ROOT', str(tmpdir))
    assert session_role.is_surely_pool_admin(REF) is False


@pytest.mark.parametrize('session_ref', [u'<x>', u'a&b', u'caf\xe9', u'a\r\nb', u'a b', u'a"'])
def test_a_reference_that_is_none_is_not_asked_about(ask, session_ref):
    """Though XAPI would say yes to whatever it makes of it."""
    assert ask(YES, session_ref=session_ref) == (False, [])
