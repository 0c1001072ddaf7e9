# SPDX-License-Identifier: Apache-2.0
"""VBD messages: a VDI becomes a device of dom0, which here is a file /dev/<device> under the host's root, or a block device.

A raw VDI is linked there. A VHD is unfolded into a sparse raw file; if it was plugged for writing, what has changed goes
back into the VHD when it is unplugged. A real device shows writes at once; nobody else may look meanwhile in either case.

A plug-in in a mount namespace knows nothing of the harness, and neither does a client in a guest: their device is one, by this
machine's loop driver.  Needs root.
"""

import itertools
import os
import stat
import string
import subprocess
import threading

from tests.harness.storage.storage_messages import read_constructor
from tests.harness.vhd import vhd_image
from tests.harness.vhd import vhd_reader
from tests.harness.xapi.failures import Failure
from tests.harness.xapi.messages import message
from tests.harness.xapi.schema import NULL_REF

_BLOCK_SIZE = 2 << 20
_LOOP_DEADLINE_S = 60
_REQUIRED = ("VM", "VDI", "userdevice", "bootable", "mode", "type", "empty", "other_config", "qos_algorithm_type",
             "qos_algorithm_params")


class BlockDevices(object):

    def __init__(self, database, storage, find_host):
        self._database = database
        self._storage = storage
        self._find_host = find_host
        self._lock = threading.Lock()
        # {VM: directory}: the /dev of guests that look at their disks.
        self.guest_directories = {}
        self._loops = {}

    @message("VBD.create", "record", role="vm-admin", has_async=True)
    def create(self, context, record):
        fields = read_constructor("VBD", record, _REQUIRED)
        vm = self._database.record("VM", fields["VM"])
        is_empty_drive = fields["VDI"] == NULL_REF and fields["empty"] and fields["type"] == "CD"
        if not is_empty_drive:
            self._database.record("VDI", fields["VDI"])
        taken = [self._database.get("VBD", vbd, "userdevice") for vbd in vm["VBDs"]]
        if fields["userdevice"] == "autodetect":
            fields["userdevice"] = next(str(number) for number in itertools.count() if str(number) not in taken)
        elif fields["userdevice"] in taken:
            raise Failure("DEVICE_ALREADY_EXISTS", fields["userdevice"])
        fields = {name: value for name, value in fields.items()
                  if name not in ("uuid", "device", "currently_attached", "allowed_operations", "current_operations")}
        return self._database.create("VBD", allowed_operations=["attach", "unplug"], **fields)

    @message("VBD.plug", "ref", role="vm-admin", has_async=True)
    def plug(self, context, ref):
        vbd = self._database.record("VBD", ref)
        if vbd["currently_attached"]:
            raise Failure("DEVICE_ALREADY_ATTACHED", ref)
        vm = self._database.record("VM", vbd["VM"])
        if vm["power_state"] != "Running":
            raise Failure("VM_BAD_POWER_STATE", vbd["VM"], "running", vm["power_state"].lower())
        with self._lock:
            self._check_sharing(vbd)
            device = "xvd" + string.ascii_lowercase[int(vbd["userdevice"])]
            path = self._device_path(vbd["VM"], vm, device)
            if path:
                repository, name = self._storage.disk_of(vbd["VDI"])
                _attach(repository, name, path)
                if self._is_seen_from_outside(vm):
                    self._loops[ref] = LoopNode(path, vbd["mode"] == "RW")
            self._database.update("VBD", ref, currently_attached=True, device=device)

    def _check_sharing(self, vbd):
        for other in self._database.refs("VBD", VDI=vbd["VDI"], currently_attached=True):
            if "RW" in (vbd["mode"], self._database.get("VBD", other, "mode")):
                raise Failure("VDI_IN_USE", vbd["VDI"], "VBD.plug")

    @message("VBD.unplug", "ref", role="vm-admin", has_async=True)
    def unplug(self, context, ref):
        vbd = self._database.record("VBD", ref)
        if not vbd["currently_attached"]:
            raise Failure("DEVICE_ALREADY_DETACHED", ref)
        with self._lock:
            vm = self._database.record("VM", vbd["VM"])
            path = self._device_path(vbd["VM"], vm, vbd["device"])
            if path:
                if ref in self._loops:
                    self._loops.pop(ref).close()
                repository, name = self._storage.disk_of(vbd["VDI"])
                _detach(repository, name, path, vbd["mode"] == "RW")
            self._database.update("VBD", ref, currently_attached=False, device="")

    @message("VBD.insert", "ref", "ref", role="vm-admin", has_async=True)
    def insert(self, context, ref, vdi_ref):
        if not self._require_drive(ref)["empty"]:
            raise Failure("VBD_NOT_EMPTY", ref)
        self._database.record("VDI", vdi_ref)
        self._database.update("VBD", ref, VDI=vdi_ref, empty=False)

    @message("VBD.eject", "ref", role="vm-admin", has_async=True)
    def eject(self, context, ref):
        if self._require_drive(ref)["empty"]:
            raise Failure("VBD_IS_EMPTY", ref)
        self._database.update("VBD", ref, VDI=NULL_REF, empty=True)

    def _require_drive(self, ref):
        vbd = self._database.record("VBD", ref)
        if vbd["type"] != "CD":
            raise Failure("VBD_NOT_REMOVABLE_MEDIA", ref)
        return vbd

    @message("VBD.destroy", "ref", role="vm-admin", has_async=True)
    def destroy(self, context, ref):
        if self._database.get("VBD", ref, "currently_attached"):
            raise Failure("OPERATION_NOT_ALLOWED", "VBD '%s' still attached to '%s'"
                          % (ref, self._database.get("VBD", ref, "VM")))
        self._database.destroy("VBD", ref)

    def is_attached(self, vdi_uuid):
        """Whether any VBD of this VDI is plugged."""
        return any(self._database.refs("VBD", VDI=vdi, currently_attached=True)
                   for vdi in self._database.refs("VDI", uuid=vdi_uuid))

    def _device_path(self, vm_ref, vm, device):
        """None: nobody looks."""
        if vm["is_control_domain"]:
            return self._find_host(vm["resident_on"]).dom0.locate("/dev/" + device)
        return os.path.join(self.guest_directories[vm_ref], device) if vm_ref in self.guest_directories else None

    def _is_seen_from_outside(self, vm):
        return not vm["is_control_domain"] or self._find_host(vm["resident_on"]).dom0.processes.namespace is not None


