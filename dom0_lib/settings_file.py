# SPDX-License-Identifier: Apache-2.0
"""The lines of /etc/dom0-plugins.conf, read in the same way by every Python.

    [section]
    name = value        or name: value, on one line, without a comment behind it
    # comment           or ; comment

ConfigParser differs between Pythons: 2.7 merges repeated sections, drops text after a semicolon, and joins an indented
line to the value above.  Its import costs a call 10 ms.
"""

from __future__ import absolute_import, division

import errno
import os
import stat

from dom0_lib import errors
from dom0_lib import paths

BLANKS = ' \t'
MAX_SHOWN = 60
MAX_PROBLEMS = 5
_MAX_BYTES = 1 << 16
_BLANK_BYTES = b' \t'
_BYTE_ORDER_MARK = b'\xef\xbb\xbf'


class Reading(object):
    """The sections and settings in the bytes of a file.

    texts: {(section, name): (line, text)}, the first where a name is repeated; the section is None above the first one
    sections: {section: line}
    problems: [(line, sentence)]
    """

    def __init__(self, data):
        self.texts, self.sections, self.problems = {}, {}, []
        self._section, self._has_section = None, True
        if data.startswith(_BYTE_ORDER_MARK):
            self._report(1, 'it begins with a byte order mark: save it without one')
            data = data[len(_BYTE_ORDER_MARK):]
        for number, line in enumerate(data.splitlines(), 1):
            self._read_line(number, line.strip(_BLANK_BYTES))

    def _report(self, number, sentence):
        self.problems.append((number, sentence))

    def _read_line(self, number, line):
        # Zero bytes are refused even in a comment: after a power cut they may have replaced settings.
        if b'\0' in line:
            self._report(number, 'line %d has bytes of zero: the file is damaged' % number)
        elif not line or line[:1] in (b'#', b';'):
            return
        elif _is_printable(line):
            self._read_text(number, line.decode('utf-8'))
            return
        else:
            self._report(number, 'line %d has a control character, or is not UTF-8' % number)
        if line[:1] == b'[':  # the section of the next settings is unknown
            self._has_section = False

    def _read_text(self, number, text):
        if text[0] == u'[':
            self._read_section(number, text)
        elif self._has_section:
            self._read_setting(number, text)

    def _read_section(self, number, text):
        self._section, self._has_section = text[1:].partition(u']')[0], True
        if text.find(u']') != len(text) - 1:
            self._report(number, 'line %d needs a section in brackets and nothing behind it' % number)
        before = self.sections.setdefault(self._section, number)
        if before != number:
            self._report(number, '[%s] is in lines %d and %d: make them one' % (show(self._section), before, number))

    def _read_setting(self, number, text):
        marks = [place for place in (text.find(u'='), text.find(u':')) if place >= 0]
        end = min(marks) if marks else 0
        name, value = text[:end].strip(BLANKS).lower(), text[end + 1:].strip(BLANKS)
        if not name:
            self._report(number, 'line %d is not name = value; a value does not go on in a second line' % number)
            return
        place = describe_place(name, self._section)
        comments = [at for at in range(len(value)) if value[at] in u'#;' and not value[max(at - 1, 0):at].strip(BLANKS)]
        if comments:
            self._report(number, '%s has a comment behind it: give that a line of its own' % place)
            value = value[:comments[0]].strip(BLANKS)
        before = self.texts.setdefault((self._section, name), (number, value))[0]
        if before != number:
            self._report(number, '%s is in lines %d and %d: remove one' % (place, before, number))


def _is_printable(line):
    try:
        text = line.decode('utf-8')
    except UnicodeDecodeError:
        return False
    return not any(character < u' ' and character != u'\t' or character == u'\x7f' for character in text)


def describe_place(name, section):
    """A setting in an error."""
    return "'%s' in %s" % (show(name), '[%s]' % show(section) if section is not None else 'no section')


def show(text):
    """Text of a file for an error: ASCII on one line, and not long."""
    return text[:MAX_SHOWN].encode('ascii', 'backslashreplace').decode('ascii')


def make_error(problems):
    """The error for a file that has these problems, a list of sentences."""
    more = ['and more'] if len(problems) > MAX_PROBLEMS else []
    return errors.PluginError('%s: %s' % (paths.SETTINGS, '; '.join(problems[:MAX_PROBLEMS] + more)))


def read():
    """The bytes of the file, b'' if there is no file.  Raises errors.PluginError."""
    path = paths.locate(paths.SETTINGS)
    try:
        # Without O_NONBLOCK a pipe in place of the file would stop the call for ever.
        source = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except EnvironmentError as error:
        # A dangling link may lead to a file system that is not mounted: those settings are unknown, not absent.
        if error.errno == errno.ENOENT and not os.path.lexists(path):
            return b''
        raise errors.PluginError('cannot read %s: %s' % (paths.SETTINGS, os.strerror(error.errno)))
    try:
        if not stat.S_ISREG(os.fstat(source).st_mode):
            raise make_error(['it is not a plain file'])
        data = _read_to_end(source)
    except EnvironmentError as error:
        raise errors.PluginError('cannot read %s: %s' % (paths.SETTINGS, os.strerror(error.errno)))
    finally:
        os.close(source)
    if len(data) > _MAX_BYTES:
        raise make_error(['it has more than %d bytes' % _MAX_BYTES])
    return data


def _read_to_end(source):
    data = b''
    while len(data) <= _MAX_BYTES:
        piece = os.read(source, _MAX_BYTES + 1 - len(data))
        if not piece:
            break
        data += piece
    return data
