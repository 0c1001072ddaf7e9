# SPDX-License-Identifier: Apache-2.0
"""Capture the real requests of Python 2.7 clients, as data for the tests:

    python2.7 tests/contract/data/capture_python27.py          needs XenAPI (PyPI: 24.26.0)

    python27_method_calls.txt   methodCalls by xmlrpclib.dumps           (name, bytes, (function, session, arguments))
    python27_client_calls.txt   bodies of XenAPI's POSTs to a server     (name, bytes, arguments of host.call_plugin)
    python27_pickles.txt        protocol 0, by cPickle and by pickle     (name, bytes, value)

Each file is one Python literal, a list of such triples; bytes carry a b, text a u, so that every Python reads the same.
"""

from __future__ import absolute_import, division, print_function

import BaseHTTPServer
import cPickle
import os
import pickle
import pprint
import sys
import threading
import xmlrpclib

import XenAPI

DIRECTORY = os.path.dirname(os.path.abspath(__file__))
SESSION = 'OpaqueRef:6a5d8e32-0a7c-4e8f-8b3e-1f6c7a9d2b10'
HOST = 'OpaqueRef:0e2f9c1c-94b7-4d4a-b6d3-5a1c1f6b7e88'
HOST_UUID = '4d9c3f1e-7f6b-4b56-9a4e-2f1d0c8b7a65'
SR_PATH = '/var/run/sr-mount/0f6c5b7e-2a43-4f0f-9d0c-6a1f2b3c4d5e'
UUIDS = ['11111111-2222-4333-8444-555555555555', '66666666-7777-4888-9999-aaaaaaaaaaaa']
PRINTABLE = ''.join(chr(code) for code in range(0x20, 0x7f))

# XAPI passes a map of text; a Python 2 caller's text is str (UTF-8 by convention) or unicode.
METHOD_CALLS = [
    ('text', 'get_val', {'key': 'relax-xsm-sr-check', 'host_uuid': HOST_UUID}),
    ('unicode', u'get_val', {u'key': u'gr\xfc\xdfe \u20ac', 'host_uuid': unicode(HOST_UUID)}),  # noqa: F821
    ('utf-8 str', 'get_val', {'key': u'gr\xfc\xdfe \u20ac'.encode('utf-8')}),
    ('beyond the BMP', 'get_val', {'key': u'\U0001f600 and \U0010fffd'}),
    ('empty text', 'get_val', {'key': '', 'other': u''}),
    ('empty map', 'get_version', {}),
    ('markup', 'get_val', {'key': '<a b="c">&amp; \'d\' ]]></a>', '<&>': '&'}),
    ('line ends', 'get_val', {'key': 'lf\nend', 'cr': 'cr\rend', 'crlf': 'crlf\r\nend', 'tab': '\ttab\t'}),
    ('white space', 'get_val', {'key': ' ', 'lines': '\n \t\n', 'around': '  x  '}),
    ('printable', 'get_val', {'key': PRINTABLE}),
    ('long', 'get_val', {'key': 'x' * 2000}),
    ('json', 'run_command', {'cmd': '["ip", "addr"]', 'cmd_input': 'null'}),
]

DOWNLOAD = {'args': (), 'kwargs': {
    'image_id': u'55de8b1a-2b0c-4c1b-8a58-6f5b0e7a9c11', 'sr_path': SR_PATH, 'uuid_stack': UUIDS,
    'extra_headers': {'X-Auth-Token': u'gAAAAAB-t0ken_\xe9', 'X-Roles': 'admin,member', 'X-Identity-Status': 'Confirmed',
                      'X-Tenant-Id': None},
    'endpoint': 'http://10.0.0.5:9292', 'api_version': 2}}

CLIENT_CALLS = [
    ('get_version', 'dom0_plugin_version.py', 'get_version', {'args': (), 'kwargs': {}}),
    ('download_vhd2', 'glance.py', 'download_vhd2', dict(DOWNLOAD, kwargs=dict(
        DOWNLOAD['kwargs'], extra_headers={'X-Auth-Token': u'gAAAAAB-t0ken', 'X-Roles': 'admin,member'}))),
    ('wide text', 'glance.py', 'download_vhd2', {'args': (u'\u20ac and \U0001f600', u'caf\xe9'.encode('utf-8')), 'kwargs': {}}),
]

