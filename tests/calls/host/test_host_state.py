# SPDX-License-Identifier: Apache-2.0
"""xenhost on every dom0 Python: data of a host, whether it takes guests, and its power."""

import json
import os
import pathlib
import re
import shutil
import struct

import pytest
import XenAPI

from tests.calls import calls
from tests.calls.calls import call_json, call_legacy, refused
from tests.harness.pool import Pool

PLUGIN = "xenhost.py"
# The pattern with which OpenStack's client reads the line.
UPTIME = re.compile(r"\s*(\S+)\s+up\s+(.+),\s+(.+)\s+users?,\s+load average:\s+(.+)")
LSPCI = "Slot:\t00:01.0\nClass:\t0200\nVendor:\t8086\nDevice:\t10fb\nDriver:\tpciback\nModule:\tixgbe\n\n"


@pytest.fixture(scope="module")
def shared_pool(dom0_python):
    with Pool(hosts=2, python=dom0_python) as pool:
        yield pool


@pytest.fixture
def pool(shared_pool):
    """Two hosts that run, are enabled and have no guests."""
    yield shared_pool
    shared_pool.faults.clear()
    for ref in shared_pool.database.refs("VM", is_control_domain=False):
        shared_pool.database.destroy("VM", ref)
    for host in shared_pool.hosts:
        shared_pool.database.update("host", host.ref, enabled=True)
        del host.power_actions[:]


def is_enabled(pool, host=0):
    return pool.database.get("host", pool.hosts[host].ref, "enabled")


def test_host_data(pool):
    host = pool.hosts[0]
    pool.add_vm("guest", memory_static_max=1 << 30)
    data = call_json(pool, PLUGIN, "host_data")
    assert data["host_hostname"] == host.name and data["host_uuid"] == host.uuid and data["enabled"] == "true"
    assert data["host_memory"] == {"total": 16 << 30, "overhead": 512 << 20, "free": 8 << 30,
                                   "free-computed": (16 << 30) - (512 << 20) - (2 << 30)}
    assert data["host_capabilities"] == ["xen-3.0-x86_64", "hvm-3.0-x86_32", "hvm-3.0-x86_32p", "hvm-3.0-x86_64"]
    info = data["host_cpu_info"]
    assert (info["cpu_count"], info["socket_count"], info["vendor"]) == (2, "1", "GenuineIntel")
    assert info["modelname"] and "sse2" in info["flags"].split(" ")
    assert data["host_other-config"]["iscsi_iqn"] == "iqn.2026-01.example:h0" and data["host_ip_address"] == host.ip


def test_each_host_tells_of_itself(pool):
    session = pool.login()
    arguments = {"host_uuid": pool.hosts[1].uuid}
    reply = session.xenapi.host.call_plugin(pool.hosts[1].ref, PLUGIN, "host_data", arguments)
    assert '"host_hostname": "h1"' in reply


@pytest.mark.parametrize("function, arguments", [
    ("host_data", {}), ("set_host_enabled", {"enabled": "false"}), ("host_reboot", {}), ("host_shutdown", {})])
def test_another_hosts_uuid_is_refused(pool, function, arguments):
    """A call for another host must not act on this one."""
    with refused(function, "ArgumentError", "'host_uuid'", pool.hosts[0].uuid):
        pool.call(PLUGIN, function, dict(arguments, host_uuid=pool.hosts[1].uuid))
    assert is_enabled(pool, 0) and is_enabled(pool, 1)
    assert pool.hosts[0].power_actions == pool.hosts[1].power_actions == []


def test_enable_and_disable(pool):
    assert call_json(pool, PLUGIN, "set_host_enabled", enabled="false") == {"status": "disabled"}
    assert not is_enabled(pool)
    assert call_json(pool, PLUGIN, "host_data")["enabled"] == "false"
    assert call_json(pool, PLUGIN, "set_host_enabled", enabled="true") == {"status": "enabled"}
    assert is_enabled(pool)


