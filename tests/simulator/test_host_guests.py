# SPDX-License-Identifier: Apache-2.0
"""Guests of the simulated host: made, started, stopped and destroyed over the API, with what xenstore and devices show of it."""

import contextlib
import os

import pytest
import XenAPI

from tests.harness.vhd import vhd_image
from tests.harness.vhd import vhd_reader
from tests.harness.guests import xenstore_client
from tests.harness.pool import Pool

GIB = 1 << 30
SIZE = "8388608"
NULL = "OpaqueRef:NULL"
# As nova sends it, all that XAPI requires.
GUEST = {
    "name_label": "guest", "name_description": "", "user_version": "0", "is_a_template": False, "affinity": NULL,
    "memory_static_min": "0", "memory_dynamic_min": str(GIB), "memory_dynamic_max": str(GIB), "memory_static_max": str(GIB),
    "memory_target": str(GIB), "VCPUs_max": "2", "VCPUs_at_startup": "2", "VCPUs_params": {}, "actions_after_shutdown": "destroy",
    "actions_after_reboot": "restart", "actions_after_crash": "destroy", "PV_bootloader": "", "PV_kernel": "", "PV_ramdisk": "",
    "PV_args": "", "PV_bootloader_args": "", "PV_legacy_args": "", "HVM_boot_policy": "BIOS order",
    "HVM_boot_params": {"order": "dc"}, "platform": {"acpi": "true"}, "PCI_bus": "", "other_config": {"nova_uuid": "x"},
    "recommendations": "",
    "xenstore_data": {"vm-data/user-metadata/role": '"web"'}, "blocked_operations": {}, "tags": [],
}


@pytest.fixture
def pool():
    with Pool(hosts=2, plugins=False) as pool:
        yield pool


@pytest.fixture
def api(pool):
    return pool.login().xenapi


@pytest.fixture
def vm(api):
    return api.VM.create(GUEST)


def details_of(call, *arguments):
    with pytest.raises(XenAPI.Failure) as caught:
        call(*arguments)
    return caught.value.details


def add_vif(api, vm, network, device="0", **changes):
    return api.VIF.create(dict({"device": device, "network": network, "VM": vm, "MAC": "fa:16:3e:00:00:01", "MTU": "0",
                                "other_config": {}, "qos_algorithm_type": "", "qos_algorithm_params": {}}, **changes))


def add_vbd(api, vm, vdi, **changes):
    return api.VBD.create(dict({"VM": vm, "VDI": vdi, "userdevice": "autodetect", "bootable": False, "mode": "RW", "type": "disk",
                                "empty": False, "other_config": {}, "qos_algorithm_type": "", "qos_algorithm_params": {}},
                               **changes))


def add_vdi(api, sr, **changes):
    return api.VDI.create(dict({"name_label": "disk", "name_description": "", "SR": sr.ref, "virtual_size": SIZE, "type": "User",
                                "sharable": False, "read_only": False, "other_config": {}, "xenstore_data": {}, "sm_config": {},
                                "tags": []}, **changes))


def add_network(api):
    return api.network.create({"name_label": "net", "name_description": "", "other_config": {}})


def read_store(pool, host, path):
    with pool.hosts[host].xenstore.client() as client:
        return client.read(path.encode())


def is_in_store(pool, host, domid):
    with pool.hosts[host].xenstore.client() as client, contextlib.suppress(xenstore_client.Refused):
        client.read(b"/local/domain/%s" % str(domid).encode())
        return True
    return False


# VM

def test_a_guest_begins_and_ends(pool, api, vm):
    api.VM.start_on(vm, pool.hosts[1].ref, True, False)
    record = api.VM.get_record(vm)
    assert (record["power_state"], record["resident_on"], record["domid"]) == ("Paused", pool.hosts[1].ref, "1")
    assert read_store(pool, 1, "/local/domain/1/vm-data/user-metadata/role") == b'"web"'
    assert read_store(pool, 1, "/local/domain/1/vm") == b"/vm/" + record["uuid"].encode()
    assert not is_in_store(pool, 0, 1)
    api.VM.unpause(vm)
    api.VM.pause(vm)
    assert api.VM.get_power_state(vm) == "Paused"
    api.VM.hard_shutdown(vm)
    assert (api.VM.get_power_state(vm), api.VM.get_domid(vm), api.VM.get_resident_on(vm)) == ("Halted", "-1", NULL)
    assert not is_in_store(pool, 1, 1)


