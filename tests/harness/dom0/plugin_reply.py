# SPDX-License-Identifier: Apache-2.0
"""A plug-in's standard output as xapi reads it (ocaml/xapi/xapi_plugins.ml, ocaml/libs/http-lib/xMLRPC.ml)."""

from tests.harness.xapi import xapi_xml
from tests.harness.xapi.failures import Failure
from tests.harness.xapi.xapi_xml import Element


class _TypeError(Exception):
    """The document is XML, but not the methodResponse that is wanted."""


def decode(output):
    """The text a plug-in answered with. `output`: bytes, its standard output.

    Raises Failure: with the plug-in's own code and parameters, or with the defect of the output.
    """
    try:
        root = xapi_xml.drop_white_space(xapi_xml.parse(output))
    except xapi_xml.XmlError as error:
        raise Failure("XENAPI_PLUGIN_FAILURE", "failed to parse plugin output",
                      output.decode("utf-8", "surrogateescape"), str(error))
    try:
        return _response(root)
    except _TypeError as error:
        # Not an XML error to xapi, so its handler for those does not see it.
        raise Failure("INTERNAL_ERROR", 'XMLRPC.RunTimeTypeError("%s", _)' % error)


def _response(root):
    body = _only(root, "methodResponse")
    if getattr(body, "name", None) == "fault":
        fields = _members(_only(body, "fault"))
        raise Failure("XENAPI_PLUGIN_FAILURE", "fault", _integer(fields["faultCode"]), _string(fields["faultString"]))
    if getattr(body, "name", None) != "params":
        raise _TypeError("response")
    if len(body.children) != 1:
        raise _TypeError("Expected single return value (struct status)")
    return _status(_only(body.children[0], "param"))


def _status(value):
    fields = _members(value)
    status = _string(fields["Status"])
    if status == "Success":
        return _string(fields["Value"])
    if status != "Failure":
        raise _TypeError("Status")
    details = [_string(item) for item in _content(_only(_only(fields["ErrorDescription"], "value"), "array"), "data")]
    if not details:
        raise _TypeError("Empty array of error strings")
    raise Failure(*details)


class _Fields(dict):
    def __missing__(self, name):
        raise _TypeError("Status")


def _members(value):
    fields = _Fields()
    for member in _content(_only(value, "value"), "struct"):
        pair = _content(member, "member")
        if len(pair) != 2:
            raise _TypeError("pair ")
        fields.setdefault("".join(_content(pair[0], "name")), pair[1])
    return fields


def _content(element, name):
    # An attribute makes the element another one to xapi.
    if not isinstance(element, Element) or element.name != name or element.attributes:
        raise _TypeError("unbox: %s should contain '%s'" % (getattr(element, "name", "PCData"), name))
    return element.children


def _only(element, name):
    children = _content(element, name)
    if len(children) != 1:
        raise _TypeError("singleton: %d elements in {%s}" % (len(children), name))
    return children[0]


def _string(value):
    """Text, bare or in <string>, and nothing else: a number, a boolean or nil is an error inside xapi."""
    children = _content(value, "value")
    if len(children) == 1 and isinstance(children[0], Element):
        children = _content(children[0], "string")
    return _pcdata(children)


def _integer(value):
    child = _only(value, "value")
    text = _pcdata(_content(child, "i4" if getattr(child, "name", None) == "i4" else "int"))
    try:
        return str(int(text))
    except ValueError:
        raise _TypeError("Int32.of_string")


def _pcdata(children):
    if len(children) > 1 or any(isinstance(child, Element) for child in children):
        raise _TypeError("pcdata")
    return "".join(children)
