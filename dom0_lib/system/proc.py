# SPDX-License-Identifier: Apache-2.0
"""Programs run with a list of arguments, a bare environment, a deadline and bounded output.

Without the subprocess module, which costs a short call 13-18 ms on Python 3.
"""

from __future__ import absolute_import, division

import errno
import os
import select

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib import termination

_MAX_OUTPUT_BYTES = 1 << 20
_READ_BYTES = 65536
_SIGKILL = 9
_SHOWN_CHARACTERS = 300
_CHECK_EVERY_S = 0.5
# The time for a program to end the programs that it has started.
_GRACE_S = 1.0


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
        """The first line that is not blank, of stdout or else of stderr, for an error."""
        for text in (self.output, self.error_output):
            for line in text.splitlines():
                if line.strip():
                    return line.strip()[:_SHOWN_CHARACTERS]
        return ''


def run(argv, deadline_s, ok_statuses=(0,), input_data=b'', check=None, max_output_bytes=_MAX_OUTPUT_BYTES, take_output=None,
        starts_others=False):
    """Run a program found on PATH and wait for it.

    input_data:    bytes for its stdin; check(): called at least every half second, an exception from it kills the program
    take_output:   function(bytes) that gets its stdout as it comes; `output` is then empty, and only stderr is bounded
    starts_others: it starts programs that it must end itself, so it gets SIGTERM before SIGKILL, also when this process dies
    Raises errors.CommandNotFound; errors.CommandFailed for a status not in `ok_statuses` (None: accept all; a signal's number is
    below zero), for output beyond `max_output_bytes`, and after `deadline_s` seconds, when it has been killed.
    """
    program = _Program(argv[0], starts_others)
    try:
        with termination.Shield():  # a signal between the start and the assignment would lose the program
            program.start(argv, bool(input_data))
        completed = _collect(program, deadline_s, memoryview(input_data), check, max_output_bytes, take_output)
    finally:
        program.end()
    if ok_statuses is not None and completed.status not in ok_statuses:
        raise errors.CommandFailed(argv[0], completed.status, completed.first_line())
    return completed


def require(command):
    """Raises errors.CommandNotFound unless run() would find the program."""
    _find(command, _search_path())


def _search_path():
    return os.environ.get('PATH', os.defpath)


class _Program(object):
    """A running program: our ends of its streams, as descriptors, and its status once it has ended."""

    def __init__(self, command, starts_others):
        self.command = command
        self._starts_others = starts_others
        self.status = None
        self.stdin = self.stdout = self.stderr = None
        self._pid = None
        self._open = set()

    def start(self, argv, has_input):
        search_path = _search_path()
        path = _find(self.command, search_path)
        if has_input:
            stdin, self.stdin = self._make_pipe()
        else:
            stdin = self._keep(os.open(os.devnull, os.O_RDONLY))  # XAPI's stdin cannot be read
        self.stdout, stdout = self._make_pipe()
        self.stderr, stderr = self._make_pipe()
        try:
            self._pid = compat.start_program(path, argv, {'PATH': search_path, 'LC_ALL': 'C'}, [stdin, stdout, stderr],
                                              self._starts_others)
        except EnvironmentError as error:
            if error.errno == errno.ENOENT:  # the interpreter of a script is missing
                raise errors.CommandNotFound(self.command)
            raise
        for theirs in (stdin, stdout, stderr):
            self.close(theirs)

    def _make_pipe(self):
        ends = os.pipe()
        for end in ends:
            compat.keep_from_children(self._keep(end))
        return ends

    def _keep(self, descriptor):
        self._open.add(descriptor)
        return descriptor

    def close(self, descriptor):
        self._open.discard(descriptor)
        os.close(descriptor)

    def has_ended(self):
        """Whether the program has ended; if so, `status` is set."""
        if self.status is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self.status = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
        return self.status is not None

    def end(self):
        """Kill the program if it runs, and close everything."""
        with termination.Shield():
            if self._pid and not self.has_ended():
                if self._starts_others:
                    os.kill(self._pid, compat.SIGTERM)
                    _wait(self, compat.monotonic_s() + _GRACE_S, check=None)
            if self._pid and not self.has_ended():
                os.kill(self._pid, _SIGKILL)
                while not self.has_ended():
                    _ready([], [], 0.001)
        for descriptor in list(self._open):
            self.close(descriptor)


def _find(command, search_path):
    for directory in search_path.split(os.pathsep):
        path = os.path.join(directory, command)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    raise errors.CommandNotFound(command)


def _collect(program, deadline_s, unsent, check, max_output_bytes, take_output):
    pieces = {program.stdout: [], program.stderr: []}
    waiting = list(pieces)
    ends_at = compat.monotonic_s() + deadline_s
    size_bytes = 0
    while waiting:
        left_s = ends_at - compat.monotonic_s()
        if left_s <= 0:
            raise errors.CommandFailed(program.command, None, 'it did not end within %d s' % deadline_s)
        if check:
            check()
        readable, writable = _ready(waiting, [program.stdin] if unsent else [], min(left_s, _CHECK_EVERY_S) if check else left_s)
        if writable:
            unsent = unsent[_send(program.stdin, unsent):]
            if not unsent:
                program.close(program.stdin)
        for stream in readable:
            data = os.read(stream, _READ_BYTES)
            if not data:
                waiting.remove(stream)
            if take_output and stream == program.stdout:
                if data:
                    take_output(data)
                continue
            pieces[stream].append(data)
            size_bytes += len(data)
        if size_bytes > max_output_bytes:
            raise errors.CommandFailed(program.command, None, 'it wrote more than %d bytes' % max_output_bytes)
    if not _wait(program, ends_at, check):
        raise errors.CommandFailed(program.command, None, 'it did not end within %d s' % deadline_s)
    return Completed(program.status, *[b''.join(pieces[stream]) for stream in (program.stdout, program.stderr)])


def _send(descriptor, data):
    """The number of bytes written.  If the program has closed its stdin, pretend that it took all: its exit status will tell."""
    try:
        # A pipe that select() calls writable takes this many bytes without a wait.
        return os.write(descriptor, data[:select.PIPE_BUF])
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


def _wait(program, ends_at, check):
    """Whether the program ended in time.  This waits in short steps, because waitpid() has no deadline."""
    pause_s = 0.0005
    while not program.has_ended():
        if compat.monotonic_s() >= ends_at:
            return False
        if check:
            check()
        _ready([], [], pause_s)
        pause_s = min(2 * pause_s, 0.05)
    return True