def test_each_domain_has_a_new_number(pool, api, vm):
    domids = []
    for call in (lambda: api.VM.start(vm, False, False), lambda: api.VM.clean_reboot(vm), lambda: api.VM.hard_reboot(vm),
                 lambda: (api.VM.suspend(vm), api.VM.resume(vm, False, True))):
        call()
        domids.append(api.VM.get_domid(vm))
        assert api.VM.get_power_state(vm) == "Running" and is_in_store(pool, 0, domids[-1])
    assert domids == ["1", "2", "3", "4"] and not is_in_store(pool, 0, 3)


def test_power_states_that_an_operation_needs(api, vm):
    assert details_of(api.VM.clean_shutdown, vm) == ["VM_BAD_POWER_STATE", vm, "running", "halted"]
    assert details_of(api.VM.hard_reboot, vm) == ["VM_BAD_POWER_STATE", vm, "paused, running", "halted"]
    api.VM.start(vm, False, False)
    assert details_of(api.VM.start, vm, False, False) == ["VM_BAD_POWER_STATE", vm, "halted", "running"]
    assert details_of(api.VM.destroy, vm) == ["VM_BAD_POWER_STATE", vm, "halted, suspended", "running"]
    api.VM.suspend(vm)
    assert (api.VM.get_power_state(vm), api.VM.get_domid(vm)) == ("Suspended", "-1")
    api.VM.hard_shutdown(vm)
    assert api.VM.get_power_state(vm) == "Halted"


def test_a_blocked_operation(pool, api, vm):
    api.VM.set_blocked_operations(vm, {"start": "rescued"})
    assert details_of(api.VM.start, vm, False, False) == ["OPERATION_BLOCKED", vm, "rescued"]
    api.VM.start_on(vm, pool.hosts[0].ref, False, False)
    api.VM.remove_from_blocked_operations(vm, "start")
    api.VM.remove_from_blocked_operations(vm, "start")


def test_a_host_that_takes_no_guests(pool, api, vm):
    api.host.disable(pool.hosts[1].ref)
    assert details_of(api.VM.start_on, vm, pool.hosts[1].ref, False, False) == ["HOST_DISABLED", pool.hosts[1].ref]
    assert api.VM.get_power_state(vm) == "Halted"


def test_a_kernel_must_be_there(pool, api):
    vm = api.VM.create(dict(GUEST, PV_kernel="/boot/guest/vmlinuz"))
    assert details_of(api.VM.start, vm, False, False)[0] == "INTERNAL_ERROR"
    with open(pool.hosts[0].dom0.locate("/boot/guest/vmlinuz"), "w"):
        pass
    api.VM.start(vm, False, False)


def test_a_record_must_be_complete(api):
    record = dict(GUEST)
    del record["PCI_bus"]
    assert details_of(api.VM.create, record)[0] == "INTERNAL_ERROR"
    assert "I(2)" in details_of(api.VM.create, dict(GUEST, platform={"vcpus": 2}))[1]


def test_a_guest_takes_its_devices_along(pool, api, vm):
    vif, vdi = add_vif(api, vm, add_network(api)), add_vdi(api, pool.srs[0])
    vbd = add_vbd(api, vm, vdi)
    api.VM.start(vm, False, False)
    assert api.VIF.get_currently_attached(vif) and api.VBD.get_currently_attached(vbd) and api.VBD.get_device(vbd) == "xvda"
    assert details_of(api.VDI.destroy, vdi)[0] == "VDI_IN_USE"
    other = api.VM.create(GUEST)
    add_vbd(api, other, vdi, mode="RO")
    assert details_of(api.VM.start, other, False, False) == ["VDI_IN_USE", vdi, "VM.start"]
    api.VM.clean_shutdown(vm)
    assert not api.VIF.get_currently_attached(vif) and not api.VBD.get_currently_attached(vbd) and not api.VBD.get_device(vbd)
    for ref in (vm, other):
        api.VM.destroy(ref)
    assert (api.VM.get_by_name_label("guest"), api.VIF.get_all(), api.VBD.get_all()) == ([], [], [])
    assert api.VDI.get_all() == [vdi]


