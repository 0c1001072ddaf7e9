# SPDX-License-Identifier: Apache-2.0
"""os-xenapi's client opens a session on the pool's master and on a member, and reads the answers of its calls."""

import pathlib
import re

import pytest

from tests.compat.client import Client, ClientFailed

# Five sessions; the version is asked of a plug-in.
REQUESTS = {
    "session.login_with_password": 5, "pool.get_all": 5, "pool.get_master": 5, "host.get_API_version_major": 5,
    "host.get_API_version_minor": 5, "host.get_uuid": 1, "host.get_software_version": 2, "host.call_plugin": 1,
}


def count_requests(pool, url):
    pool.faults.calls.clear()
    with Client(url) as client:
        return client.session, dict(pool.faults.calls)


def test_a_session_on_the_master(compat_pool):
    host = compat_pool.hosts[0]
    session, requests = count_requests(compat_pool, host.url)
    assert requests == dict(REQUESTS, **{"session.get_this_host": 1})
    assert sum(requests.values()) == 30
    assert (session["host_ref"], session["host_uuid"], session["is_slave"]) == (host.ref, host.uuid, False)
    assert (session["product_version"], session["platform_version"], session["product_brand"]) == ([8, 3, 0], [3, 4, 0], "XCP-ng")


def test_a_session_on_a_member(compat_pool):
    """HOST_IS_SLAVE names the master; plug-ins are called on the member."""
    master, member = compat_pool.hosts
    session, requests = count_requests(compat_pool, member.url)
    assert requests == dict(REQUESTS, **{"PIF.get_all_records_where": 1, "session.login_with_password": 6})
    assert (session["host_ref"], session["is_slave"], session["master_url"]) == (member.ref, True, master.url)


def test_a_plugin_on_a_member(compat_pool):
    with Client(compat_pool.hosts[1].url) as client:
        with open(compat_pool.hosts[1].dom0.locate("/etc/xapi.conf"), "w") as configuration:
            configuration.write("relax-xsm-sr-check = member\n")
        assert client.method("call_plugin", "config_file", "get_val", {"key": "relax-xsm-sr-check"}) == "member"


def test_a_wrong_password(compat_pool):
    with pytest.raises(ClientFailed) as caught:
        Client(compat_pool.hosts[0].url, password="wrong")
    assert caught.value.details[0] == "SESSION_AUTHENTICATION_FAILED"


def test_the_version_is_one_that_the_client_takes(client):
    assert client.method("call_plugin_serialized", "dom0_plugin_version.py", "get_version") == "2.1"


def test_relaxed_check_of_the_storage_manager(compat_pool):
    """nova asks before it migrates: the setting, or without one the version of the platform."""
    path = compat_pool.hosts[0].dom0.locate("/etc/xapi.conf")
    for text, expected in (("relax-xsm-sr-check = true\n", True), ("relax-xsm-sr-check = False\n", False), ("", True)):
        with open(path, "w") as configuration:
            configuration.write(text)
        with Client(compat_pool.hosts[0].url) as client:
            assert client.method("is_xsm_sr_check_relaxed") is expected


def test_every_function_of_the_client_is_called_by_a_test(client):
    functions = client.list_functions(["disk_management", "host_agent", "host_glance", "host_management", "host_network",
                                       "host_xenstore", "vm_management"])
    assert len(functions) > 35
    text = "".join(path.read_text() for path in pathlib.Path(__file__).parent.glob("test_*.py"))
    called = set(re.findall(r'"(\w+\.\w+)"', text)) | {"host_agent." + name for name in re.findall(r'ask\(client, "(\w+)"', text)}
    assert set(functions) <= called


def test_a_plugin_and_a_function_that_are_not_there(client):
    with pytest.raises(ClientFailed) as caught:
        client.method("call_plugin", "nobody", "x", {})
    assert caught.value.details == ["XENAPI_MISSING_PLUGIN", "nobody.py"]
    with pytest.raises(ClientFailed) as caught:
        client.method("call_plugin", "glance", "x", {})
    assert caught.value.details == ["UNKNOWN_XENAPI_PLUGIN_FUNCTION", "x"]
