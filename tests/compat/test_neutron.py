# SPDX-License-Identifier: Apache-2.0
"""Both ways in which neutron (Train) runs commands in dom0, unmodified, on a simulated host with a real Open vSwitch."""

import os
import subprocess

import pytest

from tests.calls.network.test_netwrap import running_switch
from tests.compat import client as compat_client
from tests.compat import nova_site
from tests.harness.pool import Pool

pytestmark = pytest.mark.needs("ovs-vsctl", "ovs-ofctl", "ovsdb-server", "ovs-vswitchd")
UNAUTHORIZED, NOT_FOUND = 99, 96
_ROOTWRAP = os.path.join(os.path.dirname(compat_client.PYTHON), "neutron-rootwrap-xen-dom0")
_ROOTWRAP_CONFIGURATION = """
[DEFAULT]
filters_path = {directory}
exec_dirs = /usr/sbin,/usr/bin,/sbin,/bin
[xenapi]
xenapi_connection_url = {url}
xenapi_connection_username = root
xenapi_connection_password = harness
"""
_FILTERS = """
[Filters]
ovs-vsctl: CommandFilter, ovs-vsctl, root
ovs-ofctl: CommandFilter, ovs-ofctl, root
rm: CommandFilter, rm, root
"""
FLOWS = "table=0,priority=7,actions=drop\n"


@pytest.fixture(scope="module", params=nova_site.PYTHONS)
def pool(request, nova_python):
    pool = compat_client.make_pool(python=request.param, has_namespace=True)
    try:
        with running_switch(pool.hosts[0].dom0.root):
            pool.hosts[0].dom0.open_namespace()
            pool.start_xapi()
            yield pool
    finally:
        pool.stop()


@pytest.fixture(scope="module")
def execute(pool):
    """Function(command, stdin) -> (exit status, stdout, stderr), by neutron's XenAPIClient."""
    process = compat_client.DriverProcess(compat_client.PYTHON, "service_driver.py")
    try:
        assert "error" not in process.ask({"open": "neutron", "session": [pool.hosts[0].url, Pool.username, Pool.password]})

        def run(command, stdin=None):
            return tuple(compat_client.decode(process.ask({"execute": command.split(), "stdin": stdin})["value"]))
        yield run
    finally:
        process.close()


@pytest.fixture(scope="module")
def rootwrap(pool, tmp_path_factory):
    """The same by the script neutron-rootwrap-xen-dom0, a process for each command."""
    directory = tmp_path_factory.mktemp("rootwrap")
    (directory / "rootwrap.conf").write_text(_ROOTWRAP_CONFIGURATION.format(directory=directory / "filters", url=pool.hosts[0].url))
    (directory / "filters").mkdir()
    (directory / "filters" / "dom0.filters").write_text(_FILTERS)

    def run(command, stdin=None):
        result = subprocess.run(
            [_ROOTWRAP, str(directory / "rootwrap.conf")] + command.split(), input=stdin, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, universal_newlines=True, timeout=compat_client.DEADLINE_S, env={"PATH": os.environ["PATH"]},
            **({} if stdin else {"stdin": subprocess.DEVNULL}))
        return result.returncode, result.stdout, result.stderr
    return run


@pytest.mark.parametrize("way", ["execute", "rootwrap"])
def test_a_switch(request, pool, way):
    run = request.getfixturevalue(way)
    bridge = "br-" + way[:4]
    assert run("ovs-vsctl --timeout=10 -- --may-exist add-br %s -- set Bridge %s datapath_type=dummy fail_mode=secure"
               % (bridge, bridge))[:2] == (0, "")
    assert run("ovs-vsctl --timeout=10 add-port %s tap-%s tag=5 -- set Interface tap-%s type=dummy" % (bridge, way, way))[0] == 0
    assert run("ovs-vsctl list-ports " + bridge)[:2] == (0, "tap-%s\n" % way)
    assert run("ovs-vsctl br-exists nobody")[0] == 2
    assert run("ovs-ofctl add-flows %s -" % bridge, FLOWS)[0] == 0
    status, out, _ = run("ovs-ofctl dump-flows %s table=0" % bridge)
    assert status == 0 and "priority=7 actions=drop" in out
    assert run("ovs-vsctl --if-exists del-br " + bridge)[0] == 0


def test_what_is_refused(pool, execute, rootwrap):
    assert execute("rm -r /etc")[0] == UNAUTHORIZED
    # The script knows one error.
    status, _, err = rootwrap("rm -r /etc")
    assert (status, "Unauthorized command" in err) == (96, True), err
    environment = pool.hosts[0].dom0.plugin_environment
    path = environment["PATH"]
    environment["PATH"] = pool.hosts[0].dom0.bin_dir
    try:
        assert execute("ovs-vsctl list-br")[0] == NOT_FOUND
    finally:
        environment["PATH"] = path
