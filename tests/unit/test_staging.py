# SPDX-License-Identifier: Apache-2.0
"""The staging directory on a real file system: what it holds, and that it goes."""

from __future__ import absolute_import, division

import errno
import os
import resource
import stat
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dom0_lib import errors
from dom0_lib import staging
from dom0_lib import storage_file
from tests.contract import plugin_host

KIB = 1024
NOISE = os.urandom(64 * KIB)
ZEROS = b'\0' * (64 * KIB)


def write(area, name, data, step=1 << 20):
    """Write `data` in pieces of `step` bytes, as they come out of an archive."""
    created = area.create(name, len(data))
    for start in range(0, len(data), step):
        created.write(memoryview(data)[start:start + step])
    created.finish()


def read(path):
    with open(path, 'rb') as fileobj:
        return fileobj.read()


def test_the_area_is_private_and_goes(tmpdir):
    with staging.Area(str(tmpdir)) as area:
        assert os.path.dirname(area.path) == str(tmpdir)
        # What SR.scan and the garbage collector of the storage manager pass over.
        assert os.path.basename(area.path).startswith('.dom0-plugins-')
        assert stat.S_IMODE(os.stat(area.path).st_mode) == 0o700
        write(area, '0.vhd', NOISE)
        assert stat.S_IMODE(os.stat(area.join('0.vhd')).st_mode) == 0o600
    assert tmpdir.listdir() == []


@pytest.mark.parametrize('error', [errors.InvalidImage('broken'), KeyError('x'), errors.Terminated(15), SystemExit(1)])
def test_the_area_goes_when_something_fails(tmpdir, error):
    with pytest.raises(type(error)) as caught:
        with staging.Area(str(tmpdir)) as area:
            write(area, '0.vhd', NOISE)
            unfinished = area.create('1.vhd', 1000)
            unfinished.write(memoryview(b'half'))
            raise error
    assert caught.value is error
    assert tmpdir.listdir() == []


def test_two_areas_do_not_meet(tmpdir):
    with staging.Area(str(tmpdir)) as one, staging.Area(str(tmpdir)) as other:
        assert one.path != other.path
        write(one, '0.vhd', b'one')
        write(other, '0.vhd', b'other')
    assert tmpdir.listdir() == []


def test_no_descriptor_and_no_thread_is_left(tmpdir):
    before = len(os.listdir('/proc/self/fd')), threading.active_count()
    with staging.Area(str(tmpdir)) as area:
        created = area.create('0.vhd', 1 << 30)
        for _ in range(1200):  # enough for syncs in the background
            created.write(memoryview(NOISE))
        area.create('1.vhd', 10)
    assert (len(os.listdir('/proc/self/fd')), threading.active_count()) == before


SIGNALLED_AT_ANY_MOMENT = """
import os, random, signal, sys
sys.path.insert(0, %r)
from dom0_lib import errors, staging, termination

def work(number):
    with staging.Area(directory) as area:
        for name in range(10):
            area.create('%%d.vhd' %% name, 1).finish()
        while number %% 2:
            os.listdir(area.path)

def play(number):
    try:
        signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.0001, 0.003))
        work(number)
        while True:
            pass
    except errors.Terminated:
        termination.clean_up()

signal.signal(signal.SIGALRM, termination._receive)
chance, directory = random.Random(1), sys.argv[1]
for number in range(1000):
    termination._State.ending = False  # each round is another process's life
    play(number)
    assert os.listdir(directory) == [], 'round %%d' %% number
print('nothing left')
""" % plugin_host.CHECKOUT


def test_the_area_goes_whenever_a_signal_comes(tmpdir):
    """Also when it is being made, or removed."""
    process = subprocess.Popen([sys.executable, '-B', '-c', SIGNALLED_AT_ANY_MOMENT, str(tmpdir.mkdir('sr'))],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=plugin_host.ENVIRONMENT)
    assert plugin_host.finish(process) == (0, b'nothing left\n', b'')


def test_what_cannot_be_removed_does_not_hide_the_outcome(tmpdir):
    with pytest.raises(errors.InvalidImage):
        with staging.Area(str(tmpdir)) as area:
            os.mkdir(area.join('a directory'))
            raise errors.InvalidImage('broken')


def test_an_sr_that_is_not_there(tmpdir):
    with pytest.raises(errors.StorageError) as caught:
        with staging.Area(str(tmpdir.join('absent'))):
            raise AssertionError('entered')
    assert str(caught.value).startswith('cannot stage in the SR: ')


@pytest.mark.parametrize('code, text', [
    (errno.ENOSPC, 'cannot write: it is full'), (errno.EDQUOT, 'cannot write: it is full'), (errno.EIO, 'Input/output error')])
