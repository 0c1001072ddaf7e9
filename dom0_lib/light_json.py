# SPDX-License-Identifier: Apache-2.0
"""JSON for short calls: plain data as one line of ASCII, and back.

`import json` makes a short call 1.6-1.8 times as long on Python 3; its C helpers alone cost nothing.
"""

from __future__ import absolute_import, division

from _json import encode_basestring_ascii
from _json import make_scanner

from dom0_lib import compat

_MAX_DEPTH = 64
# The first characters of JSON texts.  Checked here, because the scanner takes five times as long to refuse another one.
_BEGINNINGS = frozenset(u' \t\n\r"{[-0123456789tfn')


def dumps(value):
    """`value` (None, bool, int, float, text, list, tuple, or a dict with text keys) as JSON text."""
    return compat.to_text(_encode(value, {}))


def _encode(value, keys):
    """`keys` caches encoded keys: thousands of similar maps have few different ones; see pickles._write."""
    if isinstance(value, dict):
        members = []
        for key in sorted(value):
            if key not in keys:
                keys[key] = _encode_key(key)
            item = value[key]
            members.append('%s: %d' % (keys[key], item) if type(item) is int else '%s: %s' % (keys[key], _encode(item, keys)))
        return '{%s}' % ', '.join(members)
    if isinstance(value, (compat.text_type, str)):
        return encode_basestring_ascii(value)
    if value is None:
        return 'null'
    if isinstance(value, bool):
        return 'true' if value else 'false'
    if isinstance(value, compat.integer_types):
        return '%d' % value
    if isinstance(value, float):
        if value - value != 0:
            raise ValueError('JSON has no %r' % value)
        return repr(value)
    if isinstance(value, (list, tuple)):
        return '[%s]' % ', '.join(_encode(item, keys) for item in value)
    raise TypeError('a reply cannot hold %s' % type(value).__name__)


def _encode_key(key):
    if not isinstance(key, (compat.text_type, str)):
        raise TypeError('a key of a JSON object is text, not %s' % type(key).__name__)
    return encode_basestring_ascii(key)


def loads(text):
    """The value of a JSON text.  Raises ValueError for anything else, also for Python's NaN and Infinity."""
    text = text.strip(u' \t\n\r')
    try:
        value, end = _scan(text, 0)
    except StopIteration:  # no value begins there
        raise ValueError('is not JSON')
    except SystemError:  # Python 3.11 needs the error class of json.decoder, which is not imported
        raise ValueError('is not JSON')
    except RuntimeError:  # nested too deep
        raise ValueError('is JSON nested too deep')
    if end != len(text):
        raise ValueError('has text after its JSON')
    return value


def from_stored(data):
    """Bytes that a guest has stored, as JSON for callers: JSON text unchanged, any other text as a JSON string.

    Bytes that are not UTF-8 become U+FFFD.  JSON that callers could not read, with NaN or nested deeper than 64, counts as other
    text.
    """
    try:
        text = data.decode('ascii')
        is_intact = True
    except UnicodeDecodeError:
        text = compat.join_surrogates(data.decode('utf-8', 'replace'))
        is_intact = text.encode('utf-8') == data
    if not is_intact or text[:1] not in _BEGINNINGS or not _is_readable(text):
        return compat.text_type(encode_basestring_ascii(text))
    # XML cannot hold these two characters; in JSON they occur in strings only.
    return text.replace(u'\ufffe', u'\\ufffe').replace(u'\uffff', u'\\uffff')


def _is_readable(text):
    try:
        value = loads(text)
    except ValueError:
        return False
    return not _is_deeper(value, _MAX_DEPTH)


def _is_deeper(value, levels):
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return False
    return not levels or any(_is_deeper(item, levels - 1) for item in value)


def _refuse_constant(name):
    raise ValueError('is not JSON: %s' % name)


class _Reading(object):
    """The attributes that the scanner reads from a json.JSONDecoder."""

    encoding = 'utf-8'
    strict = True
    object_hook = object_pairs_hook = None
    parse_float, parse_int = float, int
    parse_constant = staticmethod(_refuse_constant)


_scan = make_scanner(_Reading)