def test_a_host_that_may_not_be_disabled(pool):
    pool.faults.fail("host.disable", "HA_OPERATION_WOULD_BREAK_FAILOVER_PLAN")
    with refused("set_host_enabled", "PluginError", "cannot disable this host", "HA_OPERATION_WOULD_BREAK_FAILOVER_PLAN"):
        call_json(pool, PLUGIN, "set_host_enabled", enabled="false")


@pytest.mark.parametrize("action", ["reboot", "shutdown"])
@pytest.mark.parametrize("argument", ["as nova sends it", "none"])
def test_power(pool, action, argument):
    arguments = {"action": '"%s"' % action} if argument == "as nova sends it" else {}
    assert call_json(pool, PLUGIN, "host_" + action, **arguments) == {"power_action": action}
    assert pool.hosts[0].power_actions == [action] and not is_enabled(pool)


@pytest.mark.parametrize("action", ["reboot", "shutdown"])
@pytest.mark.parametrize("power_state", ["Running", "Paused"])
def test_guests_that_would_be_lost(pool, action, power_state):
    guests = [pool.add_vm("guest", power_state="Running") for _ in range(7)]
    for guest in guests:
        pool.database.update("VM", guest, power_state=power_state)
    disabled = pool.faults.calls["host.disable"]
    with refused("host_" + action, "PluginError", "cannot %s this host: 7 guests would be lost" % action, "move them") as messages:
        call_json(pool, PLUGIN, "host_" + action, action='"%s"' % action)
    uuids = [pool.database.get("VM", guest, "uuid") for guest in guests]
    assert sum(uuid in messages[0] for uuid in uuids) == 5
    assert is_enabled(pool) and pool.hosts[0].power_actions == []
    assert pool.faults.calls["host.disable"] == disabled
    assert [pool.database.get("VM", guest, "power_state") for guest in guests] == [power_state] * 7
    # XAPI itself would reboot a disabled host with paused guests.
    pool.database.update("host", pool.hosts[0].ref, enabled=False)
    with refused("host_" + action, "PluginError", "7 guests would be lost"):
        call_json(pool, PLUGIN, "host_" + action)
    assert pool.hosts[0].power_actions == [] and not is_enabled(pool)


def test_guests_elsewhere_and_guests_that_are_down_do_not_hinder(pool):
    pool.add_vm("guest", host=1)
    pool.add_vm("guest", power_state="Halted")
    pool.add_vm("guest", power_state="Suspended")
    assert call_json(pool, PLUGIN, "host_reboot") == {"power_action": "reboot"}


def test_a_guest_that_is_started_before_the_host_is_disabled(pool, monkeypatch):
    """It is found at the second look, and the host takes guests again."""
    disable = pool.database.update

    def start_then_disable(class_name, ref, **values):
        if class_name == "host" and values == {"enabled": False}:
            pool.add_vm("late guest")
        disable(class_name, ref, **values)
    monkeypatch.setattr(pool.database, "update", start_then_disable)
    with refused("host_reboot", "PluginError", "1 guest would be lost"):
        call_json(pool, PLUGIN, "host_reboot")
    assert is_enabled(pool) and pool.hosts[0].power_actions == []


def test_a_host_that_xapi_does_not_reboot_is_as_before(pool):
    pool.faults.fail("host.reboot", "HOST_IN_USE", pool.hosts[0].ref, "vbd", "OpaqueRef:x")
    with refused("host_reboot", "PluginError", "cannot reboot this host", "HOST_IN_USE"):
        call_json(pool, PLUGIN, "host_reboot")
    assert is_enabled(pool)
    pool.database.update("host", pool.hosts[0].ref, enabled=False)
    pool.faults.fail("host.reboot", "HOST_IN_USE", pool.hosts[0].ref, "vbd", "OpaqueRef:x")
    with refused("host_reboot", "PluginError", "HOST_IN_USE"):
        call_json(pool, PLUGIN, "host_reboot")
    assert not is_enabled(pool)


