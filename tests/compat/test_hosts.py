# SPDX-License-Identifier: Apache-2.0
"""host_management, host_network and host_xenstore of os-xenapi's client, with nova's use of their results."""

import itertools
import json
import os

import pytest

from tests.calls import calls
from tests.compat.client import ClientFailed
from tests.harness.guests import guests
from tests.harness.guests.guest_agent import Agent
from tests.harness.guests.guests import Guest

_domids = itertools.count(100)
_ids = itertools.count(1)


@pytest.fixture
def host(compat_pool):
    return compat_pool.hosts[0]


@pytest.fixture
def recorded(host):
    """Function() -> how ip, brctl and ovs-vsctl of dom0 have been called since the last time."""
    path = host.dom0.locate("/opt/harness/recorded")
    for name in ("ip", "brctl", "ovs-vsctl"):
        calls.write_program(host, name, 'echo "%s $*" >> %s' % (name, path))

    def read():
        if not os.path.exists(path):
            return []
        with open(path) as source:
            lines = source.read().splitlines()
        os.unlink(path)
        return lines
    yield read
    for name in ("ip", "brctl", "ovs-vsctl"):
        os.unlink(os.path.join(host.dom0.bin_dir, name))


def details_of(call, *arguments, **keywords):
    with pytest.raises(ClientFailed) as caught:
        call(*arguments, **keywords)
    assert caught.value.name == "Failure"
    return caught.value.details


# The host

def test_data_of_the_host(client, host):
    """nova divides, and looks these up without a default."""
    data = json.loads(client.call("host_management.get_host_data"))
    assert data["host_hostname"] == host.name and data["host_capabilities"][0] == "xen-3.0-x86_64"
    assert all(isinstance(data["host_memory"][name], int) for name in ("total", "overhead", "free", "free-computed"))
    cpu = data["host_cpu_info"]
    assert int(cpu["cpu_count"]) / int(cpu["socket_count"]) == 2
    assert {"modelname", "vendor", "flags"} <= set(cpu)


def test_uptime_and_state(client, host, compat_pool):
    assert " up " in json.loads(client.call("host_management.get_host_uptime"))["uptime"]
    assert json.loads(client.call("host_management.set_host_enabled", "false")) == {"status": "disabled"}
    assert compat_pool.database.get("host", host.ref, "enabled") is False
    assert json.loads(client.call("host_management.set_host_enabled", "true")) == {"status": "enabled"}


def test_pci_devices(client, host):
    """nova parts the text at empty lines and looks for these names with a tab behind them."""
    first = "Slot:\t00:02.0\nVendor:\tX\nDevice:\tY\nDriver:\tpciback"
    calls.write_program(host, "lspci", "cat <<'END'\n%s\n\nSlot:\t00:03.0\n\nEND" % first)
    assert client.call("host_management.get_pci_device_details").split("\n\n")[0] == first
    device = host.dom0.locate("/sys/bus/pci/devices")
    if os.path.islink(device):  # to this machine's
        os.unlink(device)
    os.makedirs(device + "/0000:04:00.0", exist_ok=True)
    assert client.call("host_management.get_pci_type", "04:00.0") == "type-PCI"
    os.makedirs(device + "/0000:04:10.1/physfn", exist_ok=True)
    assert client.call("host_management.get_pci_type", "0000:04:10.1") == "type-VF"


NETWORK = [
    ("host_network.ovs_create_port", ["xapi1", "vif3.0", "x", "00:16:3e:00:00:01", "active"], "ovs-vsctl", "xs-vif-uuid"),
    ("host_network.ovs_add_port", ["xapi1", "tap3.0"], "ovs-vsctl", "add-port xapi1 tap3.0"),
    ("host_network.ovs_del_port", ["xapi1", "tap3.0"], "ovs-vsctl", "--if-exists del-port xapi1 tap3.0"),
    ("host_network.ovs_del_br", ["xapi1"], "ovs-vsctl", "--if-exists del-br xapi1"),
    ("host_network.brctl_add_if", ["qbr1", "qvb1"], "brctl", "addif qbr1 qvb1"),
    ("host_network.brctl_del_if", ["qbr1", "qvb1"], "brctl", "delif qbr1 qvb1"),
    ("host_network.brctl_del_br", ["qbr1"], "brctl", "delbr qbr1"),
    ("host_network.brctl_add_br", ["qbr1"], "brctl", "addbr qbr1"),
    ("host_network.brctl_set_fd", ["qbr1", "0"], "brctl", "setfd qbr1 0"),
    ("host_network.brctl_set_stp", ["qbr1", "off"], "brctl", "stp qbr1 off"),
    ("host_network.ip_link_add_veth_pair", ["qvb1", "qvo1"], "ip", "qvb1 type veth peer name qvo1"),
    ("host_network.ip_link_del_dev", ["qvb1"], "ip", "link delete dev qvb1"),
    ("host_network.ip_link_get_dev", ["qvb1"], "ip", "link show dev qvb1"),
    ("host_network.ip_link_set_dev", ["qvb1", "up"], "ip", "link set dev qvb1 up"),
    ("host_network.ip_link_set_promisc", ["qvb1", "on"], "ip", "promisc on"),
]


