# SPDX-License-Identifier: Apache-2.0
"""network_config with the real ip, brctl and ovs-vsctl, in a network of its own: the effect of each of its commands."""

import json
import os

import pytest

from tests.calls import calls
from tests.calls.calls import refused
from tests.calls.network import virtual_network

PLUGIN, FUNCTION = "xenhost.py", "network_config"
PORT = "8f2b9c0e-1d3c-4b5a-9e8f-0a1b2c3d4e5f"
MAC = "fa:16:3e:01:02:ff"


@pytest.fixture
def pool(network_pool):
    return network_pool


@pytest.fixture(scope="module")
def switch():
    with virtual_network.Switch() as switch:
        yield switch


@pytest.fixture
def bridge(pool, switch):
    """The name of an empty bridge of the switch."""
    switch.supply(pool.hosts[0])
    switch.vsctl("--may-exist", "add-br", "br-int")
    yield "br-int"
    switch.vsctl("--if-exists", "del-br", "br-int")


@pytest.fixture
def recorded(pool):
    """Function() -> the argument lists that programs have been started with, which do nothing but tell."""
    host = pool.hosts[0]
    log = host.dom0.locate("/tmp/commands")
    programs = [calls.write_program(
        host, program, '{ printf "%%s" %s; for word; do printf "|%%s" "$word"; done; echo; } >>%s' % (program, log))
        for program in ("ip", "brctl", "ovs-vsctl")]

    def read():
        with open(log) as source:
            return [line.split("|") for line in source.read().splitlines()]
    yield read
    for program in programs:
        program.unlink()
    if os.path.exists(log):
        os.unlink(log)


def configure(pool, command, **arguments):
    """As os-xenapi calls it: one map by position."""
    arguments = {name.replace("_hyphen_", "-"): value for name, value in arguments.items()}
    return calls.call_legacy(pool, PLUGIN, FUNCTION, {"cmd": command, "args": arguments})


def test_links(pool, network):
    configure(pool, "ip_link_add_veth_pair", dev1_name="qvb1", dev2_name="qvo1")
    assert "qvo1@qvb1" in configure(pool, "ip_link_get_dev", device_name="qvo1")
    assert "state DOWN" in network.run("ip", "link", "show", "qvb1")
    configure(pool, "ip_link_set_dev", device_name="qvb1", option="up")
    configure(pool, "ip_link_set_promisc", device_name="qvb1", option="on")
    assert "PROMISC,UP" in network.run("ip", "link", "show", "qvb1")
    configure(pool, "ip_link_set_dev", device_name="qvb1", option="down")
    assert "UP" not in network.run("ip", "link", "show", "qvb1").partition(">")[0]
    configure(pool, "ip_link_del_dev", device_name="qvb1")
    with refused(FUNCTION, "CommandFailed", "command 'ip' ended with status 1", "qvo1"):
        configure(pool, "ip_link_get_dev", device_name="qvo1")


def test_plain_form(pool, network):
    call = json.dumps({"cmd": "brctl_add_br", "args": {"bridge_name": "xapi7"}})
    assert json.loads(pool.call(PLUGIN, FUNCTION, {"args": call})) == ""
    assert "xapi7" in network.run("brctl", "show")


@pytest.mark.needs("brctl")
def test_linux_bridges(pool, network):
    configure(pool, "brctl_add_br", bridge_name="qbr1")
    configure(pool, "brctl_set_fd", bridge_name="qbr1", fd="0")
    configure(pool, "brctl_set_stp", bridge_name="qbr1", option="off")
    configure(pool, "ip_link_add_veth_pair", dev1_name="qvb1", dev2_name="qvo1")
    configure(pool, "brctl_add_if", bridge_name="qbr1", interface_name="qvb1")
    shown = network.run("bridge", "link", "show")
    assert "qvb1" in shown and "master qbr1" in shown
    assert "forward_delay 0" in network.run("ip", "-details", "link", "show", "qbr1")
    configure(pool, "brctl_del_if", bridge_name="qbr1", interface_name="qvb1")
    assert network.run("bridge", "link", "show") == ""
    configure(pool, "brctl_del_br", bridge_name="qbr1")
    with refused(FUNCTION, "CommandFailed", "command 'brctl' ended with status 1"):
        configure(pool, "brctl_del_br", bridge_name="qbr1")


@pytest.mark.needs("ovs-vsctl", "ovs-vswitchd")
def test_ports_of_a_switch(pool, switch, bridge):
    configure(pool, "ovs_create_port", bridge=bridge, port="vif3.0", iface_hyphen_id=PORT, mac=MAC, status="active")
    assert switch.vsctl("list-ports", bridge).split() == ["vif3.0"]
    for name, value in (("iface-id", PORT), ("attached-mac", MAC), ("iface-status", "active"), ("xs-vif-uuid", PORT)):
        assert switch.vsctl("get", "Interface", "vif3.0", "external_ids:%s" % name).strip().strip('"') == value
    configure(pool, "ovs_set_if_external_id", interface="vif3.0", extneral_id="iface-id", value="-a:b@c+d")
    assert switch.vsctl("get", "Interface", "vif3.0", "external_ids:iface-id").strip() == '"-a:b@c+d"'
    # Once more: the old port goes first.
    configure(pool, "ovs_create_port", bridge=bridge, port="vif3.0", iface_hyphen_id=PORT, mac=MAC, status="active")
    configure(pool, "ovs_add_port", bridge_name=bridge, port_name="tap5")
    assert switch.vsctl("list-ports", bridge).split() == ["tap5", "vif3.0"]
    for _ in range(2):
        configure(pool, "ovs_del_port", bridge_name=bridge, port_name="tap5")
    assert switch.vsctl("list-ports", bridge).split() == ["vif3.0"]


