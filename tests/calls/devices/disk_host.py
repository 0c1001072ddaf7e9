# SPDX-License-Identifier: Apache-2.0
"""A host into whose dom0 disks are plugged, with the machine's loop devices in its /dev."""

import contextlib
import glob
import os
import uuid

from tests.calls import calls
from tests.calls.scene import Scene
from tests.harness.pool import Pool

PLUGIN = "partition_utils.py"
MIB = 1 << 20
DISK_BYTES = 40 * MIB
# Nodes of loop devices; the machine may have fewer devices, then some nodes lead nowhere.
LOOPS = 64


class DiskHost(Scene):
    """A host with the machine's loop driver, and disks plugged into its dom0."""

    plugin = PLUGIN

    def __init__(self, pool):
        super().__init__(pool)
        self.api = pool.login().xenapi
        for name in ["loop-control"] + ["loop%d" % number for number in range(LOOPS)]:
            os.symlink("/dev/" + name, self.node(name))
        os.symlink("/sys/block", self.locate("/sys/block"))

    def node(self, device):
        """The path of a device's node, on this machine."""
        return os.path.join(self.locate("/dev"), device)

    def plug(self, size_bytes=DISK_BYTES, mode="RW", content=b""):
        """(device, VBD): a new VDI as a file below /dev."""
        name = str(uuid.uuid4())
        with open(os.path.join(self.sr.path, name + ".raw"), "wb") as target:
            target.write(content)
            target.truncate(size_bytes)
        self.sr.scan()
        database = self.pool.database
        vbd = self.api.VBD.create({
            "VM": self.host.control_domain_ref, "VDI": database.ref_by_uuid("VDI", name), "userdevice": "autodetect",
            "bootable": False, "mode": mode, "type": "Disk", "unpluggable": True, "empty": False, "other_config": {},
            "qos_algorithm_type": "", "qos_algorithm_params": {}})
        self.api.VBD.plug(vbd)
        return database.get("VBD", vbd, "device"), vbd

    def list_loops(self):
        """The backing files of the machine's loop devices that are this host's."""
        found = []
        for path in glob.glob("/sys/block/loop*/loop/backing_file"):
            with contextlib.suppress(OSError):  # it has gone meanwhile
                with open(path) as source:
                    found += [line for line in source if line.startswith(self.pool.root)]
        return found

    def unplug_all(self):
        """Remove every device, also those that a test has replaced with another kind of file."""
        for vbd in self.pool.database.refs("VBD"):
            device = self.pool.database.get("VBD", vbd, "device")
            if device:
                self.remove(device)
            self.pool.database.destroy("VBD", vbd)

    def remove(self, device):
        path = self.node(device)
        if os.path.isdir(path):
            os.rmdir(path)
        elif os.path.lexists(path):
            os.unlink(path)

    def ask(self, function, *positional, **arguments):
        """The value that a legacy call returns for positional arguments, a plain one for named ones."""
        if positional:
            return calls.call_legacy(self.pool, PLUGIN, function, *positional)
        return super().ask(function, **arguments)

    def read_device(self, device):
        with open(self.node(device), "rb") as source:
            return source.read()


@contextlib.contextmanager
def open_disk_host(python):
    with Pool(python=python) as pool:
        host = DiskHost(pool)
        yield host
        assert host.list_loops() == [], "a loop device is left"
