# SPDX-License-Identifier: Apache-2.0
"""ceilometer's inspector (Train), unmodified, measures a guest of a simulated host."""

import pytest

from tests.calls import calls
from tests.compat import client as compat_client
from tests.compat import nova_site
from tests.harness.pool import Pool

MAC = "fa:16:3e:00:00:01"
COUNTERS = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
vif%d.0: 1000 10 0 0 0 0 0 0 2000 20 0 0 0 0 0 0
"""


@pytest.fixture(scope="module", params=nova_site.PYTHONS)
def inspect(request, nova_python):
    """Function(method) -> [fields of what was found] of a guest with one interface and one disk."""
    pool = compat_client.make_pool(python=request.param, python36_locale=True)
    process = None
    try:
        pool.start_xapi()
        vm = pool.add_vm("guest", VCPUs_max=2, memory_static_max=64 << 20)
        pool.database.create("VIF", VM=vm, device="0", MAC=MAC, currently_attached=True)
        pool.database.create("VBD", VM=vm, userdevice="0", device="xvda", currently_attached=True)
        counters = COUNTERS % pool.database.get("VM", vm, "domid")
        calls.write_file(pool.hosts[0], "/proc/net/dev", counters.encode())
        process = compat_client.DriverProcess(compat_client.PYTHON, "service_driver.py")
        process.ask({"open": "ceilometer", "session": [pool.hosts[0].url, Pool.username, Pool.password]})
        yield lambda method: compat_client.decode(process.ask({"inspect": method, "name": "guest"})["value"])
    finally:
        if process:
            process.close()
        pool.stop()


def test_a_guest(inspect):
    (found,) = inspect("inspect_instance")
    assert found["cpu_util"] == pytest.approx(5) and found["memory_usage"] == 48


def test_its_interfaces(inspect):
    """The counters are of bandwidth.py."""
    (found,) = inspect("inspect_vnics")
    assert (found["mac"], found["rx_bytes"], found["tx_bytes"]) == (MAC, 2000, 1000)
    (found,) = inspect("inspect_vnic_rates")
    assert found["mac"] == MAC and found["rx_bytes_rate"] > 0


def test_its_disks(inspect):
    (found,) = inspect("inspect_disk_rates")
    assert found["device"] == "xvda" and found["read_bytes_rate"] > 0