def test_start(pool):
    """A host that can answer runs."""
    assert call_json(pool, PLUGIN, "host_start", action='"startup"') == {"power_action": "startup"}
    other = pool.hosts[1]
    assert call_json(pool, PLUGIN, "host_start") == {"power_action": "startup"}
    assert call_start(pool, other) == {"power_action": "startup"}
    assert other.power_actions == []
    metrics = pool.database.get("host", other.ref, "metrics")
    pool.database.update("host_metrics", metrics, live=False)
    with refused("host_start", "PluginError", "cannot start host %s" % other.uuid, "XENAPI_PLUGIN_FAILURE"):
        call_start(pool, other)
    pool.database.update("host", other.ref, power_on_mode="wake-on-lan")
    assert call_start(pool, other) == {"power_action": "startup"}
    assert other.power_actions == ["power_on"] and pool.database.get("host_metrics", metrics, "live")


def call_start(pool, host):
    return json.loads(pool.call(PLUGIN, "host_start", {"host_uuid": host.uuid}))


def test_host_calls_need_a_pool_administrator(pool):
    """VM.call_host_plugin lets a VM operator call: reading is open to all, acting on the host is not."""
    vm = pool.add_vm("guest")
    session = pool.login(pool.operator_username, pool.operator_password)
    call = session.xenapi.VM.call_host_plugin
    assert call(vm, PLUGIN, "host_uptime", {}) and call(vm, PLUGIN, "get_config", {"params": '{"key": "a"}'})
    for function, arguments in [
            ("set_host_enabled", {"enabled": "false"}), ("host_reboot", {}), ("host_shutdown", {}), ("host_start", {}),
            ("set_config", {"params": '{"key": "a", "value": 1}'}), ("iptables_config", {"cmd_args": '["iptables-save"]'}),
            ("network_config", {"args": '{"cmd": "ovs_del_br", "args": {"bridge_name": "x"}}'}),
            ("host_join", {"compute_uuid": pool.hosts[0].uuid, "url": "http://127.0.0.1:1", "user": "u", "password": "p",
                           "master_addr": "127.0.0.1", "master_user": "u", "master_pass": "p"})]:
        with pytest.raises(XenAPI.Failure) as caught:
            call(vm, PLUGIN, function, arguments)
        assert caught.value.details[2] == "Denied", function


@pytest.mark.parametrize("seconds, users, up", [
    (59, 0, "0 min"), (60 * 26, 1, "26 min"), (3600 * 2 + 60 * 5, 2, "2:05"), (86400 + 60, 1, "1 day, 1 min"),
    (86400 * 33 + 3600 * 12 + 60 * 59, 3, "33 days, 12:59")])
def test_uptime(pool, seconds, users, up):
    host = pool.hosts[0]
    calls.write_file(host, "/proc/uptime", b"%d.37 1234.5\n" % seconds)
    calls.write_file(host, "/proc/loadavg", b"0.20 0.18 1.05 1/123 4567\n")
    records = [struct.pack("<h382x", kind) for kind in [2, 1, 8] + [7] * users]
    calls.write_file(host, "/var/run/utmp", b"".join(records) + b"\x07\x00")
    reply = call_json(pool, PLUGIN, "host_uptime")
    assert list(reply) == ["uptime"]
    time_of_day, uptime, count, load = UPTIME.match(reply["uptime"]).groups()
    assert re.match(r"\d\d:\d\d:\d\d\Z", time_of_day)
    assert (uptime, count, load) == (up, str(users), "0.20, 0.18, 1.05")


