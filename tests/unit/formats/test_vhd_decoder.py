# SPDX-License-Identifier: Apache-2.0
"""Foreign VHDs: each rule that refuses one broken by itself, and all that is no reason to refuse."""

from __future__ import absolute_import, division

import os
import struct
import subprocess
import sys

import pytest

from dom0_lib import errors
from dom0_lib.disks import vhd
from dom0_lib.formats import vhd_decoder
from dom0_lib.system import sparse_file
from tests import conftest
from tests.unit.formats import decoding
from tests.unit.formats.foreign_vhd import KIB, MIB, PARENT_NAME, PARENT_UUID, UUID, Foreign, Guest, pack_fixed


def make(is_child=False, **choices):
    guest = Guest(8 * MIB, is_child=is_child, kinds=['few', 'full', 'free', 'runs'])
    foreign = Foreign(guest)
    for name, value in choices.items():
        setattr(foreign, name, value)
    return foreign


def refusal_of(data, directory, **options):
    """The rule by which a stream is refused; a file of the same bytes is refused, too."""
    with pytest.raises(errors.InvalidImage) as caught:
        decoding.decode(data, decoding.Remembering(), directory=directory, **options)
    with pytest.raises(errors.InvalidImage):
        decoding.decode_file(data, decoding.Remembering(), directory)
    return caught.value.rule


def edit_bat(data, entries):
    """The file with other entries in its BAT."""
    table = find_bat(data)
    result = bytearray(data)
    for block, entry in entries.items():
        result[table + 4 * block:table + 4 * block + 4] = struct.pack('>I', entry)
    return bytes(result)


def find_bat(data):
    header, = struct.unpack('>Q', data[16:24])
    return struct.unpack('>Q', data[header + 16:header + 24])[0]


def read_bat(data):
    return struct.unpack('>4I', data[find_bat(data):][:16])


def test_the_disk_that_the_others_break_is_sound(tmpdir):
    foreign = make()
    data = foreign.build()
    assert sorted(foreign.guest.allocated) == [0, 1, 3] and len(data) < 7 * MIB
    for decode in (decoding.decode, decoding.decode_file):
        sink = decoding.Remembering()
        decode(data, sink, directory=tmpdir)
        assert sink.is_finished
        assert (sink.disk.size_bytes, sink.disk.is_child, sink.extents) == (8 * MIB, False, [(0, 4 * MIB), (6 * MIB, 2 * MIB)])
        assert sink.sectors == foreign.guest.sectors


# What is refused


@pytest.mark.parametrize('rule, footer', [
    ('footer_version', {'version': 0x00020000}), ('disk_type', {'disk_type': 5}), ('disk_type', {'disk_type': 0}),
    ('disk_size', {'current_size': 0}), ('disk_size', {'current_size': 8 * MIB - 1}), ('disk_size', {'current_size': 2093051 * MIB}),
    ('disk_size', {'current_size': 1 << 63}), ('bat_size', {'current_size': 8 * MIB + 512}),
    ('creator_version', {'creator': b'tap\0', 'creator_version': 1}), ('creator_version', {'creator': b'tapz', 'creator_version': 0}),
    ('header', {'data_offset': 1024}), ('header', {'data_offset': 513})])
def test_a_footer_that_cannot_be_right(rule, footer, tmpdir):
    assert refusal_of(make(footer=footer).build(), tmpdir) == rule


@pytest.mark.parametrize('offset', [600000, 1 << 40, (1 << 64) - 1, (1 << 64) - 1024])
def test_a_header_outside_the_file(offset, tmpdir):
    data = make(footer={'data_offset': offset}).build()
    assert refusal_of(data, tmpdir) in ('cut_short', 'header')


