# SPDX-License-Identifier: Apache-2.0
"""The kinds of arguments of agent.py; dom0_lib.call.binding explains kinds."""

from __future__ import absolute_import, division

from dom0_lib import compat
from dom0_lib import text_checks
from dom0_lib.call import binding
from dom0_lib.call import kinds

_MAX_SECONDS = 24 * 3600
_RECORD_NAME_CHARACTERS = frozenset(text_checks.LETTERS_AND_DIGITS + u'-_@')
_BASE64_DIGITS = frozenset(text_checks.LETTERS_AND_DIGITS + u'+/')
_MAX_RECORD_NAME = 100
# A request with such a value fits into a record of xenstore, even if JSON doubles each character.
_MAX_VALUE = 900


def _require_characters(value, characters, length_range, description):
    lowest, highest = length_range
    if not isinstance(value, compat.text_type) or not lowest <= len(value) <= highest or not set(characters).issuperset(value):
        raise ValueError('needs %s' % description)
    return value


def _check_guest(value):
    # XAPI gives -1 for a VM that is not running, and so also for a VM between two domains.
    return -1 if value in (-1, u'-1') else kinds.DOM_ID.check(value)


def _check_seconds(value):
    seconds = text_checks.to_number(value, len(str(_MAX_SECONDS)))
    if seconds is None or not 1 <= seconds <= _MAX_SECONDS:
        raise ValueError('needs a number of seconds, from 1 to %d' % _MAX_SECONDS)
    return seconds


def _check_request_id(value):
    return _require_characters(value, _RECORD_NAME_CHARACTERS, (1, _MAX_RECORD_NAME),
                       'a uuid, or another name for a record: letters, digits, "-", "_", "@"')


def _check_public_key(value):
    return _require_characters(value, text_checks.DIGITS, (1, _MAX_VALUE), 'a decimal number, as text')


def _check_base64(value):
    if not isinstance(value, compat.text_type):
        raise ValueError('needs base64')
    value = u''.join(value.split())  # programs break long lines
    digits = value.rstrip(u'=')
    if not _BASE64_DIGITS.issuperset(digits) or len(value) % 4 or len(value) - len(digits) > 2:
        raise ValueError('needs base64')
    return value


def _check_short_base64(value):
    value = _check_base64(value)
    if not 1 <= len(value) <= _MAX_VALUE:
        raise ValueError('needs base64 of 1 to %d characters' % _MAX_VALUE)
    return value


def _check_url(value):
    # Agents read the text after the first comma as the digest.
    if not isinstance(value, compat.text_type) or u'://' not in value or len(value) > _MAX_VALUE or any(
            not u'!' <= c <= u'~' or c == u',' for c in value):
        raise ValueError('needs a URL of at most %d characters, without a comma' % _MAX_VALUE)
    return value


def _check_md5(value):
    return _require_characters(value, text_checks.HEX_DIGITS, (32, 32), '32 hexadecimal digits')


GUEST = binding.Kind(_check_guest)
SECONDS = binding.Kind(_check_seconds)
REQUEST_ID = binding.Kind(_check_request_id)
PUBLIC_KEY = binding.Kind(_check_public_key)
BASE64 = binding.Kind(_check_base64, secret=True)
SHORT_BASE64 = binding.Kind(_check_short_base64, secret=True)
URL = binding.Kind(_check_url, secret=True)
MD5 = binding.Kind(_check_md5)
