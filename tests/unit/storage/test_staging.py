# SPDX-License-Identifier: Apache-2.0
"""The staging directory on a real file system: what it holds, and that it goes."""

from __future__ import absolute_import, division

import errno
import fcntl
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
from dom0_lib.storage import staging
from dom0_lib.system import sparse_file
from tests.contract import plugin_host
from tests.unit.directory_watch import Watch

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
from dom0_lib import errors
from dom0_lib import termination
from dom0_lib.storage import staging

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

signal.signal(signal.SIGALRM, termination._receiver.receive)
chance, directory = random.Random(1), sys.argv[1]
for number in range(1000):
    termination._receiver.is_ending = False  # each round is another process's life
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


# What dead processes leave

JOURNAL = b'12 a.vhd\n3456789 b.vhd\n77 instance1/0.vhd\nend\n'


def make_dead(tmpdir, journal):
    area = tmpdir.join('.dom0-plugins-dead').ensure(dir=True)
    area.join('journal').write_binary(journal)
    area.join('0.vhd').write_binary(b'x')
    return area


def sweep(tmpdir):
    """(what recover() was called with, names of what was swept)"""
    recovered = []
    swept = staging.sweep(str(tmpdir), lambda path, journal: recovered.append((path, journal)))
    return recovered, swept


def test_a_journal(tmpdir):
    area = make_dead(tmpdir, JOURNAL)
    entries = [(12, 'a.vhd'), (3456789, 'b.vhd'), (77, 'instance1/0.vhd')]
    before = len(os.listdir('/proc/self/fd'))
    assert sweep(tmpdir) == ([(str(area), entries)], ['.dom0-plugins-dead'])
    assert tmpdir.listdir() == [] and len(os.listdir('/proc/self/fd')) == before


@pytest.mark.parametrize('length', range(len(JOURNAL)))
def test_a_journal_that_was_not_complete(tmpdir, length):
    """Then nothing had been linked: half an entry must not be taken for one."""
    make_dead(tmpdir, JOURNAL[:length])
    assert sweep(tmpdir) == ([], ['.dom0-plugins-dead'])
    assert tmpdir.listdir() == []


def test_the_journal_that_is_written_is_the_one_that_is_read(tmpdir):
    with staging.Area(str(tmpdir)) as area:
        area.begin_journal([(12, 'a.vhd'), (3456789, 'b.vhd'), (77, 'instance1/0.vhd')])
        assert read(area.join('journal')) == JOURNAL
        area.remove()
        # What was being published stays for a sweep, until the journal is done with.
        assert len(tmpdir.listdir()) == 1
    assert [len(journal) for _, journal in sweep(tmpdir)[0]] == [3]
    with staging.Area(str(tmpdir)) as area:
        area.begin_journal([(12, 'a.vhd')])
        area.end_journal()
    assert tmpdir.listdir() == []


def test_what_cannot_be_recovered_stays(tmpdir):
    make_dead(tmpdir, JOURNAL)

    def fail(path, journal):
        raise errors.RetryableError('not now')
    for _ in range(2):
        with pytest.raises(errors.RetryableError):
            staging.sweep(str(tmpdir), fail)
    assert len(sweep(tmpdir)[0]) == 1


@pytest.mark.parametrize('remove', [staging.remove_tree, lambda path: staging.sweep(os.path.dirname(path), lambda *_: None)])
def test_the_journal_goes_first_and_the_owner_last(tmpdir, remove):
    """A journal is judged by the files beside it; without its owner file nobody can tell that a directory is a dead one's."""
    area = make_dead(tmpdir, JOURNAL)
    for name in ('owner', 'zz'):
        area.join(name).write_binary(b'')
    area.join('a directory').ensure(dir=True).join('x').write_binary(b'')
    os.symlink('/', str(area.join('link')))
    count = 6
    while os.listdir(str(area))[0] == 'journal' or os.listdir(str(area))[-1] == 'owner':  # not by luck
        area.join('%d.vhd' % count).write_binary(b'')
        count += 1
    watch = Watch(str(area))
    remove(str(area))
    names = [event[1:] for event in watch.read_events() if event[0] == '-' and event[1:]]
    assert (names[0], names[-1], len(names)) == ('journal', 'owner', count)
    assert not area.check()


HOLDER = """
import fcntl, sys
owner = open(sys.argv[1], 'w+')
fcntl.lockf(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
sys.stdout.write('held\\n')
sys.stdout.flush()
sys.stdin.read()
"""