def test_who_is_told_of_domains(pool, api, vm):
    class Listener(object):
        events = []

        def domain_began(self, host, domid):
            self.events.append((host, domid, is_in_store(pool, 0, domid)))

        def domain_ended(self, host, domid):
            self.events.append((host, -domid, is_in_store(pool, 0, domid)))
    pool.domains.listeners.append(Listener())
    api.VM.start(vm, False, False)
    api.VM.hard_shutdown(vm)
    assert Listener.events == [(pool.hosts[0], 1, True), (pool.hosts[0], -1, True)]


def test_data_sources(pool, api, vm):
    add_vif(api, vm, add_network(api), "2")
    add_vbd(api, vm, add_vdi(api, pool.srs[0]))
    assert details_of(api.VM.query_data_source, vm, "cpu0") == ["VM_BAD_POWER_STATE", vm, "running", "halted"]
    api.VM.start(vm, False, False)
    for name in ("cpu0", "cpu1", "memory", "memory_internal_free", "vif_2_rx", "vif_2_tx", "vbd_xvda_read", "vbd_xvda_write"):
        assert isinstance(api.VM.query_data_source(vm, name), float)
    assert details_of(api.VM.query_data_source, vm, "cpu2")[0] == "INTERNAL_ERROR"


def test_free_places_for_devices(pool, api, vm):
    add_vif(api, vm, add_network(api), "1")
    add_vbd(api, vm, add_vdi(api, pool.srs[0]))
    assert api.VM.get_allowed_VIF_devices(vm) == ["0", "2", "3", "4", "5", "6"]
    assert api.VM.get_allowed_VBD_devices(vm)[:2] == ["1", "2"]


# Networks

def test_a_network_has_a_bridge_at_once(api):
    first, second = add_network(api), add_network(api)
    assert [api.network.get_bridge(ref) for ref in (first, second)] == ["xapi0", "xapi1"]
    api.network.destroy(first)
    assert api.network.get_by_name_label("net") == [second] and api.network.get_bridge(add_network(api)) == "xapi0"


def test_a_network_in_use(api, vm):
    network = add_network(api)
    vif = add_vif(api, vm, network)
    api.VM.start(vm, False, False)
    assert details_of(api.network.destroy, network) == ["NETWORK_CONTAINS_VIF", vif]
    assert details_of(api.network.destroy, api.network.get_by_name_label("Pool-wide network associated with eth0")[0])[0] == (
        "NETWORK_CONTAINS_PIF")
    api.VM.hard_shutdown(vm)
    api.network.destroy(network)
    assert api.VIF.get_all() == []


def test_interfaces_of_a_guest(api, vm):
    network = add_network(api)
    vif = add_vif(api, vm, network)
    assert details_of(add_vif, api, vm, network) == ["DEVICE_ALREADY_EXISTS", "0"]
    assert details_of(lambda: add_vif(api, vm, network, "1", MAC="x")) == ["MAC_INVALID", "x"]
    assert details_of(add_vif, api, vm, network, "eth0") == ["INVALID_DEVICE", "eth0"]
    assert details_of(api.VIF.plug, vif) == ["VM_BAD_POWER_STATE", vm, "running", "halted"]
    api.VM.start(vm, False, False)
    assert details_of(api.VIF.plug, vif) == ["DEVICE_ALREADY_ATTACHED", vif]
    assert details_of(api.VIF.destroy, vif)[0] == "OPERATION_NOT_ALLOWED"
    api.VIF.unplug(vif)
    assert details_of(api.VIF.unplug, vif) == ["DEVICE_ALREADY_DETACHED", vif]
    api.VIF.destroy(vif)
    assert api.network.get_VIFs(network) == []


# Drives and disks

