# SPDX-License-Identifier: Apache-2.0
"""The proof that a file is ours finds any changed byte of it."""

from __future__ import absolute_import, division

import os
import random

import pytest

from dom0_lib.disks import vhd
from dom0_lib.formats import guest_disk
from tests.unit.formats import decoding
from tests.unit.formats.foreign_vhd import MIB


def prove(data, directory):
    path = os.path.join(str(directory), 'published')
    with open(path, 'wb') as published:
        published.write(data)
    return decoding.prove(path)


def write(directory, is_child):
    """A disk of 8 MiB: two sectors in its second block, its fourth whole."""
    with decoding.Written(directory) as written:
        written.encoder.begin(guest_disk.Disk(8 * MIB, is_child, [(2 * MIB, 2 * MIB), (6 * MIB, 2 * MIB)]))
        written.encoder.put(2 * MIB, 1024, memoryview(b'd' * 1024))
        written.encoder.put(6 * MIB, 2 * MIB, memoryview(b'e' * 2 * MIB))
        written.encoder.finish()
        return written.seal(is_hidden=True)


@pytest.mark.parametrize('is_child', [False, True])
def test_a_file_of_ours(is_child, tmpdir):
    assert prove(write(tmpdir, is_child), tmpdir) is None


@pytest.mark.parametrize('is_child', [False, True])
def test_a_changed_byte(is_child, tmpdir):
    data = write(tmpdir, is_child)
    second = data.index(b'e' * 512) - 512
    first = second - 4104 * 512
    chance = random.Random(3)
    # One or more of each part: footer copy, header, BAT, its padding, batmap's header, map, locators, up to the first block.
    places = [0, 30, 60, 511, 512, 540, 600, 800, 1535, 1536, 1541, 1600, 2047] + list(range(2048, first, 97))
    # Data without a bit, filler, the bitmap of a full block, both ends of the footer.
    places += [first + 512 + 1024, first + 2 * MIB, second - 1, second - 3584, second, second + 511]
    places += [len(data) - 512, len(data) - 1] + [chance.randrange(first) for _ in range(40)]
    for place in places:
        changed = bytearray(data)
        changed[place] ^= 0x10
        assert prove(bytes(changed), tmpdir), place
    for place in (first, first + 1, first + 512, first + 1535, second + 512, second + 512 + 2 * MIB - 1):
        changed = bytearray(data)
        changed[place] ^= 0x10
        assert prove(bytes(changed), tmpdir) is None, 'the guest may write it'


@pytest.mark.parametrize('edit', [
    lambda data: data + b'\0', lambda data: data + b'\0' * 512, lambda data: data[:-1], lambda data: data[:-512], lambda data: data[:512],
    lambda data: data[:2048], lambda data: b'', lambda data: data[:-512] + b'\0' * 512 + data[-512:]])
def test_another_length(edit, tmpdir):
    assert prove(edit(write(tmpdir, True)), tmpdir)


@pytest.mark.parametrize('fields', [{'current_size': 8 * MIB - 512}, {'hidden': 2}, {'uuid_bytes': vhd.NULL_UUID}, {'timestamp': 1},
                                    {'creator_version': 0x00010002}, {'disk_type': vhd.FIXED}, {'disk_type': vhd.DYNAMIC}, {'features': 3},
                                    {'current_size': 0}, {'current_size': 1 << 60}])
def test_a_footer_that_is_not_written_here(fields, tmpdir):
    data = bytearray(write(tmpdir, True))
    footer = vhd.Footer.parse(bytes(data[:512]))
    for name, value in fields.items():
        setattr(footer, name, value)
    data[:512] = data[-512:] = footer.seal()
    assert prove(bytes(data), tmpdir)


@pytest.mark.parametrize('name', [u'', u'\xe9.vhd', u'n' * 255])
def test_a_parent_name_that_is_not_written_here(name, tmpdir):
    data = bytearray(write(tmpdir, True))
    header = vhd.Header.parse(bytes(data[512:1536]))
    header.set_parent_name(name)
    data[512:1536] = header.seal()
    assert prove(bytes(data), tmpdir)


def test_samples_of_blktap_differ_in_their_times_alone(tmpdir):
    for sample in decoding.list_samples():
        if sample['is_canonical'] and sample['file_bytes'] < 5 * MIB:
            data = decoding.read_sample(sample['file'])
            assert 'footer copy' in prove(data, tmpdir)
            assert prove(decoding.without_times(data), tmpdir) is None
