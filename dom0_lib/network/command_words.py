# SPDX-License-Identifier: Apache-2.0
"""The words that may follow a command: each must be known by its whole text.  What nobody listed is refused."""

from __future__ import absolute_import, division

from dom0_lib import text_checks

_LETTERS_AND_DIGITS = frozenset(text_checks.LETTERS_AND_DIGITS)
_NAME = _LETTERS_AND_DIGITS | frozenset('_.-')
_ADDRESS = frozenset(text_checks.HEX_DIGITS + u'.:/')
# The kernel's IFNAMSIZ without the final NUL.
_DEVICE_MAX = 15


class Refused(Exception):
    """A word, or a line of input, that is not on the list; the text shows it."""


class Words(object):
    """
    flags       words that stand by themselves
    valued      {word: check of its value}; the value is the next word, or follows a `=` where the word begins with `--`
    optional    the same, where the next word is a value only if it passes the check
    free        check of every other word, of which there are at most `free_max`; none may begin with `-` but `-` itself
    """

    def __init__(self, flags=(), valued=None, optional=None, free=None, free_max=0):
        self._flags = frozenset(flags)
        self._valued = valued or {}
        self._optional = optional or {}
        self._free = free
        self._free_max = free_max

    def check(self, words):
        """The free words.  Raises Refused."""
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
    """The check for a fixed choice."""
    return frozenset(texts).__contains__


def is_number(text):
    return text_checks.is_number(text, 10)


def is_name(text):
    """Of a set, a namespace, a zone: a file could be made of it, so it has no slash and does not begin with a dot."""
    return 0 < len(text) <= 255 and _NAME.issuperset(text) and text[0] not in '.-'


def is_name_list(text):
    """Names with commas between."""
    return all(is_name(name) for name in text.split(','))


def is_device(text):
    """Of a network device or a bridge."""
    return len(text) <= _DEVICE_MAX and is_name(text)


def is_address(text):
    """An IP or MAC address, or a network with its prefix length."""
    return 0 < len(text) <= 64 and _ADDRESS.issuperset(text) and text[0] != '/' and text.count('/') <= 1 and '//' not in text


def is_any(text):
    """Where a command reads no more than text: it is printable already, and must not look like an option."""
    return text[:1] != '-'
