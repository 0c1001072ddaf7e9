# SPDX-License-Identifier: Apache-2.0
"""The canonical VHD, against files that blktap made and against every number of its layout."""

from __future__ import absolute_import, division

import array
import errno
import fcntl
import hashlib
import os
import random
import struct

import pytest

from dom0_lib import errors
from dom0_lib.disks import vhd
from dom0_lib.formats import canonical_vhd
from dom0_lib.formats import guest_disk
from dom0_lib.formats import vhd_decoder
from dom0_lib.formats import vhd_encoder
from tests.unit.formats import decoding
from tests.unit.formats.foreign_vhd import KIB, MIB, Guest

GIB = 1024 * MIB
SAMPLES = decoding.list_samples()
# Of blktap's sizes with one batmap sector too few: there the canonical disk is larger.
FAULTY_SIZES = [sample['virtual_size'] for sample in SAMPLES if sample['file'][:2] in ('08', '09')]


def put_all(encoder, guest, order=None):
    """A disk put in pieces, in some order of its sectors."""
    encoder.begin(guest_disk.Disk(guest.size_bytes, guest.is_child, guest.extents))
    for sector in sorted(guest.sectors) if order is None else order:
        encoder.put(512 * sector, 512, memoryview(guest.sectors[sector]))
    encoder.finish()


