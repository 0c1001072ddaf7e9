# SPDX-License-Identifier: Apache-2.0
"""Checks of texts that somebody else has written: numbers, versions, uuids, URLs, names.

The isdigit() of texts takes superscripts, which int() refuses, and the digits of all scripts, which other programs refuse; int()
alone takes signs, spaces, underscores and any length.  Here a number is one or more digits from 0 to 9.
"""

from __future__ import absolute_import, division

from dom0_lib import compat

# A signed number of 64 bits holds all numbers of as many digits.
MAX_DIGITS = 18
DIGITS = u'0123456789'
_DIGITS_OF_BYTES = b'0123456789'
HEX_DIGITS = u'0123456789abcdefABCDEF'
LETTERS_AND_DIGITS = u'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789'
# Of images, properties, hosts, settings.
NAME_CHARACTERS = frozenset(LETTERS_AND_DIGITS + u'-_.')
_UUID_DIGITS = frozenset('0123456789abcdef')
_UUID_DASHES = (8, 13, 18, 23)
_EPHEMERAL = u'_ephemeral_'
_MAX_EPHEMERAL_DIGITS = 3


def is_number(text, max_digits=MAX_DIGITS):
    """Whether `text`, a text or bytes, is a number of at most `max_digits` digits."""
    # Separate digits for texts and bytes: on Python 2 bytes beyond ASCII do not compare with text.
    digits = _DIGITS_OF_BYTES if isinstance(text, bytes) else DIGITS
    return 0 < len(text) <= max_digits and not text.strip(digits)


def parse_number(text, max_digits=MAX_DIGITS):
    """The number in a text, or bytes; None if it is no number."""
    return int(text) if is_number(text, max_digits) else None


def to_number(value, max_digits):
    """The number in an argument, a text or a number; None for any other value, also for bytes."""
    if isinstance(value, bool) or not isinstance(value, (compat.text_type,) + compat.integer_types):
        return None
    return parse_number(compat.to_text(value), max_digits)


def parse_version(word):
    """The numbers of a version: (2, 23, 2) for 2.23.2, (2, 13) for 2.13-pre7, (3, 1, 3) for v3.1.3pre1; None for other words."""
    parts = word.lstrip('v').partition('-')[0].partition('p')[0].split('.')
    numbers = tuple(parse_number(part) for part in parts)
    return None if None in numbers else numbers


def require_text(value):
    """`value`, a text, which may be empty.  Raises ValueError."""
    if not isinstance(value, compat.text_type):
        raise ValueError('needs text')
    return value


def require(value):
    """`value`, a text that is not empty.  Raises ValueError."""
    if not require_text(value):
        raise ValueError('is empty')
    return value


def is_uuid(text):
    """Whether a text is a uuid as XAPI writes it."""
    digits = text.replace(u'-', u'')
    return (len(text) == 36 and len(digits) == 32 and _UUID_DIGITS.issuperset(digits)
            and all(text[place] == u'-' for place in _UUID_DASHES))


def check_url(value):
    """`value`, an http or https URL, without a slash at its end.  Raises ValueError."""
    value = require(value)
    scheme, separator, rest = value.partition(u'://')
    if scheme not in (u'http', u'https') or not separator:
        raise ValueError('needs a URL that begins with http:// or https://')
    if any(not u'!' <= c <= u'~' or c in u'?#@\\' for c in rest):
        raise ValueError('needs scheme://host[:port][/prefix] and nothing else')
    netloc = rest.partition(u'/')[0]
    if netloc.startswith(u'['):
        host, bracket, port = netloc[1:].partition(u']')
        if not bracket or (port and port[0] != u':'):
            raise ValueError('has a broken IPv6 address')
        port = port[1:] if port else None
    else:
        host, colon, port = netloc.partition(u':')
        port = port if colon else None
    if not host:
        raise ValueError('names no host')
    if port is not None and not 0 < (parse_number(port, 5) or 0) < 65536:
        raise ValueError('has a port that is not a number from 1 to 65535')
    return value.rstrip(u'/')


def is_label(text):
    """Whether a text names an instance's disk: <uuid>, or <uuid>_ephemeral_<n> with n from 1 on."""
    uuid, separator, number = text.partition(_EPHEMERAL)
    if not is_uuid(uuid):
        return False
    return not separator or (to_number(number, _MAX_EPHEMERAL_DIGITS) is not None and number[0] != u'0')
