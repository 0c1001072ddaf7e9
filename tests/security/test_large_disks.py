# SPDX-License-Identifier: Apache-2.0
"""The largest possible disk is checked in bounded time and memory, with any content of its BAT."""

import json
import os
import random
import struct
import subprocess

import pytest

from dom0_lib.disks import vhd
from dom0_lib.disks import vhd_check
from tests import conftest
from tests.calls import pythons
from tests import patience
from tests.harness.vhd import vhd_writer

_SIZE_BYTES = vhd_check.MAX_DISK_SIZE
_BLOCKS = _SIZE_BYTES // vhd.BLOCK_SIZE
_STRIDE = (4096 + vhd.BLOCK_SIZE) // vhd.SECTOR_SIZE
# 2 s and 18 MiB, interpreter included, on a busy machine; vhd-util's own check of a tenth of the blocks takes 28 s.
_MAX_S = patience.LIMIT_S
_MAX_RESIDENT_KIB = 32 * 1024

CHECK = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
from dom0_lib.disks import vhd
from dom0_lib.disks import vhd_check
with open(sys.argv[2], 'rb') as fileobj:
    begun_at = time.time()
    problems = vhd_check.find_problems(fileobj, vhd.read_metadata(fileobj))
    seconds = time.time() - begun_at
with open('/proc/self/status') as status:
    resident_kib = [int(line.split()[1]) for line in status if line.startswith('VmHWM:')][0]
print(json.dumps([[problem.name for problem in problems], seconds, resident_kib]))
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
    (_in_order, []), (_shuffled, []), (_all_in_one_place, ["block_overlap", "file_end"]),
    (_each_half_over_the_next, ["block_overlap", "block_overlap", "block_place", "file_end"]),
    (_all_outside, ["block_outside_file", "file_end"])],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "")
def test_a_full_disk_of_two_tebibytes(python, tmp_path, place_blocks, expected):
    path = str(tmp_path / "disk.vhd")
    vhd_writer.write_dynamic(path, [], _SIZE_BYTES, created_at=1400000000)
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
    command = [python, "-B", "-c", CHECK, conftest.CHECKOUT, path]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=120)
    problems, seconds, resident_kib = json.loads(done.stdout.decode("ascii"))
    assert problems == expected
    assert seconds < _MAX_S and resident_kib < _MAX_RESIDENT_KIB, (seconds, resident_kib)
