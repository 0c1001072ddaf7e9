# SPDX-License-Identifier: Apache-2.0
"""The legacy encoding of arguments and replies: Python pickles of plain data, read and written here without `pickle`.

A real unpickler builds any object that the caller names, as root.  This reader knows only the records below, which are
all that Python 2's cPickle in protocol 0 writes for None, bool, int, text, list, tuple, dict and float, so nothing can be called.

    (  mark               0  drop the top        N  None             t  tuple to the mark     ]  empty list
    I  int or bool        1  drop to the mark    S  quoted bytes     l  list to the mark      }  empty dict
    L  long               2  repeat the top      V  text, \\u        d  dict to the mark      )  empty tuple
    F  float              p  store, numbered     g  fetch, numbered  a  append   s  set item  e  extend  u  set items
"""

from __future__ import absolute_import, division

import _codecs

from dom0_lib import compat
from dom0_lib import text_checks

# More than fits into an argument of a process.  The worst pickle of this size takes 40 MiB and half a second to refuse; one of
# eight times the size took 300 MiB, or 25 s with keys of equal hash.
MAX_BYTES = 1 << 17
MAX_DEPTH = 32
MAX_VALUES = 100000
_MAX_PLACE_LENGTH = 6
_FLOAT_CHARACTERS = b'0123456789+-.einfaEINFA'
_MAX_NUMBER_LENGTH = 400  # a float written by repr() may have 327 characters
# The characters that Python 2's repr() writes after a backslash.  The decoder knows more, and warns of others.
_ESCAPES = (b"'", b'"', b'n', b'r', b't', b'x')
# The characters that need no escape in a record S.
_PLAIN_CHARACTERS = bytearray(code for code in range(0x20, 0x7f) if code not in (0x27, 0x5c)).decode('ascii')
_MARK = object()


class PickleError(Exception):
    """The text is not a pickle of plain data, or is too large or too deep."""


def loads(text):
    """The plain data in a pickle given as text, each character a byte (latin-1), as XML-RPC delivers it.

    Python 2 byte strings become text, read as UTF-8 with surrogate escapes.  Raises PickleError.
    """
    if len(text) > MAX_BYTES:
        raise PickleError('longer than %d bytes' % MAX_BYTES)
    try:
        data = text.encode('latin-1')
    except UnicodeEncodeError:
        raise PickleError('has characters that are not bytes')
    try:
        value = _Reader(data).read()
    except PickleError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
        raise PickleError('is damaged')
    _check_bounds(value)
    return value


class _Reader(object):

    def __init__(self, data):
        self._data = data
        self._position = 0
        self._stack = []
        self._stored = {}

    def read(self):
        while True:
            code = self._data[self._position:self._position + 1].decode('latin-1')
            if not code:
                raise PickleError('is cut short')
            self._position += 1
            if code == '.':
                value, = self._stack
                if value is _MARK:
                    raise PickleError('is damaged')
                return value
            try:
                action = self._ACTIONS[code]
            except KeyError:
                raise PickleError('has a record of code 0x%02x, which plain data does not need' % ord(code))
            action(self)

    def _line(self):
        end = self._data.index(b'\n', self._position)
        line = self._data[self._position:end]
        self._position = end + 1
        return line

    def _number(self):
        line = self._line()
        if len(line) > _MAX_NUMBER_LENGTH:
            raise PickleError('has a number of %d digits' % len(line))
        return line

    def _integer(self, digits):
        number = int(digits)
        if ('%d' % number).encode('ascii') != digits:  # other readers take 010 for eight
            raise PickleError('is damaged')
        return number

    def _pop_to_mark(self):
        start = len(self._stack) - 1
        while self._stack[start] is not _MARK:
            start -= 1
            if start < 0:
                raise PickleError('is damaged')
        values = self._stack[start + 1:]
        del self._stack[start:]
        return values

    def _push_int(self):
        line = self._number()
        self._stack.append({b'00': False, b'01': True}[line] if line in (b'00', b'01') else self._integer(line))

    def _push_long(self):
        line = self._number()
        self._stack.append(self._integer(line[:-1] if line.endswith(b'L') else line))

    def _push_float(self):
        digits = self._number()
        if digits.translate(None, _FLOAT_CHARACTERS):  # float() also accepts spaces and, on Python 3, underscores
            raise PickleError('is damaged')
        self._stack.append(float(digits))

    def _push_bytes_as_text(self):
        line = self._line()
        if len(line) < 2 or line[:1] not in (b"'", b'"') or line[-1:] != line[:1]:
            raise PickleError('has a string without quotes')
        escaped = line[1:-1]
        if any(rest[:1] not in _ESCAPES for rest in escaped.replace(b'\\\\', b'').split(b'\\')[1:]):
            raise PickleError('is damaged')
        self._stack.append(_codecs.escape_decode(escaped)[0].decode('utf-8', 'surrogateescape'))

    def _push_text(self):
        text = _codecs.raw_unicode_escape_decode(self._line())[0]
        # Before 2.7 a narrow Python wrote a character beyond U+FFFF as its two surrogates.
        self._stack.append(text if all(c < u'\ud800' for c in text) else compat.join_surrogates(text))

    def _push_none(self):
        self._stack.append(None)

    def _push_mark(self):
        self._stack.append(_MARK)

    def _push_list_to_mark(self):
        self._stack.append(self._pop_to_mark())

    def _push_tuple_to_mark(self):
        self._stack.append(tuple(self._pop_to_mark()))

    def _push_dict_to_mark(self):
        self._stack.append(_pair(self._pop_to_mark()))

    def _push_empty_list(self):
        self._stack.append([])

    def _push_empty_dict(self):
        self._stack.append({})

    def _push_empty_tuple(self):
        self._stack.append(())

    def _append(self):
        value = self._pop_value()
        self._stack[-1].append(value)

    def _extend(self):
        values = self._pop_to_mark()
        self._stack[-1].extend(values)

    def _set_item(self):
        value = self._pop_value()
        key = self._pop_value()
        self._stack[-1].update(_pair([key, value]))

    def _set_items(self):
        values = self._pop_to_mark()
        self._stack[-1].update(_pair(values))

    def _pop_value(self):
        value = self._stack.pop()
        if value is _MARK:
            raise PickleError('is damaged')
        return value

    def _drop(self):
        self._stack.pop()

    def _drop_to_mark(self):
        self._pop_to_mark()

    def _repeat(self):
        value = self._stack[-1]
        if value is _MARK:
            raise PickleError('is damaged')
        self._stack.append(value)

    def _store(self):
        key = self._place()
        value = self._stack[-1]
        if value is _MARK:
            raise PickleError('is damaged')
        self._stored[key] = value

    def _fetch(self):
        self._stack.append(self._stored[self._place()])

    def _place(self):
        """The number of a stored value."""
        digits = self._line()
        # Other readers take any number, and allocate that many places.
        if not text_checks.is_number(digits, _MAX_PLACE_LENGTH) or digits[:1] == b'0' and len(digits) > 1:
            raise PickleError('is damaged')
        return digits

    _ACTIONS = {
        '(': _push_mark, '0': _drop, '1': _drop_to_mark, '2': _repeat,
        'N': _push_none, 'I': _push_int, 'L': _push_long, 'F': _push_float, 'S': _push_bytes_as_text, 'V': _push_text,
        't': _push_tuple_to_mark, 'l': _push_list_to_mark, 'd': _push_dict_to_mark,
        ']': _push_empty_list, '}': _push_empty_dict, ')': _push_empty_tuple,
        'a': _append, 'e': _extend, 's': _set_item, 'u': _set_items, 'p': _store, 'g': _fetch,
    }


