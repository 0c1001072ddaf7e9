# SPDX-License-Identifier: Apache-2.0
"""The XML-RPC of a plug-in process, held to captured bytes and to the standard library's xmlrpc."""

from __future__ import absolute_import, division

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib.call import wire
from tests import patience
from tests.contract import captures
from tests.contract import xapi_form
from tests.unit.texts import texts_with

xmlrpc_client = compat.import_xmlrpc_client()

# What XML 1.0 can carry and a parser hands over unchanged (it makes LF of a raw CR).
CONTROL_CHARACTERS = u''.join(map(compat.to_text, map(chr, range(0x20))))
XML_TEXT = texts_with(u'\t\n &<>"\'\u00e9\u20ac\U0001f600', excluded=CONTROL_CHARACTERS + u'\ufffe\uffff')
ANY_TEXT = texts_with(u'\t\n\r\0\x1b\x7f\x85&<>"\'\\\ud800\udbff\udc00\udfff\ufffe\uffff\U0001f600', exclude_surrogates=False)

PLAIN_ASCII = frozenset([0x09, 0x0a] + list(range(0x20, 0x80)))

PARAM = b'<param><value>S</value></param>'
CALL = b'<methodCall><methodName>f</methodName><params>%s</params></methodCall>'


def call_of(*members):
    """A call whose map holds these members, in XAPI's form."""
    return CALL.replace(b'%s', PARAM + b'<param><value><struct>' + b''.join(members) + b'</struct></value></param>')


def member(value, name=b'<name>key</name>'):
    return b'<member>' + name + value + b'</member>'


def as_tuple(request):
    return request.function, request.session_ref, request.arguments


@pytest.mark.parametrize('data, expected', captures.read('python27_method_calls.txt'))
def test_a_call_by_python27_is_read(data, expected):
    request = wire.decode_request(data)
    assert as_tuple(request) == expected
    texts = [request.function, request.session_ref] + [text for item in request.arguments.items() for text in item]
    assert [type(text) for text in texts] == [compat.text_type] * len(texts)


@pytest.mark.parametrize('data, expected', [
    (b'<methodCall><methodName>get_version</methodName><params><param><value>OpaqueRef:1</value></param><param><value>'
     b'<struct><member><name>params</name><value>(dp0\nS&apos;args&quot;</value></member><member><name>host_uuid</name>'
     b'<value/></member></struct></value></param></params></methodCall>',
     (u'get_version', u'OpaqueRef:1', {u'params': u'(dp0\nS\'args"', u'host_uuid': u''})),
    (b'<methodCall><methodName>f</methodName><params><param><value/></param><param><value><struct/></value></param></params>'
     b'</methodCall>', (u'f', u'', {})),
    (call_of(member(b'<value> two words\n</value>', b'<name></name>')), (u'f', u'S', {u'': u' two words\n'})),
    (call_of(member(b'<value><string/></value>')), (u'f', u'S', {u'key': u''})),
    (call_of(member(b'<value><string>1</string></value>'), member(b'<value/>', b'<name>a</name>'), member(b'<value>2</value>', b'<name>b</name>')),
     (u'f', u'S', {u'key': u'1', u'a': u'', u'b': u'2'})),
    (call_of(member(b'<value>a<!-- note -->b<![CDATA[<c>]]>&#13;&#x1F600;</value>')),
     (u'f', u'S', {u'key': u'ab<c>\r\U0001f600'})),
    (call_of(member(u'<value>gr\xfc\xdfe \u20ac</value>'.encode('utf-8'), u'<name>\xe9</name>'.encode('utf-8'))),
     (u'f', u'S', {u'\xe9': u'gr\xfc\xdfe \u20ac'})),
], ids=['xapi', 'empty', 'white space', 'empty string', 'both forms', 'references', 'utf-8'])
def test_a_call_by_xapi_is_read(data, expected):
    assert as_tuple(wire.decode_request(data)) == expected


@settings(max_examples=50)
@given(XML_TEXT.filter(bool), XML_TEXT, st.dictionaries(XML_TEXT, XML_TEXT, max_size=5))
def test_any_map_of_texts_arrives(function, session_ref, arguments):
    by_xmlrpc = xmlrpc_client.dumps((session_ref, arguments), xmlrpc_client.escape(function))  # it leaves that to us
    if not isinstance(by_xmlrpc, bytes):
        by_xmlrpc = by_xmlrpc.encode('utf-8')
    by_xapi = xapi_form.encode_call(function, arguments, session_ref)
    expected = function, session_ref, arguments
    assert as_tuple(wire.decode_request(by_xmlrpc)) == as_tuple(wire.decode_request(by_xapi)) == expected


