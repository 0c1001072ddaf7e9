# SPDX-License-Identifier: Apache-2.0
"""Blocks deflated by either way are the same to a reader, and threads do not wait for each other."""

from __future__ import absolute_import, division

import binascii
import os
import threading
import time
import zlib

import pytest

from dom0_lib.images import block_deflate

FULL_FLUSH = b'\0\0\xff\xff'
WAYS = {'module': block_deflate.deflate_with_module, 'library': block_deflate._Library().deflate}


@pytest.fixture(params=sorted(WAYS))
def deflate(request):
    return WAYS[request.param]


@pytest.mark.parametrize('level', [1, 6, 9])
@pytest.mark.parametrize('block', [
    b'x', b'\0' * 524288, os.urandom(524288), os.urandom(1), binascii.hexlify(os.urandom(200000)), b'ab' * 50000 + os.urandom(7),
], ids=['one', 'zeros', 'random', 'random byte', 'hex', 'mixed'])
def test_a_block_stands_alone(deflate, block, level):
    deflated = deflate(block, level)
    assert deflated.endswith(FULL_FLUSH)
    assert zlib.decompressobj(-15).decompress(deflated) == block
    twice = zlib.decompressobj(-15).decompress(deflated + deflate(block[::-1], level))
    assert twice == block + block[::-1]


def test_the_level_counts():
    text = binascii.hexlify(os.urandom(50000)) * 4
    for deflate in WAYS.values():
        assert len(deflate(text, 9)) < len(deflate(text, 1))


def test_threads_do_not_wait_for_each_other():
    deflate = block_deflate.choose()
    slow = binascii.hexlify(os.urandom(8 << 20))
    thread = threading.Thread(target=deflate, args=(slow, 9))
    thread.start()
    time.sleep(0.05)  # it has begun, and takes a second or more
    assert zlib.decompressobj(-15).decompress(deflate(b'quick', 9)) == b'quick'
    assert thread.is_alive()
    thread.join()


def test_an_impossible_level_is_an_error():
    with pytest.raises(MemoryError):
        block_deflate._Library().deflate(b'x', 77)
