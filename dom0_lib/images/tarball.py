# SPDX-License-Identifier: Apache-2.0
"""A tar archive read as it streams by: nothing is written that the caller has not opened a place for.  And its writing.

    offset size  field of a 512-byte header (POSIX ustar; GNU and v7 differ only where said)
         0  100  name
       124   12  size: octal text, or big-endian binary with the top bit of the first byte set (GNU, from 8 GiB)
       148    8  checksum: octal sum of the header's bytes with this field as spaces
       156    1  type: '0' or NUL file, 'S' sparse file (GNU), '5' directory, 'x' and 'g' pax records, 'L' a GNU long name,
                 'K' a GNU long link, 'V' the archive's label, 'D' a GNU incremental dump's list of a directory
       257    6  magic "ustar"
       345  155  prefix of the name (POSIX only)

Names come from the pax record, the GNU long name or the header, in this order, as GNU tar takes them.  They only say which file
is which: no file of dom0 gets one.
"""

from __future__ import absolute_import, division

import struct

from dom0_lib import errors
from dom0_lib import text_checks
from dom0_lib.images import sparse_member

BLOCK_BYTES = sparse_member.BLOCK_BYTES
# A chain of 30, a companion by macOS for each, and their directories.
MAX_MEMBERS = 128
# A pax record can hold the map of a sparse file.
_MAX_EXTENSION_BYTES = 1024 * 1024
_PAX_LENGTH_DIGITS = 7
# Tapes had records of up to 1 MiB, filled with zeros after the end; whoever sends more wants to keep us busy.
_MAX_END_BYTES = 4 * 1024 * 1024


