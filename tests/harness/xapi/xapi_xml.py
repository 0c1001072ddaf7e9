# SPDX-License-Identifier: Apache-2.0
"""XML as xapi writes and reads it.

xapi has two dialects. Its own (libs/xml-light2 over the xmlm parser) makes the methodCall in a plug-in's argv and reads the
plug-in's reply; ocaml-rpc reads requests of API clients and writes the answers. Both drop characters that XML cannot hold
when they write, and both write a text value bare: <value>text</value>.

How xmlm judges broken documents was measured against xmlm 1.4.0; tests/simulator/test_host_xml.py has the table.
"""

import base64
import binascii
import collections
import re
import xml.parsers.expat

Element = collections.namedtuple("Element", "name attributes children")
Call = collections.namedtuple("Call", "method params")


class XmlError(Exception):
    """The bytes are no document, or not the one that is expected. str() is the text of xapi's error."""


class Integer(int):
    """<int>, <i4> or <i8> of a request."""


class Binary(bytes):
    """<base64> of a request."""


class DateTime(str):
    """dateTime.iso8601, in either direction: 19700101T00:00:00Z."""


_DROPPED = {code: None for code in range(0x20) if chr(code) not in "\t\n\r"}
_ESCAPED = str.maketrans({">": "&gt;", "<": "&lt;", "&": "&amp;", '"': "&quot;"})
_ESCAPED.update(_DROPPED)


def escape(text):
    return text.translate(_ESCAPED)


def encode_call(function, session_ref, arguments):
    """The one argument of a plug-in, as bytes: no declaration, no newlines, empty text as <value/>."""
    members = "".join("<member><name>%s</name>%s</member>" % (escape(name), _plugin_value(value))
                      for name, value in arguments.items())
    return ("<methodCall><methodName>%s</methodName><params><param>%s</param>"
            "<param><value>%s</value></param></params></methodCall>"
            % (escape(function), _plugin_value(session_ref),
               "<struct>%s</struct>" % members if members else "<struct/>")).encode("utf-8")


def _plugin_value(text):
    return "<value>%s</value>" % escape(text) if text else "<value/>"


def encode_value(value):
    """The XML of a result; integers travel as text, as in every XAPI answer."""
    if value is None:
        return "<value></value>"
    if isinstance(value, bool):
        return "<value><boolean>%d</boolean></value>" % value
    if isinstance(value, DateTime):
        return "<value><dateTime.iso8601>%s</dateTime.iso8601></value>" % value
    if isinstance(value, (str, int)):
        return "<value>%s</value>" % escape(str(value))
    if isinstance(value, float):
        return "<value><double>%.16g</double></value>" % value
    if isinstance(value, dict):
        return "<value><struct>%s</struct></value>" % "".join(
            "<member><name>%s</name>%s</member>" % (escape(name), encode_value(member)) for name, member in value.items())
    return "<value><array><data>%s</data></array></value>" % "".join(encode_value(item) for item in value)


def encode_success(value):
    return _encode_response({"Status": "Success", "Value": "" if value is None else value})


def encode_failure(details):
    return _encode_response({"Status": "Failure", "ErrorDescription": details})


def _encode_response(answer):
    return _document("<params><param>%s</param></params>" % encode_value(answer))


def encode_fault(text):
    return _document("<fault><value><struct><member><name>faultCode</name><value><int>-1</int></value></member>"
                     "<member><name>faultString</name><value>%s</value></member></struct></value></fault>" % escape(text))


def _document(content):
    # A plug-in's output may be no UTF-8; xapi passes such bytes on as they are.
    return ('<?xml version="1.0"?><methodResponse>%s</methodResponse>' % content).encode("utf-8", "surrogateescape")


def decode_call(data):
    """The request of an API client. Raises XmlError; xapi answers that with HTTP status 500."""
    root = parse(data)
    names, params = _children(root, "methodCall", "methodName", "params")
    return Call(_text(names), [_decode_value(_children(param, "param", "value")[0]) for param in _elements(params)])


def _children(element, name, *child_names):
    children = _elements(element) if element.name == name else []
    if [child.name for child in children] != list(child_names):
        raise XmlError("expected <%s> of %s" % (name, ", ".join("<%s>" % child for child in child_names)))
    return children


def _text(element):
    if any(isinstance(child, Element) for child in element.children):
        raise XmlError("expected text in <%s>" % element.name)
    return "".join(element.children)


def _is_white(node):
    return isinstance(node, str) and not node.strip(" \n\t")


def _elements(element):
    """The child elements of an element that may hold white space besides."""
    if any(isinstance(child, str) and not _is_white(child) for child in element.children):
        raise XmlError("unexpected text in <%s>" % element.name)
    return [child for child in element.children if isinstance(child, Element)]