def test_a_drive_and_its_disc(pool, api, vm):
    drive = add_vbd(api, vm, NULL, empty=True, type="cd", mode="ro")
    assert (api.VBD.get_type(drive), api.VBD.get_mode(drive), api.VBD.get_empty(drive)) == ("CD", "RO", True)
    assert details_of(api.VBD.eject, drive) == ["VBD_IS_EMPTY", drive]
    vdi = add_vdi(api, pool.srs[0])
    api.VBD.insert(drive, vdi)
    assert (api.VBD.get_VDI(drive), api.VBD.get_empty(drive)) == (vdi, False)
    assert details_of(api.VBD.insert, drive, vdi) == ["VBD_NOT_EMPTY", drive]
    api.VBD.eject(drive)
    assert (api.VBD.get_VDI(drive), api.VBD.get_empty(drive)) == (NULL, True)
    disk = add_vbd(api, vm, vdi)
    assert details_of(api.VBD.eject, disk) == ["VBD_NOT_REMOVABLE_MEDIA", disk]
    assert details_of(add_vbd, api, vm, NULL)[0] == "HANDLE_INVALID"


def test_names_of_an_enumeration_in_any_case(pool, api, vm):
    vdi = add_vdi(api, pool.srs[0], type="User")
    assert api.VDI.get_type(vdi) == "user"
    vbd = add_vbd(api, vm, vdi, type="disk", mode="rw")
    assert (api.VBD.get_type(vbd), api.VBD.get_mode(vbd)) == ("Disk", "RW")
    api.VBD.set_mode(vbd, "ro")
    assert api.VBD.get_mode(vbd) == "RO"
    assert "vbd_mode" in details_of(api.VBD.set_mode, vbd, "rw?")[1]


@pytest.mark.parametrize("message", ["snapshot", "clone"])
def test_what_a_copy_of_a_disk_keeps(pool, api, message):
    vdi = add_vdi(api, pool.srs[0], other_config={"image-id": "x"}, xenstore_data={"a": "b"})
    copy = getattr(api.VDI, message)(vdi, {})
    assert (api.VDI.get_other_config(copy), api.VDI.get_xenstore_data(copy)) == ({"image-id": "x"}, {"a": "b"})
    assert api.VDI.get_is_a_snapshot(copy) == (message == "snapshot")


def test_notes_in_sm_config_stay(pool, api):
    vdi = add_vdi(api, pool.srs[0])
    api.VDI.add_to_sm_config(vdi, "note", "mine")
    api.SR.scan(pool.srs[0].ref)
    assert api.VDI.get_sm_config(vdi) == {"image-format": "vhd", "note": "mine"}
    api.VDI.snapshot(vdi, {})
    assert set(api.VDI.get_sm_config(vdi)) == {"image-format", "note", "vhd-parent"}


def test_a_chain_grows_at_its_end(pool, api):
    sr = pool.srs[0]
    vdi = add_vdi(api, sr)
    name, path = api.VDI.get_uuid(vdi), os.path.join(sr.path, api.VDI.get_uuid(vdi) + ".vhd")
    write(path, 0, b"parent")
    snapshot = api.VDI.snapshot(vdi, {})
    write(path, 2 << 20, b"child")
    api.VDI.resize(vdi, str(GIB + 1))
    assert api.VDI.get_virtual_size(vdi) == str(GIB + (2 << 20))
    assert details_of(api.VDI.resize, vdi, SIZE)[0] == "SR_BACKEND_FAILURE_79"
    with vhd_reader.open_chain(path) as chain:
        found = [(offset, bytes(data).rstrip(b"\0")) for offset, data in chain.extents()]
    assert found == [(0, b"parent"), (2 << 20, b"child")]
    assert sr.scan()[name]["sm_config"]["vhd-parent"] == sr.vdis()[api.VDI.get_uuid(snapshot)]["sm_config"]["vhd-parent"]
    base = api.VDI.get_by_uuid(sr.vdis()[name]["sm_config"]["vhd-parent"])
    assert details_of(api.VDI.resize, base, str(2 * GIB)) == ["VDI_NOT_MANAGED", base]


def write(path, offset, data):
    with vhd_image.Image.open(path, writable=True) as image:
        image.write(offset, data.ljust(512, b"\0"))
        image.flush()


def test_a_collection_follows_a_scan_where_it_is_asked_for(pool, api):
    sr = pool.srs[0]
    vdi = add_vdi(api, sr)
    add_vbd(api, pool.add_vm("guest"), vdi)
    api.VDI.destroy(api.VDI.snapshot(vdi, {}))
    assert len(sr.scan()) == len(sr.scan()) == 2
    sr.collects_at_scans = True
    assert len(sr.scan()) == 2 and len(sr.scan()) == 1
