# SPDX-License-Identifier: Apache-2.0
"""The question to XAPI whether a session is a pool administrator's, without the XenAPI module.

That module, with xmlrpc.client and its imports, costs a call 60-80 ms; a question of 400 bytes and its answer cost 2.  Only a
plain yes is understood here; after any other answer the caller asks again through xapi.py.
"""

from __future__ import absolute_import, division

import _socket
import pyexpat

from dom0_lib import paths
from dom0_lib import text_checks

_TIMEOUT_S = 30
_MAX_REPLY_BYTES = 1 << 20
# The permission that host.call_plugin itself needs; only the role of pool administrators has it.
PERMISSION = 'host.call_plugin'
_REFERENCE = frozenset(text_checks.LETTERS_AND_DIGITS + u'-_.:')


def is_surely_pool_admin(session_ref):
    """True if XAPI says so; False if it says anything else or nothing."""
    if not _REFERENCE.issuperset(session_ref):
        return False
    try:
        return (_ask('session.get_is_local_superuser', session_ref) == ['1']
                or PERMISSION in _ask('session.get_rbac_permissions', session_ref))
    except (EnvironmentError, ValueError, pyexpat.ExpatError):
        return False


def _ask(method, session_ref):
    """The texts in the answer of XAPI; none for a failure."""
    reference = '<param><value><string>%s</string></value></param>' % session_ref
    body = '<?xml version="1.0"?><methodCall><methodName>%s</methodName><params>%s</params></methodCall>' % (method, 2 * reference)
    head = ('POST /RPC2 HTTP/1.1', 'Host: localhost', 'Connection: close', 'Content-Type: text/xml',
            'Content-Length: %d' % len(body), '', '')
    link = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        link.settimeout(_TIMEOUT_S)
        link.connect(paths.locate(paths.XAPI_SOCKET))
        link.sendall(('\r\n'.join(head) + body).encode('ascii'))
        return _Reply(_read_body(link)).texts
    finally:
        link.close()


def _read_body(link):
    data = b''
    while len(data) <= _MAX_REPLY_BYTES:
        piece = link.recv(65536)
        data += piece
        head, blank, body = data.partition(b'\r\n\r\n')
        if blank:
            length = _read_length(head)
            if len(body) >= length:
                return body[:length]
        if not piece:
            break
    raise ValueError('no complete answer')


def _read_length(head):
    lines = head.split(b'\r\n')
    if lines[0].split(b' ')[1:2] != [b'200']:
        raise ValueError('status')
    for line in lines[1:]:
        name, _, value = line.partition(b':')
        if name.strip().lower() == b'content-length':
            return int(value)
    raise ValueError('no length')


class _Reply(object):
    """`texts`: the values of the member Value, if the member Status is Success."""

    def __init__(self, data):
        self._members = {}
        self._text = []
        self._name = None
        parser = pyexpat.ParserCreate('utf-8')
        parser.StartElementHandler = self._start
        parser.CharacterDataHandler = self._text.append
        parser.EndElementHandler = self._end
        parser.Parse(data, True)
        self.texts = self._members.get('Value', []) if self._members.get('Status') == ['Success'] else []

    def _start(self, _tag, _attributes):
        del self._text[:]

    def _end(self, tag):
        text = ''.join(self._text)
        del self._text[:]
        if tag == 'name':
            self._name = text
        elif text and tag in ('value', 'string', 'boolean'):
            self._members.setdefault(self._name, []).append(text)
