# SPDX-License-Identifier: Apache-2.0
"""nova's unmodified xenapi driver (Train) manages a simulated host: the whole life of a server, and nothing is left of it.

Replies of the driver are compared with what nova-compute expects of it; disks, records and files are looked at besides.
"""

import uuid

import pytest

from tests import conftest
from tests.compat import nova_site
from tests.compat.client import ClientFailed
from tests.compat.nova_compute import CALLBACK
from tests.harness.vhd import vhd_image
from tests.calls import calls
from tests.calls import sr_disks

GIB = 1 << 30
RUNNING, PAUSED, SHUTDOWN, SUSPENDED = 1, 3, 4, 7
_COUNTERS = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
vif%d.0: 1000 10 0 0 0 0 0 0 2000 20 0 0 0 0 0 0
"""
USES_AGENT = {"image_xenapi_use_agent": "true"}


@pytest.fixture(scope="module", params=nova_site.PYTHONS)
def site(request, images_of_nova, nova_python, tmp_path_factory):
    with nova_site.open_site(images_of_nova, str(tmp_path_factory.mktemp("nova")), python=request.param,
                             python36_locale=True) as site:
        yield site


@pytest.fixture(scope="module")
def newest_site(images_of_nova, nova_python, tmp_path_factory):
    python = dict(conftest.DOM0_PYTHONS).get("3.12")
    if not python:
        pytest.skip("needs Python 3.12")
    with nova_site.open_site(images_of_nova, str(tmp_path_factory.mktemp("nova")), python=python, python36_locale=True) as site:
        yield site


@pytest.fixture
def clean(site):
    """Nothing is left of a test's servers."""
    with site.nothing_left():
        yield site


def state_of(server):
    return server.do("get_info")["state"]


# The host

def test_the_host(site):
    compute = site.compute
    compute.call("init_host", "compute")
    assert compute.call("get_available_nodes") == ["h0"]
    resource = compute.call("get_available_resource", "h0")
    assert (resource["hypervisor_type"], resource["vcpus"], resource["memory_mb"]) == ("XenServer", 2, 16 * 1024)
    assert resource["hypervisor_hostname"] == "h0"
    assert "up" in compute.call("get_host_uptime")
    assert (compute.call("list_instances"), compute.call("list_instance_uuids")) == (["compute"], [])
    assert compute.call("get_volume_connector", None)["initiator"] == "iqn.2026-01.example:h0"


def test_a_disabled_host(site):
    assert site.compute.call("set_host_enabled", False) == "disabled"
    assert site.pool.database.get("host", site.pool.hosts[0].ref, "enabled") is False
    assert site.compute.call("set_host_enabled", True) == "enabled"


def test_a_host_with_nova_in_a_guest_is_not_rebooted(site):
    """The guest is nova-compute's own. nova takes the error for a reply, and fails itself."""
    with pytest.raises(ClientFailed) as caught:
        site.compute.call("host_power_action", "reboot")
    assert caught.value.name == "AttributeError" and site.pool.hosts[0].power_actions == []
    assert any("guest would be lost" in line for line in site.pool.hosts[0].syslog_lines())


# The life of a server

def boot_and_delete(site):
    with site.nothing_left():
        server = site.compute.spawn(site.images["chain-2"])
        vm = site.vm(server)
        assert (vm["power_state"], vm["memory_static_max"], len(vm["VIFs"]), len(vm["VBDs"])) == ("Running", 64 << 20, 1, 1)
        assert site.vdi(server)["virtual_size"] == GIB and site.head_digest(server) == site.digests["chain-2"]
        assert len(site.devices()) == 5 and server.do("instance_exists") is True and state_of(server) == RUNNING
        server.destroy()
        assert server.do("instance_exists") is False
        cached = [record for record in site.sr.scan().values() if record["managed"]]
        assert [record["name_label"] for record in cached] == ["Glance Image %s" % site.images["chain-2"].id]
        # The next one comes without a download.
        site.service.requests.clear()
        server = site.compute.spawn(site.images["chain-2"])
        assert site.head_digest(server) == site.digests["chain-2"] and not site.service.requests
        server.destroy()