class Reader(object):
    """feed() the archive in pieces, then finish().

    open_member(name, size_bytes) is called for each regular file, its leading "./" removed; it returns None to skip the
    file or an object with write(memoryview) and finish().  A sparse file is written with its holes, as zeros.
    Raises errors.InvalidImage and errors.UnsafeImage.
    """

    def __init__(self, open_member):
        self._open_member = open_member
        self._header = b''
        self._members = 0
        self._zero_blocks = 0
        self._left = 0          # bytes of the current member's data to come
        self._padding = 0       # bytes to the next block after them
        self._write = None      # where the data goes: a method, or None to drop it
        self._finish = None      # what follows the data
        self._long_name = None
        self._pax = {}
        self._sparse_file = None    # (name, stored bytes, map) of a file whose map goes on in the next block

    def feed(self, data):
        view = memoryview(data)
        position, end = 0, len(view)
        while position < end:
            if self._left:
                taken = min(self._left, end - position)
                if self._write:
                    self._write(view[position:position + taken])
                self._left -= taken
                if not self._left:
                    self._end_member()
            elif self._padding:
                taken = min(self._padding, end - position)
                self._padding -= taken
            else:
                taken = min(BLOCK_BYTES - len(self._header), end - position)
                self._header += view[position:position + taken].tobytes()
                if len(self._header) == BLOCK_BYTES:
                    header, self._header = self._header, b''
                    self._read_header(header)
            position += taken

    def finish(self, is_whole=False):
        """Raises errors.InvalidImage if the archive is cut short.

        is_whole: a digest says that nothing is missing, so the packer, not the transfer, left out the padding of the last member
                  or the two blocks of zeros at the end, as old programs do
        """
        is_between_members = not (self._left or self._header or self._sparse_file or self._long_name is not None or self._pax)
        has_end = self._zero_blocks >= 2 and not self._padding
        if not is_between_members or not has_end and not (is_whole and self._members):
            raise errors.InvalidImage('the archive is cut short after %d members' % self._members)

    def _read_header(self, header):
        if self._sparse_file:
            self._continue_sparse_file(header)
            return
        if self._zero_blocks >= 2:
            if header.strip(b'\0'):
                raise errors.InvalidImage('the archive has other data after its end')
            self._zero_blocks += 1
            if self._zero_blocks * BLOCK_BYTES > _MAX_END_BYTES:
                raise errors.InvalidImage('the archive has more than %d bytes of zeros after its end' % _MAX_END_BYTES)
            return
        if not header.strip(b'\0'):
            self._zero_blocks += 1
            return
        if self._zero_blocks:
            raise errors.InvalidImage('the archive has a member after its end')
        if not is_header(header):
            raise errors.InvalidImage('the archive is damaged: member %d has a wrong checksum' % (self._members + 1))
        self._members += 1
        if self._members > MAX_MEMBERS:
            raise errors.UnsafeImage('the archive has more than %d members' % MAX_MEMBERS)
        self._begin_member(header)

    def _begin_member(self, header):
        kind = header[156:157]
        if kind == b'V' and not header[124:136].strip(b' \0'):
            return  # GNU tar gives a label no size
        size_bytes = sparse_member.read_number(header[124:136])
        if kind in (b'x', b'g', b'L', b'K'):
            self._begin_extension(kind, size_bytes)
            return
        pax, self._pax = self._pax, {}
        name = self._choose_name(header, pax)
        size_bytes = pax.get('size', size_bytes)
        if kind == b'S':
            self._begin_sparse_file(_check_name(name), size_bytes, header)
        elif kind in (b'0', b'\0', b'7'):
            self._begin_file(_check_name(name), size_bytes, pax.get('sparse'))
        elif kind == b'V' and not size_bytes:
            pass
        elif kind == b'D' and size_bytes <= _MAX_EXTENSION_BYTES or kind == b'5' and not size_bytes:
            if name.strip(b'./') or b'..' in name:  # "./" is where the archive was made
                _check_name(name)
            self._begin_data(size_bytes)
        else:
            raise errors.UnsafeImage("member '%s' of the archive is not a regular file" % _printable(name))

    def _begin_file(self, name, stored_bytes, sparse):
        """Begin the data of a file; `sparse`: None, or (its size, the map, which is None if the data begin with it)."""
        size_bytes, extents = sparse or (stored_bytes, None)
        member = self._open_member(name, size_bytes)
        if sparse and extents is None:
            member = member and sparse_member.MapFirst(member, size_bytes, stored_bytes)
        elif sparse:
            if extents.data_bytes != stored_bytes:
                raise errors.InvalidImage('the archive has a sparse member whose map does not fit its data')
            member = member and sparse_member.Expander(member, extents)
        self._write = member.write if member else None
        self._finish = member.finish if member else None
        self._begin_data(stored_bytes)

    def _begin_sparse_file(self, name, stored_bytes, header):
        extents, is_continued = sparse_member.read_header_map(header)
        if is_continued:
            self._sparse_file = name, stored_bytes, extents
        else:
            self._begin_file(name, stored_bytes, (extents.file_bytes, extents))

    def _continue_sparse_file(self, block):
        name, stored_bytes, extents = self._sparse_file
        if not sparse_member.read_block_map(block, extents):
            self._sparse_file = None
            self._begin_file(name, stored_bytes, (extents.file_bytes, extents))

    def _begin_extension(self, kind, size_bytes):
        if size_bytes > _MAX_EXTENSION_BYTES:
            raise errors.UnsafeImage('the archive has %d bytes of extended header' % size_bytes)
        pieces = []
        self._write = lambda view: pieces.append(view.tobytes())
        self._finish = lambda: self._read_extension(kind, b''.join(pieces))
        self._begin_data(size_bytes)

    def _begin_data(self, size_bytes):
        self._left = size_bytes
        self._padding = -size_bytes % BLOCK_BYTES
        if not size_bytes:
            self._end_member()

    def _end_member(self):
        finish, self._finish, self._write = self._finish, None, None
        if finish:
            finish()

    def _read_extension(self, kind, data):
        if kind == b'L':
            self._long_name = data.partition(b'\0')[0]
        if kind in (b'L', b'K'):
            return
        pairs = _read_pax(data)
        records = dict(pairs)
        if kind == b'g':
            if any(key in ('path', 'size') or key.startswith('GNU.sparse') for key in records):
                raise errors.UnsafeImage('the archive changes names or sizes in a global header')
            return
        # An empty map is kept, too: the archive must not end behind it.
        self._pax = {'path': records.get('GNU.sparse.name') or records.get('path')}
        if 'size' in records:
            self._pax['size'] = _parse_pax_number(records['size'])
        if records.get('GNU.sparse.major', b'0') != b'0':
            if (records['GNU.sparse.major'], records.get('GNU.sparse.minor')) != (b'1', b'0'):
                raise errors.UnsafeImage('the archive has sparse members of an unknown form: pack it without --sparse')
            self._pax['sparse'] = _parse_pax_number(records.get('GNU.sparse.realsize', b'')), None
        elif 'GNU.sparse.size' in records or 'GNU.sparse.map' in records:
            extents = sparse_member.read_record_map(pairs)
            self._pax['sparse'] = extents.file_bytes, extents

    def _choose_name(self, header, pax):
        long_name, self._long_name = self._long_name, None
        if pax.get('path') or long_name:
            return pax.get('path') or long_name
        name = header[:100].partition(b'\0')[0]
        prefix = header[345:500].partition(b'\0')[0] if header[257:263] == b'ustar\0' else b''
        return prefix + b'/' + name if prefix else name


