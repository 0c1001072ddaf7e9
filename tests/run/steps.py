# SPDX-License-Identifier: Apache-2.0
"""Runs commands with deadlines, alone or side by side, and sums them up."""

import collections
import concurrent.futures
import contextlib
import signal
import subprocess
import tempfile
import threading
import time

from tests.run import environments

# A CI system may stop a job that prints nothing.
HEARTBEAT_S = 60

# pytest takes an interrupt as a wish to tear its fixtures down, which ends the servers that tests have started.
INTERRUPT_GRACE_S = 30

Step = collections.namedtuple("Step", "title command deadline_s")
Result = collections.namedtuple("Result", "title failure seconds")


def run_alone(step):
    """Run `step`, its output going straight through."""
    print("\n--- %s" % step.title, flush=True)
    with _heartbeat(step.title):
        return _run(step, output=None)


def run_together(steps, workers):
    """Run `steps`, `workers` at a time; the output of each is shown in one piece when it ends."""
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        return list(pool.map(_run_captured, steps))


def summarize(results):
    """Print a line per step; returns the exit status."""
    print("\n--- summary")
    for result in results:
        print("%-6s %6.1f s  %s%s" % ("FAILED" if result.failure else "ok", result.seconds, result.title,
                                      " (%s)" % result.failure if result.failure else ""))
    failed_count = sum(1 for result in results if result.failure)
    print("%d of %d steps FAILED" % (failed_count, len(results)) if failed_count else "all %d steps ok" % len(results),
          flush=True)
    return 1 if failed_count else 0


def _run_captured(step):
    with tempfile.TemporaryFile() as output, _heartbeat(step.title):
        result = _run(step, output)
        output.seek(0)
        text = output.read().decode("utf-8", "replace").rstrip()
    print("\n--- %s\n%s" % (step.title, text), flush=True)
    return result


def _run(step, output):
    started = time.monotonic()
    process = subprocess.Popen(step.command, cwd=environments.CHECKOUT, env=environments.clean_environ(),
                               stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, preexec_fn=_reset_interrupt)
    try:
        status = process.wait(step.deadline_s)
        failure = "exit status %d" % status if status else None
    except subprocess.TimeoutExpired:
        failure = "not done after %d s" % step.deadline_s
    finally:
        _end(process)
    return Result(step.title, failure, time.monotonic() - started)


def _reset_interrupt():
    # A shell's background ignores SIGINT, which ends a step. SIGHUP, which nohup ignores, ends none.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _end(process):
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(INTERRUPT_GRACE_S)
    if process.poll() is None:
        process.kill()
        process.wait()


@contextlib.contextmanager
def _heartbeat(title):
    started = time.monotonic()
    ended = threading.Event()

    def beat():
        while not ended.wait(HEARTBEAT_S):
            print("... %s: %d s so far" % (title, time.monotonic() - started), flush=True)
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
