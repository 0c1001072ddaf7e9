# SPDX-License-Identifier: Apache-2.0
"""qemu-img: what it writes becomes ours, and it reads from ours what it has written."""

from __future__ import absolute_import, division

import os
import random
import subprocess
import sys

import pytest

from tests.unit.formats import decoding
from tests.unit.formats.foreign_vhd import KIB, MIB

pytestmark = [pytest.mark.skipif(sys.version_info < (3, 8), reason='not applicable: where qemu-img is, a later Python is, too'),
              pytest.mark.needs('qemu-img')]


def convert(source, source_format, target, target_format, options=None):
    subprocess.check_call(['qemu-img', 'convert', '-f', source_format, '-O', target_format] + (['-o', options] if options else [])
                          + [source, target], timeout=60)


@pytest.mark.parametrize('options', ['subformat=dynamic', 'subformat=dynamic,force_size=on', 'subformat=fixed,force_size=on'])
@pytest.mark.parametrize('size', [16 * MIB, 9 * MIB + 64 * KIB])
def test_a_disk_to_us_and_back(size, options, tmpdir):
    raw, theirs, ours, back = [os.path.join(str(tmpdir), name) for name in ('raw', 'theirs', 'ours.vhd', 'back')]
    chance = random.Random(size)
    content = bytearray(size)
    for _ in range(20):
        place = chance.randrange(size - 9000)
        content[place:place + 9000] = os.urandom(9000)
    content[4 * MIB:7 * MIB] = bytes(3 * MIB)
    with open(raw, 'wb') as written:
        written.write(content)
    convert(raw, 'raw', theirs, 'vpc', options)
    with open(theirs, 'rb') as written:
        data = written.read()
    with decoding.Written(tmpdir) as written:
        _, has_spooled = decoding.decode(data, written.encoder, directory=tmpdir)
        sealed = written.seal()
        assert decoding.prove(written.path) is None and not has_spooled
    with open(ours, 'wb') as written:
        written.write(sealed)
    convert(ours, 'vpc', back, 'raw')
    with open(back, 'rb') as read:
        found = read.read()
    # Ours is a disk of whole blocks.
    assert len(found) % (2 * MIB) == 0 and found[:size] == bytes(content) and not found[size:].strip(b'\0')