@pytest.mark.parametrize("function, arguments, program, words", NETWORK, ids=[row[0].split(".")[1] for row in NETWORK])
def test_network(client, recorded, function, arguments, program, words):
    recorded()
    assert client.call(function, *arguments) is None
    lines = recorded()
    assert len(lines) == 1 and lines[0].startswith(program + " ") and words in lines[0]


def test_a_device_that_is_absent(client, host, recorded):
    """nova takes any failure for that, and makes the device."""
    calls.write_program(host, "ip", "echo 'Device \"qvb1\" does not exist.' >&2; exit 1")
    assert details_of(client.call, "host_network.ip_link_get_dev", "qvb1")[:2] == ["XENAPI_PLUGIN_FAILURE", "network_config"]


def test_rules_and_power(client, host, recorded):
    """Functions that nova calls by name, without one of the client's."""
    calls.write_program(host, "iptables-save", "echo '*filter'; echo COMMIT")
    reply = client.method("call_plugin", "xenhost.py", "iptables_config", {
        "cmd_args": '["iptables-save", "-c"]', "run_as_root": "True", "attempts": "1"})
    assert json.loads(reply) == {"out": "*filter\nCOMMIT\n", "err": ""}
    assert details_of(client.method, "call_plugin", "xenhost.py", "iptables_config", {"cmd_args": '["rm"]'})[1] == "iptables_config"


def test_neutron(client, host, recorded):
    """neutron compares details[3]."""
    reply = client.method("call_plugin", "netwrap.py", "run_command", {"cmd": '["ip", "link", "show"]', "cmd_input": "null"})
    assert json.loads(reply) == {"returncode": 0, "out": "", "err": ""} and recorded() == ["ip link show"]
    details = details_of(client.method, "call_plugin", "netwrap.py", "run_command", {"cmd": '["rm"]', "cmd_input": "null"})
    assert (len(details), details[0], details[3]) == (4, "XENAPI_PLUGIN_FAILURE", "Unauthorized command")
    host.dom0.plugin_environment["PATH"], path = host.dom0.bin_dir, host.dom0.plugin_environment["PATH"]
    try:
        details = details_of(client.method, "call_plugin", "netwrap.py", "run_command", {"cmd": '["ipset", "list"]'})
    finally:
        host.dom0.plugin_environment["PATH"] = path
    assert (len(details), details[0], details[3]) == (4, "XENAPI_PLUGIN_FAILURE", "Executable not found")


# A guest's records

def test_records(client, host):
    domid = str(next(_domids))
    host.xenstore.introduce(int(domid))
    value = json.dumps({"a": 1})
    assert client.call("host_xenstore.write_record", domid, "vm-data/x", value) == value
    assert client.call("host_xenstore.read_record", domid, "vm-data/x") == value
    client.call("host_xenstore.delete_record", domid, "vm-data/x")
    client.call("host_xenstore.delete_record", domid, "vm-data/x")
    # nova compares these six characters.
    assert client.call("host_xenstore.read_record", domid, "vm-data/x") == '"None"'
    assert details_of(client.call, "host_xenstore.read_record", domid, "vm-data/x", ignore_missing_path=False)[1] == "read_record"
    with host.xenstore.client() as dom0:
        dom0.write(b"/local/domain/%s/device/vif/0/state" % domid.encode("ascii"), b"4")
    assert int(client.call("host_xenstore.read_record", domid, "device/vif/0/state")) == 4


# A guest's agent (its answers: test_guests.py)

def last_line(client, guest, function, *arguments):
    """Of the message of a failure, as nova reads it."""
    details = details_of(client.call, "host_agent." + function, "request-%d" % next(_ids), str(guest.domid), "2", *arguments)
    return details[-1].splitlines()[-1]


def test_an_agent_that_fails(client, host):
    """nova looks for these marks in the last line of the last of the details."""
    with Guest(host.xenstore, next(_domids), guests.keep_silent) as guest:
        assert "TIMEOUT:" in last_line(client, guest, "version")
    assert "REBOOT:" in last_line(client, guest, "version")
    with Guest(host.xenstore, next(_domids), agent=Agent(injection=None)) as guest:
        assert "NOT IMPLEMENTED:" in last_line(client, guest, "inject_file", "L2V0Yy9tb3Rk", "aGVsbG8K")