class LoopNode(object):
    """A block device in the place of a file, until close()."""

    def __init__(self, path, is_writable):
        self._path = path
        self._file_path = os.path.join(os.path.dirname(path), ".%s.file" % os.path.basename(path))
        os.rename(path, self._file_path)
        command = ["losetup", "--find", "--show"] + ([] if is_writable else ["--read-only"]) + [self._file_path]
        self._loop = _run(command).strip()
        os.mknod(path, stat.S_IFBLK | 0o600, os.stat(self._loop).st_rdev)

    def close(self):
        _run(["blockdev", "--flushbufs", self._loop])
        _run(["losetup", "--detach", self._loop])
        os.unlink(self._path)
        os.rename(self._file_path, self._path)


def _run(command):
    return subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, universal_newlines=True,
                          timeout=_LOOP_DEADLINE_S).stdout


def _attach(repository, name, device_path):
    raw_path = repository.raw_path(name)
    if os.path.exists(raw_path):
        os.symlink(raw_path, device_path)
    else:
        vhd_reader.copy_to(repository.disk_path(name), device_path)


def _detach(repository, name, device_path, is_writable):
    if is_writable and not os.path.islink(device_path):
        _write_back(device_path, repository.disk_path(name))
    os.unlink(device_path)


def _write_back(device_path, vhd_path):
    with open(device_path, "rb") as device, vhd_reader.open_chain(vhd_path) as chain, \
            vhd_image.Image.open(vhd_path, writable=True) as image:
        for offset in range(0, chain.size_bytes, _BLOCK_SIZE):
            data = device.read(min(_BLOCK_SIZE, chain.size_bytes - offset))
            if data != (chain.read(offset, len(data)) or bytes(len(data))):
                image.write(offset, data)
        image.flush()
