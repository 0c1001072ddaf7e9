# SPDX-License-Identifier: Apache-2.0
"""The names of formats that an image has by mistake, for errors that say what it is.

Nothing is decided by a signature: an image that is taken is decoded by its own decoder, whatever its first bytes are.
"""

from __future__ import absolute_import, division

# The sign of an ISO image is the one furthest behind.
BEGINNING_BYTES = 36 * 1024

_SIGNS = (
    (0, b'vhdxfile', 'a VHDX disk'),
    (0, b'QFI\xfb', 'a QCOW2 disk'),
    (0, b'QED\0', 'a QED disk'),
    (0, b'KDMV', 'a VMDK disk'),
    (0, b'COWD', 'a VMDK disk'),
    (0, b'# Disk DescriptorFile', 'the descriptor of a VMDK disk'),
    (64, b'\x7f\x10\xda\xbe', 'a VDI disk of VirtualBox'),
    (0, b'\xfd7zXZ', 'compressed with xz'),
    (0, b'BZh', 'compressed with bzip2'),
    (0, b'\x28\xb5\x2f\xfd', 'compressed with zstd'),
    (0, b'\x04\x22\x4d\x18', 'compressed with lz4'),
    (0, b'\x1f\x8b', 'compressed with gzip once more'),
    (0, b'PK\x03\x04', 'a zip archive'),
    (0, b'7z\xbc\xaf\x27\x1c', 'a 7-Zip archive'),
    (0, b'LUKS\xba\xbe', 'an encrypted disk (LUKS)'),
    (0, b'<!DOCTYPE', 'a page of HTML'),
    (0, b'<html', 'a page of HTML'),
)
# A fixed VHD begins with the sectors of its guest, so these tell only of an image that is no VHD.
_GUEST_SIGNS = (
    (32 * 1024 + 1, b'CD001', 'an ISO image'),
    (510, b'\x55\xaa', 'a raw disk'),
)


def name_format(beginning):
    """The name of the format of an image that begins with these bytes, such as 'a QCOW2 disk'; None if nothing tells."""
    return _find(beginning, _SIGNS)


def name_disk(beginning):
    """The same for an image that is no VHD: it may be a disk without a format."""
    return _find(beginning, _SIGNS + _GUEST_SIGNS)


def _find(beginning, signs):
    for offset, sign, name in signs:
        if beginning[offset:offset + len(sign)] == sign:
            return name
    return None


def is_exported_vm(name):
    """Whether the first member of an archive, of this name, shows that XAPI exported a VM: the others may be thousands."""
    return name == 'ova.xml'


def name_contents(names):
    """The kind of an archive with members of these names, such as 'an XVA'; None if nothing tells."""
    if 'ova.xml' in names:
        return 'an XVA, an exported VM: import it with xe vm-import'
    if any(name.endswith('.ovf') for name in names):
        return 'an OVA, an appliance with its description'
    if 'disk.raw' in names:
        return 'a raw disk in an archive (disk.raw)'
    return None
