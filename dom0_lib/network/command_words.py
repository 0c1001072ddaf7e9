# SPDX-License-Identifier: Apache-2.0
"""The words that may follow a command.  Each must be on a list, by its whole text; all others are refused."""

from __future__ import absolute_import, division

from dom0_lib import text_checks

_LETTERS_AND_DIGITS = frozenset(text_checks.LETTERS_AND_DIGITS)
_NAME = _LETTERS_AND_DIGITS | frozenset('_.-')
_ADDRESS = frozenset(text_checks.HEX_DIGITS + u'.:/')
# The kernel's IFNAMSIZ without the final NUL.
_DEVICE_MAX = 15


class Refused(Exception):
    """A word, or a line of input, is not on the list; the message shows it."""


class Words(object):
    """
    flags       words without a value
    valued      {word: check of its value}; the value is the next word, or follows a `=` if the word begins with `--`
    optional    the same for optional values: the next word is the value if it passes the check
    free        check of every other word; at most `free_max` of them may come, and only `-` itself may begin with `-`
    """

    def __init__(self, flags=(), valued=None, optional=None, free=None, free_max=0):
        self._flags = frozenset(flags)
        self._valued = valued or {}
        self._optional = optional or {}
        self._free = free
        self._free_max = free_max

    def check(self, words):
        """Check all words and return the free ones.  Raises Refused."""
        free = []
        left = list(reversed(words))
        while left:
            word = left.pop()
            if word in self._flags:
                continue
            if word in self._valued:
                if not left or not self._valued[word](left.pop()):
                    raise Refused(word)
            elif word in self._optional:
                if left and self._optional[word](left[-1]):
                    left.pop()
            elif word.startswith('--'):
                self._check_joined(word)
            elif len(free) < self._free_max and (word[:1] != '-' or word == '-') and self._free(word):
                free.append(word)
            else:
                raise Refused(word)
        return free

    def _check_joined(self, word):
        name, equals, value = word.partition('=')
        check = self._valued.get(name) or self._optional.get(name)
        if not equals or check is None or not check(value):
            raise Refused(word)


def one_of(*texts):
    """A check that takes these texts."""
    return frozenset(texts).__contains__


def is_number(text):
    return text_checks.is_number(text, 10)


def is_name(text):
    """Whether `text` can name a set, a namespace or a zone.  A program may use it as a file name: no slash, no leading dot."""
    return 0 < len(text) <= 255 and _NAME.issuperset(text) and text[0] not in '.-'


def is_name_list(text):
    """Whether `text` is a list of names, with commas between them."""
    return all(is_name(name) for name in text.split(','))


def is_device(text):
    """Whether `text` can name a network device or a bridge."""
    return len(text) <= _DEVICE_MAX and is_name(text)


def is_address(text):
    """Whether `text` looks like an IP or MAC address, or like a network with its prefix length."""
    return 0 < len(text) <= 64 and _ADDRESS.issuperset(text) and text[0] != '/' and text.count('/') <= 1 and '//' not in text


def is_any(text):
    """Whether `text`, which is printable, does not look like an option; for words that a command reads as mere text."""
    return text[:1] != '-'