BOMB = (b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">' + b''.join(
    b'<!ENTITY %s "%s">' % (name, b'&%s;' % before * 10) for name, before in zip(
        (b'b', b'c', b'd', b'e', b'g', b'h', b'i'), (b'a', b'b', b'c', b'd', b'e', b'g', b'h'))) + b']>')

REFUSED = [
    # Every type of XML-RPC that is not text, as a value of the map.
    ('int', call_of(member(b'<value><int>1</int></value>')), "<int> in argument 'key'"),
    ('i4', call_of(member(b'<value><i4>1</i4></value>')), "<i4> in argument 'key'"),
    ('i8', call_of(member(b'<value><i8>1</i8></value>')), "<i8> in argument 'key'"),
    ('boolean', call_of(member(b'<value><boolean>1</boolean></value>')), "<boolean> in argument 'key'"),
    ('double', call_of(member(b'<value><double>1.5</double></value>')), "<double> in argument 'key'"),
    ('base64', call_of(member(b'<value><base64>AAAA</base64></value>')), "<base64> in argument 'key'"),
    ('nil', call_of(member(b'<value><nil/></value>')), "<nil> in argument 'key'"),
    ('date', call_of(member(b'<value><dateTime.iso8601>19700101T00:00:00</dateTime.iso8601></value>')),
     "<dateTime.iso8601> in argument 'key'"),
    ('array', call_of(member(b'<value><array><data/></array></value>')), "<array> in argument 'key'"),
    ('nested struct', call_of(member(b'<value><struct/></value>')), "<struct> in argument 'key'"),
    ('element in a text', call_of(member(b'<value><string>a<b/></string></value>')), "<b> in argument 'key'"),
    # Maps that are none.
    ('name twice', call_of(member(b'<value>1</value>'), member(b'<value>2</value>')), "'key' is given twice"),
    ('no name', call_of(member(b'<value>1</value>', b'')), 'an argument has no name'),
    ('no name after another', call_of(member(b'<value>1</value>'), member(b'<value>2</value>', b'')), 'an argument has no name'),
    ('no value', call_of(member(b'')), "argument 'key' has no value"),
    ('no value, then another', call_of(member(b''), member(b'<value>1</value>', b'')), "argument 'key' has no value"),
    ('value before name', call_of(b'<member><value>1</value><name>key</name></member>'), 'an argument has no name'),
    ('two names', call_of(member(b'<name>other</name><value>1</value>')), 'unexpected <name>'),
    ('two values', call_of(member(b'<value>1</value><value>2</value>')), 'unexpected <value>'),
    ('two strings', call_of(member(b'<value><string>1</string><string>2</string></value>')), 'unexpected <string>'),
    ('empty member', call_of(b'<member/>'), 'an argument has no name'),
    ('member outside', CALL.replace(b'%s', PARAM + b'<member/>'), 'unexpected <member>'),
    # Calls that are none.
    ('no function', call_of().replace(b'>f<', b'><'), 'names no function'),
    ('no methodName', call_of().replace(b'<methodName>f</methodName>', b''), 'unexpected <params>'),
    ('two methodNames', call_of().replace(b'<params>', b'<methodName>g</methodName><params>'), 'unexpected <methodName>'),
    ('no params', CALL.replace(b'<params>%s</params>', b''), 'a session and a map'),
    ('params twice', call_of().replace(b'</params>', b'</params><params/>'), 'unexpected <params>'),
    ('no param', CALL.replace(b'%s', b''), 'a session and a map'),
    ('one param', CALL.replace(b'%s', PARAM), 'a session and a map'),
    ('three params', call_of().replace(b'</params>', PARAM + b'</params>'), 'a session and a map'),
    ('empty third param', call_of().replace(b'</params>', b'<param/></params>'), 'a session and a map'),
    ('values in one param', CALL.replace(b'%s', b'<param><value>S</value><value><struct/></value></param>'), 'unexpected <value>'),
    ('text and struct', CALL.replace(b'%s', PARAM + b'<param><value><string>S</string><struct/></value></param>'),
     'unexpected <struct>'),
    ('two texts', CALL.replace(b'%s', PARAM * 2), 'a session and a map'),
    ('two maps', CALL.replace(b'%s', b'<param><value><struct/></value></param>' * 2), 'a session and a map'),
    ('map, then session', CALL.replace(b'%s', b'<param><value><struct/></value></param>' + PARAM), 'a session and a map'),
    ('struct twice', call_of().replace(b'</struct>', b'</struct><struct/>'), 'unexpected <struct>'),
    ('response', b'<methodResponse><params/></methodResponse>', 'unexpected <methodResponse>'),
    ('other root', b'<html/>', 'unexpected <html>'),
    ('namespace', call_of().replace(b'methodCall', b'x:methodCall'), 'unexpected <x:methodCall>'),
    # XML that is none, or that would cost more than it says.
    ('nothing', b'', 'not an XML-RPC call'),
    ('words', b'get_version', 'not an XML-RPC call'),
    ('white space', b' \n', 'not an XML-RPC call'),
    ('binary', bytes(bytearray(range(256))), 'not an XML-RPC call'),
    ('a second document', call_of() * 2, 'not an XML-RPC call'),
    ('a tail', call_of() + b'x', 'not an XML-RPC call'),
    ('NUL', call_of(member(b'<value>\0</value>')), 'not an XML-RPC call'),
    ('control character', call_of(member(b'<value>\x1b</value>')), 'not an XML-RPC call'),
    ('reference to NUL', call_of(member(b'<value>&#0;</value>')), 'not an XML-RPC call'),
    ('unknown entity', call_of(member(b'<value>&nbsp;</value>')), 'not an XML-RPC call'),
    ('latin-1', call_of(member(b'<value>\xe9</value>')), 'not an XML-RPC call'),
    ('latin-1 by its own word', b'<?xml version="1.0" encoding="iso-8859-1"?>' + call_of(member(b'<value>\xe9</value>')),
     'not an XML-RPC call'),
    ('no UTF-8 in a tag', b'<\xd8methodCall/>', 'not an XML-RPC call'),
    ('no UTF-8 in a tag that does not end', b'<methodC\xc3<methodName>f</methodName>', 'not an XML-RPC call'),
    ('overlong UTF-8', call_of(member(b'<value>\xc0\xaf</value>')), 'not an XML-RPC call'),
    ('CESU surrogates', call_of(member(b'<value>\xed\xa0\xbd\xed\xb8\x80</value>')), 'not an XML-RPC call'),
    ('lone surrogate', call_of(member(b'<value>\xed\xa0\xbd</value>')), 'not an XML-RPC call'),
    ('reference to a surrogate', call_of(member(b'<value>&#xd83d;</value>')), 'not an XML-RPC call'),
    ('beyond Unicode', call_of(member(b'<value>\xf4\x90\x80\x80</value>')), 'not an XML-RPC call'),
    ('DOCTYPE', b'<!DOCTYPE methodCall>' + call_of(), 'document type declaration'),
    ('external DTD', b'<!DOCTYPE x SYSTEM "file:///etc/passwd">' + call_of(), 'document type declaration'),
    ('entity', b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + call_of(member(b'<value>&e;</value>')),
     'document type declaration'),
    ('entity bomb', BOMB + call_of(member(b'<value>&i;</value>')), 'document type declaration'),
    ('depth', b'<value>' * 20000, 'unexpected <value>'),
    ('depth below a value', call_of(member(b'<value>' * 20000)), "unexpected <value> in argument 'key'"),
]


