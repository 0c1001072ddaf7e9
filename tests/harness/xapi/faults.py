# SPDX-License-Identifier: Apache-2.0
"""Faults that a test arms: how XAPI fails at the next calls of a message."""

import collections
import threading

from tests.harness.xapi.failures import Failure


class XapiDied(Exception):
    """xapi is gone: connections break without an answer."""


class Faults(object):

    def __init__(self):
        self._lock = threading.Lock()
        self._armed = collections.defaultdict(collections.deque)
        self.calls = collections.Counter()

    def fail(self, message, code, *params, times=1):
        """The next `times` calls of the message fail with this error and do nothing."""
        with self._lock:
            self._armed[message].extend([Failure(code, *params)] * times)

    def die(self, message):
        """At the next call of the message xapi stops, before it has done anything. Pool.start_xapi() brings it back."""
        with self._lock:
            self._armed[message].append(XapiDied())

    def wait(self, message, event):
        """The next call of the message waits until the threading.Event is set."""
        with self._lock:
            self._armed[message].append(event)

    def clear(self):
        """Remove all faults; calls that wait go on waiting."""
        with self._lock:
            self._armed.clear()

    def apply(self, message):
        """Count a call of the message, and fail as its armed fault says."""
        with self._lock:
            self.calls[message] += 1
            fault = self._armed[message].popleft() if self._armed[message] else None
        if isinstance(fault, Exception):
            raise fault
        if fault is not None:
            fault.wait()
