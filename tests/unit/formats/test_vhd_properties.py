# SPDX-License-Identifier: Apache-2.0
"""Any layout of a disk becomes the same file; and no bytes do anything but become such a file or be refused."""

from __future__ import absolute_import, division

import os
import random
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies

from dom0_lib import errors
from tests.unit.formats import decoding
from tests.unit.formats.foreign_vhd import KIB, MIB, Foreign, Guest

SEEDS = strategies.integers(min_value=1, max_value=1 << 30)
GUESTS = strategies.builds(
    Guest, strategies.sampled_from([512, 700 * KIB, 2 * MIB, 3 * MIB + 512, 5 * MIB]),
    strategies.sampled_from([512 * KIB, MIB, 2 * MIB]), strategies.booleans(), SEEDS)
PIECES = strategies.sampled_from([4093, 65536, 100003, MIB])
few = settings(max_examples=10, suppress_health_check=list(
    getattr(HealthCheck, name) for name in ('too_slow', 'function_scoped_fixture', 'data_too_large') if hasattr(HealthCheck, name)))


@few
@given(guest=GUESTS, seed=SEEDS, piece_bytes=PIECES)
def test_any_layout_gives_the_sectors_of_the_guest(guest, seed, piece_bytes, tmpdir):
    data = Foreign(guest, seed).build()
    streamed, read = decoding.Remembering(), decoding.Remembering()
    decoding.decode(data, streamed, piece_bytes, tmpdir, size_bytes=seed % 2 and len(data))
    decoding.decode_file(data, read, tmpdir)
    for sink in (streamed, read):
        assert sink.sectors == guest.sectors
        assert set(sink.extents) == set(read.extents)
        assert (sink.disk.size_bytes, sink.disk.is_child) == (guest.size_bytes, guest.is_child)
    assert sum(length for _, length in read.extents) == sum(length for _, length in guest.extents)


@few
@given(guest=GUESTS, seed=SEEDS, other_seed=SEEDS, piece_bytes=PIECES)
def test_two_files_of_a_disk_become_the_same_bytes(guest, seed, other_seed, piece_bytes, tmpdir):
    ours = decoding.encode(Foreign(guest, seed).build(), tmpdir)
    assert ours == decoding.encode(Foreign(guest, other_seed).build(), tmpdir, piece_bytes=piece_bytes)
    _, sectors, allocated = decoding.read_plainly(ours)
    assert sectors == guest.sectors
    assert allocated == set(offset // (2 * MIB) for offset, _ in guest.extents)


@few
@given(guest=GUESTS, seed=SEEDS, piece_bytes=PIECES)
def test_our_file_becomes_itself(guest, seed, piece_bytes, tmpdir):
    with decoding.Written(tmpdir) as written:
        decoding.decode(Foreign(guest, seed).build(), written.encoder, directory=tmpdir)
        ours = written.seal()
        assert decoding.prove(written.path) is None
        with decoding.Written(tmpdir, 'again') as again:
            image, has_spooled = decoding.decode(ours, again.encoder, piece_bytes)
            assert again.seal() == ours
            assert not has_spooled
    assert image.uuid == decoding.OUR_UUID
    assert (image.parent_uuid, image.parent_name) == (tuple(decoding.PARENT) if guest.is_child else (None, None))


def mutate(data, seed):
    """The file with some bytes changed, most of them in its tables, or with its end elsewhere."""
    chance = random.Random(seed)
    result = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 5])):
        place = chance.choice([chance.randrange(512), chance.randrange(4096), chance.randrange(len(result)), len(result) - 1 - chance.randrange(512)])
        change = bytearray(chance.choice([b'\0', b'\xff', b'\xff' * 4, b'\0' * 4, b'\x7f', b'\1', b'tap', b'\0\0\0\4', result[place:place + 1] * 9]))
        result[place % len(result):place % len(result) + len(change)] = change
    if chance.random() < 0.2:
        del result[chance.randrange(len(result)):]
    if chance.random() < 0.6:
        reseal(result)
    return bytes(result)


def reseal(result):
    """Right checksums of what was changed, so that more of it is looked at."""
    from dom0_lib.disks import vhd
    if len(result) > 2048:
        footer = vhd.Footer.parse(bytes(result[:512]))
        footer.cookie = vhd.FOOTER_COOKIE
        result[:512] = footer.seal()
        end = bytes(result[-512:])
        if end[:4] == b'cone':
            result[-512:] = vhd.Footer.parse(end).seal()
        place = footer.data_offset
        if place + 1024 <= len(result):
            header = vhd.Header.parse(bytes(result[place:place + 1024]))
            result[place:place + 1024] = header.seal()


@settings(few, max_examples=60)
@given(seed=SEEDS, piece_bytes=PIECES)
def test_changed_bytes_are_refused_or_become_one_of_our_files(seed, piece_bytes, tmpdir):
    foreign = Foreign(Guest(3 * MIB, MIB, bool(seed % 2), seed, ['few', 'full', 'runs']), seed % 5)
    data = mutate(foreign.build(), seed)
    outcomes = []
    for decode in (lambda sink: decoding.decode(data, sink, piece_bytes, tmpdir), lambda sink: decoding.decode_file(data, sink, tmpdir)):
        with decoding.Written(tmpdir) as written:
            try:
                decode(written.encoder)
            except errors.InvalidImage as error:
                assert error.rule
                outcomes.append('refused')
                continue
            outcomes.append(written.seal())
            assert decoding.prove(written.path) is None
    # A file may be read where a stream cannot: a copy of the footer that looks like nothing. Never the other way, never otherwise.
    assert outcomes[0] in ('refused', outcomes[1])


@few
@given(guest=GUESTS, seed=SEEDS)
@pytest.mark.skipif(sys.version_info < (3, 8), reason='not applicable: the harness runs on 3.8 and later')
def test_another_reader_finds_the_same(guest, seed, tmpdir):
    """tests/harness/vhd/vhd_reader.py, which is held to the corpus of vhd-util's files: what it reads of theirs and of ours."""
    from tests.harness.vhd import vhd_reader
    guest = Guest(guest.size_bytes, is_child=False, seed=seed)
    foreign = Foreign(guest, seed)
    foreign.footer.pop('hidden', None)
    theirs, ours = os.path.join(str(tmpdir), 'theirs'), os.path.join(str(tmpdir), 'converted')
    for path, data in ((theirs, foreign.build()), (ours, decoding.encode(foreign.build(), tmpdir))):
        with open(path, 'wb') as written:
            written.write(data)
    content = []
    for path in (theirs, ours):
        with vhd_reader.open_chain(path) as chain:
            content.append(dict((offset, bytes(data)) for offset, data in chain.extents() if bytes(data).strip(b'\0')))
    for offset, data in content[0].items():
        assert content[1].pop(offset)[:len(data)] == data
    assert not content[1]
