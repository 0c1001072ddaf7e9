# SPDX-License-Identifier: Apache-2.0
"""Sparse members: as the tar program writes them in each of its forms, and with maps that nobody should have made."""

from __future__ import absolute_import, division

import os
import subprocess
import tarfile

import pytest

from dom0_lib import errors
from dom0_lib.images import sparse_member
from dom0_lib.images import tarball
from tests.unit.images import test_tarball

FORMS = [['--format=gnu'], ['--format=oldgnu']] + [['--format=posix', '--sparse-version=' + version] for version in ('0.0', '0.1', '1.0')]
STEPS = (1, 511, 512, 513, 65536)
BLOCK = os.urandom(4096)


def make_sparse_file(path, extents, size_bytes):
    with open(str(path), 'wb') as target:
        for offset in extents:
            target.seek(offset)
            target.write(BLOCK)
        target.truncate(size_bytes)
    with open(str(path), 'rb') as source:
        return source.read()


def pack(directory, options):
    return subprocess.check_output(['tar', '-C', str(directory), '-S', '-cf', '-'] + options + ['0.vhd', '1.vhd'])


@pytest.mark.parametrize('count', [0, 1, 4, 5, 25, 26, 60])
@pytest.mark.parametrize('options', FORMS, ids=lambda options: ' '.join(options))
def test_sparse_files_of_the_tar_program(options, count, tmpdir):
    """4 extents fit a header of the old form, 21 more fit the next block."""
    content = make_sparse_file(tmpdir.join('0.vhd'), [number << 16 for number in range(1, count + 1)], (count + 2) << 16)
    tmpdir.join('1.vhd').write(b'x')
    archive = pack(tmpdir, options)
    assert len(archive) < len(content) or not count
    steps = STEPS if count == 5 else (65536,)
    for step in steps:
        assert test_tarball.read(archive, step) == [('0.vhd', content), ('1.vhd', b'x')]
    assert test_tarball.read(archive, 65536, skip=('0.vhd',)) == [('1.vhd', b'x')]


@pytest.mark.parametrize('options', FORMS, ids=lambda options: ' '.join(options))
def test_a_file_that_ends_with_data_and_one_that_begins_with_them(options, tmpdir):
    for extents, size_bytes in (([0], 1 << 20), ([1 << 20], (1 << 20) + len(BLOCK)), ([0, 1 << 20], (1 << 20) + len(BLOCK))):
        content = make_sparse_file(tmpdir.join('0.vhd'), extents, size_bytes)
        tmpdir.join('1.vhd').write(b'x')
        assert test_tarball.read(pack(tmpdir, options)) == [('0.vhd', content), ('1.vhd', b'x')]


@pytest.mark.parametrize('options', FORMS, ids=lambda options: ' '.join(options))
def test_a_cut_in_a_sparse_file_is_noticed(options, tmpdir):
    make_sparse_file(tmpdir.join('0.vhd'), [number << 16 for number in range(1, 31)], 32 << 16)
    tmpdir.join('1.vhd').write(b'x')
    archive = pack(tmpdir, options)
    for length in range(512, archive.rstrip(b'\0').rindex(b'1.vhd') - 2048, 1777):
        assert 'is cut short' in test_tarball.refusal_of(archive[:length], errors.InvalidImage)


def pax_archive(data, **records):
    headers = {u'GNU.sparse.' + name.replace('__', '.'): value for name, value in records.items()}
    return test_tarball.make_archive([(test_tarball.make_member('0.vhd', pax_headers=headers), data)], tarfile.PAX_FORMAT)


def one(data, text):
    return pax_archive(text.ljust(512, b'\0') + data, major=u'1', minor=u'0', name=u'0.vhd', realsize=u'8192')


BROKEN = [
    ('map over its size', pax_archive(BLOCK, size=u'8192', map=u'4097,4096')),
    ('map out of order', pax_archive(BLOCK, size=u'8192', map=u'4096,2048,0,2048')),
    ('map that overlaps', pax_archive(BLOCK, size=u'8192', map=u'0,2049,2048,2047')),
    ('map of less than the data', pax_archive(BLOCK, size=u'8192', map=u'0,4095')),
    ('map of more than the data', pax_archive(BLOCK, size=u'8192', map=u'0,4097')),
    ('half a pair', pax_archive(BLOCK, size=u'8192', map=u'0,4096,8192')),
    ('no number', pax_archive(BLOCK, size=u'8192', map=u'0,x')),
    ('negative', pax_archive(BLOCK, size=u'8192', map=u'-1,4097')),
    ('no size', pax_archive(BLOCK, map=u'0,4096')),
    ('size of letters', pax_archive(BLOCK, size=u'many', map=u'0,4096')),
    ('1.0: no number', one(BLOCK, b'1\nx\n4096\n')),
    ('1.0: no line', one(BLOCK, b'1' * 512)),
    ('1.0: over its size', one(BLOCK, b'1\n4097\n4096\n')),
    ('1.0: fewer data', one(BLOCK, b'1\n0\n4097\n')),
    ('1.0: more data', one(BLOCK, b'1\n0\n4095\n')),
    ('1.0: more pairs than there are', one(b'', b'2\n0\n0\n')),
    ('1.0: no real size', pax_archive(b'0\n'.ljust(512, b'\0'), major=u'1', minor=u'0')),
    ('1.0: empty member', pax_archive(b'', major=u'1', minor=u'0', realsize=u'8192')),
]


@pytest.mark.parametrize('step', (17, 65536))
@pytest.mark.parametrize('archive', [row[1] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_maps_that_are_refused(archive, step):
    assert 'sparse member' in test_tarball.refusal_of(archive, errors.InvalidImage, step) or 'not a number' in test_tarball.refusal_of(
        archive, errors.InvalidImage, step)


def test_maps_at_their_bounds():
    whole = [('0.vhd', b'\0' * 4096 + BLOCK)]
    assert test_tarball.read(pax_archive(BLOCK, size=u'8192', map=u'4096,4096')) == whole
    assert test_tarball.read(pax_archive(BLOCK, size=u'8192', map=u'4096,2048,6144,2048,8192,0')) == whole
    assert test_tarball.read(one(BLOCK, b'2\n4096\n4096\n8192\n0\n')) == whole
    assert test_tarball.read(one(b'', b'0\n')) == [('0.vhd', b'\0' * 8192)]


def test_extents_are_counted():
    extents = sparse_member.Map(1 << 40)
    for number in range(1 << 18):
        extents.add(2 * number, 1)
    with pytest.raises(errors.UnsafeImage):
        extents.add(1 << 30, 1)
    assert len(extents) == 1 << 18 and extents.data_bytes == 1 << 18


def test_a_hole_of_a_tebibyte_takes_no_memory():
    written = []

    class Target(object):
        def write(self, view):
            written.append(len(view))
            if sum(written) > 64 << 20:
                raise errors.UnsafeImage('enough')

        def finish(self):
            raise AssertionError('it did not refuse')
    header = test_tarball.make_member('0.vhd', pax_headers={u'GNU.sparse.size': u'%d' % (1 << 40), u'GNU.sparse.map': u''})
    reader = tarball.Reader(lambda name, size_bytes: Target())
    with pytest.raises(errors.UnsafeImage):
        reader.feed(header.tobuf(tarfile.PAX_FORMAT))
    assert max(written) <= 1 << 20
