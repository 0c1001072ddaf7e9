# SPDX-License-Identifier: Apache-2.0
"""Arguments that a call declares, and the binding of what a caller sent to the parameters of a function.

A kind's check gets the decoded value and returns the value to use, or raises ValueError with the reason.
"""

from __future__ import absolute_import, division

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib import light_json

# XAPI clients such as os-xenapi add the host's uuid to every call.
_ALWAYS_IGNORED = frozenset(['host_uuid'])
_MAX_SHOWN = 60


class Kind(object):
    """A kind of value: `structured` ones are JSON in a plain call; the values of `secret` ones are never shown."""

    def __init__(self, check, structured=False, secret=False):
        self.check = check
        self.structured = structured
        self.secret = secret


class Arg(object):
    """One argument of a call, by its wire name.

    name:           as callers spell it; legacy callers may also pass it by position
    into:           the function's parameter, by default the name with `_` for `-`
    alias_of:       the argument in whose place this one may be given (sr_uuid for sr_path); an alias has no position
    default:        the value when absent; without one the argument is required
    plain_default:  the same for plain calls, where it differs
    """

    _REQUIRED = object()

    def __init__(self, name, kind, into=None, alias_of=None, default=_REQUIRED, plain_default=_REQUIRED):
        self.name = name
        self.kind = kind
        self.alias_of = alias_of
        self.into = (into or alias_of or name).replace('-', '_')
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
    positional = [row for row in rows if row.alias_of is None]
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
        # The text before an @ in a URL may hold a password.
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


def or_absent(check):
    """A check for an argument that may be empty, which counts as absent."""
    return lambda value: None if value == u'' else check(value)
