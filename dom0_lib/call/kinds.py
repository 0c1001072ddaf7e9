# SPDX-License-Identifier: Apache-2.0
"""The kinds of arguments a call can declare, and the binding of what a caller sent to what a function takes.

A kind's check gets the decoded value and returns the value to use, or raises ValueError with the reason.
"""

from __future__ import absolute_import, division

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib import light_json
from dom0_lib import paths
from dom0_lib import text_checks

# XAPI clients such as os-xenapi add the host's uuid to every call.
_ALWAYS_IGNORED = frozenset(['host_uuid'])
_NAME_CHARACTERS = frozenset('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.')
_HEADER_NAME_CHARACTERS = _NAME_CHARACTERS - frozenset('.')
# Headers that frame the request or address it: a caller's copy could smuggle a second request past a proxy.
_OWN_HEADERS = frozenset(['host', 'connection', 'content-length', 'transfer-encoding', 'te', 'trailer', 'upgrade',
                          'expect', 'range', 'accept-encoding', 'proxy-authorization'])
_MAX_SHOWN = 60
_TRUTHS = {u'true': True, u'false': False, True: True, False: False}
# XAPI lets 128 KiB arrive; this is what a caller may make of them.
_MAX_INFLATED_BYTES = 8 << 20
# Xen's DOMID_FIRST_RESERVED is 0x7ff0.
_MAX_DOM_ID = 0x7fef


class Kind(object):
    """A kind of value: `structured` ones are JSON in a plain call; the values of `secret` ones are never shown."""

    def __init__(self, check, structured=False, secret=False):
        self.check = check
        self.structured = structured
        self.secret = secret


class Arg(object):
    """One argument of a call, by its wire name.

    name:     as callers spell it; legacy callers may also pass it by position.  `-` in it is `_` in the function's parameter
    into:     the argument that this one stands for, when both set the same parameter (sr_uuid sets sr_path)
    default:  the value when absent; without one the argument is required
    plain_default: the same for plain calls, where it differs
    """

    _REQUIRED = object()

    def __init__(self, name, kind, into=None, default=_REQUIRED, plain_default=_REQUIRED):
        self.name = name
        self.kind = kind
        self.is_alias = into is not None
        self.into = (into or name).replace('-', '_')
        self._default = default
        self._plain_default = default if plain_default is self._REQUIRED else plain_default

    @property
    def required(self):
        return self._plain_default is self._REQUIRED

    def default(self, plain):
        return self._plain_default if plain else self._default

    @classmethod
    def is_missing(cls, value):
        return value is cls._REQUIRED


def bind_legacy(rows, args, kwargs):
    """Checked values by parameter name, from a legacy call's positional and keyword arguments.

    Unknown keywords are ignored: old clients pass what older plug-ins took.  Raises errors.ArgumentError.
    """
    positional = [row for row in rows if not row.is_alias]
    if len(args) > len(positional):
        raise errors.ArgumentError('params', 'has %d positional values, the call takes %d' % (len(args), len(positional)))
    given = dict((row.name, value) for row, value in zip(positional, args))
    for name in kwargs:
        if name in given:
            raise errors.ArgumentError(compat.to_text(name), 'is given by position and by name')
    given.update(kwargs)
    return _bind(rows, given, plain=False)


def bind_plain(rows, texts, ignores_unknown=False):
    """The same from a plain call's map of text to text; here an unknown argument is refused, unless `ignores_unknown`."""
    known = set(row.name for row in rows)
    for name in sorted(texts):
        if name not in known and name not in _ALWAYS_IGNORED and not ignores_unknown:
            raise errors.ArgumentError(_show(name), 'unknown; this call takes %s' % (', '.join(sorted(known)) or 'none'))
    return _bind(rows, texts, plain=True)


def _bind(rows, given, plain):
    values, sources = {}, {}
    for row in rows:
        value = given.get(row.name)
        if value is None:
            continue
        if row.into in sources:
            raise errors.ArgumentError(row.name, "cannot be combined with '%s'" % sources[row.into])
        sources[row.into] = row.name
        values[row.into] = _check(row, value, plain)
    for row in rows:
        if row.into not in values:
            default = row.default(plain)
            if Arg.is_missing(default):
                others = [other.name for other in rows if other.into == row.into and other is not row]
                raise errors.ArgumentError(row.name, 'missing' + ''.join(" (or '%s')" % name for name in others))
            values[row.into] = default
    return values


def _check(row, value, plain):
    try:
        if plain and row.kind.structured:
            value = _parse_json(value)
        return row.kind.check(value)
    except ValueError as error:
        # An @ in a URL follows a password.
        is_secret = row.kind.secret or u'@' in compat.to_text(value)
        shown = '' if is_secret else ' (got %s)' % _show(value)
        raise errors.ArgumentError(row.name, '%s%s' % (error, shown))


def _parse_json(text):
    try:
        return light_json.loads(text)
    except ValueError:
        raise ValueError('is not JSON')


def _show(value):
    text = compat.to_text(value)
    text = u''.join(c if u' ' <= c <= u'~' else u'?' for c in text[:_MAX_SHOWN + 1])
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + u'...'


def _check_uuid(value):
    if not text_checks.is_uuid(text_checks.require(value)):
        raise ValueError('needs a uuid in lower case')
    return value


def _check_uuid_list(value):
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError('needs a list of uuids')
    uuids = [_check_uuid(item) for item in value]
    if len(set(uuids)) != len(uuids):
        raise ValueError('names a uuid twice')
    return uuids


