# SPDX-License-Identifier: Apache-2.0
"""Messages: the calls of the API, declared beside the code that serves them, and the generic ones of every class."""

import collections

from tests.harness.xapi import xapi_xml
from tests.harness.xapi.failures import Failure, type_error
from tests.harness.xapi.schema import CLASSES, read_enumeration

ROLES = ("read-only", "vm-operator", "vm-admin", "vm-power-admin", "pool-operator", "pool-admin")

# run(context, *arguments) -> result.  kinds: the types of the arguments; those past `required` may be left out.
Message = collections.namedtuple("Message", "name kinds required role has_session has_async run")

# The origin of a call: `host` is the host that serves the call, `task_ref` the task of an asynchronous call.
Context = collections.namedtuple("Context", "session_ref host task_ref")


def message(name, *kinds, required=None, role="read-only", has_session=True, has_async=False):
    """Declare that the decorated method serves the message `name`."""
    def decorate(function):
        function.message = Message(name, kinds, len(kinds) if required is None else required, role, has_session, has_async, None)
        return function
    return decorate


def collect_messages(service):
    """The messages that an object's methods were declared to serve."""
    for name in dir(type(service)):
        declared = getattr(getattr(type(service), name), "message", None)
        if declared:
            yield declared._replace(run=getattr(service, name))


def generic_messages(database):
    """The messages that XAPI derives from the fields of each class."""
    for class_name, class_ in CLASSES.items():
        for name, kinds, run in _class_messages(database, class_name):
            yield Message("%s.%s" % (class_name, name), kinds, len(kinds), "read-only", True, False, run)
        for name, field in class_.fields.items():
            yield Message("%s.get_%s" % (class_name, name), ("ref",), 1, "read-only", True, False,
                          _getter(database, class_name, name))
            if name in class_.writable:
                for prefix, kinds, run in _writers(database, class_name, name, field.kind):
                    yield Message("%s.%s_%s" % (class_name, prefix, name), kinds, len(kinds), class_.writer, True, False, run)


def _class_messages(database, class_name):
    yield "get_record", ("ref",), lambda context, ref: database.record(class_name, ref)
    yield "get_by_uuid", ("string",), lambda context, object_uuid: database.ref_by_uuid(class_name, object_uuid)
    if class_name == "session":
        # A list of the live sessions would be a list of keys.
        return
    yield "get_all", (), lambda context: database.refs(class_name)
    yield "get_all_records", (), lambda context: database.records(class_name)
    yield "get_all_records_where", ("string",), lambda context, query: database.records_where(class_name, query)
    if "name_label" in CLASSES[class_name].fields:
        yield "get_by_name_label", ("string",), lambda context, label: database.refs(class_name, name_label=label)


def _getter(database, class_name, field):
    return lambda context, ref: database.get(class_name, ref, field)


def _writers(database, class_name, field, kind):
    def set_field(context, ref, value):
        database.update(class_name, ref, **{field: read_enumeration(class_name, field, value)})

    def add_to(context, ref, key, value):
        stored = database.get(class_name, ref, field)
        if key in stored:
            raise Failure("MAP_DUPLICATE_KEY", class_name, field, ref, key)
        stored[key] = value
        set_field(context, ref, stored)

    def remove_from(context, ref, key):
        stored = database.get(class_name, ref, field)
        stored.pop(key, None)
        set_field(context, ref, stored)

    yield "set", ("ref", kind), set_field
    if kind == "map":
        yield "add_to", ("ref", "string", "string"), add_to
        yield "remove_from", ("ref", "string"), remove_from


def convert(kind, value):
    """A request's value as the kind that is wanted, with ocaml-rpc's strictness. Raises Failure."""
    return _CONVERTERS[kind](value)


def _text(value):
    if type(value) is not str:
        raise type_error("string", describe(value))
    return value


def _bool(value):
    if type(value) is not bool:
        raise type_error("bool", describe(value))
    return value


def _integer(value):
    return int(_number("int64", int, value))


def _float(value):
    return float(_number("float", float, value))


def _number(expected, parse, value):
    if type(value) in (xapi_xml.Integer, int, float, str):
        try:
            return parse(value)
        except ValueError:
            raise Failure("INTERNAL_ERROR", 'Failure("%s_of_string")' % expected)
    raise type_error(expected, describe(value))


def _texts(value):
    if type(value) is not list:
        raise type_error("string list", describe(value))
    return [_text(item) for item in value]


def _map(value):
    if type(value) is not dict:
        raise type_error("string to string map", describe(value))
    return {name: _text(member) for name, member in value.items()}


def _record(value):
    if type(value) is not dict:
        raise Failure("INTERNAL_ERROR", 'Failure("bad __structure")')
    return value


_CONVERTERS = {"string": _text, "ref": _text, "bool": _bool, "int": _integer, "float": _float, "strings": _texts, "refs": _texts,
               "map": _map, "record": _record}


def describe(value):
    """A value as ocaml-rpc prints it in an error: I(5), B(true), S(text), B64(...)."""
    if isinstance(value, bool):
        return "B(%s)" % str(value).lower()
    if isinstance(value, int):
        return "I(%d)" % value
    if isinstance(value, float):
        return "F(%g)" % value
    if isinstance(value, xapi_xml.Binary):
        return "B64(%s)" % value.decode("latin-1")
    if isinstance(value, xapi_xml.DateTime):
        return "D(%s)" % value
    if isinstance(value, list):
        return "[%s]" % ";".join(describe(item) for item in value)
    if isinstance(value, dict):
        return "{%s}" % ";".join("%s:%s" % (name, describe(member)) for name, member in value.items())
    return "N" if value is None else "S(%s)" % value
