# SPDX-License-Identifier: Apache-2.0
"""Decoding the largest disk that there is: its time and memory are bounded, whatever its BAT says."""

import json
import os
import random
import struct
import subprocess

import pytest

from dom0_lib.disks import vhd
from dom0_lib.formats import canonical_vhd
from tests import conftest
from tests.calls import pythons
from tests import patience
from tests.harness.vhd import vhd_writer

_SIZE_BYTES = canonical_vhd.MAX_SIZE_BYTES
_BLOCKS = _SIZE_BYTES // vhd.BLOCK_SIZE
_STRIDE = (4096 + vhd.BLOCK_SIZE) // vhd.SECTOR_SIZE
# On an idle machine 6 s; vhd-util's check of a tenth of the blocks takes 28 s.
_MAX_S = patience.LIMIT_S
_MAX_RESIDENT_KIB = 64 * 1024

DECODE = """
import json, os, sys, time
sys.path.insert(0, sys.argv[1])
from dom0_lib import errors
from dom0_lib.formats import vhd_decoder

class Nothing(object):
    def begin(self, disk):
        assert len(list(disk.extents)) == 1
    def put(self, offset, size_bytes, data=None, present=None):
        raise AssertionError('the file has no data')
    def finish(self):
        pass

fd, rule, begun_at = os.open(sys.argv[2], os.O_RDONLY), None, time.time()
try:
    vhd_decoder.decode_file(fd, Nothing())
except errors.InvalidImage as error:
    rule = error.rule
seconds = time.time() - begun_at
with open('/proc/self/status') as status:
    resident_kib = [int(line.split()[1]) for line in status if line.startswith('VmHWM:')][0]
print(json.dumps([rule, seconds, resident_kib]))
"""


def _in_order(first):
    return (first + number * _STRIDE for number in range(_BLOCKS))


def _shuffled(first):
    entries = list(_in_order(first))
    random.Random(3).shuffle(entries)
    return entries


def _all_in_one_place(first):
    return [first + 5 * _STRIDE] * _BLOCKS


def _each_half_over_the_next(first):
    return (first + number * _STRIDE // 2 for number in range(_BLOCKS))


def _all_outside(first):
    return [0xfffffffe] * _BLOCKS




@pytest.mark.parametrize("python", pythons.EDGES, ids=pythons.version_of)
@pytest.mark.parametrize("place_blocks, expected", [
    (_in_order, None), (_shuffled, None), (_all_in_one_place, "block_overlap"), (_each_half_over_the_next, "block_overlap"),
    (_all_outside, "block_outside")], ids=lambda value: value.__name__.strip("_") if callable(value) else "")
def test_a_full_disk_of_two_tebibytes(python, tmp_path, place_blocks, expected):
    path = str(tmp_path / "disk.vhd")
    vhd_writer.write_dynamic(path, [], _SIZE_BYTES)
    with open(path, "r+b") as disk:
        header = vhd.read_metadata(disk).header
        end = os.path.getsize(path) - vhd.FOOTER_SIZE
        first = vhd.round_up(end // vhd.SECTOR_SIZE + 1, 8) - 1
        disk.seek(-vhd.FOOTER_SIZE, os.SEEK_END)
        footer = disk.read()
        disk.seek(header.table_offset)
        disk.write(struct.pack(">%dI" % _BLOCKS, *place_blocks(first)))
        disk.seek((first + _BLOCKS * _STRIDE) * vhd.SECTOR_SIZE)  # the file is a hole mostly
        disk.write(footer)
    command = [python, "-B", "-c", DECODE, conftest.CHECKOUT, path]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=300)
    rule, seconds, resident_kib = json.loads(done.stdout.decode("ascii"))
    assert rule == expected
    assert seconds < _MAX_S and resident_kib < _MAX_RESIDENT_KIB, (seconds, resident_kib)