def test_boot_and_delete(site):
    boot_and_delete(site)


def test_boot_and_delete_on_the_newest_python(newest_site):
    boot_and_delete(newest_site)


def test_power(clean):
    server = clean.compute.spawn(clean.images["chain-1"])
    domids = [clean.vm(server)["domid"]]
    for do, state, is_new in (
            (lambda: server.do("pause"), PAUSED, False), (lambda: server.do("unpause"), RUNNING, False),
            (lambda: server.call("suspend"), SUSPENDED, None), (lambda: server.call("resume", server.interfaces), RUNNING, True),
            (lambda: server.call("reboot", server.interfaces, "SOFT"), RUNNING, True),
            (lambda: server.call("reboot", server.interfaces, "HARD"), RUNNING, True),
            (lambda: server.do("power_off"), SHUTDOWN, None),
            (lambda: server.call("reboot", server.interfaces, "SOFT"), RUNNING, True),
            (lambda: server.do("power_off"), SHUTDOWN, None),
            (lambda: server.call("power_on", server.interfaces), RUNNING, True),
            (lambda: server.do("set_bootable", False), RUNNING, False), (lambda: server.do("set_bootable", True), RUNNING, False),
            (lambda: server.do("soft_delete"), SHUTDOWN, None), (lambda: server.do("restore"), RUNNING, True)):
        do()
        assert state_of(server) == state
        if is_new is not None:
            domids.append(clean.vm(server)["domid"])
            assert (domids[-1] > domids[-2]) is is_new
    assert clean.head_digest(server) == clean.digests["chain-1"]
    server.destroy()


def test_console_and_measurements(clean):
    server = clean.compute.spawn(clean.images["chain-1"])
    domid = clean.vm(server)["domid"]
    write_console(clean, clean.vm(server), "hello from the console\n")
    assert server.call("get_console_output") == "hello from the console\n"
    assert server.do("get_instance_diagnostics")
    # nova gives urllib2 a URL with a password in it.
    with pytest.raises(ClientFailed) as caught:
        server.do("get_diagnostics")
    assert caught.value.name == "InvalidURL"
    write_counters(clean.pool.hosts[0], domid)
    counters = clean.compute.call("get_all_bw_counters", [{"name": server.name, "uuid": server.uuid}])
    assert [(counter["bw_in"], counter["bw_out"]) for counter in counters] == [(2000, 1000)]
    server.destroy()


def write_console(site, vm, text):
    calls.write_file(site.pool.hosts[0], "/var/log/xen/guest/console.%d" % vm["domid"], text.encode())


def write_counters(host, domid):
    calls.write_file(host, "/proc/net/dev", (_COUNTERS % domid).encode())


def test_metadata(clean):
    server = clean.compute.spawn(clean.images["chain-1"])
    store, path = clean.host(server).xenstore, b"/local/domain/%d/vm-data/user-metadata/" % clean.vm(server)["domid"]

    def read_all():
        with store.client() as client:
            return {name: client.read(path + name) for name in client.directory(path[:-1])}
    assert read_all() == {b"role": b'"web"', b"a_b": b'"c"'}
    server.call("change_instance_metadata", {"role": ["-"], "new": ["+", "v"]})
    assert read_all() == {b"new": b'"v"', b"a_b": b'"c"'}
    assert clean.vm(server)["xenstore_data"]["vm-data/user-metadata/new"] == '"v"'
    server.do("power_off")
    server.call("change_instance_metadata", {"more": ["+", "v"]})
    server.call("power_on", server.interfaces)
    path = b"/local/domain/%d/vm-data/user-metadata/" % clean.vm(server)["domid"]
    assert read_all() == {b"new": b'"v"', b"a_b": b'"c"', b"more": b'"v"'}
    server.do("inject_network_info", server.interfaces)
    server.destroy()


