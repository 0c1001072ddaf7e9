# SPDX-License-Identifier: Apache-2.0
"""VM messages: how guests are made, started, stopped and destroyed.

Sources: ocaml/xapi/xapi_vm.ml, xapi_vm_helpers.ml, xapi_vm_lifecycle.ml in xapi-project/xen-api.
"""

import os

from tests.harness.xapi.failures import Failure
from tests.harness.xapi.messages import message
from tests.harness.storage.storage_messages import read_constructor

# In which power states XAPI allows an operation, in the order in which its errors name them.
_POWER_STATES = {
    "start": ["Halted"], "start_on": ["Halted"], "pause": ["Running"], "unpause": ["Paused"], "suspend": ["Running"],
    "resume": ["Suspended"], "clean_shutdown": ["Running"], "clean_reboot": ["Running"], "hard_reboot": ["Paused", "Running"],
    "hard_shutdown": ["Paused", "Suspended", "Running"], "destroy": ["Halted", "Suspended"], "data_source_op": ["Running"],
}
_REQUIRED = (
    "user_version is_a_template affinity memory_static_max memory_dynamic_max memory_dynamic_min memory_static_min "
    "VCPUs_params VCPUs_max VCPUs_at_startup actions_after_shutdown actions_after_reboot actions_after_crash PV_bootloader "
    "PV_kernel PV_ramdisk PV_args PV_bootloader_args PV_legacy_args HVM_boot_policy HVM_boot_params platform PCI_bus "
    "other_config recommendations").split()
_OF_XAPI = ("uuid", "power_state", "domid", "resident_on", "VBDs", "VIFs", "snapshots", "allowed_operations", "current_operations",
            "is_control_domain", "metrics", "guest_metrics", "is_a_snapshot", "snapshot_of", "suspend_VDI", "domarch")
# Of each virtual machine, as Xen has them.
_VIF_MAX = 7
_VBD_MAX = 255