@pytest.mark.parametrize('rule, header', [
    ('header', {'cookie': b'cxsparsE'}), ('header_version', {'version': 0x00020000}),
    ('block_size', {'block_size': 0}), ('block_size', {'block_size': 3 * MIB}), ('block_size', {'block_size': 256 * KIB}),
    ('block_size', {'block_size': 512 * MIB}), ('block_size', {'block_size': 0xffffffff}),
    ('bat_size', {'max_bat_entries': 3}), ('bat_size', {'max_bat_entries': 0}), ('bat_size', {'max_bat_entries': 0xffffffff}),
    ('bat_size', {'block_size': MIB}), ('metadata_overlap', {'table_offset': 511}), ('metadata_overlap', {'table_offset': 1024}),
    ('metadata_overlap', {'table_offset': 0}), ('block_overlap', {'table_offset': MIB}),
    ('cut_short', {'table_offset': 1 << 40}), ('cut_short', {'table_offset': (1 << 64) - 4})])
def test_a_header_that_cannot_be_right(rule, header, tmpdir):
    assert refusal_of(make(header=header).build(), tmpdir) == rule


def test_a_damaged_header(tmpdir):
    assert refusal_of(make(patches=[(512 + 700, b'x')]).build(), tmpdir) == 'header'


@pytest.mark.parametrize('rule, entries', [
    ('block_over_metadata', {0: 0}), ('block_over_metadata', {0: 1}), ('block_over_metadata', {0: 2}), ('block_over_metadata', {0: 3}),
    ('block_overlap', {0: 4113, 1: 4113}), ('block_overlap', {2: 4120}), ('block_outside', {2: 0xfffffffe}), ('block_outside', {2: 1 << 20})])
def test_blocks_that_cannot_be_there(rule, entries, tmpdir):
    assert refusal_of(edit_bat(make().build(), entries), tmpdir) == rule


@pytest.mark.parametrize('shift', [-4096, -1, 1, 4096])
def test_blocks_that_reach_into_one_another(shift, tmpdir):
    data = make(parts=['header', 'bat', 'batmap', 'blocks'], gaps=lambda: 5000).build()
    assert refusal_of(edit_bat(data, {1: read_bat(data)[0] + shift}), tmpdir) == 'block_overlap'


def test_two_blocks_at_one_place(tmpdir):
    data = make().build()
    assert refusal_of(edit_bat(data, {2: read_bat(data)[0]}), tmpdir) == 'block_overlap'


def test_a_block_over_the_footer(tmpdir):
    """Without the footer it would be a block of a file whose footer is missing."""
    data = edit_bat(make().build(), {3: read_bat(make().build())[3] + 1})
    assert refusal_of(data, tmpdir) == 'block_outside'
    decoding.decode(data[:-512] + b'x' * 512, decoding.Remembering())


@pytest.mark.parametrize('offset', [0, 512, 1024, 1536, 2048, 2049])
def test_a_batmap_over_another_table(offset, tmpdir):
    """blktap would write it there."""
    foreign = make()
    data = bytearray(foreign.build())
    header = foreign._places['batmap header']
    batmap = vhd.Batmap.parse(bytes(data[header:header + 512]))
    batmap.offset = offset
    data[header:header + 512] = batmap.pack()
    assert refusal_of(bytes(data), tmpdir) == 'metadata_overlap'


@pytest.mark.parametrize('part', ['batmap header', 'batmap'])
def test_a_block_over_the_batmap(part, tmpdir):
    foreign = make()
    data = foreign.build()
    place = foreign._places[part] // 512
    assert refusal_of(edit_bat(data, {2: place - 4096 if place > 4096 else place}), tmpdir) in ('block_over_metadata', 'block_overlap')


@pytest.mark.parametrize('cut', [513, 1024, 4096, 2 * MIB, 4 * MIB])
def test_a_file_that_is_cut_short(cut, tmpdir):
    assert refusal_of(make().build()[:-cut], tmpdir) == 'block_outside'


@pytest.mark.parametrize('length, rule', [(0, 'no_footer'), (1, 'no_footer'), (510, 'no_footer'), (512, 'cut_short'), (513, 'cut_short'),
                                          (1535, 'cut_short'), (1536, 'cut_short'), (1551, 'cut_short')])
def test_a_file_that_ends_in_its_tables(length, rule, tmpdir):
    assert refusal_of(make().build()[:length], tmpdir) == rule


