# SPDX-License-Identifier: Apache-2.0
"""XML as xapi reads and writes it. The documents and their fate were measured with xapi's parser, xmlm 1.4.0."""

import xmlrpc.client

import hypothesis
import hypothesis.strategies as strategies
import pytest

from tests.harness.xapi import xapi_xml

# Documents, and their trees: name(children), text quoted.
READ = [
    (b"<a/>", "a()"),
    (b"\n\n <a/>", "a()"),
    (b'<?xml version="1.0"?><a/>', "a()"),
    (b'<?xml version="1.1"?><a/>', "a()"),
    (b"<a>x</a>trailing", "a('x')"),
    (b"<a>x</a><b>", "a('x')"),
    (b"<a>x</a>\x01", "a('x')"),
    (b"<a>\x7f</a>", "a('\\x7f')"),
    (b"<a>&amp;&lt;&gt;&quot;&apos;&#65;</a>", "a('&<>\"\\'A')"),
    (b"<a>\r\nx\ry</a>", "a('\\nx\\ny')"),
    (b"<a><![CDATA[ <x> ]]></a>", "a(' <x> ')"),
    (b"<a>x<!-- c -->y</a>", "a('xy')"),
    (b"<a>x<?pi?>y<b/>z</a>", "a('xy' b() 'z')"),
    (b"<!DOCTYPE a><a>1</a>", "a('1')"),
    (b'<p:a xmlns:p="u"/>', "a()"),
    (b"<a> <b>1</b>\n</a>", "a(b('1'))"),
    (b"<a> \r </a>", "a()"),
    (b"<a> &#32; </a>", "a()"),
    (b"<a>&#13;</a>", "a('\\r')"),
    (b"\xef\xbb\xbf<a/>", "a()"),
    (b"<a>\xf0\x9f\x98\x80</a>", "a('\U0001f600')"),
    (b'<?xml version="1.0" encoding="ISO-8859-1"?><a>\xe9</a>', "a('\xe9')"),
    (b"<!-- c --><a/>", "a()"),
    (b"<?pi x?><a/>", "a()"),
    (b"<a></a >", "a()"),
    (b"<a>\xc2\x85</a>", "a('\\x85')"),
]

# Texts that are no documents, and the text of xapi's error. Where the texts differ, ours is expat's: None here.
REFUSED = [
    (b"", "unexpected end of input line 1"),
    (b"   ", "unexpected end of input line 1"),
    (b"<a>x", "unexpected end of input line 1"),
    (b"<", "unexpected end of input line 1"),
    (b"junk", "expected root element line 1"),
    (b"junk<a/>", "expected root element line 1"),
    (b'{"a": 1}', "expected root element line 1"),
    (b"line one\nline <two", "expected root element line 1"),
    (b'Warning: x\n<?xml version="1.0"?><a/>', "expected root element line 1"),
    (b"<a>\x1b</a>", "malformed character stream line 1"),
    (b"<a>\xff</a>", "malformed character stream line 1"),
    (b"<a>\xc3</a>", "malformed character stream line 1"),
    (b"<a>\x00</a>", "malformed character stream line 1"),
    (b"<a\x00>", "malformed character stream line 1"),
    (b"<a>\xef\xbf\xbf</a>", "malformed character stream line 1"),
    (b"<a>\xed\xa0\x80</a>", "malformed character stream line 1"),
    (b"<a>\n\n\n<b>\n\x01</b></a>", "malformed character stream line 5"),
    (b"<a><b></a>", 'expected one of these character sequence: "b", found "a" line 1'),
    (b"<a></b>", 'expected one of these character sequence: "a", found "b" line 1'),
    (b'<!DOCTYPE a [<!ENTITY e "v">]><a>&e;</a>', "unknown entity reference (e) line 1"),
    (b'<?xml version="1.0" encoding="latin-1"?><a>\xe9</a>', "unknown encoding (latin-1) line 1"),
    (b'<?xml version="1.0" encoding="cp1252"?><a/>', "unknown encoding (cp1252) line 1"),
    (b'\n<?xml version="1.0"?><a/>', None),
    (b"<a>&#1;</a>", None),
    (b"<a>&#x1b;</a>", None),
    (b"<a>&foo;</a>", None),
    (b"<p:a/>", None),
    (b"<a>]]></a>", None),
    (b"<a>a < b</a>", None),
    (b"<a>a & b</a>", None),
    (b"<a x=1>", None),
    (b"<1a/>", None),
]


