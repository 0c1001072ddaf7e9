# SPDX-License-Identifier: Apache-2.0
"""Stages and lanes of threads: order, bounded memory, errors that arrive, threads that end."""

from __future__ import absolute_import, division

import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dom0_lib import errors
from dom0_lib.system import pipeline
from tests.contract import plugin_host

DEADLINE_S = 60


class Gate(object):
    """A function for a stage that waits until it is opened; `done` is what it has got through."""

    def __init__(self):
        self._open = threading.Event()
        self.begun = threading.Event()
        self.done = []

    def __call__(self, item):
        self.begun.set()
        assert self._open.wait(DEADLINE_S)
        self.done.append(item)

    def open(self):
        self._open.set()


def fail_with(error):
    def fail(item):
        raise error
    return fail


def put_until_it_raises(stage):
    ends_at = time.time() + DEADLINE_S
    while time.time() < ends_at:
        stage.put('item')
    raise AssertionError('put() went on for %d s' % DEADLINE_S)


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    ends_at = time.time() + DEADLINE_S
    while set(threading.enumerate()) - before:
        assert time.time() < ends_at, 'threads are left: %s' % (set(threading.enumerate()) - before)
        time.sleep(0.01)


@given(items=st.lists(st.integers(), max_size=50), depth=st.integers(1, 5))
def test_items_are_done_in_order(items, depth):
    done = []
    stage = pipeline.Stage(done.append, depth)
    for item in items:
        stage.put(item)
    stage.close()
    assert done == items


@pytest.mark.parametrize('depth', [1, 4])
def test_few_items_wait(depth):
    gate = Gate()
    stage = pipeline.Stage(gate, depth)
    put = []

    def put_many():
        for number in range(depth + 5):
            stage.put(number)
            put.append(number)

    feeder = threading.Thread(target=put_many)
    feeder.start()
    assert gate.begun.wait(DEADLINE_S)
    time.sleep(0.2)
    assert len(put) == depth + 1, 'one in work and `depth` that wait'
    gate.open()
    feeder.join(DEADLINE_S)
    stage.close()
    assert gate.done == list(range(depth + 5))


@pytest.mark.parametrize('error', [errors.InvalidImage('broken'), KeyError('x'), SystemExit(3), errors.Terminated(15)])
def test_a_failure_arrives_at_the_next_put_and_at_the_end(error):
    stage = pipeline.Stage(fail_with(error), 1)
    with pytest.raises(type(error)) as caught:
        put_until_it_raises(stage)
    assert caught.value is error
    with pytest.raises(type(error)) as caught:
        stage.close()
    assert caught.value is error


def test_after_a_failure_nothing_more_is_done():
    done = []

    def fail_at_two(item):
        done.append(item)
        if item == 2:
            raise errors.InvalidImage('broken')

    stage = pipeline.Stage(fail_at_two, 10)
    with pytest.raises(errors.InvalidImage):
        for number in range(100):
            stage.put(number)
        stage.close()
    stage.stop()
    assert done == [0, 1, 2]


def test_stop_keeps_an_error_for_itself():
    stage = pipeline.Stage(fail_with(errors.InvalidImage('broken')), 5)
    stage.put('item')
    stage.stop()
    stage.stop()


def test_abandon_drops_what_waits():
    gate = Gate()
    stage = pipeline.Stage(gate, 5)
    for number in range(4):
        stage.put(number)
    assert gate.begun.wait(DEADLINE_S)
    opener = threading.Timer(0.2, gate.open)
    opener.start()
    stage.abandon()
    opener.join()
    assert gate.done == [0]
    with pytest.raises(RuntimeError):
        stage.put('too late')


def test_abandon_after_a_failure_keeps_the_first_error():
    stage = pipeline.Stage(fail_with(errors.InvalidImage('broken')), 5)
    stage.put('item')
    stage.stop()
    stage.abandon()
    with pytest.raises(errors.InvalidImage):
        stage.close()


def test_a_failure_travels_up_a_row_of_stages():
    last = pipeline.Stage(fail_with(errors.UnsafeImage('broken')), 1)
    first = pipeline.Stage(last.put, 1)
    with pytest.raises(errors.UnsafeImage):
        put_until_it_raises(first)
    first.abandon()
    last.abandon()