def is_header(block):
    """Whether a block has the checksum of a member's header."""
    total = _sum_header(block)
    # Old packers added signed bytes: each one above 127, as in a name with accents, makes their sum 256 smaller.
    signed = total - 256 * sum(1 for byte in bytearray(block[:148] + block[156:]) if byte > 127)
    return sparse_member.read_octal(block[148:156]) in (total, signed)


def pack_header(name, size_bytes):
    """The header of a regular file: GNU tar's, so that a size of 8 GiB or more needs no second record.

    name: at most 100 ASCII characters.  The time is zero: the same disks make the same archive.
    """
    size = b'%011o\0' % size_bytes if size_bytes < 8 << 30 else b'\x80' + b'\0' * 3 + struct.pack('>Q', size_bytes)
    fields = [name.encode('ascii').ljust(100, b'\0'), b'0000644\0', b'0000000\0', b'0000000\0', size,
              b'%011o\0' % 0, b' ' * 8, b'0', b'\0' * 100, b'ustar  \0', b'root'.ljust(32, b'\0'), b'root'.ljust(32, b'\0')]
    header = b''.join(fields).ljust(BLOCK_BYTES, b'\0')
    return header[:148] + b'%06o\0 ' % _sum_header(header) + header[156:]


def padding(size_bytes):
    """What follows the data of a file up to the next block."""
    return b'\0' * (-size_bytes % BLOCK_BYTES)


# Two blocks of zeros, filled up to the 20 blocks that tar writes at once.
END = b'\0' * (20 * BLOCK_BYTES)


def _check_name(name):
    text = _printable(name)
    while text.startswith('./'):
        text = text[2:]
    if not text or text.startswith('/') or '..' in text.split('/'):
        raise errors.UnsafeImage("the archive has a member named '%s'" % _printable(name))
    return text


def _printable(name):
    return ''.join(c if ' ' <= c <= '~' else '?' for c in name.decode('latin-1'))


def _sum_header(header):
    return sum(bytearray(header[:148])) + 8 * 0x20 + sum(bytearray(header[156:]))


def _read_pax(data):
    """pax records "LENGTH KEY=VALUE\\n" as a list of (text, bytes): a form of sparse files has keys many times."""
    records, start = [], 0
    while start < len(data):
        # By places, not by cutting the rest off: there may be 40,000 records.
        space = data.find(b' ', start, start + _PAX_LENGTH_DIGITS + 1)
        length = text_checks.parse_number(data[start:space], _PAX_LENGTH_DIGITS) or 0 if space > 0 else 0
        end = start + length
        key, equals, value = data[space + 1:end - 1].partition(b'=')
        if not equals or end > len(data) or data[end - 1:end] != b'\n':
            raise errors.InvalidImage('the archive has a damaged pax header')
        records.append((_printable(key), value))
        start = end
    return records


def _parse_pax_number(value):
    number = text_checks.parse_number(value, 18)
    if number is None:
        raise errors.InvalidImage('the archive has a pax size that is not a number')
    return number
