# SPDX-License-Identifier: Apache-2.0
"""The XML-RPC of one plug-in process: a methodCall in argv, a methodResponse on stdout.

Written for start-up: pyexpat costs 1 ms, xmlrpc.client 40.  It reads the forms that XAPI writes (values without a <string>
tag, the empty text as <value/>) and that xmlrpclib writes; an error names anything else.
"""

from __future__ import absolute_import, division

import pyexpat

from dom0_lib import compat
from dom0_lib import errors

# XML 1.0 cannot hold these characters, and a raw one makes XAPI refuse the whole reply.  CR is written as a reference because
# a parser turns a raw CR into LF.
_ESCAPES = dict((code, u'\ufffd') for code in list(range(0x20)) + [0xfffe, 0xffff] if code not in (0x09, 0x0a))
_ESCAPES.update({0x0d: u'&#13;', 0x26: u'&amp;', 0x3c: u'&lt;', 0x3e: u'&gt;'})
# The bytes that need no escape.
_PLAIN_BYTES = bytes(bytearray(code for code in range(0x7f) if code not in _ESCAPES))

_PARAM = 'methodCall/params/param'
_MEMBER = _PARAM + '/value/struct/member'
# The places of elements, and the siblings that may precede an element there ('' for none).
_PLACES = {
    'methodCall': ('',),
    'methodCall/methodName': ('',),
    'methodCall/params': ('methodName',),
    _PARAM: ('', 'param'),
    _PARAM + '/value': ('',),
    _PARAM + '/value/string': ('',),
    _PARAM + '/value/struct': ('',),
    _MEMBER: ('', 'member'),
    _MEMBER + '/name': ('',),
    _MEMBER + '/value': ('', 'name'),
    _MEMBER + '/value/string': ('',),
}


class Request(object):
    """One call: `function`, `session_ref`, and `arguments`, a map of text to text."""

    def __init__(self):
        self.function = u''
        self.session_ref = None
        self.arguments = None


def decode_request(data):
    """The Request in the bytes of a methodCall.

    Raises errors.RequestError; its attribute `function` is the name of the call as far as it could be read.
    """
    reader = _RequestReader()
    try:
        reader.read(data)
    except errors.RequestError as error:
        error.function = reader.request.function
        raise
    return reader.request


class _RequestReader(object):

    def __init__(self):
        self.request = Request()
        self._path = []
        self._before = ['']  # for each open element: its last child
        self._text = []
        self._string = None
        self._name = None
        self._params = []

    def read(self, data):
        parser = pyexpat.ParserCreate('utf-8')
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._refuse_doctype
        parser.StartElementHandler = self._start
        parser.CharacterDataHandler = self._text.append
        parser.EndElementHandler = self._end
        try:
            parser.Parse(data, True)
        except (pyexpat.ExpatError, UnicodeError) as error:  # older expat leaves invalid UTF-8 in a tag to Python
            raise errors.RequestError('the argument is not an XML-RPC call: %s' % error)
        if [type(param) for param in self._params] != [compat.text_type, dict]:
            raise errors.RequestError('a plug-in is called with a session and a map of arguments')
        if not self.request.function:
            raise errors.RequestError('the call names no function')
        self.request.session_ref, self.request.arguments = self._params

    def _refuse_doctype(self, *_):
        raise errors.RequestError('the call has a document type declaration')

    def _start(self, tag, _attributes):
        self._path.append(tag)
        place = '/'.join(self._path)
        before, self._before[-1] = self._before[-1], tag
        self._before.append('')
        if before not in _PLACES.get(place, ()):
            raise errors.RequestError('unexpected <%s> in %s: XAPI passes text only' % (
                tag, "argument '%s'" % self._name if self._name is not None else 'the call'))
        if tag == 'param':
            self._params.append(None)
        elif tag == 'struct':
            self._params[-1] = {}
        elif tag == 'value':
            self._string = None
        del self._text[:]

    def _end(self, tag):
        place = '/'.join(self._path)
        self._path.pop()
        last = self._before.pop()
        text = u''.join(self._text)
        del self._text[:]
        if tag == 'methodName':
            self.request.function = text
        elif tag == 'string':
            self._string = text
        elif tag == 'name':
            self._name = text
        elif place == _PARAM + '/value' and not isinstance(self._params[-1], dict):
            self._params[-1] = text if self._string is None else self._string
        elif place == _MEMBER + '/value':
            self._add_member(text if self._string is None else self._string)
        elif tag == 'member' and last != 'value':
            raise errors.RequestError(
                'an argument has no name' if self._name is None else "argument '%s' has no value" % self._name)

    def _add_member(self, value):
        members = self._params[-1]
        if self._name is None:
            raise errors.RequestError('an argument has no name')
        if self._name in members:
            raise errors.RequestError("argument '%s' is given twice" % self._name)
        members[self._name] = value
        self._name = None


def encode_success(value):
    """The bytes of a response that carries `value`, a text."""
    return _encode_response('Success', '<member><name>Value</name><value>%s</value></member>', _string(value))


def encode_failure(details):
    """The bytes of a response that carries an error: `details` is a list, code first, made text item by item."""
    items = ''.join('<value>%s</value>' % _string(compat.to_text(item)) for item in details)
    return _encode_response(
        'Failure', '<member><name>ErrorDescription</name><value><array><data>%s</data></array></value></member>', items)


def _encode_response(status, member, content):
    return ('<?xml version="1.0"?>\n<methodResponse><params><param><value><struct>'
            '<member><name>Status</name><value><string>%s</string></value></member>%s'
            '</struct></value></param></params></methodResponse>\n' % (status, member % content)).encode('ascii')


def _string(text):
    if not isinstance(text, compat.text_type):
        raise TypeError('a reply is text, not %s' % type(text).__name__)
    try:
        # On Python 2 looking for characters to escape takes a thousandth of the time of a replacement that changes nothing.
        if not text.encode('ascii').translate(None, _PLAIN_BYTES):
            return '<string>%s</string>' % text
    except UnicodeEncodeError:
        pass
    return '<string>%s</string>' % (
        compat.join_surrogates(text).translate(_ESCAPES).encode('ascii', 'xmlcharrefreplace').decode('ascii'))