def test_errors_of_the_file_system(code, text):
    with pytest.raises(errors.StorageError) as caught:
        with storage_file.StorageErrors('cannot write'):
            raise OSError(code, os.strerror(code))
    assert str(caught.value).startswith('cannot write: ') and text in str(caught.value)


def test_other_errors_pass():
    with pytest.raises(KeyError):
        with storage_file.StorageErrors('cannot write'):
            raise KeyError('x')


# Files

CONTENTS = {
    'empty': b'',
    'one byte': b'x',
    'noise': NOISE * 3,
    'zeros': ZEROS * 3,
    'zeros, not whole': ZEROS * 2 + b'\0' * 1000,
    'hole within': NOISE + ZEROS + NOISE,
    'hole at the end': NOISE + ZEROS * 4,
    'hole at the beginning': ZEROS * 4 + NOISE,
    'zeros across a boundary': NOISE[:1000] + ZEROS * 2 + NOISE[1000:],
    'almost zeros': ZEROS[:-1] + b'x' + ZEROS + b'x' + ZEROS[:-1],
    'a byte at each end': b'x' + ZEROS * 3 + b'x',
}


@pytest.mark.parametrize('step', [1 << 20, 65536, 65535, 65537, 4096, 513])
@pytest.mark.parametrize('name', sorted(CONTENTS))
def test_contents(tmpdir, name, step):
    with staging.Area(str(tmpdir)) as area:
        write(area, '0.vhd', CONTENTS[name], step)
        assert read(area.join('0.vhd')) == CONTENTS[name]


@given(runs=st.lists(st.tuples(st.booleans(), st.integers(0, 200000)), max_size=6), step=st.integers(300, 300000))
def test_any_content_in_any_pieces(tmpdir_factory, runs, step):
    data = b''.join(((ZEROS if is_zero else NOISE) * 4)[:size] for is_zero, size in runs)
    with staging.Area(str(tmpdir_factory.getbasetemp())) as area:
        write(area, '0.vhd', data, step)
        assert read(area.join('0.vhd')) == data


@pytest.mark.parametrize('step', [1 << 20, 65536, 10000])
def test_zeros_become_holes(tmpdir, step):
    """A disk of mostly zeros must not take its whole size of an SR that may be thin."""
    data = NOISE + ZEROS * 100 + NOISE + ZEROS * 100
    with staging.Area(str(tmpdir)) as area:
        write(area, '0.vhd', data, step)
        status = os.stat(area.join('0.vhd'))
        assert status.st_size == len(data)
        if step >= 65536:
            assert status.st_blocks * 512 <= 4 * len(NOISE)
        assert read(area.join('0.vhd')) == data


def test_a_name_is_used_once(tmpdir):
    with staging.Area(str(tmpdir)) as area:
        write(area, '0.vhd', b'first')
        with pytest.raises(errors.StorageError):
            area.create('0.vhd', 5)
        assert read(area.join('0.vhd')) == b'first'


def test_rename(tmpdir):
    with staging.Area(str(tmpdir)) as area:
        write(area, '0.vhd', b'data')
        area.rename('0.vhd', 'uuid.vhd')
        assert sorted(os.listdir(area.path)) == ['owner', 'uuid.vhd']
        with pytest.raises(errors.StorageError):
            area.rename('0.vhd', 'x.vhd')


def test_a_file_too_large_for_the_file_system(tmpdir):
    """A limit of the process is a real one to meet (Python ignores SIGXFSZ)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with staging.Area(str(tmpdir)) as area:
        created = area.create('0.vhd', 10 * len(NOISE))
        resource.setrlimit(resource.RLIMIT_FSIZE, (100000, hard))
        try:
            with pytest.raises(errors.StorageError) as caught:
                for _ in range(10):
                    created.write(memoryview(NOISE))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert 'cannot write to the SR: ' in str(caught.value)
    assert tmpdir.listdir() == []


# Reading what is held

def test_a_held_file_outlives_its_name(tmpdir):
    tmpdir.join('x.vhd').write(NOISE, 'wb')
    with staging.Area(str(tmpdir)) as area:
        area.link(str(tmpdir.join('x.vhd')), '0.vhd')
        tmpdir.join('x.vhd').remove()
        assert area.stat('0.vhd').st_size == len(NOISE)
        assert b''.join(area.read('0.vhd', 10001, 1000)) == NOISE[:10001]
        assert [len(piece) for piece in area.read('0.vhd', 2500, 1000)] == [1000, 1000, 500]


def test_a_file_that_became_shorter(tmpdir):
    with staging.Area(str(tmpdir)) as area:
        write(area, '0.vhd', NOISE)
        with pytest.raises(errors.StorageError) as caught:
            list(area.read('0.vhd', len(NOISE) + 1, 1000))
        assert str(caught.value) == '0.vhd became shorter while it was read'