@pytest.mark.parametrize('data, reason', [pytest.param(data, reason, id=name) for name, data, reason in REFUSED])
def test_what_is_no_call_of_xapi_is_refused(data, reason):
    with pytest.raises(errors.RequestError) as caught:
        wire.decode_request(data)
    assert reason in str(caught.value)
    assert '\n' not in str(caught.value)


def test_a_refusal_knows_the_function_as_far_as_it_was_read():
    cases = [(call_of(member(b'<value><int>1</int></value>')), u'f'), (b'<methodCall><methodName>f', u''), (b'', u'')]
    for data, function in cases:
        with pytest.raises(errors.RequestError) as caught:
            wire.decode_request(data)
        assert caught.value.function == function


@pytest.mark.parametrize('data', [call_of(member(b'<value>v</value>')), captures.read('python27_client_calls.txt')[1].values[0]],
                         ids=['xapi', 'xmlrpclib'])
def test_a_call_cut_anywhere_is_refused(data):
    data = data.rstrip()
    for size in range(len(data)):
        with pytest.raises(errors.RequestError):
            wire.decode_request(data[:size])


CALLS = [parameter.values[0] for parameter in captures.read('python27_method_calls.txt') if len(parameter.values[0]) < 2000]
CALLS.append(call_of(member(b'<value/>'), member(b'<value>v</value>', b'<name>n</name>')))
PIECES = [b'<', b'>', b'&', b'/', b'"', b'\0', b'\x80', b'\xff', b'<value>', b'</value>', b'<value/>', b'<string>', b'</string>',
          b'<struct/>', b'<member>', b'</member>', b'<name>', b'</name>', b'<name/>', b'<param>', b'</param>', b'<int>1</int>',
          b'&amp;', b'&#0;', b'&#65;', b'<!--', b'-->', b'<![CDATA[', b']]>', b'<?x ?>', b'<!DOCTYPE x>', b'\xed\xa0\x80']


