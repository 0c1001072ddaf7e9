# SPDX-License-Identifier: Apache-2.0
"""Watches, which measure a job: `with watch("name of its row"): ...` around the job itself.

The same function is timed with a Stopwatch and, once, looked at with a MemoryWatch, so that looking costs no time.
"""

import collections
import contextlib
import os
import resource
import threading
import time

SAMPLE_PAUSE_S = 0.005

# wall_s: until the job's last process has ended; cpu_s: user and system time of its processes
Reading = collections.namedtuple("Reading", "wall_s cpu_s")
# largest_bytes: the peak of its largest process; together_bytes: of all its processes at one moment. Both resident, libraries
# that they share counted in each.
Peak = collections.namedtuple("Peak", "largest_bytes together_bytes")


class Stopwatch(object):
    """readings: {row: Reading}, in the order of the job; sizes: {row: bytes} of the results, to be filled in."""

    def __init__(self):
        self.readings = {}
        self.sizes = {}

    @contextlib.contextmanager
    def __call__(self, row, after=None):
        """Measure the block; `after`: the row that this continues, whose reading is added."""
        started = self.readings.get(after, Reading(0.0, 0.0))
        cpu_s, wall_s = _children_cpu_s(), time.perf_counter()
        yield
        wall_s = time.perf_counter() - wall_s
        self.readings[row] = Reading(started.wall_s + wall_s, started.cpu_s + _children_cpu_s() - cpu_s)


class MemoryWatch(object):
    """readings: {row: Peak}; sizes: as of a Stopwatch.

    A process's own peak is the kernel's record of it, looked at every 5 ms while it lives.  rusage would have it exactly, but
    its ru_maxrss begins with what this process had when it forked.
    """

    def __init__(self):
        self.readings = {}
        self.sizes = {}
        self._older = set(_list_children(os.getpid()))

    @contextlib.contextmanager
    def __call__(self, row, after=None):
        done = threading.Event()
        peak = [self.readings.get(after, Peak(0, 0))]

        def sample():
            while not done.wait(SAMPLE_PAUSE_S):
                sizes = list(self._read_sizes(os.getpid(), self._older))
                largest = max([size.largest_bytes for size in sizes] or [0])
                together = sum(size.together_bytes for size in sizes)
                peak[0] = Peak(max(peak[0].largest_bytes, largest), max(peak[0].together_bytes, together))
        thread = threading.Thread(target=sample, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
        self.readings[row] = peak[0]

    def _read_sizes(self, parent_pid, ignored=()):
        """(its own peak, its present size) of each process below a parent."""
        for pid in _list_children(parent_pid):
            if pid in ignored:
                continue
            # Between fork and exec a process is its parent's twin and has no memory of its own to speak of.
            if _read(pid, "cmdline") != _read(parent_pid, "cmdline"):
                fields = dict(line.split(":", 1) for line in _read(pid, "status").splitlines() if line.startswith("Vm"))
                if fields:
                    yield Peak(_parse_kib(fields["VmHWM"]), _parse_kib(fields["VmRSS"]))
            for size in self._read_sizes(pid):
                yield size


def _children_cpu_s():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _list_children(pid):
    try:
        threads = os.listdir("/proc/%d/task" % pid)
    except OSError:
        threads = []
    return [int(child) for thread in threads for child in _read(pid, "task/%s/children" % thread).split()]


def _read(pid, name):
    try:
        with open("/proc/%d/%s" % (pid, name)) as source:
            return source.read()
    except OSError:  # it has ended
        return ""


def _parse_kib(text):
    return int(text.split()[0]) * 1024