@pytest.mark.parametrize('name, value', [('disk_type', 4), ('current_size', 6 * MIB), ('data_offset', 1024), ('creator', b'tap\0')])
@pytest.mark.parametrize('is_end', [True, False])
def test_footers_that_contradict_each_other(is_end, name, value, tmpdir):
    data = bytearray(make(creator=b'qemu', has_batmap=False).build())
    other = vhd.Footer.parse(bytes(data[:512]))
    setattr(other, name, value)
    data[-512 if is_end else 0:len(data) if is_end else 512] = other.seal()
    rules = ['footers_differ'] if is_end else ['footers_differ', 'header', 'cut_short']
    assert refusal_of(bytes(data), tmpdir) in rules


def test_footers_of_two_versions_of_a_writer(tmpdir):
    data = bytearray(make(creator=b'qemu', has_batmap=False).build())
    other = vhd.Footer.parse(bytes(data[:512]))
    other.creator, other.creator_version, other.timestamp = b'qem2', 7, 12345
    data[-512:] = other.seal()
    assert decoding.encode(bytes(data), tmpdir) == decoding.encode(make().build(), tmpdir)


def test_an_intact_footer_of_another_version_behind_a_sound_copy(tmpdir):
    data = bytearray(make().build())
    other = vhd.Footer.parse(bytes(data[:512]))
    other.version = 0x00020000
    data[-512:] = other.seal()
    assert refusal_of(bytes(data), tmpdir) == 'footer_version'


def test_no_intact_footer(tmpdir):
    data = make(patches=[(80, b'?'), (-432, b'?')]).build()
    assert refusal_of(data, tmpdir) == 'no_footer'
    assert refusal_of(b'\0' * 4096, tmpdir) == refusal_of(b'QFI\xfb' * 4096, tmpdir) == 'no_footer'


@pytest.mark.parametrize('creator, version', [(b'tap\0', 0x00010003), (b'tapx', 0x00010002), (b'tap\0', 0x00010001), (b'tapz', 0x00020000)])
@pytest.mark.parametrize('parts', [['header', 'bat', 'batmap', 'blocks'], ['header', 'bat', 'blocks', 'batmap'],
                                   ['batmap', 'header', 'bat', 'blocks'], ['blocks', 'header', 'bat', 'batmap']])
def test_a_batmap_that_says_more_than_the_bitmaps(parts, creator, version, tmpdir):
    foreign = make(parts=parts, creator=creator, creator_version=version)
    bits = bytearray(512)
    bits[0] = 0xff
    data = bytearray(foreign.build())
    header, place = foreign._places['batmap header'], foreign._places['batmap']
    batmap = vhd.Batmap.parse(bytes(data[header:header + 512]))
    batmap.checksum = vhd.compute_checksum(bits)
    data[header:header + 512], data[place:place + 512] = batmap.pack(), bits
    assert refusal_of(bytes(data), tmpdir) == 'batmap'
    # Nobody believes it with a wrong checksum, or in another writer's file.
    data[header + 24] ^= 1
    sink = decoding.Remembering()
    decoding.decode(bytes(data), sink, directory=tmpdir)
    assert sink.sectors == foreign.guest.sectors


def test_the_block_that_a_batmap_is_wrong_about(tmpdir):
    foreign = make()
    foreign.guest = Guest(22 * MIB, kinds=['free'] * 9 + ['full', 'few'])
    foreign.order = sorted(foreign.guest.allocated)
    data = bytearray(foreign.build())
    header, place = foreign._places['batmap header'], foreign._places['batmap']
    # Of the blocks that are not there it may say anything.
    for bits, is_refused in ((b'\xff\x40', False), (b'\xff\x60', True), (b'\xff\x9f', False), (b'\0\x20', True)):
        batmap = vhd.Batmap.parse(bytes(data[header:header + 512]))
        data[place:place + 2] = bits
        batmap.checksum = vhd.compute_checksum(data[place:place + 512])
        data[header:header + 512] = batmap.pack()
        if is_refused:
            assert refusal_of(bytes(data), tmpdir) == 'batmap'
        else:
            decoding.decode(bytes(data), decoding.Remembering())


