# SPDX-License-Identifier: Apache-2.0
"""Checks of IPv4 and IPv6 addresses, without the socket module, which is too slow to import for a short call."""

from __future__ import absolute_import, division

from dom0_lib import text_checks

_GROUPS = 8


def parse_ipv4(text):
    """The 32 bits of an address in its one usual form, four decimal numbers; None for any other text."""
    parts = text.split(u'.')
    if len(parts) != 4:
        return None
    bits = 0
    for part in parts:
        number = text_checks.parse_number(part, 3)
        if number is None or number > 255 or part != str(number):
            return None
        bits = bits << 8 | number
    return bits


def is_ipv6(text):
    """Whether a text is an address in groups of hexadecimal digits: without a zone, a prefix or an IPv4 address in it."""
    head, gap, tail = text.partition(u'::')
    groups = [group for half in (head, tail) if half for group in half.split(u':')]
    if not all(0 < len(group) <= 4 and not group.strip(text_checks.HEX_DIGITS) for group in groups):
        return False
    return len(groups) < _GROUPS if gap else len(groups) == _GROUPS
