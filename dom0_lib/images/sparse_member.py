# SPDX-License-Identifier: Apache-2.0
"""Sparse members of tar archives: the holes that a packer left out become zeros again.

    form      place of the map                                        size of the file
    old GNU   the member's header, then blocks of 21 entries          offset 483 of the header
    pax 0.0   records GNU.sparse.offset and GNU.sparse.numbytes       record GNU.sparse.size
    pax 0.1   record GNU.sparse.map: offset,size,offset,size ...      record GNU.sparse.size
    pax 1.0   lines before the data, filled up to a block             record GNU.sparse.realsize

A map is a list of extents with data, ascending and apart; their data follow each other in the archive.  Source: the manual of
GNU tar, "Storing Sparse Files".  bsdtar writes pax 1.0 without being asked.
"""

from __future__ import absolute_import, division

import array

from dom0_lib import errors
from dom0_lib import text_checks

BLOCK_BYTES = 512
_MAX_EXTENTS = 1 << 18
_MAX_DIGITS = 18
_ZERO_BYTES = 1 << 20


class Map(object):
    """The extents of a file that have data in the archive; add() them in order, then end().  Raises errors.InvalidImage."""

    def __init__(self, file_bytes):
        self.file_bytes = file_bytes
        self.data_bytes = 0
        # 8 bytes each on the 64-bit systems that dom0 has been since XenServer 7.
        self._numbers = array.array('L')
        self._end = 0

    def __len__(self):
        return len(self._numbers) // 2

    def add(self, offset, size_bytes):
        """Take one more extent; an empty one tells no more than where the file ends."""
        if offset < self._end or offset + size_bytes > self.file_bytes:
            raise errors.InvalidImage('the archive has a sparse member with a map out of order or beyond its size')
        if len(self) >= _MAX_EXTENTS:
            raise errors.UnsafeImage('the archive has a sparse member of more than %d extents' % _MAX_EXTENTS)
        self._end = offset + size_bytes
        self.data_bytes += size_bytes
        if size_bytes:
            self._numbers.append(offset)
            self._numbers.append(size_bytes)

    def list_extents(self):
        """Yield (offset, size) of each extent that has data."""
        for index in range(0, len(self._numbers), 2):
            yield self._numbers[index], self._numbers[index + 1]


class Expander(object):
    """A member of an archive that gets `data_bytes` of data and hands the whole file to the member `target`."""

    def __init__(self, target, extents):
        self._target = target
        self._file_bytes = extents.file_bytes
        self._extents = extents.list_extents()
        self._position = 0
        self._left = 0      # bytes of the extent at work that are to come
        self._zeros = None

    def write(self, view):
        while len(view):
            if not self._left:
                offset, self._left = next(self._extents)
                self._fill(offset)
            taken = min(self._left, len(view))
            self._target.write(view[:taken])
            self._position += taken
            self._left -= taken
            view = view[taken:]

    def finish(self):
        self._fill(self._file_bytes)
        self._target.finish()

    def _fill(self, end):
        if self._zeros is None and self._position < end:
            self._zeros = memoryview(bytearray(_ZERO_BYTES))
        while self._position < end:
            taken = min(end - self._position, _ZERO_BYTES)
            self._target.write(self._zeros[:taken])
            self._position += taken


