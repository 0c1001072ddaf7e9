# SPDX-License-Identifier: Apache-2.0
"""Programs run with a list of arguments, a bare environment, a deadline and bounded output."""

from __future__ import absolute_import, division

import errno
import os
import select
import subprocess

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib import termination

_MAX_OUTPUT_BYTES = 1 << 20
_SHOWN_CHARACTERS = 300
_CHECK_EVERY_S = 0.5


class Completed(object):
    """How a program ended: `status`, `output` (stdout) and `error_output` (stderr) as text, and both as bytes."""

    def __init__(self, status, output_bytes, error_bytes):
        self.status = status
        self.output_bytes = output_bytes
        self.error_bytes = error_bytes

    @property
    def output(self):
        return self.output_bytes.decode('utf-8', 'replace')

    @property
    def error_output(self):
        return self.error_bytes.decode('utf-8', 'replace')

    def first_line(self):
        """The first line that says something, stdout before stderr, for an error."""
        for text in (self.output, self.error_output):
            for line in text.splitlines():
                if line.strip():
                    return line.strip()[:_SHOWN_CHARACTERS]
        return ''


def run(argv, deadline_s, ok_statuses=(0,), input_data=b'', check=None):
    """Run a program found on PATH and wait for it.

    input_data: bytes for its stdin; check(): called at least every half second, what it raises kills the program
    Raises errors.CommandNotFound; errors.CommandFailed for a status not in `ok_statuses` (None: accept all), for output
    beyond 1 MiB, and after `deadline_s` seconds, when it has been killed.
    """
    process = None
    try:
        with termination.Shield():  # a signal must not come between the start and our knowing of it
            process = _start(argv, bool(input_data))
        completed = _collect(process, argv[0], deadline_s, memoryview(input_data), check)
    finally:
        if process:
            _reap(process)
    if ok_statuses is not None and completed.status not in ok_statuses:
        raise errors.CommandFailed(argv[0], completed.status, completed.first_line())
    return completed


def _start(argv, has_input):
    with open(os.devnull, 'rb') as nothing:  # XAPI's stdin cannot be read
        try:
            return subprocess.Popen(
                argv, stdin=subprocess.PIPE if has_input else nothing, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                close_fds=True, env={'PATH': os.environ.get('PATH', os.defpath), 'LC_ALL': 'C'})
        except EnvironmentError as error:
            if error.errno == errno.ENOENT:
                raise errors.CommandNotFound(argv[0])
            raise


def _collect(process, command, deadline_s, unsent, check):
    pieces = {process.stdout: [], process.stderr: []}
    waiting = list(pieces)
    ends_at = compat.monotonic_s() + deadline_s
    size_bytes = 0
    while waiting:
        left_s = ends_at - compat.monotonic_s()
        if left_s <= 0:
            raise errors.CommandFailed(command, None, 'it did not end within %d s' % deadline_s)
        if check:
            check()
        readable, writable = _ready(waiting, [process.stdin] if unsent else [], min(left_s, _CHECK_EVERY_S) if check else left_s)
        if writable:
            unsent = unsent[_send(process.stdin, unsent):]
            if not unsent:
                process.stdin.close()
        for stream in readable:
            data = os.read(stream.fileno(), 65536)
            if not data:
                waiting.remove(stream)
            pieces[stream].append(data)
            size_bytes += len(data)
        if size_bytes > _MAX_OUTPUT_BYTES:
            raise errors.CommandFailed(command, None, 'it wrote more than %d bytes' % _MAX_OUTPUT_BYTES)
    status = _wait(process, ends_at, check)
    if status is None:
        raise errors.CommandFailed(command, None, 'it did not end within %d s' % deadline_s)
    return Completed(status, *[b''.join(pieces[stream]) for stream in (process.stdout, process.stderr)])


def _send(stream, data):
    """How many bytes were taken; all of them by a program that no longer reads, as its status tells what it thought of them."""
    try:
        # A pipe that select() calls writable takes this much without a wait.
        return os.write(stream.fileno(), data[:select.PIPE_BUF])
    except EnvironmentError as error:
        if error.errno == errno.EPIPE:
            return len(data)
        raise


def _ready(readers, writers, timeout_s):
    try:
        return select.select(readers, writers, [], timeout_s)[:2]
    except select.error as error:
        if error.args[0] == errno.EINTR:  # Python 2 does not resume after a signal
            return [], []
        raise


def _wait(process, ends_at, check):
    """The exit status, waited for in short steps: Python 2's wait() knows no deadline.  None when time is up."""
    pause_s = 0.0005
    while process.poll() is None:
        if compat.monotonic_s() >= ends_at:
            return None
        if check:
            check()
        select.select([], [], [], pause_s)
        pause_s = min(2 * pause_s, 0.05)
    return process.returncode


def _reap(process):
    if process.poll() is None:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            stream.close()