class VirtualMachines(object):

    def __init__(self, database, domains, find_host):
        """find_host: function(reference) -> the host with .dom0"""
        self._database = database
        self._domains = domains
        self._find_host = find_host

    @message("VM.create", "record", role="vm-admin", has_async=True)
    def create(self, context, record):
        fields = read_constructor("VM", record, _REQUIRED)
        return self._database.create("VM", **{name: value for name, value in fields.items() if name not in _OF_XAPI})

    @message("VM.destroy", "ref", role="vm-admin", has_async=True)
    def destroy(self, context, vm_ref):
        vm = self._require("destroy", vm_ref)
        for class_name, refs in (("VBD", vm["VBDs"]), ("VIF", vm["VIFs"])):
            for ref in refs:
                self._database.destroy(class_name, ref)
        self._database.destroy("VM", vm_ref)

    @message("VM.start", "ref", "bool", "bool", role="vm-operator", has_async=True)
    def start(self, context, vm_ref, start_paused, force):
        vm = self._require("start", vm_ref)
        self._start(vm_ref, vm, self._choose_host(vm, context), start_paused, "VM.start")

    @message("VM.start_on", "ref", "ref", "bool", "bool", role="vm-power-admin", has_async=True)
    def start_on(self, context, vm_ref, host_ref, start_paused, force):
        vm = self._require("start_on", vm_ref)
        self._start(vm_ref, vm, host_ref, start_paused, "VM.start_on")

    def _start(self, vm_ref, vm, host_ref, start_paused, operation):
        if not self._database.get("host_metrics", self._database.get("host", host_ref, "metrics"), "live"):
            raise Failure("HOST_OFFLINE", host_ref)
        if not self._database.get("host", host_ref, "enabled"):
            raise Failure("HOST_DISABLED", host_ref)
        self._check_kernel(vm, host_ref)
        for vbd_ref in vm["VBDs"]:
            self._check_disk(vbd_ref, operation)
        self._domains.begin(vm_ref, host_ref, "Paused" if start_paused else "Running")

    def _choose_host(self, vm, context):
        return vm["affinity"] if self._database.exists("host", vm["affinity"]) else context.host.ref

    def _check_kernel(self, vm, host_ref):
        for name in ("PV_kernel", "PV_ramdisk"):
            if vm[name] and not os.path.isfile(self._find_host(host_ref).dom0.locate(vm[name])):
                # What builds the domain reports the path that it cannot open; XAPI has no error of its own for that.
                raise Failure("INTERNAL_ERROR", "%s: no such file: %s" % (name, vm[name]))

    def _check_disk(self, vbd_ref, operation):
        vbd = self._database.record("VBD", vbd_ref)
        if vbd["empty"]:
            return
        self._database.record("VDI", vbd["VDI"])
        for other in self._database.refs("VBD", VDI=vbd["VDI"], currently_attached=True):
            if "RW" in (vbd["mode"], self._database.get("VBD", other, "mode")):
                raise Failure("VDI_IN_USE", vbd["VDI"], operation)

    @message("VM.pause", "ref", role="vm-operator", has_async=True)
    def pause(self, context, vm_ref):
        self._require("pause", vm_ref)
        self._database.update("VM", vm_ref, power_state="Paused")

    @message("VM.unpause", "ref", role="vm-operator", has_async=True)
    def unpause(self, context, vm_ref):
        self._require("unpause", vm_ref)
        self._database.update("VM", vm_ref, power_state="Running")

    @message("VM.suspend", "ref", role="vm-operator", has_async=True)
    def suspend(self, context, vm_ref):
        """The memory is kept nowhere: no VDI of it is made."""
        self._require("suspend", vm_ref)
        self._domains.end(vm_ref, "Suspended")

    @message("VM.resume", "ref", "bool", "bool", role="vm-operator", has_async=True)
    def resume(self, context, vm_ref, start_paused, force):
        vm = self._require("resume", vm_ref)
        self._domains.begin(vm_ref, self._choose_host(vm, context), "Paused" if start_paused else "Running")

    @message("VM.clean_shutdown", "ref", role="vm-operator", has_async=True)
    def clean_shutdown(self, context, vm_ref):
        self._require("clean_shutdown", vm_ref)
        self._domains.end(vm_ref, "Halted")

    @message("VM.hard_shutdown", "ref", role="vm-operator", has_async=True)
    def hard_shutdown(self, context, vm_ref):
        if self._require("hard_shutdown", vm_ref)["power_state"] == "Suspended":
            self._database.update("VM", vm_ref, power_state="Halted")
        else:
            self._domains.end(vm_ref, "Halted")

    @message("VM.clean_reboot", "ref", role="vm-operator", has_async=True)
    def clean_reboot(self, context, vm_ref):
        self._reboot("clean_reboot", vm_ref)

    @message("VM.hard_reboot", "ref", role="vm-operator", has_async=True)
    def hard_reboot(self, context, vm_ref):
        self._reboot("hard_reboot", vm_ref)

    def _reboot(self, operation, vm_ref):
        host_ref = self._require(operation, vm_ref)["resident_on"]
        self._domains.end(vm_ref, "Halted")
        self._domains.begin(vm_ref, host_ref, "Running")

    @message("VM.get_allowed_VIF_devices", "ref")
    def list_free_vifs(self, context, vm_ref):
        return self._list_free(vm_ref, "VIF", "device", _VIF_MAX)

    @message("VM.get_allowed_VBD_devices", "ref")
    def list_free_vbds(self, context, vm_ref):
        return self._list_free(vm_ref, "VBD", "userdevice", _VBD_MAX)

    def _list_free(self, vm_ref, class_name, field, count):
        taken = [self._database.get(class_name, ref, field) for ref in self._database.get("VM", vm_ref, class_name + "s")]
        return [str(number) for number in range(count) if str(number) not in taken]

    @message("VM.query_data_source", "ref", "string", role="read-only")
    def query_data_source(self, context, vm_ref, name):
        sources = list_data_sources(self._database, self._require("data_source_op", vm_ref))
        if name not in sources:
            raise Failure("INTERNAL_ERROR", "Not_found")
        return sources[name]

    def _require(self, operation, vm_ref):
        """The VM's record. Raises Failure if the operation is blocked, or its power state does not allow it."""
        vm = self._database.record("VM", vm_ref)
        if operation in vm["blocked_operations"]:
            raise Failure("OPERATION_BLOCKED", vm_ref, vm["blocked_operations"][operation])
        if vm["power_state"] not in _POWER_STATES[operation]:
            raise Failure("VM_BAD_POWER_STATE", vm_ref, ", ".join(state.lower() for state in _POWER_STATES[operation]),
                          vm["power_state"].lower())
        return vm


def list_data_sources(database, vm):
    """{name: value} of what is measured of a guest; the names follow its processors and devices, the values are made up."""
    # The first is in bytes, the second in KiB.
    sources = {"memory": float(vm["memory_static_max"]), "memory_internal_free": vm["memory_static_max"] / 4096.0}
    sources.update(("cpu%d" % number, 0.05) for number in range(vm["VCPUs_max"]))
    for vif in vm["VIFs"]:
        sources.update(("vif_%s_%s" % (database.get("VIF", vif, "device"), way), 10.5) for way in ("rx", "tx"))
    for vbd in vm["VBDs"]:
        if database.get("VBD", vbd, "device"):
            sources.update(("vbd_%s_%s" % (database.get("VBD", vbd, "device"), way), 20.25) for way in ("read", "write"))
    return sources