def test_interfaces(clean):
    server = clean.compute.spawn(clean.images["chain-1"])
    other = clean.compute.make_server(clean.images["chain-1"])
    before = clean.devices()
    server.call("attach_interface", None, {"interface": other.uuid})
    assert len(clean.vm(server)["VIFs"]) == 2 and set(before) < set(clean.devices())
    server.do("plug_vifs", server.interfaces)
    server.call("detach_interface", {"interface": other.uuid})
    assert len(clean.vm(server)["VIFs"]) == 1 and clean.devices() == before
    server.destroy()


# Snapshots and rescue

def test_snapshots(site):
    with site.nothing_left(but=["image "]):
        server = site.compute.spawn(site.images["chain-2"])
        first, second = (site.service.add_image(container_format=None, disk_format=None) for _ in range(2))
        server.snapshot(first)
        assert (first.status, first.disk_format, first.container_format) == ("active", "vhd", "ovf")
        write(site.disk_path(server), b"written by the guest")
        expected = site.head_digest(server)
        # nova waits until the parent that the first one made is coalesced.
        server.snapshot(second)
        server.call("post_interrupted_snapshot_cleanup")
        assert site.head_digest(server) == expected != site.digests["chain-2"]
        for image, digest in ((first, site.digests["chain-2"]), (second, expected)):
            copy = site.compute.spawn(image)
            assert site.head_digest(copy) == digest
            copy.destroy()
        server.destroy()


def test_a_snapshot_whose_image_is_deleted(clean):
    server = clean.compute.spawn(clean.images["chain-1"])
    with pytest.raises(ClientFailed) as caught:
        server.call("snapshot", str(uuid.uuid4()), CALLBACK)
    assert caught.value.name == "ImageNotFound"
    server.destroy()


def test_rescue(clean):
    server = clean.compute.spawn(clean.images["chain-2"])
    rescue_image = {"image": {"id": clean.images["chain-1"].id}}
    server.call("rescue", server.interfaces, rescue_image, "secret")
    assert {clean.vm(server)["power_state"], clean.vm(server, "-rescue")["power_state"]} == {"Halted", "Running"}
    write_console(clean, clean.vm(server, "-rescue"), "rescued")
    assert server.call("get_console_output") == "rescued"
    server.do("unrescue", server.interfaces)
    assert state_of(server) == RUNNING and clean.head_digest(server) == clean.digests["chain-2"]
    server.call("rescue", server.interfaces, rescue_image, "secret")
    server.destroy()


def write(path, data):
    with vhd_image.Image.open(path, writable=True) as image:
        image.write(sr_disks.BLOCK, data.ljust(512, b"\0"))
        image.flush()


# Agents

@pytest.fixture
def agents(clean):
    agents = nova_site.AgentsInGuests()
    clean.pool.domains.listeners.append(agents)
    try:
        yield agents
    finally:
        clean.pool.domains.listeners.remove(agents)


def test_agents_that_nova_sends_numbers(clean, agents):
    """os-xenapi puts agent_timeout, a number, into a map of texts: XAPI refuses it, and nova goes on without the agent."""
    server = clean.compute.spawn(clean.images["chain-1"], system_metadata=USES_AGENT)
    server.do("set_admin_password", "new")
    guest = agents.guests[clean.vm(server)["domid"]]
    assert guest.requests == [] and guest.agent.password is None
    with open(clean.compute.log_path) as log:
        assert "I(5)" in log.read()
    server.destroy()


def test_agents_that_nova_sends_texts(clean, agents):
    with clean.compute.mended("agent"):
        server = clean.compute.spawn(clean.images["chain-1"], password="first", files=[["/etc/motd", "hello"]],
                                     system_metadata=USES_AGENT)
        guest = agents.guests[clean.vm(server)["domid"]]
        assert guest.agent.password == "first\n" and guest.agent.network_resets == 1
        assert guest.agent.files == {b"/etc/motd": b"hello"}
        server.do("set_admin_password", "second")
        server.do("inject_file", "/etc/issue", "welcome")
        server.do("reset_network")
        assert (guest.agent.password, guest.agent.files[b"/etc/issue"], guest.agent.network_resets) == ("second\n", b"welcome", 2)
        server.destroy()
    assert guest.failure is None
