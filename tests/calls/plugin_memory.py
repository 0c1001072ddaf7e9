# SPDX-License-Identifier: Apache-2.0
"""How much memory a host's plug-ins take, children not counted."""

import contextlib
import threading

_PAUSE_S = 0.005


class Peak(object):
    """kib: the largest resident size that a plug-in has had."""

    def __init__(self):
        self.kib = 0

    def look(self, pid):
        try:
            with open("/proc/%d/status" % pid) as source:
                self.kib = max([self.kib] + [int(line.split()[1]) for line in source if line.startswith("VmHWM")])
        except OSError:
            pass  # it has ended


@contextlib.contextmanager
def watched(host):
    """The Peak of the plug-ins that run on a host during the block, by the kernel's own record of each."""
    peak, done = Peak(), threading.Event()

    def watch():
        while not done.wait(_PAUSE_S):
            for pid in host.dom0.processes.running_pids():
                peak.look(pid)
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()
