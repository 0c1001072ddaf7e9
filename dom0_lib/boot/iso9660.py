# SPDX-License-Identifier: Apache-2.0
"""The files in an ISO 9660 image that may be hostile: read within limits, without a mount, and no link is followed.

A mount would give an image made by a tenant to the kernel's driver, and links in the image would lead into dom0.  All numbers are
checked against the size of the image before they are used to read.

    from sector 16 descriptors of 2048 bytes; the one of type 1 has the root's directory record, type 255 ends them
    record         length (0), blocks of attributes before the content (1), extent (2..6), size (10..14), flags (25),
                   interleaving (26, 27), length of the name (32), name (33...),
                   then the System Use area of Rock Ridge: NM the name, PX the mode, CE the place of more fields
Numbers are stored twice, in both byte orders; the little-endian ones are read.  Source: ECMA-119, SUSP and RRIP 1.12.
"""

from __future__ import absolute_import, division

import os
import stat
import struct

from dom0_lib import errors

SECTOR_BYTES = 2048
_FIRST_DESCRIPTOR = 16
_MAX_DESCRIPTORS = 64
_MAX_ENTRIES = 20000
_MAX_DEPTH = 16
_MAX_DIRECTORY_BYTES = 4 << 20
_MAX_CONTINUATIONS = 16
_MAX_NAME_BYTES = 255
_RECORD = struct.Struct('<x B I 4x I 11x 3B')
_RECORD_BYTES = 33
_DIRECTORY, _ASSOCIATED, _MORE_EXTENTS = 0x02, 0x04, 0x80
_SELF, _PARENT = b'\0', b'\1'
# Forbidden in a name: control characters, as a newline would begin another line of mkisofs' list, and /.
_FORBIDDEN = frozenset(bytearray(range(32)) + b'/\x7f')


class File(object):
    """A plain file of an image: `path` (bytes, without / at its beginning), `size_bytes`, `extents` [(offset, bytes)]."""

    def __init__(self, path):
        self.path = path
        self.extents = []

    @property
    def size_bytes(self):
        return sum(size for _, size in self.extents)


