# SPDX-License-Identifier: Apache-2.0
"""Whether a text is a whole number, and which; for every module that reads numbers somebody else has written.

The isdigit() of texts takes superscripts, which int() refuses, and the digits of all scripts, which other programs refuse; int()
alone takes signs, spaces, underscores and any length.  Here a number is one or more of 0 to 9.
"""

from __future__ import absolute_import, division

from dom0_lib import compat

# A signed number of 64 bits holds all numbers of as many digits.
MAX_DIGITS = 18
_DIGITS = u'0123456789'
_DIGITS_OF_BYTES = b'0123456789'


def is_number(text, max_digits=MAX_DIGITS):
    """Whether `text`, a text or bytes, is a number of at most `max_digits` digits."""
    # Texts and bytes apart: on Python 2 bytes beyond ASCII do not compare with text.
    digits = _DIGITS_OF_BYTES if isinstance(text, bytes) else _DIGITS
    return 0 < len(text) <= max_digits and not text.strip(digits)


def parse_number(text, max_digits=MAX_DIGITS):
    """The number that a text, or bytes, is; None if it is none."""
    return int(text) if is_number(text, max_digits) else None


def to_number(value, max_digits):
    """The number that an argument is, be it a text or a number; None for any other value, also for bytes."""
    if isinstance(value, bool) or not isinstance(value, (compat.text_type,) + compat.integer_types):
        return None
    return parse_number(compat.to_text(value), max_digits)
