# SPDX-License-Identifier: Apache-2.0
"""SIGTERM, SIGINT and SIGHUP become an exception, so that every `finally` runs, but never inside a shielded step."""

from __future__ import absolute_import, division

import os

from dom0_lib import compat
from dom0_lib import errors

# Every plug-in imports this module first, in its main thread.
_MAIN_THREAD_ID = compat.thread_id()
_SIGNALS = (compat.SIGTERM, compat.SIGINT, compat.SIGHUP)


class _Receiver(object):
    """The answer to the signals: errors.Terminated in the main thread, once, and not while a shield is up."""

    def __init__(self):
        self._shields = 0
        self._pending = None
        self.is_ending = False

    def receive(self, signal_number, _frame):
        # Not SIG_IGN after the first one: of two signals in the same instant Python 3.6 would call the second one's handler, the
        # number SIG_IGN, and the programs that the cleaning starts would inherit SIG_IGN.
        if self.is_ending:
            return
        if self._shields:
            self._pending = signal_number
            return
        self._end(signal_number)

    def _end(self, signal_number):
        self.is_ending = True
        raise errors.Terminated(signal_number)

    def raise_shield(self):
        self._shields += 1

    def lower_shield(self):
        self._shields -= 1
        if not self._shields and self._pending is not None:
            signal_number, self._pending = self._pending, None
            self._end(signal_number)

    def settle(self):
        self.is_ending = True
        self._pending = None


_receiver = _Receiver()
_cleanups = []


def install():
    """From now on a signal that asks the process to end raises errors.Terminated in the main thread."""
    for number in _SIGNALS:
        compat.raw_signal.signal(number, _receiver.receive)


class Shield(object):
    """`with Shield():` holds such a signal back until the block has ended.

    For steps that take milliseconds and must not be left half-way: publishing a chain, removing a staging area.  In threads
    other than the main one it does nothing: Python delivers signals to the main thread alone.
    """

    def __enter__(self):
        self._is_up = compat.thread_id() == _MAIN_THREAD_ID
        if self._is_up:
            _receiver.raise_shield()
        return self

    def __exit__(self, kind, value, traceback):
        if self._is_up:
            _receiver.lower_shield()


def settle():
    """The work of the call is done: from now on such a signal is ignored, and the process ends with its answer."""
    _receiver.settle()


def remember(cleanup):
    """Have cleanup() called before the process dies of a signal, unless it is forgotten before.

    A `finally` alone is not enough: the signal may come after it has begun and before its shield is up.
    """
    _cleanups.append(cleanup)


def forget(cleanup):
    """Take back remember(): the cleanup is done."""
    _cleanups.remove(cleanup)


def clean_up():
    """Call the remembered cleanups, the latest first."""
    for cleanup in reversed(list(_cleanups)):
        cleanup()


def die_of(signal_number):
    """Clean up, and end this process by the signal itself: XAPI reports `signal: SIGTERM` and callers retry on that word."""
    clean_up()
    compat.raw_signal.signal(signal_number, compat.raw_signal.SIG_DFL)
    os.kill(os.getpid(), signal_number)
