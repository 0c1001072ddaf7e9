# SPDX-License-Identifier: Apache-2.0
"""Threads in a row: each stage works on one piece while the one before makes the next.

They pay because zlib, hashlib, socket and file calls release the interpreter's lock.
"""

from __future__ import absolute_import, division

import threading

from dom0_lib import compat


class Stage(object):
    """A thread that calls `function` with each item put to it, in order.

    At most `depth` items wait, so memory is bounded.  After a failure the thread goes on taking items and drops them:
    a put() never waits for a thread that has stopped, which matters as Python 2 cannot interrupt that wait.
    """

    _END = object()

    def __init__(self, function, depth):
        self._function = function
        self._queue = compat.import_queue().Queue(depth)
        self._error = None
        self._thread = threading.Thread(target=self._work)
        self._thread.daemon = True
        self._thread.start()

    def put(self, item):
        """Hand over one item.  Raises what an earlier item made the function raise."""
        if self._error is not None:
            raise self._error
        self._queue.put(item)

    def close(self):
        """Wait until every item is done.  Raises what the function raised."""
        self.stop()
        if self._error is not None:
            raise self._error

    def stop(self):
        """Wait until every item is done or dropped; a failure has been seen elsewhere."""
        if self._thread.is_alive():
            self._queue.put(self._END)
            self._thread.join()

    def abandon(self):
        """Drop the items that wait and end."""
        self._error = self._error or RuntimeError('the stage was abandoned')
        self.stop()

    def _work(self):
        while True:
            item = self._queue.get()
            if item is self._END:
                return
            if self._error is None:
                try:
                    self._function(item)
                except BaseException as error:
                    self._error = error
