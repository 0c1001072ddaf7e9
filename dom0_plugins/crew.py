# SPDX-License-Identifier: Apache-2.0
"""Threads that do the same to many things at once."""

import queue
import threading
import time

THREADS = 8
# After Ctrl-C the program waits this long for running calls to end in order.
_FAREWELL_S = 5


def do_all(function, items, stopping, on_done=lambda: None):
    """function(item) for each of them, THREADS at a time; [what it returned], in the items' order.

    stopping: threading.Event, set when the wait is interrupted; then `function` should end soon. on_done: called after each
    item. What `function` raises is raised when all others are done.
    """
    items = list(items)
    waiting, done = queue.SimpleQueue(), queue.SimpleQueue()
    for place, item in enumerate(items):
        waiting.put((place, item))

    def work():
        while not stopping.is_set():
            try:
                place, item = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((place, function(item), None))
            except BaseException as error:
                done.put((place, None, error))

    # Daemons: one that hangs in a socket does not hold up the end of the program.
    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(THREADS, len(items)))]
    for thread in threads:
        thread.start()
    results, failures = [None] * len(items), []
    try:
        for _ in items:
            place, results[place], error = done.get()
            if error:
                failures.append(error)
            on_done()
    except BaseException:
        stopping.set()
        deadline = time.monotonic() + _FAREWELL_S
        for thread in threads:
            thread.join(max(0, deadline - time.monotonic()))
        raise
    if failures:
        raise failures[0]
    return results
