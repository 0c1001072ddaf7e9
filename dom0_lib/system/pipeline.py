# SPDX-License-Identifier: Apache-2.0
"""Threads in a row: each stage works on one piece while the stage before it makes the next.

This pays because zlib, hashlib, socket and file calls release the interpreter's lock.
"""

from __future__ import absolute_import, division

import threading

from dom0_lib import compat
from dom0_lib import termination

_END = object()


class Stage(object):
    """A thread that calls `function` with each item put to it, in order.

    At most `depth` items wait, so memory is bounded.  After a failure the thread goes on taking items and drops them:
    nothing could interrupt a put() that waits for a thread which has stopped.
    """

    def __init__(self, function, depth):
        self._function = function
        self._queue = compat.import_queue().Queue(depth)
        self._error = None
        self._thread = _start_thread(self._work)

    def put(self, item):
        """Hand over one item.  Raises the error that the function raised for an earlier item."""
        if self._error is not None:
            raise self._error
        _undisturbed(self._queue.put, item)

    def close(self):
        """Wait until every item is done.  Raises the error that the function raised."""
        self.stop()
        if self._error is not None:
            raise self._error

    def stop(self):
        """Wait until every item is done or dropped.  Raises nothing: the failure is known elsewhere."""
        if self._thread.is_alive():
            _undisturbed(self._queue.put, _END)
            _undisturbed(self._thread.join)

    def abandon(self):
        """Drop the waiting items, and end the thread."""
        self._error = self._error or RuntimeError('the stage was abandoned')
        self.stop()

    def _work(self):
        while True:
            item = self._queue.get()
            if item is _END:
                return
            if self._error is None:
                try:
                    self._function(item)
                except BaseException as error:
                    self._error = error


def map_in_order(function, items, workers):
    """Yield function(item) for each of `items`, in their order, computed by `workers` threads.

    A thread of its own iterates over `items`.  Each worker holds at most one item in work, two that wait and two results.
    An exception of `items` or `function` is raised here in its turn.  Close the generator to end early.

        items --> worker 0 --> results 0 --+
              --> worker 1 --> results 1 --+--> taken in turn
              --> ...
    """
    lanes = [_Lane(function) for _ in range(workers)]
    _start_thread(_feed, items, lanes)
    waiting = list(lanes)
    number = 0
    try:
        while True:
            lane = lanes[number % workers]
            result = _undisturbed(lane.results.get)
            if result is _END:
                waiting.remove(lane)
                return
            if isinstance(result, _Raised):
                raise result.error
            yield result
            number += 1
    finally:
        for lane in lanes:
            lane.is_abandoned = True
        # First empty every lane: then one more result and the end fit into each, and no lane blocks another.
        ended = [lane for lane in waiting if lane.drop_results()]
        for lane in waiting:
            while lane not in ended and _undisturbed(lane.results.get) is not _END:
                pass


class _Raised(object):
    """An exception on its way to the thread that takes the results."""

    def __init__(self, error):
        self.error = error


class _Lane(object):
    """One worker of map_in_order with its two queues; when abandoned it only passes the end on."""

    def __init__(self, function):
        queue = compat.import_queue()
        self.items = queue.Queue(2)
        self.results = queue.Queue(2)
        self.is_abandoned = False
        _start_thread(self._work, function)

    def drop_results(self):
        """Drop the waiting results; returns whether the end was among them."""
        dropped = [_undisturbed(self.results.get) for _ in range(self.results.qsize())]
        return bool(dropped) and dropped[-1] is _END

    def _work(self, function):
        while True:
            item = self.items.get()
            if item is not _END and not isinstance(item, _Raised):
                if self.is_abandoned:
                    continue
                try:
                    item = function(item)
                except BaseException as error:
                    item = _Raised(error)
            self.results.put(item)
            if item is _END:
                return


def _feed(items, lanes):
    number = -1
    try:
        for number, item in enumerate(items):
            lane = lanes[number % len(lanes)]
            if lane.is_abandoned:
                break
            lane.items.put(item)
    except BaseException as error:
        lanes[(number + 1) % len(lanes)].items.put(_Raised(error))
        number += 1
    for later in range(len(lanes)):
        lanes[(number + 1 + later) % len(lanes)].items.put(_END)


def _start_thread(target, *arguments):
    thread = threading.Thread(target=target, args=arguments)
    thread.daemon = True
    _undisturbed(thread.start)
    return thread


def _undisturbed(operation, *arguments):
    """Run an operation that takes locks of the threading module under a shield.  These locks are written in Python: the exception
    of a signal would leave one locked for ever, and signals mostly come while the thread waits there.
    """
    with termination.Shield():
        return operation(*arguments)