def show(node):
    if isinstance(node, str):
        return repr(node)
    return "%s(%s)" % (node.name, " ".join(show(child) for child in node.children))


@pytest.mark.parametrize("document, tree", READ, ids=repr)
def test_document_is_read_as_xapi_reads_it(document, tree):
    assert show(xapi_xml.drop_white_space(xapi_xml.parse(document))) == tree


@pytest.mark.parametrize("document, why", REFUSED, ids=repr)
def test_document_is_refused_as_xapi_refuses_it(document, why):
    with pytest.raises(xapi_xml.XmlError) as caught:
        xapi_xml.parse(document)
    assert str(caught.value) == why or why is None and " line " in str(caught.value)


# Text that a request can carry: xmlrpc.client writes control characters raw, which no XML parser reads, and a raw CR is read
# as LF.
TEXTS = strategies.text(strategies.characters(min_codepoint=32, max_codepoint=0x10ffff, exclude_categories=["Cs"],
                                              exclude_characters="\ufffe\uffff") | strategies.sampled_from("\t\n"))
VALUES = strategies.recursive(
    TEXTS | strategies.booleans() | strategies.integers(-2**31, 2**31 - 1) | strategies.none()
    | strategies.floats(allow_nan=False, allow_infinity=False) | strategies.binary(),
    lambda values: strategies.lists(values) | strategies.dictionaries(TEXTS, values), max_leaves=8)


@hypothesis.given(strategies.from_regex(r"[A-Za-z_.]+", fullmatch=True), strategies.lists(VALUES, max_size=4))
def test_request_of_a_python_client(method, params):
    call = xapi_xml.decode_call(xmlrpc.client.dumps(tuple(params), method, allow_none=True).encode("utf-8"))
    assert call.method == method
    assert call.params == params


@pytest.mark.parametrize("body", [
    b"", b"<methodCall/>", b"<methodCall><methodName>f</methodName></methodCall>", b"<methodResponse/>",
    b"<methodCall><params/><methodName>f</methodName></methodCall>",
    b"<methodCall><methodName>f</methodName><params><value>v</value></params></methodCall>",
    b"<methodCall><methodName>f</methodName><params><param><value><int>x</int></value></param></params></methodCall>",
    b"<methodCall><methodName>f</methodName><params><param><value><date/></value></param></params></methodCall>",
    b"<methodCall><methodName>f</methodName><params><param><value>a<int>1</int></value></param></params></methodCall>",
    b"<methodCall><methodName>f</methodName><params><param><value><array/></value></param></params></methodCall>",
], ids=repr)
def test_request_that_is_none(body):
    with pytest.raises(xapi_xml.XmlError):
        xapi_xml.decode_call(body)


RESULTS = strategies.recursive(
    TEXTS | strategies.booleans() | strategies.sampled_from([0.0, 0.25, 0.5, 1.0]),
    lambda values: strategies.lists(values) | strategies.dictionaries(TEXTS, values), max_leaves=8)


@hypothesis.given(RESULTS)
def test_answer_to_a_python_client(result):
    (answer,), _ = xmlrpc.client.loads(xapi_xml.encode_success(result))
    assert answer == {"Status": "Success", "Value": result}


def test_answer_has_xapis_form():
    result = {"n": 5, "t": "<&>\"'\x01", "b": True, "f": 0.5, "l": [xapi_xml.DateTime("19700101T00:00:00Z")]}
    assert xapi_xml.encode_success(result) == (
        b'<?xml version="1.0"?><methodResponse><params><param><value><struct>'
        b"<member><name>Status</name><value>Success</value></member><member><name>Value</name><value><struct>"
        b"<member><name>n</name><value>5</value></member>"
        b"<member><name>t</name><value>&lt;&amp;&gt;&quot;'</value></member>"
        b"<member><name>b</name><value><boolean>1</boolean></value></member>"
        b"<member><name>f</name><value><double>0.5</double></value></member>"
        b"<member><name>l</name><value><array><data><value><dateTime.iso8601>19700101T00:00:00Z</dateTime.iso8601></value>"
        b"</data></array></value></member>"
        b"</struct></value></member></struct></value></param></params></methodResponse>")


def test_fault_is_one_to_a_python_client():
    with pytest.raises(xmlrpc.client.Fault) as caught:
        xmlrpc.client.loads(xapi_xml.encode_fault("no <async>"))
    assert caught.value.faultString == "no <async>"
