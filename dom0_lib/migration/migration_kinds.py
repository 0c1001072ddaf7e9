# SPDX-License-Identifier: Apache-2.0
"""The kinds of arguments of migration.py; dom0_lib.call.binding explains kinds."""

from __future__ import absolute_import, division

from dom0_lib import compat
from dom0_lib import text_checks
from dom0_lib.call import binding

_ADDRESS_CHARACTERS = frozenset(text_checks.HEX_DIGITS + u':.')
_MAX_NAME_LENGTH = 253
# The chain of an image has no more files either.
_MAX_PLACE = 29
# XAPI's own ports: some callers take the host from XAPI's URL, and its port is not ssh's.
_XAPI_PORTS = (80, 443)


def _check_label(value):
    if not isinstance(value, compat.text_type) or not text_checks.is_label(value):
        raise ValueError('needs <uuid> or <uuid>_ephemeral_<n>')
    return value


def _check_host(value):
    """(name or address, ssh's port or None) of a text.  Raises ValueError."""
    if not isinstance(value, compat.text_type):
        raise ValueError('needs text')
    name, port = _split_host(value)
    # ssh would take a name with a leading dash for an option.
    characters = _ADDRESS_CHARACTERS if u':' in name else text_checks.NAME_CHARACTERS
    if not 0 < len(name) <= _MAX_NAME_LENGTH or name[0] in u'-.' or not characters.issuperset(name):
        raise ValueError('needs a host name, an IPv4 address or an IPv6 address, with or without a port')
    if port is None:
        return name, None
    number = text_checks.to_number(port, 5)
    if number is None or not 0 < number < 65536:
        raise ValueError('has a port that is not a number from 1 to 65535')
    return name, None if number in _XAPI_PORTS else number


def _split_host(text):
    if text.startswith(u'['):
        name, bracket, rest = text[1:].partition(u']')
        if not bracket or u':' not in name or rest and rest[0] != u':':
            raise ValueError('has a broken IPv6 address')
        return name, rest[1:] if rest else None
    if text.count(u':') > 1:
        return text, None
    name, colon, port = text.partition(u':')
    return name, port if colon else None


def _check_place(value):
    if isinstance(value, bool) or not isinstance(value, (compat.text_type,) + compat.integer_types):
        raise ValueError('needs a number')
    number = text_checks.to_number(value, 2)
    if number is None or number > _MAX_PLACE:
        raise ValueError('needs a number from 0, the leaf, to %d' % _MAX_PLACE)
    return number


LABEL = binding.Kind(_check_label)
HOST = binding.Kind(_check_host)
PLACE = binding.Kind(_check_place)