def _decode_value(value):
    if value.name != "value":
        raise XmlError("expected <value>")
    if not any(isinstance(child, Element) for child in value.children):
        return _text(value)
    elements = _elements(value)
    if len(elements) != 1:
        raise XmlError("expected one element in <value>")
    return _decode_typed(elements[0])


def _decode_typed(element):
    if element.name in _SCALARS:
        try:
            return _SCALARS[element.name](_text(element))
        except (ValueError, binascii.Error):
            raise XmlError("not a value of <%s>" % element.name)
    if element.name == "array":
        data, = _children(element, "array", "data")
        return [_decode_value(item) for item in _elements(data)]
    if element.name == "struct":
        members = [_children(member, "member", "name", "value") for member in _elements(element)]
        return {_text(name): _decode_value(value) for name, value in members}
    if element.name == "nil":
        return None
    raise XmlError("unexpected <%s>" % element.name)


_SCALARS = {
    "string": str,
    "int": Integer, "i4": Integer, "i8": Integer,
    "boolean": lambda text: text == "1",
    "double": float,
    "dateTime.iso8601": DateTime,
    "base64": lambda text: Binary(base64.b64decode(re.sub(r"\s", "", text), validate=True)),
}


def parse(data):
    """The first document in `data` as an Element; the bytes after it are ignored, as in xapi.

    Namespaces are resolved and dropped, CR and CRLF in text become LF, comments and processing instructions vanish.
    """
    return _Builder(data).build()


def drop_white_space(element):
    """The tree without text nodes that are only blanks, tabs and newlines: how xapi reads a plug-in's reply."""
    return element._replace(children=[drop_white_space(child) if isinstance(child, Element) else child
                                      for child in element.children if not _is_white(child)])


_ENCODINGS = ("utf-8", "utf-16", "utf-16be", "utf-16le", "iso-8859-1", "us-ascii", "ascii")


class _Complete(Exception):
    """The root element has ended."""


class _Builder(object):
    """An Element tree from expat's events, and xmlm's words for the errors that expat finds."""

    def __init__(self, data):
        self._data = data
        self._root = None
        self._stack = []
        self._parser = xml.parsers.expat.ParserCreate(namespace_separator=" ")
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._add_text
        self._parser.EntityDeclHandler = self._refuse_entity
        self._parser.XmlDeclHandler = self._check_encoding

    def build(self):
        try:
            self._parser.Parse(self._data, True)
        except _Complete:
            pass
        except xml.parsers.expat.ExpatError as error:
            raise XmlError("%s line %d" % (self._explain(error), error.lineno))
        return self._root

    def _start(self, name, attributes):
        element = Element(name.rpartition(" ")[2], tuple(attributes), [])
        if self._stack:
            self._stack[-1].children.append(element)
        else:
            self._root = element
        self._stack.append(element)

    def _end(self, _name):
        self._stack.pop()
        if not self._stack:
            raise _Complete()

    def _add_text(self, text):
        children = self._stack[-1].children
        if children and isinstance(children[-1], str):
            text = children.pop() + text
        children.append(text)

    def _refuse_entity(self, name, *_declaration):
        # xmlm skips the DTD, so any use of its entities is an error there; expat would expand them.
        raise XmlError("unknown entity reference (%s) line %d" % (name, self._parser.CurrentLineNumber))

    def _check_encoding(self, _version, encoding, _standalone):
        if encoding and encoding.lower() not in _ENCODINGS:
            raise XmlError("unknown encoding (%s) line %d" % (encoding.lower(), self._parser.CurrentLineNumber))

    def _explain(self, error):
        codes = xml.parsers.expat.errors.codes
        at = self._parser.ErrorByteIndex
        rest = self._data[at:at + 4]
        if error.code in [codes[xml.parsers.expat.errors.XML_ERROR_NO_ELEMENTS],
                          codes[xml.parsers.expat.errors.XML_ERROR_UNCLOSED_TOKEN]] or not rest:
            return "unexpected end of input"
        if rest[0] < 0x20 and rest[:1] not in b"\t\n\r" or not _is_utf8_start(rest):
            return "malformed character stream"
        if self._root is None:
            return "expected root element"
        if error.code == codes[xml.parsers.expat.errors.XML_ERROR_TAG_MISMATCH]:
            found = re.match(rb"/?([^>\s]*)", self._data[at:]).group(1).decode("utf-8", "replace")
            return 'expected one of these character sequence: "%s", found "%s"' % (self._stack[-1].name, found)
        return xml.parsers.expat.ErrorString(error.code)


def _is_utf8_start(data):
    for length in range(1, 5):
        try:
            return data[:length].decode("utf-8") not in "\ufffe\uffff"
        except UnicodeDecodeError:
            continue
    return False
