# SPDX-License-Identifier: Apache-2.0
"""Inflating what may be gzip or not, in pieces of any size; zlib and the gzip module are the judges."""

from __future__ import absolute_import, division

import gzip
import io
import os
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dom0_lib import errors
from dom0_lib.images import gzip_stream

READ_SIZES = (1, 17, 511, 512, 513, 65536)
MAX_OUTPUT_BYTES = 1 << 20
TEXT = b'what a guest has on its disk; ' * 300
NOISE = os.urandom(3000)


def compress(data, name=''):
    """One gzip member as the gzip program makes it, with a file name and a time in its header."""
    target = io.BytesIO()
    with gzip.GzipFile(name, 'wb', 6, target) as member:
        member.write(data)
    return target.getvalue()


def inflate(data, step=65536):
    """Feed `data` in pieces of `step` bytes."""
    inflater = gzip_stream.Inflater()
    pieces = []
    for start in range(0, len(data), step):
        pieces.extend(inflater.feed(data[start:start + step]))
    inflater.finish()
    assert all(0 < len(piece) <= MAX_OUTPUT_BYTES for piece in pieces)
    return b''.join(pieces)


def failure_of(data, step):
    with pytest.raises(errors.InvalidImage) as caught:
        inflate(data, step)
    assert type(caught.value) is errors.InvalidImage
    return str(caught.value)


@pytest.mark.parametrize('step', READ_SIZES)
@pytest.mark.parametrize('data, inflated', [
    (compress(TEXT), TEXT),
    (compress(b''), b''),
    (compress(NOISE, 'disk.tar'), NOISE),
    (compress(TEXT) + compress(NOISE) + compress(b'') + compress(b'end'), TEXT + NOISE + b'end'),
    (compress(TEXT) + b'\0', TEXT),
    (compress(TEXT) + b'\0' * 10240, TEXT),
    (compress(TEXT) + b'\0' * 700 + compress(TEXT), TEXT + TEXT),
    (TEXT, TEXT),
    (NOISE, NOISE),
    (b'\x1e\x8b' + NOISE, b'\x1e\x8b' + NOISE),
    (b'\x1f\x8c' + NOISE, b'\x1f\x8c' + NOISE),
    (b'\x1f', None),
    (b'', b''),
    (b'\0' * 2000, b'\0' * 2000),
], ids=['text', 'nothing', 'noise', 'members', 'one zero', 'padding', 'padding within', 'plain text', 'plain noise', 'almost 1',
        'almost 2', 'half a magic number', 'empty', 'zeros'])
def test_streams(data, inflated, step):
    if inflated is None:
        assert failure_of(data, step) == 'the gzip data of the image is cut short'
    else:
        assert inflate(data, step) == inflated


def test_the_output_comes_in_bounded_pieces():
    """A piece of 30 KiB can hold 30 MiB: they must not be in memory at once."""
    zeros = compress(b'\0' * (30 << 20))
    inflater = gzip_stream.Inflater()
    longest = total = 0
    for piece in inflater.feed(zeros):
        longest = max(longest, len(piece))
        total += len(piece)
    inflater.finish()
    assert (longest, total) == (MAX_OUTPUT_BYTES, 30 << 20)


@pytest.mark.parametrize('size', [MAX_OUTPUT_BYTES - 1, MAX_OUTPUT_BYTES, MAX_OUTPUT_BYTES + 1, 3 * MAX_OUTPUT_BYTES])
def test_an_end_at_the_limit_of_a_piece(size):
    for step in (17, 65536):
        assert inflate(compress(b'\0' * size), step) == b'\0' * size


@pytest.mark.parametrize('step', READ_SIZES)
def test_every_truncation_is_noticed(step):
    data = compress(TEXT) + compress(b'')
    boundary = len(compress(TEXT))
    for length in range(1, len(data)):
        if length != boundary:
            assert failure_of(data[:length], step) == 'the gzip data of the image is cut short'