def test_the_living_are_left_alone(tmpdir):
    area = make_dead(tmpdir, JOURNAL)
    assert staging.list_dead(str(tmpdir)) == []  # it has no owner: it may be one that is being made
    holder = subprocess.Popen([sys.executable, '-c', HOLDER, str(area.join('owner'))], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b'held\n'
        before = len(os.listdir('/proc/self/fd'))
        assert staging.list_dead(str(tmpdir)) == []
        assert staging.lock_owner(str(area), needs_lock=False) is None
        assert sweep(tmpdir) == ([], []) and area.join('0.vhd').check()
        assert len(os.listdir('/proc/self/fd')) == before
    finally:
        holder.communicate()
    assert staging.list_dead(str(tmpdir)) == ['.dom0-plugins-dead']
    assert len(sweep(tmpdir)[0]) == 1 and staging.list_dead(str(tmpdir)) == [] == staging.list_dead(str(tmpdir.join('none')))


@pytest.mark.parametrize('needs_lock', [False, True])
def test_a_directory_that_goes_while_it_is_locked(tmpdir, monkeypatch, needs_lock):
    """Its owner has removed it, between our opening and our lock: whoever holds a removed file owns nothing."""
    area = make_dead(tmpdir, b'')
    real_lock = fcntl.lockf

    def remove_and_lock(fd, operation):
        monkeypatch.undo()
        area.remove(rec=1)
        return real_lock(fd, operation)
    monkeypatch.setattr(fcntl, 'lockf', remove_and_lock)
    before = len(os.listdir('/proc/self/fd'))
    assert staging.lock_owner(str(area), needs_lock) is None
    assert len(os.listdir('/proc/self/fd')) == before
    assert staging.lock_owner(str(area), needs_lock) is None


def test_where_there_are_no_locks_nothing_is_swept(tmpdir, monkeypatch):
    area = make_dead(tmpdir, JOURNAL)

    def refuse(fd, operation):
        raise IOError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    monkeypatch.setattr(fcntl, 'lockf', refuse)
    assert sweep(tmpdir) == ([], []) and area.join('0.vhd').check()
    with staging.Area(str(tmpdir)) as other:
        assert os.listdir(other.path) == ['owner']


@pytest.mark.parametrize('make', [
    lambda directory: directory.join('.dom0-plugins-x').write(b''),
    lambda directory: os.symlink(str(directory.join('elsewhere').ensure(dir=True)), str(directory.join('.dom0-plugins-x'))),
    lambda directory: directory.join('.other').ensure(dir=True), lambda directory: directory.join('dom0-plugins-x').ensure(dir=True)],
    ids=['file', 'link', 'other', 'visible'])
def test_what_is_no_staging_directory_stays(tmpdir, make):
    make(tmpdir)
    before = sorted(path.basename for path in tmpdir.visit())
    assert sweep(tmpdir) == ([], [])
    assert sorted(path.basename for path in tmpdir.visit()) == before
    assert staging.list_dead(str(tmpdir)) == []


# Room

def test_a_reserve_is_kept(tmpdir):
    status = os.statvfs(str(tmpdir))
    free_bytes = status.f_bavail * status.f_frsize
    with staging.Area(str(tmpdir), reserve_bytes=free_bytes // 2) as area:
        area.create('0.vhd', free_bytes // 4)
        with pytest.raises(errors.StorageError) as caught:
            area.create('1.vhd', free_bytes - free_bytes // 4)
        assert 'MiB free, this needs %d MiB and a reserve of %d MiB' % (
            free_bytes - free_bytes // 4 >> 20, free_bytes // 2 >> 20) in str(caught.value)
        assert sorted(os.listdir(area.path)) == ['0.vhd', 'owner']


def test_room_is_asked_for_while_a_file_grows(tmpdir):
    """Somebody else takes it, too; a question for each 64 MiB."""
    asked = []
    created = sparse_file.File(str(tmpdir.join('0.vhd')), 1 << 30, asked.append, 'the SR')
    for _ in range(65 * 16):
        created.write(memoryview(NOISE))
    assert asked == [0]
    created.close()


def test_a_copy_needs_room_for_its_blocks_alone(tmpdir, monkeypatch):
    """Holes need none.  The file system here shares no blocks."""
    def refuse(*arguments):
        raise IOError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    monkeypatch.setattr(fcntl, 'ioctl', refuse)
    path = tmpdir.join('source')
    with open(str(path), 'wb') as target:
        target.write(NOISE)
        target.truncate(1 << 30)
    asked = []
    with open(str(path), 'rb', 0) as source:
        created = sparse_file.File(str(tmpdir.join('0.vhd')), 1 << 30, asked.append, 'the SR')
        created.copy(source.fileno(), lambda size_bytes: None)
        created.finish()
    assert asked == [os.stat(str(path)).st_blocks * 512]


@pytest.mark.parametrize('size_bytes', [10, 4 * len(NOISE)])
def test_a_file_that_changes_its_size_while_it_is_copied(tmpdir, size_bytes):
    path = tmpdir.join('source')
    path.write_binary(NOISE * 3)

    def change(done_bytes):
        with open(str(path), 'r+b') as target:
            target.truncate(size_bytes)
    with staging.Area(str(tmpdir)) as area, open(str(path), 'rb', 0) as source:
        with pytest.raises(errors.StorageError) as caught:
            area.copy(source.fileno(), '0.vhd', change)
    assert 'a file changed its size while it was copied' in str(caught.value)