SHARED = ['shared']
PICKLES = [
    ('None', None), ('True', True), ('False', False),
    ('int 0', 0), ('int 1', 1), ('int -1', -1), ('int 32 bits', 2 ** 31), ('int max', sys.maxsize), ('int min', -sys.maxsize - 1),
    ('long 1', 2 ** 64 - 2 ** 64 + 1), ('long 65 bits', 2 ** 64), ('long negative', -2 ** 70), ('long 300 digits', 10 ** 299 + 7),
    ('float', 0.1), ('float 0', 0.0), ('float exponent', 1e22), ('float small', 5e-324), ('float negative', -1.5),
    ('float infinite', float('inf')),
    ('str', 'abc'), ('str empty', ''), ('str printable', PRINTABLE), ('str quote', "it's"), ('str quotes', '\'"'),
    ('str backslash', 'a\\b\\'), ('str control', ''.join(map(chr, range(0x20))) + '\x7f'),
    ('str utf-8', u'gr\xfc\xdfe \u20ac \U0001f600'.encode('utf-8')), ('str not utf-8', '\xff\xfe \xe9t\xe9'),
    ('unicode', u'abc'), ('unicode empty', u''), ('unicode backslash', u'a\\b\\ \\u0041'), ('unicode lf', u'a\nb\n'),
    ('unicode cr', u'a\rb'), ('unicode control', u''.join(map(unichr, range(0x20))) + u'\x7f'),  # noqa: F821
    ('unicode latin-1', u''.join(map(unichr, range(0x80, 0x100)))),  # noqa: F821
    ('unicode wide', u'\u0100 \u20ac \ud7ff\ue000 \ufffd'), ('unicode beyond the BMP', u'\U00010000 \U0001f600 \U0010ffff'),
    ('tuple empty', ()), ('tuple', (1, 'two', None)), ('list empty', []), ('list', ['a', 1, [2, [3]]]),
    ('list of 20', list(range(20))), ('dict empty', {}), ('dict', {'a': 1, u'b': {'c': [True, False]}}),
    ('dict of plain keys', {1: 'int', None: 'none', 2.5: 'float', 'text': 'text'}),
    ('shared list', [SHARED, SHARED, {'again': SHARED}]), ('shared text', {'a': UUIDS[0], 'b': [UUIDS[0], UUIDS[0]]}),
    ('shared tuple', ((1, 2),) * 3),
    ('nested 30', [[[[[[[[[[[[[[[[[[[[[[[[[[[[[['deep']]]]]]]]]]]]]]]]]]]]]]]]]]]]]]),
    ('no arguments', {'args': (), 'kwargs': {}}),
    ('download_vhd2', DOWNLOAD),
    ('upload_vhd2', {'args': (), 'kwargs': dict(
        DOWNLOAD['kwargs'], vdi_uuids=UUIDS, properties={'auto_disk_config': True, 'os_type': u'linux', 'level': 6})}),
    ('transfer_vhd', {'args': (UUIDS[0], '10.0.0.7', UUIDS[1], SR_PATH, 1), 'kwargs': {}}),
    ('network_config', {'args': ({'cmd': 'ovs_del_br', 'args': {'bridge_name': 'xapi0'}},), 'kwargs': {}}),
]


class Literal(object):
    """An expression with the same value on every Python."""

    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return self.text


def to_literal(value):
    """`value` with every str made bytes with a b in front, and everything else that repr() gets right."""
    if isinstance(value, bytes):
        return Literal('b' + repr(value))
    if isinstance(value, float):
        return Literal(repr(value).replace('inf', '1e999'))
    if isinstance(value, (bool, int, type(None))):
        return value
    if isinstance(value, long):  # noqa: F821
        return Literal('%d' % value)
    if isinstance(value, dict):
        items = sorted(value.items(), key=lambda item: repr(item[0]))
        return Literal('{%s}' % ', '.join('%r: %r' % (to_literal(key), to_literal(item)) for key, item in items))
    if isinstance(value, (list, tuple)):
        return type(value)(to_literal(item) for item in value)
    return Literal(repr(value))


def read_as_text(value):
    """The value that a plug-in must read: each str as UTF-8 text, other bytes as surrogate escapes."""
    if isinstance(value, bytes):
        text, rest = u'', value
        while rest:
            try:
                return text + rest.decode('utf-8')
            except UnicodeDecodeError as error:
                bad = rest[error.start]
                text += rest[:error.start].decode('utf-8') + unichr(0xdc00 + ord(bad))  # noqa: F821
                rest = rest[error.start + 1:]
        return text
    if isinstance(value, dict):
        return dict((read_as_text(key), read_as_text(item)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return type(value)(read_as_text(item) for item in value)
    return value


def drop_raw_cr(value):
    """XML turns a raw CR and CRLF into LF."""
    return dict((key, item.replace('\r\n', '\n').replace('\r', '\n')) for key, item in value.items())


def capture_method_calls():
    for name, function, arguments in METHOD_CALLS:
        expected = (read_as_text(function), read_as_text(SESSION), read_as_text(drop_raw_cr(arguments)))
        yield name, xmlrpclib.dumps((SESSION, arguments), function), expected


def capture_client_calls():
    bodies = []
    server = BaseHTTPServer.HTTPServer(('127.0.0.1', 0), make_handler(bodies))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        session = XenAPI.Session('http://127.0.0.1:%d' % server.server_port)
        session.xenapi.login_with_password('user', 'password', '2.1', 'capture')
        for name, plugin, function, call in CLIENT_CALLS:
            arguments = {'params': cPickle.dumps(call), 'host_uuid': HOST_UUID}
            session.xenapi.host.call_plugin(HOST, plugin, function, arguments)
            yield name, bodies[-1], read_as_text((plugin, function, call))
    finally:
        server.shutdown()
        thread.join()


def make_handler(bodies):
    class Handler(BaseHTTPServer.BaseHTTPRequestHandler):
        def do_POST(self):
            bodies.append(self.rfile.read(int(self.headers['Content-Length'])))
            reply = xmlrpclib.dumps(({'Status': 'Success', 'Value': SESSION},), methodresponse=True)
            self.send_response(200)
            self.send_header('Content-Length', str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_):
            pass
    return Handler


def capture_pickles():
    for name, value in PICKLES:
        expected = read_as_text(value)
        by_c, by_python = cPickle.dumps(value, 0), pickle.dumps(value, 0)
        yield name, by_c, expected
        if by_python != by_c:
            yield name + ', pickle', by_python, expected


def save(file_name, triples):
    with open(os.path.join(DIRECTORY, file_name), 'wb') as target:
        target.write('# Written by capture_python27.py under Python %s.\n' % sys.version.split()[0])
        literals = [(Literal(repr(name)), to_literal(data), to_literal(value)) for name, data, value in triples]
        target.write(pprint.pformat(literals, width=130) + "\n")
    print('%s: %d' % (file_name, len(triples)))


if __name__ == '__main__':
    save('python27_method_calls.txt', list(capture_method_calls()))
    save('python27_client_calls.txt', list(capture_client_calls()))
    save('python27_pickles.txt', list(capture_pickles()))