@st.composite
def damaged_calls(draw):
    data = draw(st.sampled_from(CALLS))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 40)))
        piece = draw(st.one_of(st.sampled_from(PIECES), st.binary(max_size=3), st.just(data[start:end] * 2)))
        data = data[:start] + piece + data[end:]
    return data


@given(damaged_calls())
def test_a_damaged_call_is_refused_or_read_as_xmlrpc_reads_it(data):
    """A call that means one thing to us and another to others would be a way round every check before us."""
    try:
        request = wire.decode_request(data)
    except errors.RequestError:
        return
    (session_ref, arguments), function = xmlrpc_client.loads(data)
    assert as_tuple(request) == (compat.to_text(function), compat.to_text(session_ref), dict(
        (compat.to_text(name), compat.to_text(value)) for name, value in arguments.items()))


def test_the_largest_call_is_read_quickly():
    """XAPI can pass 131,071 bytes: nothing in there may cost more than its length."""
    members = b''.join(member(b'<value/>', b'<name>%d</name>' % number) for number in range(3000))
    for data in (call_of(member(b'<value>' + b'x' * 130000 + b'</value>')),
    call_of(member(b'<value>' + b'&amp;' * 26000 + b'</value>')),
                 call_of(members), b'<' * 131000, call_of(member(b'<value>' + b'<!---->' * 18000 + b'</value>'))):
        started = time.time()
        try:
            wire.decode_request(data)
        except errors.RequestError:
            pass
        assert time.time() - started < patience.LIMIT_S


def scrub(text):
    """`text` as it must arrive: what XML cannot hold, and surrogates that are no pair, became U+FFFD."""
    pair = re.compile(u'([\ud800-\udbff])([\udc00-\udfff])')
    text = pair.sub(lambda match: compat_chr(0x10000 + ((ord(match.group(1)) & 0x3ff) << 10) + (ord(match.group(2)) & 0x3ff)), text)
    return u''.join(u'\ufffd' if c < u' ' and c not in u'\t\n\r' or u'\ud800' <= c <= u'\udfff' or c in u'\ufffe\uffff' else c
                    for c in text)


def compat_chr(code):
    return ('\\U%08x' % code).encode('ascii').decode('unicode_escape')


@given(ANY_TEXT)
def test_any_text_can_be_a_reply(text):
    data = wire.encode_success(text)
    assert PLAIN_ASCII.issuperset(bytearray(data))
    assert xapi_form.read_reply(data) == ('Success', scrub(text))


@settings(max_examples=30)
@given(st.lists(ANY_TEXT, max_size=5))
def test_any_texts_can_be_a_failure(details):
    data = wire.encode_failure(details)
    assert PLAIN_ASCII.issuperset(bytearray(data))
    assert xapi_form.read_reply(data) == ('Failure', [scrub(text) for text in details])


def test_a_failure_can_hold_what_is_no_text():
    data = wire.encode_failure(['CODE', 5, None, u'\xe9'.encode('utf-8') if compat.PYTHON2 else u'\xe9'])
    assert xapi_form.read_reply(data) == ('Failure', [u'CODE', u'5', u'None', u'\xe9'])


@pytest.mark.parametrize('value', [None, 5, True, b'bytes', [u'text'], {}, 1.5])
def test_a_reply_is_text_and_nothing_else(value):
    with pytest.raises(TypeError):
        wire.encode_success(value)


def test_the_bytes_of_the_replies():
    """XAPI reads any document of this shape; recorded here so that a change is a decision."""
    assert wire.encode_success(u'a<b>&\r\n"\xe9\U0001f600\x1b') == (
        b'<?xml version="1.0"?>\n<methodResponse><params><param><value><struct>'
        b'<member><name>Status</name><value><string>Success</string></value></member>'
        b'<member><name>Value</name><value><string>a&lt;b&gt;&amp;&#13;\n"&#233;&#128512;&#65533;</string></value></member>'
        b'</struct></value></param></params></methodResponse>\n')
    assert wire.encode_failure([u'CODE', u'']) == (
        b'<?xml version="1.0"?>\n<methodResponse><params><param><value><struct>'
        b'<member><name>Status</name><value><string>Failure</string></value></member>'
        b'<member><name>ErrorDescription</name><value><array><data><value><string>CODE</string></value>'
        b'<value><string></string></value></data></array></value></member>'
        b'</struct></value></param></params></methodResponse>\n')
