# SPDX-License-Identifier: Apache-2.0
"""Executable files of simulated hosts, and the starts of processes beside them.

A process that is being started has copies of all descriptors of this one until it becomes its program. A file that is open for
writing at that moment cannot be started: "Text file busy". Threads of the harness start plug-ins at any time, so
one lock keeps the two apart.
"""

import os
import signal
import subprocess
import threading

_lock = threading.Lock()


def write(path, content):
    """Write an executable, text or bytes; an old file is replaced."""
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogateescape")
    with _lock:
        with open(path, "wb") as program:
            program.write(content)
        os.chmod(path, 0o755)


def reset_interrupts():
    """A preexec_fn: the program dies of SIGINT and SIGHUP. Below nohup, or in a shell's background, it would inherit that they are
    ignored; and a shell cannot trap a signal that was ignored when it began."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def start(command, **options):
    """A started subprocess.Popen, which has become its program."""
    with _lock:
        return subprocess.Popen(command, **options)
