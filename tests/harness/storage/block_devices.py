# SPDX-License-Identifier: Apache-2.0
"""VBD messages: a VDI becomes a device of dom0, which here is a file /dev/<device> under the host's root.

A raw VDI is linked there. A VHD is unfolded into a sparse raw file; if it was plugged for writing, what has changed goes
back into the VHD when it is unplugged. A real device shows writes at once; nobody else may look meanwhile in either case.
"""

import itertools
import os
import string
import threading

from tests.harness.storage.storage_messages import read_constructor
from tests.harness.vhd import vhd_image
from tests.harness.vhd import vhd_reader
from tests.harness.xapi.failures import Failure
from tests.harness.xapi.messages import message

_BLOCK_SIZE = 2 << 20
_REQUIRED = ("VM", "VDI", "userdevice", "bootable", "mode", "type", "empty", "other_config", "qos_algorithm_type",
             "qos_algorithm_params")


class BlockDevices(object):

    def __init__(self, database, storage, find_host):
        self._database = database
        self._storage = storage
        self._find_host = find_host
        self._lock = threading.Lock()

    @message("VBD.create", "record", role="vm-admin", has_async=True)
    def create(self, context, record):
        fields = read_constructor("VBD", record, _REQUIRED)
        vm = self._database.record("VM", fields["VM"])
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
            if vm["is_control_domain"]:
                repository, name = self._storage.disk_of(vbd["VDI"])
                _attach(repository, name, self._device_path(vm, device))
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
            if vm["is_control_domain"]:
                repository, name = self._storage.disk_of(vbd["VDI"])
                _detach(repository, name, self._device_path(vm, vbd["device"]), vbd["mode"] == "RW")
            self._database.update("VBD", ref, currently_attached=False, device="")

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

    def _device_path(self, vm, device):
        return self._find_host(vm["resident_on"]).dom0.locate("/dev/" + device)


def _attach(repository, name, device_path):
    raw_path = os.path.join(repository.path, name + ".raw")
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