def _check_image_id(value):
    value = text_checks.require(value)
    if len(value) > 255 or not _NAME_CHARACTERS.issuperset(value) or value[0] in u'.-':
        raise ValueError('needs an image id: letters, digits, "-", "_", "."')
    return value


def _check_headers(value):
    if not isinstance(value, dict):
        raise ValueError('needs a map of header names to texts')
    headers = {}
    for name in value:
        if not isinstance(name, compat.text_type) or not name or not _HEADER_NAME_CHARACTERS.issuperset(name):
            raise ValueError('has a name that is not a header name')
        if name.lower() in _OWN_HEADERS:
            raise ValueError('must not set %s' % name)
        if value[name] is None:
            continue
        if not isinstance(value[name], compat.text_type):
            raise ValueError('has a value of %s that is not text' % name)
        headers[name] = _check_line(value[name], name)
    return headers


def _check_properties(value):
    if not isinstance(value, dict):
        raise ValueError('needs a map of property names to values')
    properties = {}
    for name in value:
        if not isinstance(name, compat.text_type) or not 0 < len(name) <= 255 or not _NAME_CHARACTERS.issuperset(name):
            raise ValueError('has a name that is not a property name')
        if value[name] is None:
            continue
        if not isinstance(value[name], (compat.text_type, bool) + compat.integer_types):
            raise ValueError('has a value of %s that is neither text nor a number' % name)
        properties[name] = _check_line(compat.to_text(value[name]), name)
    return properties


def _check_line(text, name):
    if any(c < u' ' and c != u'\t' or c == u'\x7f' or u'\ud800' <= c <= u'\udfff' for c in text):
        raise ValueError('has a control character in the value of %s' % name)
    return text


def _check_task(value):
    value = text_checks.require(value)
    prefix, colon, name = value.partition(u':')
    if prefix != u'OpaqueRef' or not 0 < len(name) <= 100 or not _NAME_CHARACTERS.issuperset(name):
        raise ValueError('needs the reference of a task: OpaqueRef:...')
    return value


def _check_truth(value):
    if not isinstance(value, (compat.text_type, bool)) or value not in _TRUTHS:
        raise ValueError('needs true or false')
    return _TRUTHS[value]


def _check_dom_id(value):
    number = text_checks.to_number(value, 5)
    if number is None or number > _MAX_DOM_ID:
        raise ValueError('needs the number of a domain')
    return number


def _check_config_key(value):
    value = text_checks.require(value)
    if len(value) > 255 or not _NAME_CHARACTERS.issuperset(value):
        raise ValueError('needs the name of a setting: letters, digits, "-", "_", "."')
    return value


def _check_api_version(value):
    if isinstance(value, bool) or value not in (1, 2, u'1', u'2'):
        raise ValueError('needs 1 or 2')
    return int(value)


def _check_sr_path(value):
    value = text_checks.require(value)
    path = value.rstrip(u'/')
    # In XAPI's empty environment Python 2.7 and 3.6 cannot encode the name of a file that is not ASCII.
    if not path.startswith(u'/') or u'..' in path.split(u'/') or not all(u' ' <= c <= u'~' for c in path):
        raise ValueError('needs an absolute path of printable ASCII without ".."')
    return path


def _check_sr_uuid(value):
    return u'%s/%s' % (paths.SR_MOUNT, _check_uuid(value))


def _check_command(value):
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError('needs a list of texts')
    for item in value:
        if not isinstance(item, compat.text_type):
            raise ValueError('needs a list of texts')
        if not all(u' ' <= c <= u'~' for c in item):
            raise ValueError('needs printable ASCII')
    return [str(item) for item in value]


def _check_program_input(value):
    if value is not None and not isinstance(value, compat.text_type):
        raise ValueError('needs text or null')
    try:
        return None if value is None else compat.bytes_of_text(value)
    except ValueError:
        raise ValueError('has half a character')


def _check_deflated_input(value):
    import binascii
    import zlib
    mark = b'.'  # left over if the stream before it is whole: Python 2 has no other way to know
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(binascii.a2b_base64(text_checks.require(value).encode('ascii')) + mark, _MAX_INFLATED_BYTES + 1)
    except (zlib.error, binascii.Error, UnicodeError):
        raise ValueError('needs what zlib has deflated, in base64')
    if len(data) > _MAX_INFLATED_BYTES:
        raise ValueError('inflates to more than %d bytes' % _MAX_INFLATED_BYTES)
    if inflater.unused_data != mark:
        raise ValueError('needs what zlib has deflated, in base64')
    return data


UUID = Kind(_check_uuid)
UUID_LIST = Kind(_check_uuid_list, structured=True)
IMAGE_ID = Kind(_check_image_id)
ENDPOINT = Kind(text_checks.check_url)
HEADERS = Kind(_check_headers, structured=True, secret=True)
API_VERSION = Kind(_check_api_version)
SR_PATH = Kind(_check_sr_path)
SR_UUID = Kind(_check_sr_uuid)
PROPERTIES = Kind(_check_properties, structured=True, secret=True)
TASK = Kind(_check_task)
TRUTH = Kind(_check_truth)
DOM_ID = Kind(_check_dom_id)
CONFIG_KEY = Kind(_check_config_key)
COMMAND = Kind(_check_command, structured=True)
PROGRAM_INPUT = Kind(_check_program_input, structured=True)
DEFLATED_INPUT = Kind(_check_deflated_input)
