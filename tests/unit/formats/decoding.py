# SPDX-License-Identifier: Apache-2.0
"""What tests of formats share: a sink that remembers, a reader of VHDs that knows nothing of ours, ways to decode and encode."""

from __future__ import absolute_import, division

import json
import os
import struct
import subprocess

import pytest

from dom0_lib.disks import vhd
from dom0_lib.formats import canonical_vhd
from dom0_lib.formats import vhd_decoder
from dom0_lib.formats import vhd_encoder
from dom0_lib.formats import vhd_proof
from dom0_lib.system import sparse_file
from tests import conftest

SAMPLES = os.path.join(conftest.CHECKOUT, 'tests', 'data', 'canonical')
OUR_UUID = 'cccccccc-0000-4000-8000-000000000003'
PARENT = canonical_vhd.Parent('dddddddd-0000-4000-8000-000000000004', u'eeeeeeee-0000-4000-8000-000000000005.vhd')


class Remembering(object):
    """A sink that holds a decoder to the protocol; `sectors` are those that are present."""

    def __init__(self):
        self.disk = None
        self.extents = None
        self.sectors = {}
        self.is_finished = False

    def begin(self, disk):
        assert self.disk is None
        self.disk = disk
        self.extents = None if disk.extents is None else list(disk.extents)
        self._reached = 0
        for (start, size_bytes), following in zip(self.extents or [], (self.extents or [])[1:] + [(disk.size_bytes, 0)]):
            assert size_bytes > 0 and start + size_bytes <= following[0]

    def put(self, offset, size_bytes, data=None, present=None):
        assert size_bytes > 0 and offset + size_bytes <= self.disk.size_bytes and not self.is_finished
        data = b'\0' * size_bytes if data is None else data.tobytes()
        assert len(data) == size_bytes
        if self.extents is None:
            assert offset == self._reached and present is None
            self._reached = offset + size_bytes
            self.sectors[offset] = data
            return
        assert offset % 512 == 0 and size_bytes % 512 == 0
        assert any(start <= offset and offset + size_bytes <= start + length for start, length in self.extents)
        if present is not None:
            assert offset % 4096 == 0 and len(present) == -(-size_bytes // 4096)
            present = bytearray(present)
        for number in range(size_bytes // 512):
            if present is None or present[number // 8] & 0x80 >> number % 8:
                assert offset // 512 + number not in self.sectors
                self.sectors[offset // 512 + number] = data[512 * number:512 * number + 512]

    def finish(self):
        self.is_finished = True


def decode(data, sink, piece_bytes=65536, directory=None, size_bytes=None):
    """Stream the bytes of an image into a sink; returns what the image says, and whether a spool was needed."""
    spools = []

    def make_spool():
        spools.append(sparse_file.PlacedFile(os.path.join(str(directory), 'spool'), lambda size: None))
        return spools[0]

    decoder = vhd_decoder.Decoder(sink, make_spool, len(data) if size_bytes is None else size_bytes or None)
    view = memoryview(data)
    try:
        for start in range(0, len(view), piece_bytes):
            decoder.write(view[start:start + piece_bytes])
        decoder.finish()
    finally:
        for spool in spools:
            spool.close()
            os.unlink(os.path.join(str(directory), 'spool'))
    return decoder.image, bool(spools)


def decode_file(data, sink, directory):
    """The same of a file of these bytes, with holes."""
    path = os.path.join(str(directory), 'foreign')
    foreign = sparse_file.PlacedFile(path, lambda size: None)
    try:
        foreign.write_at(0, memoryview(data))
        foreign.set_length(len(data))
        return vhd_decoder.decode_file(foreign.fd, sink)
    finally:
        foreign.close()
        os.unlink(path)


class Written(object):
    """An Encoder with its file in a directory; `with` closes and removes that."""

    def __init__(self, directory, name='ours'):
        self.path = os.path.join(str(directory), name)
        self.file = sparse_file.PlacedFile(self.path, lambda size: None)
        self.encoder = vhd_encoder.Encoder(self.file)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.file.close()
        os.unlink(self.path)

    def seal(self, uuid=OUR_UUID, is_hidden=False):
        """The bytes of the VHD."""
        self.encoder.seal(uuid, PARENT if self.encoder.layout.is_child else None, is_hidden)
        return self.read()

    def read(self):
        with open(self.path, 'rb') as written:
            return written.read()


def encode(data, directory, **options):
    """The bytes of our VHD for those of a foreign one."""
    with Written(directory) as written:
        decode(data, written.encoder, directory=directory, **options)
        return written.seal()


def prove(path):
    """The first deviation of a file from our own VHDs."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return vhd_proof.find_deviation(fd)
    finally:
        os.close(fd)


def read_plainly(data):
    """(size, {sector: bytes}, allocated blocks) of a sound dynamic VHD with blocks of 2 MiB; as the specification has it."""
    size_bytes, = struct.unpack('>Q', data[48:56])
    header, = struct.unpack('>Q', data[16:24])
    table, _, entries = struct.unpack('>QII', data[header + 16:header + 32])
    sectors, allocated = {}, set()
    for block, entry in enumerate(struct.unpack('>%dI' % entries, data[table:table + 4 * entries])):
        if entry == 0xffffffff:
            continue
        allocated.add(block)
        bitmap = bytearray(data[512 * entry:512 * entry + 512])
        for number in range(4096):
            if bitmap[number // 8] >> 7 - number % 8 & 1:
                place = 512 * (entry + 1 + number)
                sectors[4096 * block + number] = data[place:place + 512]
    return size_bytes, sectors, allocated


def list_samples():
    with open(os.path.join(SAMPLES, 'INDEX.json')) as index:
        return json.load(index)['samples']


def read_sample(name):
    path = os.path.join(SAMPLES, name)
    try:
        import lzma
    except ImportError:
        try:
            return subprocess.check_output(['xz', '-dc', path])
        except OSError:
            pytest.skip('needs xz')
    with lzma.open(path) as sample:
        return sample.read()


def without_times(data):
    """The bytes of a sound VHD with all its times zero, as we write them."""
    result = bytearray(data)
    footer = vhd.Footer.parse(data)
    footer.timestamp = 0
    result[:512] = result[-512:] = footer.seal()
    header = vhd.Header.parse(data[512:1536])
    header.parent_timestamp = 0
    result[512:1536] = header.seal()
    return bytes(result)
