# SPDX-License-Identifier: Apache-2.0
"""Calls of plug-ins that stop at each sync, and at each change of a name, until a durability.Recording has looked at the files.

sync_recorder.c stops them from inside each process (LD_PRELOAD); this compiles it, and answers it.
"""

import contextlib
import os
import shutil
import socket
import threading

from tests.security import durability
from tests.security import preload

_WRAPPER = """#!/bin/sh
LD_PRELOAD='{library}' SYNC_RECORDER='{socket}' {denial} exec '{program}' "$@"
"""
_TIMEOUT_S = 60


class Recorder(object):
    """Records calls of one simulated host's plug-ins, and of its `programs`.

    roots:      the directories whose files are looked at; their own names are safe
    left_out:   directories in them that are not
    """

    def __init__(self, dom0, roots, directory, programs=("vhd-util",), left_out=()):
        self._dom0 = dom0
        self._roots = [os.path.realpath(root) for root in roots]
        self._left_out = [os.path.realpath(path) for path in left_out]
        self._library = preload.build("sync_recorder", directory)
        self._socket_path = dom0.locate("/run/sync-recorder")  # a short path, as it must be
        self._programs = programs
        self._pinned = {}

    @contextlib.contextmanager
    def recording(self, has_links=True):
        """Yield a Recording of the calls within, complete when the block ends.  has_links: False: link(2) fails in them."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(self._socket_path)
        listener.listen(16)
        recording = durability.Recording(self._roots, self._left_out, self._pinned)
        thread = threading.Thread(target=self._serve, args=(listener, recording))
        thread.start()
        more = {"LD_PRELOAD": self._library, "SYNC_RECORDER": self._socket_path}
        if not has_links:
            more["DENY_LINKS"] = "1"
        self._dom0.plugin_environment.update(more)
        try:
            with self._wrapped_programs("" if has_links else "DENY_LINKS=1"):
                yield recording
        finally:
            for name in more:
                del self._dom0.plugin_environment[name]
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(_TIMEOUT_S)
            listener.close()
            os.unlink(self._socket_path)
        recording.look("the end")
        if recording.failure:
            raise recording.failure

    @contextlib.contextmanager
    def _wrapped_programs(self, denial):
        """A plug-in's children inherit no environment."""
        kept = []
        for name in self._programs:
            path = os.path.join(self._dom0.bin_dir, name)
            program = shutil.which(name, path=self._dom0.environment["PATH"])
            if os.path.exists(path):
                os.rename(path, path + ".unwrapped")
                program = path + ".unwrapped"
            kept.append((path, program))
            self._dom0.add_program(name, _WRAPPER.format(library=self._library, socket=self._socket_path, program=program,
                                                         denial=denial))
        try:
            yield
        finally:
            for path, program in kept:
                os.unlink(path)
                if program == path + ".unwrapped":
                    os.rename(program, path)

    def _serve(self, listener, recording):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return  # the recording has ended
            with connection:
                connection.settimeout(_TIMEOUT_S)
                try:
                    operation, device, inode = connection.recv(64).decode("ascii").split()
                    recording.look(operation, (int(device), int(inode)))
                    connection.send(b"x")
                except Exception as error:
                    recording.failure = error

    def close(self):
        for fd in self._pinned.values():
            os.close(fd)