SIGNALLED_AT_ANY_MOMENT = """
import random, signal, sys, threading, time
sys.path.insert(0, %r)
from dom0_lib import errors
from dom0_lib import termination
from dom0_lib.system import pipeline

def work(item):
    time.sleep(0.0002)
    return item

def feed_stage():
    stage = pipeline.Stage(work, 1)
    try:
        while True:
            stage.put('item')
    finally:
        stage.abandon()

def feed_lanes():
    results = pipeline.map_in_order(work, iter(int, 1), 2)
    try:
        for result in results:
            pass
    finally:
        results.close()

signal.signal(signal.SIGALRM, termination._receiver.receive)
chance = random.Random(1)
for number in range(300):
    termination._receiver.is_ending = False  # each round is another process's life
    signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.0005, 0.01))
    try:
        (feed_stage, feed_lanes)[number %% 2]()
    except errors.Terminated:
        pass
print('done')
""" % plugin_host.CHECKOUT


def test_a_signal_at_any_moment_leaves_no_lock_behind():
    """It mostly comes while the main thread waits for a lock, and its exception must not be raised with the lock held."""
    process = subprocess.Popen([sys.executable, '-B', '-c', SIGNALLED_AT_ANY_MOMENT], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, env=plugin_host.ENVIRONMENT)
    assert plugin_host.finish(process) == (0, b'done\n', b'')


# map_in_order

@given(items=st.lists(st.integers(), max_size=40), workers=st.integers(1, 4))
def test_results_come_in_order(items, workers):
    assert list(pipeline.map_in_order(lambda item: item * 2, iter(items), workers)) == [item * 2 for item in items]


def test_a_slow_item_holds_back_those_after_it_but_not_their_work():
    done = []

    def work(item):
        time.sleep(0.3 if item == 0 else 0)
        done.append(item)
        return item

    assert list(pipeline.map_in_order(work, range(6), 3)) == list(range(6))
    assert done[0] != 0 and sorted(done) == list(range(6))


@pytest.mark.parametrize('workers', [1, 3])
def test_few_items_are_taken_in_advance(workers):
    taken = []

    def items():
        for number in range(1000):
            taken.append(number)
            yield number

    results = pipeline.map_in_order(lambda item: item, items(), workers)
    assert next(results) == 0
    time.sleep(0.2)
    # Of each worker: two that wait, one in work, two results; one in the hand of the feeder, and the one we have.
    assert len(taken) <= 5 * workers + 2
    results.close()


@pytest.mark.parametrize('place', [0, 1, 5, 9])
@pytest.mark.parametrize('workers', [1, 2, 3])
def test_an_error_comes_in_its_turn(workers, place):
    def work(item):
        if item == place:
            raise errors.StorageError('at %d' % item)
        return item

    results = []
    with pytest.raises(errors.StorageError) as caught:
        for result in pipeline.map_in_order(work, range(10), workers):
            results.append(result)
    assert (results, str(caught.value)) == (list(range(place)), 'at %d' % place)


@pytest.mark.parametrize('place', [0, 1, 5, 9])
@pytest.mark.parametrize('workers', [1, 2, 3])
def test_an_error_of_the_source_comes_in_its_turn(workers, place):
    def items():
        for number in range(place):
            yield number
        raise errors.StorageError('the file became shorter')

    results = []
    with pytest.raises(errors.StorageError):
        for result in pipeline.map_in_order(lambda item: item, items(), workers):
            results.append(result)
    assert results == list(range(place))


@pytest.mark.parametrize('taken', [0, 1, 7])
@pytest.mark.parametrize('workers', [1, 2, 3])
def test_an_early_end(workers, taken):
    """With items that never end, and results that nobody takes: every thread ends all the same."""
    def items():
        while True:
            yield b'x' * 1000

    results = pipeline.map_in_order(lambda item: item, items(), workers)
    for _ in range(taken):
        next(results)
    closer = threading.Thread(target=results.close)
    closer.start()
    closer.join(DEADLINE_S)
    assert not closer.is_alive()