def test_stored_settings(pool):
    assert call_json(pool, PLUGIN, "get_config", params='{"key": "zone"}') == "None"
    assert call_json(pool, PLUGIN, "set_config", params='{"key": "zone", "value": "caf\\u00e9"}') is None
    assert call_json(pool, PLUGIN, "get_config", params='{"key": "zone"}') == "caf\xe9"
    assert call_legacy(pool, PLUGIN, "get_config", params={"key": "zone"}) == "caf\xe9"
    assert call_legacy(pool, PLUGIN, "get_config", '{"key": "zone"}') == "caf\xe9"
    call_legacy(pool, PLUGIN, "set_config", params={"key": "host_hostname", "value": "stolen"})
    data = call_json(pool, PLUGIN, "host_data")
    assert data["zone"] == "caf\xe9" and data["host_hostname"] == "h0"
    call_json(pool, PLUGIN, "set_config", params='{"key": "zone", "value": null}')
    assert call_json(pool, PLUGIN, "get_config", params='{"key": "zone"}') == "None"
    calls.write_file(pool.hosts[0], "/usr/etc/xenhost.conf", b"damaged")
    with refused("get_config", "PluginError", "/usr/etc/xenhost.conf is damaged"):
        call_json(pool, PLUGIN, "get_config", params='{"key": "zone"}')
    assert call_json(pool, PLUGIN, "host_data")["host_hostname"] == "h0"


def test_garbage_collection(pool):
    sr = pool.srs[0]
    arguments = {"sr_uuid": sr.uuid, "vdi_uuid": sr.uuid}
    assert call_legacy(pool, PLUGIN, "query_gc", **arguments) is False
    for name in ("gc_active", "running"):
        with pool.hosts[0].sm_locks.hold(sr.uuid, name, 0):
            assert call_legacy(pool, PLUGIN, "query_gc", **arguments) is True
            assert call_json(pool, PLUGIN, "query_gc", **arguments) is True
    with pool.hosts[0].sm_locks.hold(sr.uuid, "sr", 0):
        assert call_legacy(pool, PLUGIN, "query_gc", sr.uuid, sr.uuid) is False


def test_pci_devices(pool):
    host = pool.hosts[0]
    program = calls.write_program(host, "lspci", 'printf "%%s" "$*" > %s/tmp/lspci-arguments\nprintf "%%b" \'%s\'' % (
        host.root, LSPCI.replace("\t", "\\t").replace("\n", "\\n")))
    try:
        assert call_legacy(pool, PLUGIN, "get_pci_device_details") == LSPCI
        with open(host.dom0.locate("/tmp/lspci-arguments")) as source:
            assert source.read() == "-vmmnk"
        assert call_json(pool, PLUGIN, "get_pci_device_details") == LSPCI
    finally:
        program.unlink()


@pytest.mark.needs("lspci")
def test_real_pci_devices(pool):
    """pciutils' own text: records parted by empty lines, which a client of nova's reads by these beginnings."""
    text = call_legacy(pool, PLUGIN, "get_pci_device_details")
    for record in [record for record in text.split("\n\n") if record]:
        assert re.match(r"Slot:\t[0-9a-f:.]+\n", record) and re.search(r"\nVendor:\t[0-9a-f]{4}\n", record)


@pytest.fixture
def devices(pool):
    """The directory of PCI devices, empty; this machine's afterwards."""
    path = pathlib.Path(pool.hosts[0].dom0.locate("/sys/bus/pci/devices"))
    target = os.readlink(str(path))
    path.unlink()
    path.mkdir()
    yield path
    shutil.rmtree(str(path))
    path.symlink_to(target)


@pytest.mark.parametrize("names, expected", [
    (["vendor", "driver"], "type-PCI"), (["vendor", "physfn"], "type-VF"), (["virtfn0", "virtfn1"], "type-PF"), ([], "type-PCI")])
def test_type_of_a_pci_device(pool, devices, names, expected):
    (devices / "0000:04:10.1").mkdir()
    for name in names:
        (devices / "0000:04:10.1" / name).touch()
    assert call_legacy(pool, PLUGIN, "get_pci_type", "0000:04:10.1") == expected
    assert call_legacy(pool, PLUGIN, "get_pci_type", pci_device="04:10.1") == expected
    assert call_json(pool, PLUGIN, "get_pci_type", pci_device="04:10.1") == expected
    with refused("get_pci_type", "PluginError", "no PCI device 0000:04:10.2"):
        call_json(pool, PLUGIN, "get_pci_type", pci_device="04:10.2")
