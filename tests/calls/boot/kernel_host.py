# SPDX-License-Identifier: Apache-2.0
"""A host with disks that hold kernels, for tests of kernel.py; and what must be as it was after a call."""

import contextlib
import json
import os
import uuid

import XenAPI

from tests.calls.images import transfer_cases
from tests.harness.pool import Pool
from tests.harness.vhd import vhd_writer

PLUGIN = "kernel.py"
BOOT_GUEST = "/boot/guest"
DETACH_WAIT_S = 2
MIB = 1 << 20
DISK_BYTES = 6 * MIB
KERNEL_BYTES = 5 * MIB + 12345
KERNEL = transfer_cases.random_bytes("kernel", KERNEL_BYTES)


class KernelHost(object):

    def __init__(self, pool):
        self.pool = pool
        self.host = pool.hosts[0]
        self.sr = pool.srs[0]
        self._write_settings("reserve = 1")
        self.directory = os.path.realpath(self.host.dom0.locate(BOOT_GUEST))

    def _write_settings(self, line):
        transfer_cases.write_settings(self.host, "[transfer]\ndetach_wait = %d\n%s\n" % (DETACH_WAIT_S, line))

    @contextlib.contextmanager
    def settings(self, line):
        """The host's settings, besides the short wait, are for this block another line of [transfer]."""
        self._write_settings(line)
        yield
        self._write_settings("reserve = 1")

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
        texts = transfer_cases.encode_plain({name.replace("_", "-"): value for name, value in arguments.items()})
        return self.pool.call(PLUGIN, function, texts)

    def copy(self, vdi_ref, size_bytes=KERNEL_BYTES, **arguments):
        return self.call("copy_vdi", vdi_ref=vdi_ref, image_size=str(size_bytes), **arguments)

    def sweep(self, **arguments):
        return json.loads(self.call("sweep", **arguments))

    def attempt(self, call):
        """The details of a call's failure; None if it succeeded."""
        try:
            call()
        except XenAPI.Failure as failure:
            return failure.details
        return None

    def read(self, name):
        with open(os.path.join(self.directory, name), "rb") as source:
            return source.read()

    def list_vbds(self):
        return list(self.pool.database.records("VBD").values())

    def list_devices(self):
        return [name for name in os.listdir(self.host.dom0.locate("/dev")) if name.startswith("xvd")]

    def check_nothing_plugged(self):
        assert self.list_vbds() == [] and self.list_devices() == []

    @contextlib.contextmanager
    def unchanged(self):
        """/boot/guest and the disks must be after the block what they were before, and nothing is plugged."""
        with transfer_cases.unchanged(self.directory), transfer_cases.unchanged(self.sr.path):
            yield
        self.check_nothing_plugged()


@contextlib.contextmanager
def open_kernel_host(python):
    with Pool(python=python) as pool:
        yield KernelHost(pool)
