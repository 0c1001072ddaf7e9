# SPDX-License-Identifier: Apache-2.0
"""Operations on the files of an SR that fail, or at which the call dies, chosen by number: in the plug-in and in its children.

    mkdir open(O_CREAT) write pwrite ftruncate fsync fdatasync link symlink rename unlink rmdir

disk_faults.c does it from inside each process (LD_PRELOAD); this compiles it, and arms it.
"""

import contextlib
import errno
import os
import struct

from tests.security import preload

# struct plan
_PLAN = struct.Struct("llllll4096s")
_WRAPPER = """#!/bin/sh
LD_PRELOAD='{library}' DISK_FAULTS='{plan}' exec '{program}' "$@"
"""
FOR_EVER = 1 << 40
NO_LINKS, NO_LOCKS = 1, 2
# Names of the failures in DiskFaults.armed().
EIO, ENOSPC, DEATH = errno.EIO, errno.ENOSPC, 0


class DiskFaults(object):
    """For the plug-ins of one simulated host, on the files below `place`; nothing fails until it is armed."""

    def __init__(self, dom0, place, directory):
        self._place = os.fsencode(os.path.realpath(place))
        self._library = preload.build("disk_faults", directory)
        self._plan = os.path.join(directory, "plan")
        self._denied = 0
        # How many operations there were while it was armed.
        self.passed = 0
        self._write()
        dom0.plugin_environment.update(LD_PRELOAD=self._library, DISK_FAULTS=self._plan)
        # A plug-in's children inherit no environment.
        program = os.path.join(dom0.bin_dir, "vhd-util")
        os.rename(program, program + ".unwrapped")
        dom0.add_program("vhd-util", _WRAPPER.format(library=self._library, plan=self._plan, program=program + ".unwrapped"))

    def _write(self, first=FOR_EVER, last=FOR_EVER, error=0, death=FOR_EVER):
        with open(self._plan, "r+b" if os.path.exists(self._plan) else "wb") as plan:  # it is mapped: never a new file
            plan.write(_PLAN.pack(0, first, last, error, death, self._denied, self._place))

    @contextlib.contextmanager
    def armed(self, number, failure, count=1, dies_after=FOR_EVER):
        """Within, the `number`-th operation fails, or the call dies there; `count` operations from there on.

        dies_after: how many operations after the first failure the call dies, while it cleans up
        """
        self._write(number, number + count - 1, failure, number + dies_after)
        try:
            yield
        finally:
            with open(self._plan, "rb") as plan:
                self.passed = _PLAN.unpack(plan.read())[0]
            self._write()

    @contextlib.contextmanager
    def denied(self, what):
        """Within, the file system has no hard links (NO_LINKS), or no locks (NO_LOCKS)."""
        self._denied = what
        self._write()
        try:
            yield
        finally:
            self._denied = 0
            self._write()