def _pair(values):
    if len(values) % 2:
        raise PickleError('is damaged')
    keys = values[::2]
    for key in keys:
        if isinstance(key, (tuple, list, dict)):
            raise PickleError('has a map whose key is not a plain value')
    return dict(zip(keys, values[1::2]))


def _check_bounds(value):
    """Refuse values that are too many or too deep: shared references can make a short pickle endless or exponential."""
    level, count = [value], 0
    for _ in range(MAX_DEPTH):
        below = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, (list, tuple)):
                below.extend(item)
            if len(below) + count > MAX_VALUES:
                raise PickleError('holds more than %d values' % MAX_VALUES)
        if not below:
            return
        count += len(below)
        level = below
    raise PickleError('is nested deeper than %d' % MAX_DEPTH)


def dumps(value):
    """`value`, plain data, as a protocol 0 pickle: a text of printable ASCII and LF.

    Python's own pickler writes raw bytes 0x80-0xFF, and Python 3.6 raw CR and NUL, all of which break on the way.
    """
    parts = []
    _write(value, parts.append, {})
    parts.append('.')
    return compat.to_text(''.join(parts))


def _write(value, write, written):
    """`written` caches the records of texts: thousands of similar maps have few different keys.  A call for each value would
    take most of the time, and a format twice the time of str(): so maps look keys up, and write their numbers, themselves.
    """
    if isinstance(value, dict):
        write('(')
        for key in value:
            item = value[key]
            if key in written:
                write(written[key])
            else:
                _write(key, write, written)
            if type(item) is int:
                write('I')
                write(str(item))
                write('\n')
            else:
                _write(item, write, written)
        write('d')
    elif isinstance(value, (compat.text_type, str)):
        if value not in written:
            written[value] = _text_record(compat.text_type(value))
        write(written[value])
    elif value is None:
        write('N')
    elif isinstance(value, bool):
        write('I01\n' if value else 'I00\n')
    elif isinstance(value, compat.integer_types):
        # Python 2 reads an I record of any size, as int or long; Python 3 likewise.
        write('I%d\n' % value)
    elif isinstance(value, float):
        write('F%r\n' % value)
    elif isinstance(value, (list, tuple)):
        write('(')
        for item in value:
            _write(item, write, written)
        write('t' if isinstance(value, tuple) else 'l')
    else:
        raise TypeError('a reply cannot hold %s' % type(value).__name__)


def _text_record(text):
    # strip() leaves nothing of a text of plain characters alone; a loop over them would take ten times as long.
    if not text.strip(_PLAIN_CHARACTERS):
        return str("S'%s'\n" % text)  # Python 2 callers get a str, as they always did
    parts = ['V']
    for c in text:
        code = ord(c)
        if u' ' <= c <= u'~' and c != u'\\':
            parts.append(str(c))
        else:
            parts.append('\\U%08x' % code if code > 0xffff else '\\u%04x' % code)
    parts.append('\n')
    return ''.join(parts)
