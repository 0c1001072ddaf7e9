# SPDX-License-Identifier: Apache-2.0
"""Kills calls at random moments of their work, however long this takes on the machine."""

import contextlib
import os
import signal
import threading
import time

from tests import patience

# One call in five ends before its kill, and is the measure of those after it.
_LATEST = 1.25
_POLL_S = 0.001


class RandomKills(object):
    """Kills for one kind of call on a host.

    The first call is left alone and measured, the second is killed as soon as it has a process, and each later one at a moment
    that is drawn from the time that the last whole call took.
    """

    def __init__(self, processes, generator):
        """processes: the host's PluginProcess; generator: a random.Random."""
        self._processes = processes
        self._generator = generator
        self._whole_s = None
        self._count = 0

    def meet(self, call):
        """Make a call in a thread, and kill its process at its moment; returns what `call` returns."""
        results = []
        thread = threading.Thread(target=lambda: results.append(call()), daemon=True)
        thread.start()
        while thread.is_alive() and not self._processes.running_pids():
            time.sleep(_POLL_S)
        began = time.monotonic()
        thread.join(self._draw_s())
        is_whole = not thread.is_alive()
        for pid in self._processes.running_pids():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        thread.join(patience.LIMIT_S)
        assert results, "the call did not end"
        if is_whole:
            self._whole_s = time.monotonic() - began
        return results[0]

    def _draw_s(self):
        self._count += 1
        if self._whole_s is None:
            return patience.LIMIT_S
        return 0 if self._count == 2 else self._generator.uniform(0, _LATEST * self._whole_s)
