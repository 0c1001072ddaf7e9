# SPDX-License-Identifier: Apache-2.0
"""A host with disks that hold kernels, for tests of kernel.py, and the state that a call must leave as it was."""

import contextlib
import os
import uuid

from tests.calls import sr_disks
from tests.calls.scene import Scene
from tests.harness.pool import Pool
from tests.harness.vhd import vhd_writer

PLUGIN = "kernel.py"
BOOT_GUEST = "/boot/guest"
DETACH_WAIT_S = 2
MIB = 1 << 20
DISK_BYTES = 6 * MIB
KERNEL_BYTES = 5 * MIB + 12345
KERNEL = sr_disks.random_bytes("kernel", KERNEL_BYTES)


class KernelHost(Scene):

    plugin = PLUGIN

    def __init__(self, pool):
        super().__init__(pool)
        self._write_line("reserve = 1")
        self.directory = os.path.realpath(self.locate(BOOT_GUEST))

    def _write_line(self, line):
        self.write_settings("[transfer]\ndetach_wait = %d\n%s\n" % (DETACH_WAIT_S, line))

    @contextlib.contextmanager
    def settings(self, line):
        """The host's settings, besides the short wait, are for this block another line of [transfer]."""
        self._write_line(line)
        yield
        self._write_line("reserve = 1")

    def add_disk(self, content=KERNEL, is_vhd=False, size_bytes=DISK_BYTES):
        """A VDI with this content, zeros behind it: (uuid, reference)."""
        name = str(uuid.uuid4())
        path = os.path.join(self.sr.path, name)
        if is_vhd:
            vhd_writer.write_dynamic(path + ".vhd", [(0, content)], size_bytes)
        else:
            with open(path + ".raw", "wb") as target:
                target.write(content)
                target.truncate(size_bytes)
        self.sr.scan()
        return name, self.pool.database.ref_by_uuid("VDI", name)

    def call(self, function, **arguments):
        """The reply, as text; arguments with _ for - in their names."""
        return super().call(function, **{name.replace("_", "-"): value for name, value in arguments.items()})

    def copy(self, vdi_ref, size_bytes=KERNEL_BYTES, **arguments):
        return self.call("copy_vdi", vdi_ref=vdi_ref, image_size=str(size_bytes), **arguments)

    def sweep(self, **arguments):
        return self.ask("sweep", **arguments)

    def read_kernel(self, name):
        with open(os.path.join(self.directory, name), "rb") as source:
            return source.read()

    def list_vbds(self):
        return list(self.pool.database.records("VBD").values())

    def list_devices(self):
        return [name for name in os.listdir(self.locate("/dev")) if name.startswith("xvd")]

    def check_nothing_plugged(self):
        assert self.list_vbds() == [] and self.list_devices() == []

    @contextlib.contextmanager
    def unchanged(self):
        """After the block /boot/guest and the disks must be as before, and nothing is plugged."""
        with sr_disks.unchanged(self.directory), sr_disks.unchanged(self.sr.path):
            yield
        self.check_nothing_plugged()


@contextlib.contextmanager
def open_kernel_host(python):
    with Pool(python=python) as pool:
        yield KernelHost(pool)
