# SPDX-License-Identifier: Apache-2.0
"""Disks that the writer makes: qemu-img reads single ones alike, and the reader reads what a model in memory has."""

import hashlib
import random
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies

from dom0_lib.disks import vhd
from dom0_lib.formats import vhd_decoder
from tests.harness.vhd import vhd_reader
from tests.harness.vhd import vhd_writer
from tests.harness.vhd_util import vhd_util

MIB = 1024 * 1024
SECTOR = vhd.SECTOR_SIZE
_DEADLINE_S = 60


def read_with_qemu(path, raw_path):
    """The guest's bytes as qemu-img has them."""
    subprocess.run(['qemu-img', 'convert', '-f', 'vpc', '-O', 'raw', str(path), str(raw_path)], check=True,
                   timeout=_DEADLINE_S)
    return raw_path.read_bytes()


def make_content(seed, size):
    """Noise with holes: whole blocks, sectors, and the end."""
    noise = random.Random(seed)
    content = bytearray(size)
    for _ in range(12):
        start = noise.randrange(size // SECTOR) * SECTOR
        piece = noise.getrandbits(8 * 3000).to_bytes(3000, 'big') * noise.choice([1, 100, 900])
        content[start:start + len(piece)] = piece[:size - start]
    return bytes(content)


class Nothing:
    """A sink that keeps nothing."""

    def begin(self, disk):
        pass

    def put(self, offset, size_bytes, data=None, present=None):
        pass

    def finish(self):
        pass


def expect_sound(path):
    """The library's decoder takes the disk."""
    with open(str(path), 'rb') as opened:
        vhd_decoder.decode_file(opened.fileno(), Nothing())


def read_batmap(path):
    """The batmap's header and the map's first byte; None where no header is."""
    with open(str(path), 'rb') as opened:
        place = vhd.read_metadata(opened).header.bat_end
        batmap = vhd.Batmap.parse(vhd.read_exactly(opened, place, vhd.BATMAP_HEADER_SIZE))
        return vhd.read_exactly(opened, batmap.offset, 1) if batmap.cookie == vhd.BATMAP_COOKIE else None


@pytest.mark.needs('qemu-img')
@pytest.mark.parametrize('write', [vhd_writer.write_dynamic, vhd_writer.write_fixed])
@pytest.mark.parametrize('size', [SECTOR * 17 * 4, 2 * MIB, 31 * MIB + SECTOR])
def test_qemu_reads_what_was_written(write, size, tmp_path):
    content = make_content(size, size)
    raw, disk = tmp_path / 'in.raw', tmp_path / 'disk.vhd'
    raw.write_bytes(content)
    write(str(disk), str(raw))
    expect_sound(disk)
    assert vhd_reader.digest(disk) == hashlib.sha256(content).hexdigest()
    assert read_with_qemu(disk, tmp_path / 'qemu.raw') == content


@pytest.mark.needs('qemu-img')
@pytest.mark.parametrize('subformat', ['dynamic', 'fixed'])
def test_reader_reads_what_qemu_writes(subformat, tmp_path):
    content = make_content(subformat, 9 * MIB)
    raw, disk = tmp_path / 'in.raw', tmp_path / 'disk.vhd'
    raw.write_bytes(content)
    subprocess.run(['qemu-img', 'convert', '-f', 'raw', '-O', 'vpc', '-o', 'subformat=' + subformat, str(raw), str(disk)],
                   check=True, timeout=_DEADLINE_S)
    expect_sound(disk)
    vhd_reader.copy_to(disk, str(tmp_path / 'out.raw'))
    seen = (tmp_path / 'out.raw').read_bytes()
    assert seen[:len(content)] == content
    assert not seen[len(content):].strip(b'\0')


def test_zeros_take_no_space(tmp_path):
    disk, raw = tmp_path / 'disk.vhd', tmp_path / 'out.raw'
    vhd_writer.write_dynamic(str(disk), bytes(6 * MIB) + b'end'.ljust(SECTOR, b'.') + bytes(6 * MIB))
    assert disk.stat().st_size < 3 * MIB
    vhd_reader.copy_to(disk, str(raw))
    assert raw.stat().st_size == 12 * MIB + SECTOR
    assert raw.stat().st_blocks * 512 <= 2 * MIB
    assert hashlib.sha256(raw.read_bytes()).hexdigest() == vhd_reader.digest(disk)


@pytest.mark.parametrize('options', [
    {'hidden': 1}, {'batmap': False}, {'max_size_bytes': 64 * MIB}, {'uuid_text': '121ee0da-b04f-4ce5-a522-9c8cfa55c316'},
    {'created_at': 1000000000}])
def test_options_change_the_metadata_alone(options, tmp_path):
    disk = tmp_path / 'disk.vhd'
    content = make_content(1, 5 * MIB)
    vhd_writer.write_dynamic(str(disk), content, **options)
    expect_sound(disk)
    assert vhd_reader.digest(disk) == hashlib.sha256(content).hexdigest()
    with open(str(disk), 'rb') as fileobj:
        metadata = vhd.read_metadata(fileobj)
    assert metadata.hidden == ('hidden' in options)
    assert (read_batmap(disk) is None) == ('batmap' in options)
    assert metadata.header.max_bat_entries == (32 if 'max_size_bytes' in options else 3)
    assert metadata.uuid == options.get('uuid_text', metadata.uuid)
    assert metadata.created_at == options.get('created_at', metadata.created_at)


def test_batmap_marks_full_blocks(tmp_path):
    disk = tmp_path / 'disk.vhd'
    vhd_writer.write_dynamic(str(disk), [(2 * MIB, b'a' * 2 * MIB), (4 * MIB, b'b' * MIB), (5 * MIB, b'c' * MIB),
                                         (6 * MIB, b'd' * (2 * MIB - SECTOR))], 16 * MIB)
    assert read_batmap(disk) == bytes([0b01100000])
    expect_sound(disk)


def test_partial_sectors_are_refused(tmp_path):
    with pytest.raises(ValueError):
        vhd_writer.write_dynamic(str(tmp_path / 'disk.vhd'), [(17, b'x' * SECTOR)], MIB)


_SIZE = 3 * vhd.BLOCK_SIZE + 5 * SECTOR
_RUNS = strategies.lists(
    strategies.tuples(
        # Around the edges of blocks, where mistakes live, and anywhere; in sectors.
        strategies.one_of(strategies.sampled_from([0, 4094, 4095, 4096, 8190, 8191, 8192, 12287, 12288, 12292]),
                          strategies.integers(0, _SIZE // SECTOR - 1)),
        strategies.sampled_from([1, 2, 7, 8, 4095, 4096, 5000])),
    max_size=5)


def make_changes(runs, size, number):
    """[(offset, bytes)] for runs of sectors, cut at the end of the disk; each with bytes of its own."""
    changes = []
    for index, (first, count) in enumerate(runs):
        end = min(first + count, size // SECTOR)
        if first < end:
            changes.append((first * SECTOR, bytes([1 + 16 * number + index]) * ((end - first) * SECTOR)))
    return changes


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(layers=strategies.lists(_RUNS, min_size=1, max_size=4), base_blocks=strategies.integers(1, 4))
def test_any_chain_reads_as_its_model(layers, base_blocks, tmp_path_factory):
    """Layers of random writes, over a base that may be smaller or larger than they are."""
    directory = tmp_path_factory.mktemp('chain')
    paths, content, below = [], bytearray(), None
    for number, runs in enumerate(layers):
        size = _SIZE if number else base_blocks * vhd.BLOCK_SIZE
        changes = make_changes(runs, size, number)
        path = str(directory / ('%d.vhd' % number))
        if number == 0:
            vhd_writer.write_dynamic(path, changes, size)
        else:
            vhd_writer.write_differencing(path, paths[0], changes, size)
        paths.insert(0, path)
        below, content = bytes(content), bytearray(content[:size].ljust(size, b'\0'))
        for offset, data in changes:
            content[offset:offset + len(data)] = data
        expect_sound(path)
    expected = hashlib.sha256(content).hexdigest()
    assert vhd_reader.digest(paths[0]) == vhd_reader.digest(paths) == expected
    with vhd_reader.open_chain(paths[0]) as chain:
        seen = bytearray(len(content))
        for offset, data in chain.extents():
            seen[offset:offset + len(data)] = data
    assert seen == content
    if len(layers) > 2 or len(layers) == 2 and len(below) == _SIZE:
        assert vhd_util.main(['vhd-util', 'coalesce', '-n', paths[0]]) == 0
        assert vhd_reader.digest(paths[1]) == expected
        expect_sound(paths[1])