def test_a_batmap_in_another_writers_file_is_not_read(tmpdir):
    foreign = make(creator=b'win ')
    data = bytearray(foreign.build())
    data[foreign._places['batmap']] = 0xff
    header = foreign._places['batmap header']
    batmap = vhd.Batmap.parse(bytes(data[header:header + 512]))
    batmap.checksum = vhd.compute_checksum(b'\xff' + b'\0' * 511)
    data[header:header + 512] = batmap.pack()
    sink = decoding.Remembering()
    decoding.decode(bytes(data), sink)
    assert sink.sectors == foreign.guest.sectors


def test_a_file_with_more_bytes_than_its_disk_can_need(tmpdir):
    data = make().build()
    sink = decoding.Remembering()
    decoder = vhd_decoder.Decoder(sink, None, 1 << 40)
    with pytest.raises(errors.UnsafeImage) as caught:
        decoder.write(memoryview(data))
    assert caught.value.rule == 'file_size' and sink.disk is None
    decoder = vhd_decoder.Decoder(decoding.Remembering(), None)
    decoder.write(memoryview(data))
    more = memoryview(b'\0' * 32 * MIB)
    with pytest.raises(errors.UnsafeImage) as caught:
        for _ in range(4):
            decoder.write(more)
    assert caught.value.rule == 'file_size'


@pytest.mark.parametrize('rule, data', [
    ('fixed_size', pack_fixed(b'd' * 4096, current_size=8192)), ('fixed_size', pack_fixed(b'd' * 4096, current_size=512)),
    ('no_footer', pack_fixed(b'd' * 4096)[:-1] + b'x'), ('no_footer', pack_fixed(b'd' * 4096)[512:-512]), ('no_footer', pack_fixed(b'')[:100]),
    ('footers_differ', pack_fixed(b'd' * 4096, disk_type=vhd.DYNAMIC)), ('footer_version', pack_fixed(b'd' * 4096, version=0x20000))])
def test_a_fixed_disk_that_cannot_be_right(rule, data, tmpdir):
    assert refusal_of(data, tmpdir) == rule


# What is no reason to refuse


@pytest.mark.parametrize('footer', [
    {'features': 0xffffffff}, {'timestamp': 0xffffffff}, {'saved_state': 1}, {'hidden': 0xc7}, {'cylinders': 65535, 'heads': 255},
    {'original_size': 5}, {'uuid_bytes': vhd.NULL_UUID}, {'reserved': b'?' * 426}, {'version': 0x00010007},
    {'creator_version': 0x00020000, 'creator': b'tap\0'}, {'creator_host': b'????'}])
def test_a_footer_with_other_fields(footer, tmpdir):
    foreign = make(footer=footer)
    sink = decoding.Remembering()
    decoding.decode(foreign.build(), sink)
    assert sink.sectors == foreign.guest.sectors
    assert decoding.encode(foreign.build(), tmpdir) == decoding.encode(make().build(), tmpdir)


@pytest.mark.parametrize('end, backup', [('missing', 'footer'), ('short', 'footer'), ('damaged', 'footer'), ('footer', 'damaged'),
                                         ('other uuid', 'footer'), ('short', 'damaged')])
@pytest.mark.parametrize('size_is_known', [True, False])
def test_one_footer_is_enough(size_is_known, end, backup, tmpdir):
    foreign = make(end=end, backup=backup)
    data = foreign.build()
    sink = decoding.Remembering()
    image, has_spooled = decoding.decode(data, sink, directory=tmpdir, size_bytes=len(data) if size_is_known else 0)
    assert sink.sectors == foreign.guest.sectors
    assert has_spooled == (backup == 'damaged')
    assert image.uuid == (UUID if end != 'other uuid' else vhd.format_uuid(b'o' * 16))


@pytest.mark.parametrize('parts, has_spooled', [
    (['header', 'bat', 'batmap', 'blocks'], False), (['bat', 'header', 'batmap', 'blocks'], False), (['batmap', 'bat', 'header', 'blocks'], False),
    (['header', 'bat', 'blocks', 'batmap'], False), (['header', 'blocks', 'bat', 'batmap'], True), (['blocks', 'bat', 'header', 'batmap'], True),
    (['bat', 'blocks', 'header', 'batmap'], True)])
