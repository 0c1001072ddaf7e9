# SPDX-License-Identifier: Apache-2.0
"""ISO 9660 images made by hand as bytes, right and wrong ones."""

from __future__ import absolute_import, division

import struct

SECTOR = 2048
ROOT_SECTOR = 18
# The content of directories and files begins here.
FREE_SECTOR = 20
SELF, PARENT = b'\0', b'\1'
DIRECTORY, ASSOCIATED, MORE_EXTENTS = 0x02, 0x04, 0x80


def make_record(name, sector=FREE_SECTOR, size_bytes=0, flags=0, attribute_sectors=0, unit=0, gap=0, system_use=b'', length=None):
    """A directory record.  length: a wrong one, in place of the record's own."""
    padding = b'\0' if len(name) % 2 == 0 else b''
    body = struct.pack('<BI4xI4x7xBBB4xB', attribute_sectors, sector, size_bytes, flags, unit, gap, len(name)) + name + padding + system_use
    return struct.pack('B', len(body) + 1 if length is None else length) + body


def make_field(signature, data, version=1):
    """A field of the System Use area."""
    return signature + struct.pack('BB', len(data) + 4, version) + data


def make_name(text, flags=0):
    return make_field(b'NM', struct.pack('B', flags) + text)


def make_mode(mode):
    return make_field(b'PX', struct.pack('<I', mode))


def make_continuation(sector, offset, size_bytes):
    return make_field(b'CE', struct.pack('<I4xI4xI4x', sector, offset, size_bytes))


def make_sharing(skipped_bytes=0):
    """The field SP of the root's first record, which announces System Use areas."""
    return make_field(b'SP', b'\xbe\xef' + struct.pack('B', skipped_bytes))


def make_directory(records, system_use=b''):
    """The sectors of a directory with itself and its parent; no record crosses the end of a sector."""
    sectors = [b'']
    for record in [make_record(SELF, system_use=system_use), make_record(PARENT)] + records:
        if len(sectors[-1]) + len(record) > SECTOR:
            sectors.append(b'')
        sectors[-1] += record
    return b''.join(pad(sector) for sector in sectors)


def pad(data):
    return data + b'\0' * (-len(data) % SECTOR)


def make_descriptor(kind=1, root_sector=ROOT_SECTOR, root_bytes=SECTOR, volume_id=b'IPXE', block_bytes=SECTOR, signature=b'CD001'):
    root = make_record(SELF, root_sector, root_bytes, DIRECTORY)
    data = struct.pack('B', kind) + signature + b'\1\0' + b' ' * 32 + volume_id.ljust(32) + b'\0' * 56
    data += struct.pack('<H', block_bytes) + b'\0' * 26 + root
    return pad(data)


def make_image(records, content=b'', system_use=b'', descriptors=None):
    """An image whose root has `records`; content: the sectors from FREE_SECTOR on."""
    root = make_directory(records, system_use)
    root_sector = ROOT_SECTOR
    if len(root) > (FREE_SECTOR - ROOT_SECTOR) * SECTOR:
        root_sector = FREE_SECTOR + len(pad(content)) // SECTOR
    if descriptors is None:
        descriptors = make_descriptor(root_sector=root_sector, root_bytes=len(root)) + make_descriptor(kind=255)
    sectors = (b'\0' * (16 * SECTOR) + descriptors).ljust(ROOT_SECTOR * SECTOR, b'\0')
    if root_sector == ROOT_SECTOR:
        return sectors + root.ljust((FREE_SECTOR - ROOT_SECTOR) * SECTOR, b'\0') + content
    return sectors + b'\0' * ((FREE_SECTOR - ROOT_SECTOR) * SECTOR) + pad(content) + root
