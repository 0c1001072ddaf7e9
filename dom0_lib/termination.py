# SPDX-License-Identifier: Apache-2.0
"""SIGTERM and its kin become an exception, so that every `finally` runs, but never inside a shielded step."""

from __future__ import absolute_import, division

import os

from dom0_lib import compat
from dom0_lib import errors

# The one that imports this first, which every plug-in does before it does anything else.
_MAIN_THREAD_ID = compat.thread_id()
_SIGNALS = (compat.SIGTERM, compat.SIGINT, compat.SIGHUP)


class _State(object):
    shields = 0
    pending = None
    ending = False
    cleanups = []


def _receive(signal_number, _frame):
    # Not SIG_IGN from the first one on: of two signals in the same instant Python 3.6 would call the second one's handler, the
    # number SIG_IGN, and the programs that cleaning up starts would inherit the deafness.
    if _State.ending:
        return
    if _State.shields:
        _State.pending = signal_number
        return
    _end(signal_number)


def _end(signal_number):
    _State.ending = True
    raise errors.Terminated(signal_number)


def install():
    """From now on a signal that asks the process to end raises errors.Terminated in the main thread."""
    for number in _SIGNALS:
        compat.raw_signal.signal(number, _receive)


class Shield(object):
    """`with Shield():` holds such a signal back until the block has ended.

    For steps that take milliseconds and must not be left half-way: publishing a chain, removing a staging area.  In other
    threads than the main one, which alone gets signals, it does nothing.
    """

    def __enter__(self):
        self._is_up = compat.thread_id() == _MAIN_THREAD_ID
        if self._is_up:
            _State.shields += 1
        return self

    def __exit__(self, kind, value, traceback):
        if not self._is_up:
            return
        _State.shields -= 1
        if not _State.shields and _State.pending is not None:
            signal_number, _State.pending = _State.pending, None
            _end(signal_number)


def settle():
    """What the call was to do is done: from now on such a signal is ignored, and the process ends with its answer."""
    _State.ending = True
    _State.pending = None


def remember(cleanup):
    """Have cleanup() called before the process dies of a signal, unless it is forgotten before.

    For what a `finally` alone does not hold: the signal may come when it has begun, and not yet put up its shield.
    """
    _State.cleanups.append(cleanup)


def forget(cleanup):
    """What remember() got is done."""
    _State.cleanups.remove(cleanup)


def clean_up():
    """Do what is remembered, the latest first."""
    for cleanup in reversed(list(_State.cleanups)):
        cleanup()


def die_of(signal_number):
    """Clean up, and end this process by the signal itself: XAPI reports `signal: SIGTERM` and callers retry on that word."""
    clean_up()
    compat.raw_signal.signal(signal_number, compat.raw_signal.SIG_DFL)
    os.kill(os.getpid(), signal_number)
