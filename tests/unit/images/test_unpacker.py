# SPDX-License-Identifier: Apache-2.0
"""An image is an archive or a disk by its first block, and one that is neither is called by its name."""

from __future__ import absolute_import, division

import os

import pytest

from dom0_lib import errors
from dom0_lib.formats import signatures
from dom0_lib.images import unpacker
from tests.unit.images import test_tarball

STEPS = (1, 17, 511, 512, 513, 65536)
NOISE = os.urandom(2000)


class Disk(object):
    """A member that takes an image only if it ends with the word of a VHD's footer."""

    def __init__(self, name, size_bytes):
        self.name, self.size_bytes = name, size_bytes
        self.data = b''
        self.is_finished = False

    def write(self, view):
        assert isinstance(view, memoryview) and len(view)
        self.data += view.tobytes()
        if self.data.startswith(b'unsafe'):
            raise errors.UnsafeImage('it reaches out')

    def finish(self):
        if not self.data.endswith(b'conectix'):
            raise errors.InvalidImage('no footer')
        self.is_finished = True


def unpack(image, step=65536, size_bytes=None):
    members = []
    stream = unpacker.Unpacker(lambda name, size: members.append(Disk(name, size)) or members[-1], size_bytes)
    for start in range(0, len(image), step):
        stream.feed(image[start:start + step])
    stream.finish()
    assert all(member.is_finished for member in members)
    return [(member.name, member.size_bytes, member.data) for member in members]


@pytest.mark.parametrize('step', STEPS)
def test_an_archive(step):
    entries = [('0.vhd', NOISE + b'conectix'), ('1.vhd', b'conectix')]
    expected = [(name, len(data), data) for name, data in entries]
    assert unpack(test_tarball.make_archive(entries), step) == expected


@pytest.mark.parametrize('step', STEPS)
@pytest.mark.parametrize('size_bytes', [None, 1234])
@pytest.mark.parametrize('beginning', [b'conectix', b'\0' * 1024, b'\x07', b'\0' * 510 + b'\x55\xaa'], ids=['dynamic', 'zeros', 'boot', 'mbr'])
def test_a_disk_alone(beginning, size_bytes, step):
    image = beginning + NOISE + b'conectix'
    assert unpack(image, step, size_bytes) == [('image.vhd', size_bytes, image)]


ISO = b'\0' * 32768 + b'\x01CD001' + NOISE

FOREIGN = [
    ('empty', b'', 'the image is empty'),
    ('short', b'hello', 'the image is neither an archive nor a disk'),
    ('short qcow2', b'QFI\xfb\0\0', 'the image is a QCOW2 disk'),
    ('vhdx', b'vhdxfile' + NOISE, 'the image is a VHDX disk'),
    ('qcow2', b'QFI\xfb' + NOISE, 'the image is a QCOW2 disk'),
    ('vmdk', b'KDMV' + NOISE, 'the image is a VMDK disk'),
    ('vmdk descriptor', b'# Disk DescriptorFile\n' + NOISE, 'the image is the descriptor of a VMDK disk'),
    ('xz', b'\xfd7zXZ\0' + NOISE, 'the image is compressed with xz'),
    ('bzip2', b'BZh9' + NOISE, 'the image is compressed with bzip2'),
    ('zstd', b'\x28\xb5\x2f\xfd' + NOISE, 'the image is compressed with zstd'),
    ('gzip twice', b'\x1f\x8b\x08' + NOISE, 'the image is compressed with gzip once more'),
    ('zip', b'PK\x03\x04' + NOISE, 'the image is a zip archive'),
    ('iso', ISO, 'the image is an ISO image, not a VHD or a tar archive of VHDs'),
    ('raw', b'\xeb' * 510 + b'\x55\xaa' + NOISE, 'the image is a raw disk, not a VHD or a tar archive of VHDs'),
    ('noise', b'\x07' + NOISE, 'the image is no tar archive of VHDs, and as a VHD it is damaged: no footer'),
    ('damaged archive', test_tarball.VALID[:10] + b'x' + test_tarball.VALID[11:], 'as a VHD it is damaged: no footer'),
    ('zeros', b'\0' * 10240, 'as a VHD it is damaged: no footer'),
]


@pytest.mark.parametrize('step', STEPS)
@pytest.mark.parametrize('image, text', [row[1:] for row in FOREIGN], ids=[row[0] for row in FOREIGN])
def test_an_image_that_is_neither(image, text, step):
    with pytest.raises(errors.InvalidImage) as caught:
        unpack(image, step)
    assert type(caught.value) is errors.InvalidImage and text in str(caught.value)


def test_a_contradiction_stays_one():
    with pytest.raises(errors.UnsafeImage) as caught:
        unpack(b'unsafe' + NOISE)
    assert str(caught.value) == 'it reaches out'


def test_a_sign_is_compared_to_its_end():
    for length in range(1, 8):
        assert signatures.name_format(b'vhdxfile'[:length] + b'\0' * 512) is None
    assert signatures.name_disk(ISO[:32773] + b'\0') is None
    assert signatures.name_disk(ISO[:32774]) == 'an ISO image'
    assert signatures.name_format(ISO) is None


def test_archives_that_hold_something_else():
    assert 'XVA' in signatures.name_contents(['ova.xml', 'Ref:7/00000000'])
    assert 'OVA' in signatures.name_contents(['box.ovf', 'disk1.vmdk'])
    assert 'raw disk' in signatures.name_contents(['disk.raw'])
    assert signatures.name_contents(['readme', 'x.txt']) is None