class MapFirst(object):
    """A member of form pax 1.0: its data begin with the map.

    stored_bytes: of the member in the archive, map and data
    """

    def __init__(self, target, file_bytes, stored_bytes):
        self._target = target
        self._map = Map(file_bytes)
        self._stored_bytes = stored_bytes
        self._taken_bytes = 0
        self._line = b''
        self._numbers = []      # of the map: how many extents there are, then an offset that still lacks its size
        self._expander = None

    def write(self, view):
        while self._expander is None and len(view):
            block = view[:BLOCK_BYTES - self._taken_bytes % BLOCK_BYTES].tobytes()
            view = view[len(block):]
            self._taken_bytes += len(block)
            self._read_lines(block)
            if self._is_complete() and self._taken_bytes % BLOCK_BYTES == 0:
                self._begin_data()
        if len(view):
            self._expander.write(view)

    def _read_lines(self, data):
        for line in ([] if self._is_complete() else data.split(b'\n')[:-1]):
            self._take_number(self._line + line)
            self._line = b''
            if self._is_complete():
                return
        self._line += data.rpartition(b'\n')[2]
        if len(self._line) > _MAX_DIGITS and not self._is_complete():
            raise errors.InvalidImage('the archive has a sparse member with a damaged map')

    def _take_number(self, digits):
        number = text_checks.parse_number(digits, _MAX_DIGITS)
        if number is None:
            raise errors.InvalidImage('the archive has a sparse member with a damaged map')
        if len(self._numbers) < 2:
            self._numbers.append(number)
        else:
            self._map.add(self._numbers.pop(), number)
            self._numbers[0] -= 1

    def _is_complete(self):
        return len(self._numbers) == 1 and self._numbers[0] == 0

    def _begin_data(self):
        if self._taken_bytes + self._map.data_bytes != self._stored_bytes:
            raise errors.InvalidImage('the archive has a sparse member whose map does not fit its data')
        self._expander = Expander(self._target, self._map)

    def finish(self):
        if self._expander is None:
            raise errors.InvalidImage('the archive has a sparse member with a damaged map')
        self._expander.finish()


def read_header_map(header):
    """(Map, whether blocks with more of it follow) of a member's header in the old GNU form."""
    extents = Map(read_number(header[483:495]))
    _read_entries(header[386:482], extents)
    return extents, header[482:483] not in (b'\0', b'0', b'')


def read_block_map(block, extents):
    """Take the entries of a block that continues a map of the old GNU form; returns whether one more follows."""
    _read_entries(block[:504], extents)
    return block[504:505] not in (b'\0', b'0', b'')


def _read_entries(data, extents):
    for start in range(0, len(data), 24):
        if data[start:start + 1] == b'\0':
            return
        extents.add(read_number(data[start:start + 12]), read_number(data[start + 12:start + 24]))


def read_record_map(records):
    """The Map in the pax records [(key, value)] of the forms 0.0 and 0.1."""
    file_bytes, numbers = None, []
    for key, value in records:
        if key == 'GNU.sparse.size':
            file_bytes = _parse(value)
        elif key == 'GNU.sparse.map':
            numbers = [_parse(number) for number in value.split(b',')] if value else []
        elif key in ('GNU.sparse.offset', 'GNU.sparse.numbytes'):
            if (key == 'GNU.sparse.offset') != (len(numbers) % 2 == 0):
                raise errors.InvalidImage('the archive has a sparse member with a damaged map')
            numbers.append(_parse(value))
    if file_bytes is None or len(numbers) % 2:
        raise errors.InvalidImage('the archive has a sparse member with a damaged map')
    extents = Map(file_bytes)
    for index in range(0, len(numbers), 2):
        extents.add(numbers[index], numbers[index + 1])
    return extents


def _parse(value):
    number = text_checks.parse_number(value, _MAX_DIGITS)
    if number is None:
        raise errors.InvalidImage('the archive has a sparse member with a damaged map')
    return number


def read_number(field):
    """The number in a field of 12 bytes: octal text, or big-endian with the top bit of the first byte set (GNU)."""
    first = bytearray(field[:1])[0]
    if first & 0x80:
        number = first & 0x7f
        for byte in bytearray(field[1:]):
            number = number << 8 | byte
    else:
        number = read_octal(field)
    if number is None or number >= 1 << 62:
        raise errors.InvalidImage('the archive has a member without a proper size')
    return number


def read_octal(field):
    """The number in octal text, or None."""
    digits = field.strip(b' \0')
    if not digits or digits.strip(b'01234567'):
        return None
    return int(digits, 8)
