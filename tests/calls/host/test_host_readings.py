# SPDX-License-Identifier: Apache-2.0
"""bandwidth, console and config_file on every dom0 Python: clients read a host's files."""

import base64
import zlib

import pytest

from tests.calls import calls
from tests.harness.pool import Pool

INTERFACES = 2000


@pytest.fixture(scope="module")
def pool(dom0_python):
    with Pool(python=dom0_python) as pool:
        yield pool


def write_counters(host, names):
    lines = ["Inter-|   Receive |  Transmit", " face |bytes packets"] + [
        "%s: %d 1 0 0 0 0 0 0 %d 1 0 0 0 0 0 0" % (name, 1000 + number, 5 * number) for number, name in enumerate(names)]
    calls.write_file(host, "/proc/net/dev", "\n".join(lines + [""]).encode("utf-8"))


def test_bandwidth(pool):
    write_counters(pool.hosts[0], ["lo", "vif3.0", "vif3.1", "vif8f2b9c0e-1d", "vif12.0", "xenbr0", "caf\xe9"])
    expected = {"3": {"0": {"bw_in": 5, "bw_out": 1001}, "1": {"bw_in": 10, "bw_out": 1002}},
                "12": {"0": {"bw_in": 20, "bw_out": 1004}}}
    assert calls.call_legacy(pool, "bandwidth.py", "fetch_all_bandwidth") == expected
    assert calls.call_json(pool, "bandwidth.py", "fetch_all_bandwidth") == expected
    assert calls.call_json(pool, "bandwidth.py", "fetch_all_bandwidth", dom_id="12") == {"12": expected["12"]}
    assert calls.call_json(pool, "bandwidth.py", "fetch_all_bandwidth", dom_id="1") == {}


def test_bandwidth_of_many(pool):
    write_counters(pool.hosts[0], ["vif%d.%d" % (number // 2, number % 2) for number in range(INTERFACES)])
    counters = calls.call_legacy(pool, "bandwidth.py", "fetch_all_bandwidth")
    assert sum(len(interfaces) for interfaces in counters.values()) == INTERFACES
    assert counters["999"]["1"] == {"bw_in": 5 * 1999, "bw_out": 2999}
    assert calls.call_json(pool, "bandwidth.py", "fetch_all_bandwidth") == counters


def test_this_machines_own_counters(pool):
    """The simulated host shows those of the machine it runs on, which has no guests, until a test writes others."""
    with Pool(python=pool.hosts[0].dom0.python) as other:
        assert calls.call_legacy(other, "bandwidth.py", "fetch_all_bandwidth") == {}


def test_console_log(pool):
    data = b"\x1b[1mlogin:\x00\xff\r\n" * 20000
    calls.write_file(pool.hosts[0], "/var/log/xen/guest/console.7", data)
    reply = pool.call("console.py", "get_console_log", {"dom_id": "7", "host_uuid": pool.hosts[0].uuid})
    assert zlib.decompress(base64.b64decode(reply)) == data[-102400:]


def test_no_console_log(pool):
    with calls.refused("get_console_log", "PluginError", "domain 8", "/var/log/xen/guest/console.8"):
        pool.call("console.py", "get_console_log", {"dom_id": "8"})
    with calls.refused("get_console_log", "ArgumentError", "'dom_id'"):
        pool.call("console.py", "get_console_log", {"dom_id": "../7"})


def test_setting_of_xapi(pool):
    """The value as it stands, not in JSON: os-xenapi compares its text with 'true'."""
    assert pool.call("config_file.py", "get_val", {"key": "relax-xsm-sr-check"}) == ""
    assert pool.call("config_file.py", "get_val", {"key": "log", "host_uuid": pool.hosts[0].uuid}) == "xapi"
    calls.write_file(pool.hosts[0], "/etc/xapi.conf", b"relax-xsm-sr-check=true\n")
    assert pool.call("config_file.py", "get_val", {"key": "relax-xsm-sr-check"}) == "true"
