# SPDX-License-Identifier: Apache-2.0
"""Fuzz targets: callers' messages, and the administrator's settings."""

import io
import json
import os
import pickle
import re
import runpy
import tempfile
import xmlrpc.client

from dom0_lib import errors
from dom0_lib import light_json
from dom0_lib import settings
from dom0_lib.call import binding
from dom0_lib.call import pickles
from dom0_lib.call import policy
from dom0_lib.call import wire
from dom0_lib.network import command_words
from dom0_lib.network import net_filters

_PLUGINS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../plugins/xapi.d/plugins")
_MAX_PATTERN = 60


class _PlainUnpickler(pickle.Unpickler):

    def find_class(self, module, name):
        raise AssertionError("taken, though it names %s.%s" % (module, name))


def fuzz_pickle(data):
    """Only PickleError escapes; Python's own reader gets the same value from each accepted pickle, and from a reply with it."""
    text = bytes(data).decode("latin-1")
    try:
        value = pickles.loads(text)
    except pickles.PickleError as error:
        assert "\n" not in str(error) and len(str(error)) < 200
        return
    expected = _PlainUnpickler(io.BytesIO(bytes(data)), encoding="utf-8", errors="surrogateescape").load()
    reply = pickles.dumps(value)
    assert all(" " <= c <= "~" or c == "\n" for c in reply)
    assert describe(value) == describe(pickle.loads(reply.encode("ascii")))
    if not re.search(r"\\ud[89a-f]", describe(expected)):  # halves of characters are joined or replaced
        assert describe(value) == describe(expected) == describe(pickles.loads(reply)), (value, expected)


def describe(value):
    """A text that is equal for equal values of equal types, NaN included."""
    return repr(value)


def fuzz_wire(data):
    """Only RequestError escapes; xmlrpc.client reads the same call from each accepted request."""
    data = bytes(data)
    try:
        request = wire.decode_request(data)
    except errors.RequestError as error:
        assert len(str(error)) < 2000
        return
    assert request.function and isinstance(request.session_ref, str)
    assert all(isinstance(text, str) for pair in request.arguments.items() for text in pair)
    if b"encoding" in data:
        return  # our reader knows UTF-8 alone, which XAPI writes
    params, function = xmlrpc.client.loads(data)
    assert (function, params) == (request.function, (request.session_ref, request.arguments))


def fuzz_json(data):
    """Only ValueError escapes; Python's own reader gets the same value from each accepted text, and from a reply with it."""
    text = bytes(data).decode("utf-8", "surrogateescape")
    try:
        value = light_json.loads(text)
    except ValueError:
        _check_is_no_json(text)
        return
    assert describe(value) == describe(json.loads(text))
    try:
        reply = light_json.dumps(value)
    except ValueError:  # 1e999 is infinite
        return
    assert reply.isascii() and describe(json.loads(reply)) == describe(json.loads(json.dumps(value, sort_keys=True)))


def _check_is_no_json(text):
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return
    assert re.search("NaN|Infinity", text), "refused, though it is the JSON of %r" % value


def _load_calls():
    calls = []
    for name in sorted(os.listdir(_PLUGINS)):
        if name.endswith(".py"):
            table = runpy.run_path(os.path.join(_PLUGINS, name))["CALLS"]
            calls += [(name, function, table[function]) for function in sorted(table)]
    return calls


CALLS = _load_calls()


def fuzz_arguments(data):
    """Only ArgumentError escapes, it names the argument in one line, and a value that was taken is taken again."""
    if len(data) < 2:
        return
    _, _, call = CALLS[data[0] % len(CALLS)]
    texts = bytes(data[2:]).decode("utf-8", "surrogateescape").split("\0")
    if data[1] & 1:
        given = {name: value for name, _, value in (text.partition("=") for text in texts)}
        bind = lambda: binding.bind_plain(call.rows, given, call.ignores_unknown)  # noqa: E731
    else:
        try:
            values = pickles.loads(texts[0].encode("utf-8", "surrogateescape").decode("latin-1"))
        except pickles.PickleError:
            return
        if not isinstance(values, dict):
            return
        bind = lambda: binding.bind_legacy(call.rows, (), values)  # noqa: E731
    try:
        bound = bind()
    except errors.ArgumentError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000
        return
    for row in call.rows:
        value = bound.get(row.into)
        if isinstance(value, str):
            assert not re.search("[\0-\x08\x0b-\x1f]", value) or row.kind.secret or "text" in row.name, (row.name, value)


def fuzz_command(data):
    """Only Refused escapes; an allowed command line begins with a known command and holds no control character."""
    words, _, standard_input = bytes(data).partition(b"\n")
    words = [word for word in words.decode("latin-1").split(" ")]
    if not words[0] or any(not " " <= c <= "~" for word in words for c in word):
        return
    try:
        net_filters.check(words, standard_input)
    except command_words.Refused:
        return
    assert re.fullmatch("[a-z0-9-]+", words[0])


def fuzz_settings(data):
    """Only PluginError escapes, and it is one line; numbers are within their bounds."""
    root = tempfile.gettempdir()
    os.environ["DOM0_ROOT"] = root = os.path.join(root, "fuzz-settings-%d" % os.getpid())
    os.makedirs(root + "/etc", exist_ok=True)
    with open(root + "/etc/dom0-plugins.conf", "wb") as target:
        target.write(bytes(data))
    try:
        chosen = settings.load()
    except errors.PluginError as error:
        assert type(error) is errors.PluginError and "\n" not in str(error)
        return
    assert 1 <= chosen.idle_timeout_s <= 7 * 24 * 3600 and 0 <= chosen.nice <= 19 and chosen.reserve_bytes >= 0
    assert isinstance(chosen.verify, bool) and all(pattern.strip() for pattern in chosen.deny)


def fuzz_policy(data):
    """A pattern matches the same texts as its regular expression."""
    pattern, _, text = bytes(data).decode("latin-1").partition("\n")
    pattern, text = pattern[:_MAX_PATTERN], text[:200]
    if pattern.count("*") > 5:
        return
    expected = re.fullmatch(".*?".join(re.escape(part) for part in pattern.split("*")), text, re.DOTALL) is not None
    assert policy.matches(pattern, text) == expected