def test_a_second_look_only_where_tables_are_behind_blocks(parts, has_spooled, tmpdir):
    foreign = make(parts=parts)
    sink = decoding.Remembering()
    assert decoding.decode(foreign.build(), sink, directory=tmpdir)[1] == has_spooled
    assert sink.sectors == foreign.guest.sectors


@pytest.mark.parametrize('block_bytes', [512 * KIB, MIB, 2 * MIB, 4 * MIB, 32 * MIB])
@pytest.mark.parametrize('size', [8 * MIB, 5 * MIB + 512, 300 * KIB])
def test_blocks_of_other_sizes(size, block_bytes, tmpdir):
    for seed in range(3):
        guest = Guest(size, block_bytes, seed=seed)
        data = Foreign(guest, seed=0).build()
        sink = decoding.Remembering()
        decoding.decode(data, sink, piece_bytes=10007)
        assert sink.sectors == guest.sectors
        ours = decoding.encode(data, tmpdir)
        allocated = set(offset // (2 * MIB) for start, length in guest.extents for offset in range(start, start + length, 512))
        assert decoding.read_plainly(ours)[1:] == (guest.sectors, allocated)


def test_the_last_block_may_end_with_the_disk(tmpdir):
    guest = Guest(4 * MIB + 1024, seed=7)
    guest.allocated.add(2)
    guest.sectors[8193] = b'e' * 512
    data = Foreign(guest).build()
    cut = data[:-512 - 2 * MIB + 1024]
    for footer in (b'', data[-512:]):
        for decode in (decoding.decode, decoding.decode_file):
            sink = decoding.Remembering()
            decode(cut + footer, sink, directory=tmpdir)
            assert sink.sectors == guest.sectors
    assert refusal_of(cut[:-512], tmpdir) == 'block_outside'


@pytest.mark.parametrize('length', [1552, 1922, 2048, 2049])
def test_a_file_that_ends_where_its_batmap_should_be(length, tmpdir):
    """blktap cannot open it; there is nothing else wrong with it."""
    foreign = Foreign(Guest(8 * MIB, kinds=['free'] * 4))
    for decode in (decoding.decode, decoding.decode_file):
        sink = decoding.Remembering()
        decode(foreign.build()[:length], sink, directory=tmpdir)
        assert sink.is_finished and not sink.sectors


def test_what_spare_slots_of_the_bat_say_does_not_matter(tmpdir):
    for value in (0, 1, 4, 5000, 0xfffffffe, vhd.UNUSED_ENTRY):
        foreign = make(spare_entries=300, spare_value=value)
        assert decoding.encode(foreign.build(), tmpdir) == decoding.encode(make().build(), tmpdir)


@pytest.mark.parametrize('size_is_known', [True, False])
@pytest.mark.parametrize('is_short', [True, False])
@pytest.mark.parametrize('content', [b'd' * 4096, b'\0' * 4096 + b'e' * 512, pack_fixed(b'')[:512] * 5, b'cxsparse' * 512])
def test_a_fixed_disk(content, is_short, size_is_known, tmpdir):
    data = pack_fixed(content, reserved=b'\0' * 426)[:-1 if is_short else None]
    for decode, options in ((decoding.decode, {'size_bytes': len(data) if size_is_known else 0}), (decoding.decode_file, {})):
        sink = decoding.Remembering()
        decode(data, sink, directory=tmpdir, **options)
        assert (sink.disk.size_bytes, sink.disk.is_child, sink.extents, sink.is_finished) == (len(content), False, None, True)
        assert b''.join(sink.sectors[offset] for offset in sorted(sink.sectors)) == content


def test_a_fixed_disk_becomes_a_dynamic_one(tmpdir):
    content = bytearray(5 * MIB)
    content[4 * MIB + 3] = 1
    ours = decoding.encode(pack_fixed(bytes(content)), tmpdir)
    assert decoding.read_plainly(ours) == (6 * MIB, dict(
        (sector, bytes(content[512 * sector:512 * sector + 512])) for sector in range(8192, 10240)), set([2]))


def test_the_parent_that_a_child_names():
    image, _ = decoding.decode(make(is_child=True).build(), decoding.Remembering())
    assert (image.is_child, image.uuid, image.parent_uuid, image.parent_name) == (True, UUID, PARENT_UUID, PARENT_NAME)
    image, _ = decoding.decode(make(header={'parent_uuid_bytes': b'p' * 16}).build(), decoding.Remembering())
    assert (image.is_child, image.parent_uuid, image.parent_name) == (False, None, None)


@pytest.mark.parametrize('piece_bytes', [1, 17, 512, 513, 65536, MIB])
def test_the_pieces_of_the_stream_do_not_matter(piece_bytes, tmpdir):
    guest = Guest(300 * KIB + 512, 512 * KIB, kinds=['runs'])
    data = Foreign(guest).build()
    sink = decoding.Remembering()
    decoding.decode(data, sink, piece_bytes)
    assert sink.sectors == guest.sectors
    assert decoding.encode(data, tmpdir, piece_bytes=piece_bytes) == decoding.encode(data, tmpdir)


def test_a_file_that_becomes_shorter(tmpdir):
    path = os.path.join(str(tmpdir), 'foreign')
    with open(path, 'wb') as foreign:
        foreign.write(make().build())
    fd = os.open(path, os.O_RDWR)
    try:
        os.ftruncate(fd, MIB)
        with pytest.raises(errors.InvalidImage):
            vhd_decoder.decode_file(fd, decoding.Remembering(), 6 * MIB)
    finally:
        os.close(fd)


# Memory and time

FULL_DISK = """
import struct, sys
sys.path.insert(0, {checkout!r})
from dom0_lib.disks import vhd
from dom0_lib.formats import vhd_decoder, vhd_encoder
from dom0_lib.system import sparse_file
block_bytes, path = int(sys.argv[1]), sys.argv[2]
footer = vhd.Footer()
footer.set_size(2040 * 1024 ** 3 if block_bytes == 2 << 20 else 2093050 << 20)
header = vhd.Header()
header.block_size = block_bytes
entries = header.max_bat_entries = -(-footer.current_size // block_bytes)
length = (block_bytes + header.bitmap_size) // 512
first = (header.bat_end + 512) // 512
footer.creator = b'qem2'
used = min(entries, (0xfffffffe - first) // length)
target = sparse_file.PlacedFile(path, lambda size: None)
encoder = vhd_encoder.Encoder(target)
decoder = vhd_decoder.Decoder(encoder, None)
decoder.write(memoryview(footer.seal()))
decoder.write(memoryview(header.seal()))
step = 1 << 16
for start in range(0, entries, step):
    end = min(start + step, entries)
    places = [first + length * block if block < used else 0xffffffff for block in range(start, end)]
    decoder.write(memoryview(struct.pack('>%dI' % len(places), *places)))
decoder.write(memoryview(b'\\0' * (1 << 20)))
encoder.finish()
# Not ru_maxrss, which begins with that of the process that started this one.
print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])
"""


@pytest.mark.parametrize('block_bytes', [2 * MIB, 512 * KIB])
def test_the_tables_of_the_largest_disks_fit_in_64_mib(block_bytes, tmpdir):
    script = FULL_DISK.format(checkout=conftest.CHECKOUT)
    output = subprocess.check_output([sys.executable, '-B', '-c', script, str(block_bytes), os.path.join(str(tmpdir), 'ours')])
    assert 8 < int(output) / 1024 <= 64


def test_the_spool_is_the_callers(tmpdir):
    """Its data are on the disk alone, and zeros of them not even there."""
    foreign = make(backup='damaged')
    spool = sparse_file.PlacedFile(os.path.join(str(tmpdir), 'spool'), lambda size: None)
    try:
        decoder = vhd_decoder.Decoder(decoding.Remembering(), lambda: spool)
        decoder.write(memoryview(foreign.build()))
        decoder.finish()
        assert os.fstat(spool.fd).st_blocks * 512 < 5 * MIB
    finally:
        spool.close()