class Image(object):
    """`files` [File], `left_out` [path] of links and devices, `volume_id` (bytes), `size_bytes` of the image open as `source`.

    Raises errors.InvalidImage if it is not such an image, errors.UnsafeImage if it refers to data that it does not have.
    """

    def __init__(self, source):
        self._source = source
        self.size_bytes = os.fstat(source.fileno()).st_size
        self._entries = 0
        self._seen = set()
        self._skipped_bytes = None  # of each System Use area; None without Rock Ridge
        self.files = []
        self.left_out = []
        descriptor = self._find_descriptor()
        self.volume_id = bytes(descriptor[40:72]).rstrip(b' \0')
        if struct.unpack_from('<H', descriptor, 128)[0] != SECTOR_BYTES:
            raise errors.InvalidImage('the image has blocks of another size than %d bytes' % SECTOR_BYTES)
        root = _Record(descriptor[156:190])
        self._find_rock_ridge(root)
        self._read_tree(root)

    def read(self, entry, piece_bytes):
        """Yield the content of a File in pieces."""
        for offset, size in entry.extents:
            for position in range(offset, offset + size, piece_bytes):
                yield self._read(position, min(piece_bytes, offset + size - position))

    def _read(self, offset, size):
        if offset + size > self.size_bytes:
            raise errors.UnsafeImage('the image has %d bytes, and refers to byte %d' % (self.size_bytes, offset + size))
        self._source.seek(offset)
        data = self._source.read(size)
        if len(data) != size:
            raise errors.InvalidImage('the image became shorter while it was read')
        return data

    def _find_descriptor(self):
        for number in range(_MAX_DESCRIPTORS):
            offset = (_FIRST_DESCRIPTOR + number) * SECTOR_BYTES
            if offset + SECTOR_BYTES > self.size_bytes:
                break
            descriptor = self._read(offset, SECTOR_BYTES)
            if descriptor[1:6] != b'CD001' or descriptor[:1] == b'\xff':
                break
            if descriptor[:1] == b'\1':
                return descriptor
        raise errors.InvalidImage('this is not an ISO 9660 image')

    def _find_rock_ridge(self, root):
        """Read the SP field of the root's first record: it announces System Use areas, and the bytes to skip in each."""
        first = _Record(self._read(root.offset, SECTOR_BYTES))
        fields = first.system_use
        if fields[:2] == b'SP' and fields[4:6] == b'\xbe\xef' and len(fields) > 6:
            self._skipped_bytes = ord(fields[6:7])

    def _read_tree(self, root):
        waiting = [(b'', root, 0)]
        while waiting:
            path, directory, depth = waiting.pop()
            if directory.offset in self._seen or depth > _MAX_DEPTH:
                raise errors.UnsafeImage('the directories of the image form a loop, or are more than %d deep' % _MAX_DEPTH)
            self._seen.add(directory.offset)
            for record_path, record in self._read_directory(path, directory):
                waiting.append((record_path, record, depth + 1))

    def _read_directory(self, path, directory):
        """Collect the files of a directory and yield (path, record) of the directories in it."""
        names, unfinished = set(), None
        for record in self._read_records(directory):
            if record.name in (_SELF, _PARENT) or record.flags & _ASSOCIATED:
                continue
            name, mode = self._describe(record)
            record_path = path + name
            if unfinished is None:
                if name in names:
                    raise errors.UnsafeImage('the image has %s twice' % _show(record_path))
                names.add(name)
            elif unfinished.path != record_path:
                break
            if record.flags & _DIRECTORY:
                yield record_path + b'/', record
            elif mode and not stat.S_ISREG(mode):
                self.left_out.append(record_path)
            else:
                unfinished = self._add_extent(unfinished or File(record_path), record)
        if unfinished is not None:
            raise errors.UnsafeImage('%s is cut off' % _show(unfinished.path))

    def _add_extent(self, entry, record):
        """Add an extent to a File.  Returns the File if more extents follow, None if it is complete."""
        if record.offset + record.size_bytes > self.size_bytes and record.size_bytes:
            raise errors.UnsafeImage('%s reaches beyond the end of the image' % _show(entry.path))
        if record.is_interleaved:
            raise errors.InvalidImage('%s is interleaved with other files' % _show(entry.path))
        entry.extents.append((record.offset, record.size_bytes))
        if record.flags & _MORE_EXTENTS:
            return entry
        self.files.append(entry)
        return None

    def _read_records(self, directory):
        if directory.size_bytes > _MAX_DIRECTORY_BYTES:
            raise errors.UnsafeImage('a directory of the image has %d bytes' % directory.size_bytes)
        for offset in range(directory.offset, directory.offset + directory.size_bytes, SECTOR_BYTES):
            sector = self._read(offset, SECTOR_BYTES)
            position = 0
            # No record crosses the end of a sector; zeros fill the rest.
            while position + _RECORD_BYTES <= SECTOR_BYTES and sector[position:position + 1] != b'\0':
                length = ord(sector[position:position + 1])
                self._count_entry()
                yield _Record(sector[position:position + length])
                position += length

    def _count_entry(self):
        self._entries += 1
        if self._entries > _MAX_ENTRIES:
            raise errors.UnsafeImage('the image has more than %d files' % _MAX_ENTRIES)

    def _describe(self, record):
        """(name, mode) of a record; the mode is 0 if the image has none."""
        name, mode = b'', 0
        if self._skipped_bytes is not None:
            for signature, data in self._read_fields(record):
                if signature == b'NM':
                    name += data[1:]
                elif signature == b'PX' and len(data) >= 4:
                    mode = struct.unpack_from('<I', data)[0]
                elif signature in (b'CL', b'RE'):
                    raise errors.InvalidImage('the image has directories that were moved because they were too deep')
        # Like the kernel, drop the version and use lower case.
        name = name or record.name.partition(b';')[0].rstrip(b'.').lower()
        if not 0 < len(name) <= _MAX_NAME_BYTES or name in (b'.', b'..') or not _FORBIDDEN.isdisjoint(bytearray(name)):
            raise errors.UnsafeImage('the image has a file with the unsafe name %s' % _show(name))
        return name, mode

    def _read_fields(self, record):
        """Yield (signature, data) of the System Use fields of a record, including those in other places."""
        area = record.system_use[self._skipped_bytes:]
        for _ in range(_MAX_CONTINUATIONS):
            continuation = None
            while len(area) >= 4:
                length = ord(area[2:3])
                signature, data = area[:2], area[4:length]
                if length < 4 or signature == b'ST':
                    break
                area = area[length:]
                if signature == b'CE' and len(data) >= 20:
                    block, offset, size = struct.unpack_from('<I 4x I 4x I', data)
                    continuation = (block * SECTOR_BYTES + offset, min(size, SECTOR_BYTES))
                else:
                    yield signature, data
            if continuation is None:
                return
            self._count_entry()
            area = self._read(*continuation)
        raise errors.UnsafeImage('the image describes a file in more than %d places' % _MAX_CONTINUATIONS)


class _Record(object):
    """A directory record: `offset` and `size_bytes` of the extent, `flags`, `name` as stored, `system_use` area."""

    def __init__(self, data):
        length = ord(data[:1])
        if not _RECORD_BYTES < length <= len(data):
            raise errors.UnsafeImage('the image has a directory that is cut off')
        data = data[:length]
        attribute_blocks, block, self.size_bytes, self.flags, unit, gap = _RECORD.unpack_from(data)
        name_end = _RECORD_BYTES + ord(data[32:33])
        self.offset = (block + attribute_blocks) * SECTOR_BYTES
        self.is_interleaved = bool(unit or gap)
        self.name = data[_RECORD_BYTES:name_end]
        if len(self.name) != name_end - _RECORD_BYTES or not self.name:
            raise errors.UnsafeImage('the image has a file whose name is cut off')
        self.system_use = data[name_end + (name_end % 2):]


def _show(path):
    return ''.join(chr(c) if 32 <= c < 127 else '?' for c in bytearray(path[:100]))
