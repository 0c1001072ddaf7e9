# SPDX-License-Identifier: Apache-2.0
"""SM's locks.  POSIX locks are a process's, so who else holds one here is another process."""

from __future__ import absolute_import, division

import os
import subprocess
import sys
import time

import pytest

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib.storage import sr_lock

SR = '5a1f0c2e-0000-4000-8000-000000000000'
# Holds a lock as SM does, or shared, until its stdin ends.
HOLDER = """
import fcntl, sys
lock_file = open(sys.argv[1], 'w+')
fcntl.lockf(lock_file, getattr(fcntl, sys.argv[2]) | fcntl.LOCK_NB)
sys.stdout.write('held\\n')
sys.stdout.flush()
sys.stdin.read()
"""


class Locks(object):
    """The lock files of one SR, and other processes."""

    def __init__(self, directory):
        self._directory = directory
        self._holders = {}

    def path(self, name):
        return str(self._directory.join(name))

    def hold(self, name, kind='LOCK_EX'):
        """Let another process hold a lock; whether it could."""
        self._directory.ensure(dir=True)
        holder = subprocess.Popen([sys.executable, '-c', HOLDER, self.path(name), kind], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._holders[name] = holder
        return holder.stdout.readline() == b'held\n'

    def release(self, name):
        self._holders.pop(name).communicate()

    def release_all(self):
        for name in list(self._holders):
            self.release(name)

    def is_free(self, name):
        """Whether SM could take it."""
        was_taken = self.hold(name)
        self.release(name)
        return was_taken


@pytest.fixture
def locks(tmpdir, monkeypatch):
    monkeypatch.setenv('DOM0_ROOT', str(tmpdir))
    held = Locks(tmpdir.join('var', 'lock', 'sm', SR))
    yield held
    held.release_all()


def nothing():
    pass


def test_a_lock_excludes_others_until_it_is_released(locks):
    with sr_lock.Lock(SR, 'sr', 0):
        assert not locks.is_free('sr')
    assert locks.is_free('sr')


def test_a_lock_is_released_by_an_error(locks):
    with pytest.raises(ValueError):
        with sr_lock.Lock(SR, 'sr', 0):
            raise ValueError
    assert locks.is_free('sr')


def test_another_process_holds_it(locks):
    locks.hold('sr')
    begun_at = compat.monotonic_s()
    with pytest.raises(errors.RetryableError) as caught:
        sr_lock.Lock(SR, 'sr', 0).__enter__()
    assert compat.monotonic_s() - begun_at < 1
    assert str(caught.value) == 'the storage manager keeps the lock sr of SR ' + SR


def test_the_wait_has_an_end(locks):
    locks.hold('sr')
    begun_at = compat.monotonic_s()
    with pytest.raises(errors.RetryableError):
        sr_lock.Lock(SR, 'sr', 0.4).__enter__()
    # Less a tick of Python 2.7's clock.
    assert 0.39 < compat.monotonic_s() - begun_at < 5


def test_waiting_costs_no_descriptors(locks):
    locks.hold('sr')
    before = len(os.listdir('/proc/self/fd'))
    tries = []
    with pytest.raises(errors.RetryableError):
        sr_lock.Lock(SR, 'sr', 0.3, lambda: tries.append(1)).__enter__()
    assert len(tries) > 1 and len(os.listdir('/proc/self/fd')) == before
    with pytest.raises(errors.RetryableError):
        sr_lock.Stillness(SR, 0.3, nothing, nothing).__enter__()
    assert len(os.listdir('/proc/self/fd')) == before
    locks.release('sr')
    before = len(os.listdir('/proc/self/fd'))  # the holder had pipes
    with sr_lock.Stillness(SR, 1, nothing, nothing):
        pass
    assert len(os.listdir('/proc/self/fd')) == before


def test_a_lock_that_becomes_free_is_taken(locks):
    locks.hold('sr')
    waits = []

    def check():
        waits.append(1)
        if len(waits) == 2:
            locks.release('sr')
    with sr_lock.Lock(SR, 'sr', 30, check):
        assert len(waits) >= 2


def test_who_waits_may_give_up(locks):
    locks.hold('sr')

    def give_up():
        raise errors.Failure('TASK_CANCELLED', [])
    with pytest.raises(errors.Failure):
        sr_lock.Lock(SR, 'sr', 30, give_up).__enter__()


@pytest.mark.parametrize('theirs, is_taken', [('LOCK_SH', True), ('LOCK_EX', False)])
def test_a_shared_lock(locks, theirs, is_taken):
    with sr_lock.Lock(SR, 'running', 0, is_shared=True):
        assert locks.hold('running', theirs) == is_taken


def test_a_shared_lock_is_not_for_who_wants_it_alone(locks):
    locks.hold('running', 'LOCK_SH')
    with sr_lock.Lock(SR, 'running', 0, is_shared=True):
        pass
    with pytest.raises(errors.RetryableError):
        sr_lock.Lock(SR, 'running', 0).__enter__()


def test_a_lock_file_that_was_removed_is_taken_anew(locks, monkeypatch):
    """SM removes lock files: a lock on one that has no name excludes nobody."""
    locks.hold('sr')  # makes it
    locks.release('sr')
    real_open, opened = os.open, []

    def open_and_remove(path, *options):
        fd = real_open(path, *options)
        opened.append(fd)
        if len(opened) == 1:
            os.unlink(path)
        return fd
    monkeypatch.setattr(os, 'open', open_and_remove)
    with sr_lock.Lock(SR, 'sr', 5):
        monkeypatch.undo()
        assert len(opened) == 2
        assert not Locks.is_free(locks, 'sr')


# Stillness

def test_stillness_keeps_the_collection_out_and_leaves_sr_free(locks):
    with sr_lock.Stillness(SR, 1, nothing, nothing):
        assert not locks.is_free('gc_active')
        assert not locks.is_free('running')
        assert locks.is_free('sr')
    assert locks.is_free('gc_active') and locks.is_free('running')


def test_two_may_read_at_once(locks):
    locks.hold('gc_active', 'LOCK_SH')
    locks.hold('running', 'LOCK_SH')
    with sr_lock.Stillness(SR, 1, nothing, nothing) as stillness:
        stillness.check()


@pytest.mark.parametrize('name', ['sr', 'gc_active', 'running'])
def test_a_collection_that_does_not_end_is_asked_to(locks, name):
    locks.hold(name)
    with sr_lock.Stillness(SR, 0.2, lambda: locks.release(name), nothing):
        assert not locks.is_free('gc_active')


@pytest.mark.parametrize('name', ['sr', 'gc_active', 'running'])
def test_a_collection_that_never_ends(locks, name):
    locks.hold(name)
    asked = []
    with pytest.raises(errors.RetryableError):
        sr_lock.Stillness(SR, 0.2, lambda: asked.append(1), nothing).__enter__()
    assert asked == [1]
    for other in set(['sr', 'gc_active', 'running']) - set([name]):
        assert locks.is_free(other)


def test_a_collection_that_ends_is_waited_for(locks):
    locks.hold('gc_active')
    waits = []

    def check():
        waits.append(1)
        if len(waits) == 3:
            locks.release('gc_active')
    with sr_lock.Stillness(SR, 30, lambda: pytest.fail('asked to stop'), check):
        assert len(waits) >= 3


def test_the_storage_manager_wants_the_sr(locks, tmpdir):
    with sr_lock.Stillness(SR, 1, nothing, nothing) as stillness:
        stillness.check()
        tmpdir.ensure('run', 'sm', 'ipc', SR, 'abort')
        ends_at = time.time() + 60
        with pytest.raises(errors.RetryableError) as caught:
            while time.time() < ends_at:  # check() looks at the flag once a second
                stillness.check()
                time.sleep(0.05)
    assert str(caught.value) == 'the storage manager wants SR %s for something else' % SR


def test_who_reads_hears_soon_that_the_storage_manager_wants_the_sr(locks, tmpdir):
    """Who detaches an SR gives up after a minute."""
    with sr_lock.Stillness(SR, 1, nothing, nothing) as stillness:
        stillness.check()
        tmpdir.ensure('run', 'sm', 'ipc', SR, 'abort')
        ends_at = compat.monotonic_s() + 30
        with pytest.raises(errors.RetryableError):
            while compat.monotonic_s() < ends_at:
                stillness.check()
                time.sleep(0.05)


def test_who_reads_may_give_up(locks):
    calls = []

    def give_up():
        calls.append(1)
        raise errors.Failure('TASK_CANCELLED', [])
    with sr_lock.Stillness(SR, 1, nothing, give_up) as stillness:
        assert not calls
        with pytest.raises(errors.Failure):
            stillness.check()
    assert locks.is_free('gc_active') and locks.is_free('running')
    locks.hold('running')
    with pytest.raises(errors.Failure):
        sr_lock.Stillness(SR, 30, nothing, give_up).__enter__()
    assert locks.is_free('gc_active')


@pytest.mark.parametrize('name, kind, expected', [
    ('gc_active', 'LOCK_EX', True), ('running', 'LOCK_EX', True), ('sr', 'LOCK_EX', False), ('gc_active', 'LOCK_SH', False),
    ('running', 'LOCK_SH', False)])
def test_a_collection_is_seen(locks, name, kind, expected):
    """By SM's own locks; readers of ours, who share them, are none."""
    assert not sr_lock.is_collecting(SR)
    assert locks.hold(name, kind)
    before = len(os.listdir('/proc/self/fd'))
    assert sr_lock.is_collecting(SR) is expected
    assert len(os.listdir('/proc/self/fd')) == before
    locks.release(name)
    assert not sr_lock.is_collecting(SR)


def test_to_look_for_a_collection_hinders_none(locks):
    """Whoever asks holds nothing, at no moment, and drops nothing that it holds itself."""
    with sr_lock.Lock(SR, 'sr', 0):
        assert not sr_lock.is_collecting(SR)
        assert locks.is_free('gc_active') and not locks.is_free('sr')