@pytest.mark.parametrize('step', READ_SIZES)
@pytest.mark.parametrize('data, fragment', [
    (compress(TEXT)[:-8] + b'\0\0\0\0' + compress(TEXT)[-4:], 'is damaged'),
    (compress(TEXT)[:-4] + b'\0\0\0\0', 'is damaged'),
    (b'\x1f\x8b\x07' + compress(TEXT)[3:], 'is damaged'),
    (compress(TEXT) + b'x', 'has other data after the end of its gzip data'),
    (compress(TEXT) + b'\0' * 600 + b'x', 'has other data after the end of its gzip data'),
    (compress(TEXT) + TEXT, 'has other data after the end of its gzip data'),
    (compress(TEXT) + b'\x1f', 'is cut short'),
    (compress(TEXT) + b'\x1f\x8b', 'is cut short'),
], ids=['checksum', 'length', 'method', 'one byte', 'a byte after padding', 'plain', 'half magic', 'magic'])
def test_damage(data, fragment, step):
    assert fragment in failure_of(data, step)


def test_every_byte_counts():
    """Whatever byte is turned, the result is either an error or, in the header's name and time, the same data."""
    data = compress(TEXT, 'name')
    unchecked = set(range(3, 20))  # flags, time, level, system, name
    for place in range(len(data)):
        damaged = data[:place] + bytes(bytearray([ord(data[place:place + 1]) ^ 0xff])) + data[place + 1:]
        try:
            assert inflate(damaged) == (TEXT if place in unchecked else damaged)
        except errors.InvalidImage:
            pass


@given(members=st.lists(st.binary(max_size=400), min_size=1, max_size=4), padding=st.integers(0, 600), step=st.integers(1, 300))
def test_members_split_anywhere(members, padding, step):
    data = b''.join(compress(member) + b'\0' * padding for member in members)
    assert inflate(data, step) == b''.join(members)


@given(data=st.binary(min_size=1, max_size=600), step=st.integers(1, 300))
def test_any_bytes_are_data_or_an_error(data, step):
    try:
        assert inflate(data, step) == data
        assert not data.startswith(b'\x1f\x8b')
    except errors.InvalidImage:
        assert data.startswith(b'\x1f')


# Deflating

def deflate(deflater, pieces):
    return deflater.header + b''.join(map(deflater.deflate, deflater.split(pieces))) + deflater.trailer()


@pytest.mark.parametrize('level', [1, 6, 9])
@pytest.mark.parametrize('sizes', [
    [], [0], [1], [gzip_stream.BLOCK_BYTES - 1, 1, 5], [gzip_stream.BLOCK_BYTES + 1], [3 * gzip_stream.BLOCK_BYTES], [1000] * 2000])
def test_what_is_deflated_in_blocks_is_ordinary_gzip(level, sizes):
    data = (NOISE + TEXT) * 200
    pieces, start = [], 0
    for size in sizes:
        pieces.append(data[start:start + size])
        start += size
    compressed = deflate(gzip_stream.Deflater(level), pieces)
    expected = b''.join(pieces)
    assert zlib.decompress(compressed, 31) == expected
    assert gzip.GzipFile(fileobj=io.BytesIO(compressed)).read() == expected
    assert inflate(compressed) == expected


@pytest.mark.parametrize('size_bytes, stated', [
    ((4 << 30) - 1, (4 << 30) - 1), (4 << 30, 0), ((4 << 30) + 1, 1), ((9 << 30) + 7, (1 << 30) + 7)])
def test_the_length_of_4_gib_and_more_is_stated_modulo_4_gib(size_bytes, stated):
    deflater = gzip_stream.Deflater(1)
    deflater._size_bytes = size_bytes - len(TEXT)  # as if so much had been split off: the data would take half a minute
    assert list(deflater.split([TEXT])) == [TEXT]
    assert deflater.trailer()[-8:] == struct.pack('<II', zlib.crc32(TEXT) & 0xffffffff, stated)


def test_blocks_are_of_one_size_but_the_last():
    deflater = gzip_stream.Deflater(6)
    sizes = [len(block) for block in deflater.split([b'x' * 300000] * 5)]
    assert sizes == [gzip_stream.BLOCK_BYTES] * 2 + [5 * 300000 - 2 * gzip_stream.BLOCK_BYTES]


def test_a_block_is_inflated_without_those_before_it():
    deflater = gzip_stream.Deflater(6)
    blocks = list(deflater.split([TEXT * 200]))
    assert len(blocks) > 2
    for block in blocks:
        assert zlib.decompressobj(-15).decompress(deflater.deflate(block)) == block


def test_the_same_data_make_the_same_bytes():
    assert deflate(gzip_stream.Deflater(6), [TEXT]) == deflate(gzip_stream.Deflater(6), [TEXT[:10], TEXT[10:]])