@pytest.mark.parametrize('sample', SAMPLES, ids=[sample['file'] for sample in SAMPLES])
def test_a_file_of_blktap_becomes_the_canonical_one(sample, tmpdir):
    data = decoding.read_sample(sample['file'])
    with decoding.Written(tmpdir) as written:
        decoding.decode(data, written.encoder)
        parent = sample['parent'] and canonical_vhd.Parent(sample['parent']['uuid'], sample['parent']['name'])
        written.encoder.seal(sample['uuid'], parent, sample['hidden'])
        ours = written.read()
        assert decoding.prove(written.path) is None
    if sample['virtual_size'] in FAULTY_SIZES:
        assert decoding.read_plainly(ours)[0] == sample['virtual_size'] + 7 * 2 * MIB
        assert decoding.read_plainly(ours)[1:] == decoding.read_plainly(data)[1:]
        return
    assert len(ours) == sample['canonical_bytes']
    stamped = stamp(ours, sample)
    assert hashlib.sha256(stamped).hexdigest() == sample['canonical_sha256']
    differing = [sector for sector in range(len(data) // 512) if stamped[512 * sector:512 * sector + 512] != data[512 * sector:512 * sector + 512]]
    assert differing == sample['sectors_that_differ']


def copy_range(cloned):
    """An ioctl FICLONERANGE that copies, as this file system may share nothing; what it took is in `cloned`."""
    def ioctl(fd, request, argument):
        assert request == 0x4020940d
        source_fd, source_offset, size_bytes, offset = struct.unpack('qQQQ', argument)
        assert source_offset % 4096 == size_bytes % 4096 == offset % 4096 == 0
        os.lseek(source_fd, source_offset, os.SEEK_SET)
        os.lseek(fd, offset, os.SEEK_SET)
        assert os.write(fd, os.read(source_fd, size_bytes)) == size_bytes
        cloned.append(size_bytes)
    return ioctl


def deny(fd, request, argument):
    raise IOError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


@pytest.mark.parametrize('can_share', [True, False])
def test_blocks_of_a_file_are_shared_where_the_file_system_can(tmpdir, monkeypatch, can_share):
    """Whole blocks at 4 KiB; the others are copied, and the file is the same."""
    guest = Guest(8 * MIB, kinds=['full', 'some', 'full', 'free'])
    with decoding.Written(tmpdir, 'source') as source, decoding.Written(tmpdir) as written:
        put_all(source.encoder, guest)
        expected = source.seal()
        cloned = []
        monkeypatch.setattr(fcntl, 'ioctl', copy_range(cloned) if can_share else deny)
        vhd_decoder.decode_file(source.file.fd, written.encoder, share=written.encoder.share)
        assert written.seal() == expected
        assert cloned == ([2 * MIB] * 2 if can_share else [])


def stamp(data, sample):
    """Our file with the times of the sample: ours are zero."""
    result = bytearray(data)
    footer = vhd.Footer.parse(data)
    assert footer.timestamp == 0
    footer.timestamp = sample['timestamp']
    result[:512] = result[-512:] = footer.seal()
    if sample['parent']:
        header = vhd.Header.parse(data[512:1536])
        assert header.parent_timestamp == 0
        header.parent_timestamp = sample['parent']['timestamp']
        result[512:1536] = header.seal()
    return bytes(result)


@pytest.mark.parametrize('size_mib, blocks, batmap, map_sectors, base, child, geometry', [
    (2, 1, 2048, 1, (3072, 7), (4608, 15), 0x003c0411),
    (256, 128, 2048, 1, (3072, 7), (4608, 15), 0x0208103f),
    (258, 129, 2560, 1, (3584, 7), (5120, 15), 0x020c103f),
    (8192, 4096, 17920, 1, (18944, 39), (20480, 47), 0x4104103f),
    (65536, 32768, 132608, 8, (137216, 271), (138752, 271), 0x808010ff),
    (1048576, 524288, 2098688, 128, (2164736, 4231), (2166272, 4231), 0xffff10ff),
    (2088960, 1044480, 4179456, 255, (4310528, 8423), (4312064, 8423), 0xffff10ff)])
def test_places(size_mib, blocks, batmap, map_sectors, base, child, geometry):
    for is_child, (tables_end, first) in ((False, base), (True, child)):
        layout = canonical_vhd.Layout(size_mib * MIB, is_child)
        assert (layout.size_bytes, layout.blocks) == (size_mib * MIB, blocks)
        assert (layout.batmap_offset, layout.map_bytes) == (batmap, 512 * map_sectors)
        assert (layout.tables_end, layout.first) == (tables_end, first)
        assert layout.file_bytes(0) == tables_end + 512
        assert layout.file_bytes(3) == 512 * (first + 2 * 4104 + 4097) + 512
        footer = layout.pack_footer(decoding.OUR_UUID, False)
        assert struct.unpack('>I', footer[56:60]) == (geometry,)


@pytest.mark.parametrize('size, blocks', [
    (1, 1), (512, 1), (2 * MIB, 1), (2 * MIB + 1, 2), (8 * GIB, 4096), (8 * GIB + 1, 4104), (8 * GIB + 7 * 2 * MIB, 4104),
    (8 * GIB + 8 * 2 * MIB, 4104), (8 * GIB + 9 * 2 * MIB, 4105), (16 * GIB + 512, 8200), (6 * MIB, 3), (14 * MIB, 7)])
def test_sizes_are_rounded_up(size, blocks):
    assert canonical_vhd.canonical_size(size) == blocks * 2 * MIB


def test_blktap_sums_the_whole_batmap_of_each_size():
    """It counts its sectors from the disk's size, one too few for some: not for these."""
    for blocks in list(range(1, 9000)) + [canonical_vhd.MAX_BLOCKS, canonical_vhd.MAX_BLOCKS - 4096]:
        layout = canonical_vhd.Layout(blocks * 2 * MIB, False)
        assert layout.map_bytes == 512 * max(1, -(-(layout.size_bytes // (1 << 24)) // 512))


def test_the_largest_disk_has_a_place_for_each_block():
    layout = canonical_vhd.Layout(canonical_vhd.MAX_SIZE_BYTES, True)
    assert canonical_vhd.MAX_SIZE_BYTES == 2093050 * MIB
    assert layout.place(layout.blocks - 1) + 4096 <= 0xfffffffe < layout.place(layout.blocks + 8)


@pytest.mark.parametrize('size', [0, canonical_vhd.MAX_SIZE_BYTES + 1])
def test_no_disk_and_a_disk_beyond_the_limit(size, tmpdir):
    with decoding.Written(tmpdir) as written:
        with pytest.raises(errors.UnsafeImage) as caught:
            written.encoder.begin(guest_disk.Disk(size, False, None))
        assert caught.value.rule == 'disk_size'


@pytest.mark.parametrize('is_child', [False, True])
@pytest.mark.parametrize('seed', range(4))
def test_the_order_of_the_pieces_does_not_matter(seed, is_child, tmpdir):
    guest = Guest(9 * MIB + 512, is_child=is_child, seed=seed)
    shuffled = sorted(guest.sectors)
    random.Random(seed).shuffle(shuffled)
    files = []
    for order in (None, shuffled[:3000] + sorted(shuffled[3000:])):
        with decoding.Written(tmpdir) as written:
            put_all(written.encoder, guest, order)
            files.append(written.seal())
            assert decoding.prove(written.path) is None
    assert files[0] == files[1]
    assert decoding.read_plainly(files[0]) == (10 * MIB, guest.sectors, guest.allocated)


@pytest.mark.parametrize('first, count', [(0, 1), (1, 6), (3, 5), (7, 1), (7, 2), (5, 11), (8, 8), (0, 16), (4090, 6), (13, 4000), (0, 4096)])
def test_the_bits_of_a_piece(first, count, tmpdir):
    with decoding.Written(tmpdir) as written:
        written.encoder.begin(guest_disk.Disk(2 * MIB, False, [(0, 2 * MIB)]))
        written.encoder.put(512 * first, 512 * count, memoryview(b'd' * (512 * count)))
        written.encoder.finish()
        assert set(decoding.read_plainly(written.seal())[1]) == set(range(first, first + count))


def test_a_piece_in_which_some_sectors_are_present(tmpdir):
    data = b''.join(struct.pack('>Q', sector) * 64 for sector in range(27))
    mask = bytes(bytearray([0xff, 0x00, 0xa5, 0xff]))
    with decoding.Written(tmpdir) as written:
        written.encoder.begin(guest_disk.Disk(2 * MIB + 27 * 512, True, [(0, 2 * MIB + 27 * 512)]))
        written.encoder.put(2 * MIB, 27 * 512, memoryview(data), mask)
        written.encoder.put(4096, 4096, None, b'\x18')
        written.encoder.finish()
        _, sectors, _ = decoding.read_plainly(written.seal())
        assert decoding.prove(written.path) is None
    expected = dict((4096 + sector, struct.pack('>Q', sector) * 64) for sector in [0, 1, 2, 3, 4, 5, 6, 7, 16, 18, 21, 23, 24, 25, 26])
    expected.update({11: b'\0' * 512, 12: b'\0' * 512})
    assert sectors == expected


def test_zeros_of_a_child_are_present_and_holes(tmpdir):
    with decoding.Written(tmpdir) as written:
        written.encoder.begin(guest_disk.Disk(64 * MIB, True, [(0, 64 * MIB)]))
        for offset in range(0, 64 * MIB, MIB):
            written.encoder.put(offset, MIB, memoryview(b'\0' * MIB) if offset % (2 * MIB) else None)
        written.encoder.finish()
        data = written.seal()
        assert decoding.prove(written.path) is None
        assert os.stat(written.path).st_blocks * 512 < 2 * MIB
    assert bytearray(data[data.find(vhd.BATMAP_COOKIE) + 512:][:4]) == bytearray([0xff] * 4)


@pytest.mark.parametrize('piece_bytes', [1, 511, 4096, 65537, MIB])
def test_a_disk_without_extents_has_the_blocks_with_data(piece_bytes, tmpdir):
    size = 8 * MIB + 700
    content = bytearray(size)
    content[2 * MIB + 5], content[8 * MIB + 699] = 1, 2
    start = 0 if piece_bytes > 511 else 8 * MIB - 3
    if start:
        content[:start] = b'\0' * start
    with decoding.Written(tmpdir) as written:
        written.encoder.begin(guest_disk.Disk(size, False, None))
        for offset in range(start, size, piece_bytes):
            piece = bytes(content[offset:offset + piece_bytes])
            written.encoder.put(offset, len(piece), memoryview(piece))
        written.encoder.finish()
        size_bytes, sectors, allocated = decoding.read_plainly(written.seal())
        assert decoding.prove(written.path) is None
    assert (size_bytes, allocated) == (10 * MIB, set([4]) if start else set([1, 4]))
    assert set(sectors) == set(range(16384, 16386)) | (set() if start else set(range(4096, 8192)))
    assert sectors[16385] == bytes(content[8 * MIB + 512:]).ljust(512, b'\0')


def test_what_a_decoder_must_not_do(tmpdir):
    with decoding.Written(tmpdir) as written:
        written.encoder.begin(guest_disk.Disk(4 * MIB, False, [(0, 2 * MIB)]))
        with pytest.raises(ValueError):
            written.encoder.put(2 * MIB, 512, memoryview(b'd' * 512))
        with pytest.raises(ValueError):
            written.encoder.put(4 * MIB - 512, 1024, None)
        written.encoder.finish()
        with pytest.raises(ValueError):
            written.encoder.seal(decoding.OUR_UUID, decoding.PARENT)


def test_room_for_the_file_is_asked_for_before_any_data(tmpdir):
    with decoding.Written(tmpdir) as written:
        asked = []
        written.file.require_room = asked.append
        written.encoder.begin(guest_disk.Disk(10 * MIB, False, [(0, 2 * MIB), (4 * MIB, 512 * KIB), (4 * MIB + 512 * KIB, MIB)]))
        assert asked == [canonical_vhd.Layout(10 * MIB, False).file_bytes(2)]


def test_the_file_is_no_vhd_before_it_is_sealed(tmpdir):
    guest = Guest(6 * MIB, seed=3)
    with decoding.Written(tmpdir) as written:
        put_all(written.encoder, guest)
        assert vhd.FOOTER_COOKIE not in written.read() and vhd.HEADER_COOKIE not in written.read()
        first = written.seal()
        # It can be called by other names later.
        assert written.seal(is_hidden=True) != first
        assert written.seal() == first


def test_a_parent_with_a_name_that_no_locator_holds():
    layout = canonical_vhd.Layout(2 * MIB, True)
    layout.pack_header(canonical_vhd.Parent(decoding.OUR_UUID, u'n' * canonical_vhd.MAX_PARENT_NAME))
    with pytest.raises(ValueError):
        layout.pack_header(canonical_vhd.Parent(decoding.OUR_UUID, u'n' * (canonical_vhd.MAX_PARENT_NAME + 1)))


def test_bits_of_the_encoder_are_those_of_an_integer():
    chance = random.Random(1)
    for _ in range(300):
        first = chance.randrange(4096)
        count = chance.randrange(1, 4096 - first + 1)
        bitmap = bytearray(512)
        vhd_encoder._set_bits(bitmap, first, count)
        number = int(''.join('%02x' % byte for byte in bitmap), 16)
        assert number == ((1 << count) - 1) << (4096 - first - count)
        assert canonical_vhd.full_bits(count) == bytes(bitmap) or first


def test_the_bat_of_a_packed_file_is_big_endian_and_padded_with_zeros():
    assert b''.join(canonical_vhd.pack_bat(array.array('I', [1, 0xffffffff]))) == b'\0\0\0\1\xff\xff\xff\xff'.ljust(512, b'\0')
    bat = array.array('I', range(16384 * 2 + 1))
    assert b''.join(canonical_vhd.pack_bat(bat)) == struct.pack('>32769I', *bat).ljust(512 * 257, b'\0')
