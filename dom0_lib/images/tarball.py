# SPDX-License-Identifier: Apache-2.0
"""A tar archive read as it streams by: nothing is written that the caller has not opened a place for.  And its writing.

    offset size  field of a 512-byte header (POSIX ustar; GNU and v7 differ only where said)
         0  100  name
       124   12  size: octal text, or big-endian binary with the top bit of the first byte set (GNU, from 8 GiB)
       148    8  checksum: octal sum of the header's bytes with this field as spaces
       156    1  type: '0' or NUL file, '5' directory, 'x' and 'g' pax records, 'L' a GNU long name
       257    6  magic "ustar"
       345  155  prefix of the name (POSIX only)
"""

from __future__ import absolute_import, division

import struct

from dom0_lib import errors
from dom0_lib import text_checks

BLOCK_BYTES = 512
MAX_MEMBERS = 64
_MAX_EXTENSION_BYTES = 64 * 1024
# Tapes had records of up to 1 MiB, filled with zeros after the end; whoever sends more wants to keep us busy.
_MAX_END_BYTES = 4 * 1024 * 1024
_FOREIGN_FORMATS = (
    (b'conectix', 'a bare VHD; its container format must be a tar archive (ovf)'),
    (b'QFI\xfb', 'a QCOW2 disk'), (b'\xfd7zXZ', 'compressed with xz'), (b'BZh', 'compressed with bzip2'),
    (b'\x28\xb5\x2f\xfd', 'compressed with zstd'), (b'PK\x03\x04', 'a zip archive'), (b'KDMV', 'a VMDK disk'),
)


class Reader(object):
    """feed() the archive in pieces, then finish().

    open_member(name, size_bytes) is called for each regular file, its leading "./" removed; it returns None to skip the
    file or an object with write(memoryview) and finish().  Raises errors.InvalidImage and errors.UnsafeImage.
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

    def finish(self):
        if not self._members and not self._zero_blocks:
            raise errors.InvalidImage('the image is %s' % (_name_format(self._header) if self._header else 'empty'))
        if self._left or self._padding or self._header or self._zero_blocks < 2:
            raise errors.InvalidImage('the archive is cut short after %d members' % self._members)

    def _read_header(self, header):
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
        if _read_octal(header[148:156]) != _sum_header(header):
            raise errors.InvalidImage(
                'the archive is damaged: member %d has a wrong checksum' % (self._members + 1) if self._members
                else 'the image is %s' % _name_format(header))
        self._members += 1
        if self._members > MAX_MEMBERS:
            raise errors.UnsafeImage('the archive has more than %d members' % MAX_MEMBERS)
        self._begin_member(header)

    def _begin_member(self, header):
        kind = header[156:157]
        size_bytes = _read_size(header[124:136])
        if kind in (b'x', b'g', b'L'):
            self._begin_extension(kind, size_bytes)
            return
        name = self._member_name(header)
        size_bytes = self._pax.pop('size', size_bytes)
        self._long_name, self._pax = None, {}
        if kind in (b'0', b'\0', b'7'):
            self._begin_file(_check_name(name), size_bytes)
        elif kind != b'5' or size_bytes:
            raise errors.UnsafeImage("member '%s' of the archive is not a regular file" % _printable(name))
        elif name.strip(b'./') or b'..' in name:  # "./" is where the archive was made
            _check_name(name)

    def _begin_file(self, name, size_bytes):
        member = self._open_member(name, size_bytes)
        self._write = member.write if member else None
        self._finish = member.finish if member else None
        self._begin_data(size_bytes)

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
            self._long_name = data.rstrip(b'\0')
            return
        records = _read_pax(data)
        if any(key.startswith('GNU.sparse') for key in records):
            raise errors.UnsafeImage('the archive has sparse members: pack it without --sparse')
        if kind == b'g':
            if 'path' in records or 'size' in records:
                raise errors.UnsafeImage('the archive changes names or sizes in a global header')
            return
        self._pax = {}
        if 'size' in records:
            self._pax['size'] = text_checks.parse_number(records['size'])
            if self._pax['size'] is None:
                raise errors.InvalidImage('the archive has a pax size that is not a number')
        if 'path' in records:
            self._pax['path'] = records['path']

    def _member_name(self, header):
        name = header[:100].partition(b'\0')[0]
        if header[257:263] == b'ustar\0':
            prefix = header[345:500].partition(b'\0')[0]
            name = prefix + b'/' + name if prefix else name
        override = self._pax.get('path') or self._long_name
        if override is None or override == name:
            return name
        # An extended name continues one that does not fit its field; one that contradicts it is meant to deceive.
        if len(override) <= 100 or not override.startswith(name[:100]):
            raise errors.UnsafeImage("the archive gives member '%s' a second name" % _printable(name))
        return override


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


def _read_octal(field):
    digits = field.strip(b' \0')
    if not digits or digits.strip(b'01234567'):
        return None
    return int(digits, 8)


def _read_size(field):
    first = bytearray(field[:1])[0]
    if first & 0x80:
        size_bytes = first & 0x7f
        for byte in bytearray(field[1:]):
            size_bytes = size_bytes << 8 | byte
    else:
        size_bytes = _read_octal(field)
    if size_bytes is None or size_bytes >= 1 << 62:
        raise errors.InvalidImage('the archive has a member without a proper size')
    return size_bytes


def _sum_header(header):
    return sum(bytearray(header[:148])) + 8 * 0x20 + sum(bytearray(header[156:]))


def _read_pax(data):
    """pax records "LENGTH KEY=VALUE\\n" as a map of text to bytes."""
    records = {}
    while data:
        digits, space, _ = data.partition(b' ')
        length = space and text_checks.parse_number(digits, 7) or 0
        key, equals, value = data[len(digits) + 1:length - 1].partition(b'=')
        if not equals or length > len(data) or data[length - 1:length] != b'\n':
            raise errors.InvalidImage('the archive has a damaged pax header')
        records[_printable(key)] = value
        data = data[length:]
    return records


def _name_format(start):
    for magic, name in _FOREIGN_FORMATS:
        if start.startswith(magic):
            return name
    return 'neither a gzip file nor a tar archive'
