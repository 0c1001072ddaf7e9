# SPDX-License-Identifier: Apache-2.0
"""One plug-in, started as xapi's forkexecd starts it.

    argv       the executable's path and one argument: the whole methodCall
    env        PATH, and DOM0_ROOT, which real hosts do not have
    cwd        /
    stdin      /dev/null opened for writing only: reading it fails with EBADF
    stdout,    regular files, so a grandchild that keeps them open holds nobody up
    stderr
    fds        0, 1 and 2 only
    session    its own (setsid)
    signals    SIGPIPE ignored, all others as the kernel's default
    rlimits    at most 1024 open files (soft)
    deadline   none

Sources: ocaml/forkexecd/lib/forkhelpers.ml, src/child.ml, helper/vfork_helper.c in xapi-project/xen-api.
"""

import errno
import os
import resource
import signal
import tempfile
import time

from tests.harness.dom0 import plugin_reply
from tests.harness.system import programs
from tests.harness.xapi import xapi_xml
from tests.harness.xapi.failures import Failure

_OPEN_FILES_MAX = 1024
_CLOSE_TIMEOUT_S = 60
_RESET_SIGNALS = [number for number in signal.valid_signals()
                  if number not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE)]


class PluginProcess(object):
    """Runs the plug-ins of one host and knows those that are running.

    environment     the whole environment of a plug-in
    spool_dir       directory for the output of running plug-ins
    log             function(line): the host's syslog
    namespace       MountNamespace that plug-ins enter, or None; may be changed between calls
    """

    def __init__(self, environment, spool_dir, log):
        self._environment = environment
        self._spool_dir = spool_dir
        self._log = log
        self._running = {}
        self._calls = set()
        self.namespace = None

    def call(self, path, function, session_ref, arguments):
        """The text that the plug-in at `path`, as it sees it, answers. Raises Failure."""
        argument = xapi_xml.encode_call(function, session_ref, arguments)
        status, output, errors = self._run(path, argument)
        if status == 0:
            return plugin_reply.decode(output)
        reason = "signal: %s" % _name_signal(-status) if status < 0 else "non-zero exit"
        raise Failure("XENAPI_PLUGIN_FAILURE", reason, _to_text(output), _to_text(errors))

    def running_pids(self):
        return list(self._running)

    def close(self):
        """Kill the plug-ins that still run and their children: each leads its own session. Raises TimeoutError."""
        deadline = time.monotonic() + _CLOSE_TIMEOUT_S
        while self._calls:
            for pid in self.running_pids():
                try:
                    os.killpg(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            if time.monotonic() > deadline:
                raise TimeoutError("plug-ins still run after %d s: %s" % (_CLOSE_TIMEOUT_S, self.running_pids()))
            time.sleep(0.01)

    def _run(self, path, argument):
        call = object()
        self._calls.add(call)
        try:
            with tempfile.NamedTemporaryFile(dir=self._spool_dir, prefix="out-") as output, \
                    tempfile.NamedTemporaryFile(dir=self._spool_dir, prefix="err-") as errors:
                pid, status = self._execute(path, argument, output.name, errors.name)
                if status != 0:
                    # The daemon of XenServer 8 and XCP-ng 8.3 does this, secrets in the arguments included.
                    self._log("forkexecd: %s (%s %s) %s" % (pid, path, _to_text(argument), _describe_status(status)))
                return status, output.read(), errors.read()
        finally:
            self._calls.remove(call)

    def _execute(self, path, argument, output_path, errors_path):
        """Process id (0 if there never was a process) and status: exit code, or a signal's number below zero."""
        fds = [os.open(name, os.O_WRONLY) for name in (os.devnull, output_path, errors_path)]
        try:
            process = programs.start(
                [os.fsencode(path), argument], stdin=fds[0], stdout=fds[1], stderr=fds[2], cwd="/",
                env=self._environment, start_new_session=True, restore_signals=False, preexec_fn=self._prepare_child)
        except OSError as error:
            # Too big an argument, no execute permission, a directory, no #! line: forkexecd tells only this one apart.
            return 0, 127 if error.errno == errno.ENOENT else 126
        finally:
            for fd in fds:
                os.close(fd)
        self._running[process.pid] = path
        try:
            return process.pid, process.wait()
        finally:
            del self._running[process.pid]

    def _prepare_child(self):
        # Between fork and exec, in a process that has threads: only calls that take no lock.
        if self.namespace:
            self.namespace.enter()
        for number in _RESET_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == resource.RLIM_INFINITY or soft > _OPEN_FILES_MAX:
            resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES_MAX, hard))


def _name_signal(number):
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def _describe_status(status):
    return "exited with signal: %s" % _name_signal(-status) if status < 0 else "exited with code %d" % status


def _to_text(data):
    return data.decode("utf-8", "surrogateescape")