@pytest.mark.needs("ovs-vsctl", "ovs-vswitchd")
def test_patch_ports_and_bridges_of_a_switch(pool, switch, bridge):
    switch.vsctl("add-br", "xapi3")
    configure(pool, "ovs_add_patch_port", bridge_name=bridge, port_name="ppi1", peer_port_name="ppo1")
    configure(pool, "ovs_add_patch_port", bridge_name="xapi3", port_name="ppo1", peer_port_name="ppi1")
    assert switch.vsctl("get", "Interface", "ppi1", "type", "options").split() == ["patch", "{peer=ppo1}"]
    for _ in range(2):
        configure(pool, "ovs_del_br", bridge_name="xapi3")
    assert switch.vsctl("list-br").split() == [bridge]
    with refused(FUNCTION, "CommandFailed", "command 'ovs-vsctl' ended with status 1", "xapi3"):
        configure(pool, "ovs_add_port", bridge_name="xapi3", port_name="tap5")
    # Nothing of a command of several steps is left when one of them cannot be done.
    assert switch.vsctl("list-ports", bridge).split() == ["ppi1"]


def test_words_of_each_program(pool, recorded):
    """A name that looks like an option follows -- or dev, and no shell reads it."""
    configure(pool, "ovs_create_port", bridge="br-int", port="vif3.0", iface_hyphen_id=PORT, mac=MAC, status="active")
    configure(pool, "ip_link_get_dev", device_name="up")
    configure(pool, "brctl_set_stp", bridge_name="qbr1", option="off", unknown="ignored")
    assert recorded() == [
        ["ovs-vsctl", "--timeout=30", "--", "--if-exists", "del-port", "vif3.0", "--", "add-port", "br-int", "vif3.0",
         "--", "set", "Interface", "vif3.0", "external_ids:iface-id=%s" % PORT, "external_ids:iface-status=active",
         "external_ids:attached-mac=%s" % MAC, "external_ids:xs-vif-uuid=%s" % PORT],
        ["ip", "link", "show", "dev", "up"], ["brctl", "stp", "qbr1", "off"]]


@pytest.mark.parametrize("command, arguments", [
    ("ovs_del_br", {"bridge_name": "--db=tcp:10.0.0.1:1"}), ("ovs_del_br", {"bridge_name": "--"}),
    ("ovs_del_br", {"bridge_name": "a b"}), ("ovs_del_br", {"bridge_name": "x" * 16}), ("ovs_del_br", {"bridge_name": ""}),
    ("ovs_del_br", {"bridge_name": "x;reboot"}), ("ovs_del_br", {"bridge_name": "x\n"}), ("ovs_del_br", {"bridge_name": 5}),
    ("ovs_del_br", {"bridge_name": ["x"]}), ("ovs_del_br", {}), ("ovs_del_port", {"bridge_name": "x", "port_name": "../x"}),
    ("ovs_set_if_external_id", {"interface": "x", "extneral_id": "a=b", "value": "c"}),
    ("ovs_set_if_external_id", {"interface": "x", "extneral_id": "a", "value": 'c" -- emer-reset'}),
    ("ovs_set_if_external_id", {"interface": "x", "external_id": "a", "value": "c"}),
    ("ip_link_set_dev", {"device_name": "x", "option": "netns 1"}), ("ip_link_set_dev", {"device_name": "x", "option": "on"}),
    ("ip_link_set_promisc", {"device_name": "x", "option": "up"}), ("brctl_set_stp", {"bridge_name": "x", "option": "maybe"}),
    ("brctl_set_fd", {"bridge_name": "x", "fd": "-1"}), ("brctl_set_fd", {"bridge_name": "x", "fd": "31"}),
    ("ip_link_add_veth_pair", {"dev1_name": "x", "dev2_name": "-h"}), ("ip_link_get_dev", {"device_name": "."}),
    ("ip_link_get_dev", {"device_name": "caf\xe9"}), ("ip_link_show", {"device_name": "x"}), ("", {}), (None, {}),
    ("ovs_del_br", None),
    ("ovs_create_port", {"bridge": "x", "port": "y", "iface-id": PORT, "mac": MAC + "0", "status": "active"}),
    ("ovs_create_port", {"bridge": "x", "port": "y", "iface-id": "", "mac": MAC, "status": "active"}),
])
def test_refusals(pool, recorded, command, arguments):
    with refused(FUNCTION, "ArgumentError", "'args'"):
        calls.call_legacy(pool, PLUGIN, FUNCTION, {"cmd": command, "args": arguments})
    assert not os.path.exists(pool.hosts[0].dom0.locate("/tmp/commands"))
