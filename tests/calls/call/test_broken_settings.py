# SPDX-License-Identifier: Apache-2.0
"""Settings that cannot be used: every call refuses and says why, and doctor says it to a pool administrator."""

import json
import os
import uuid

import pytest
import XenAPI

from tests.calls import calls
from tests.calls import pythons
from tests.harness.pool import Pool
from tests.unit import broken_settings

# Calls that act on the host and calls that do not.
SOME_CALLS = [
    ("glance.py", "sweep", {"sr_uuid": str(uuid.uuid4())}), ("dom0_host.py", "version", {}),
    ("dom0_host.py", "prepare", {"dry_run": "true"}),
    ("dom0_host.py", "tend_console_logs", {}), ("dom0_host.py", "cut_console_logs", {}), ("kernel.py", "sweep", {}),
    ("netwrap.py", "run_command", {"cmd": json.dumps(["ip", "link"]), "cmd_input": "null"}), ("xenhost.py", "host_uptime", {}),
]
SHIPPED = "# Settings\n\n[policy]\n# calls that are refused\n#deny =\n"


@pytest.fixture(scope="module", params=pythons.ROTATION, ids=pythons.version_of)
def pool(request):
    with Pool(python=request.param, python36_locale=True) as pool:
        yield pool


@pytest.fixture
def path(pool):
    path = pool.hosts[0].dom0.locate(calls.SETTINGS)
    yield path
    if os.path.isdir(path):
        os.rmdir(path)
    elif os.path.lexists(path):
        os.unlink(path)


def examine(session, pool):
    """{check: its row}"""
    reply = session.xenapi.host.call_plugin(pool.hosts[0].ref, "dom0_host.py", "doctor", {})
    return {row["check"]: row for row in json.loads(reply)}


def check_refused(pool, sentence):
    with calls.refused("get_version", "PluginError") as messages:
        pool.call("dom0_plugin_version.py", "get_version")
    assert messages == [sentence]
    row = examine(pool.login(), pool)["settings"]
    assert row == {"check": "settings", "ok": False, "found": None, "problem": sentence,
                   "fix": "correct /etc/dom0-plugins.conf, or remove it: until then this host refuses all other calls"}


@pytest.mark.parametrize("name", sorted(broken_settings.FILES))
def test_a_file_that_cannot_be_used(pool, path, name):
    data, sentence = broken_settings.FILES[name]
    with open(path, "wb") as target:
        target.write(data)
    check_refused(pool, "/etc/dom0-plugins.conf: " + sentence)


@pytest.mark.parametrize("name", sorted(broken_settings.PLACES))
def test_something_else_in_the_place_of_the_file(pool, path, name):
    make, sentence = broken_settings.PLACES[name]
    make(path)
    check_refused(pool, sentence)


@pytest.mark.parametrize("plugin, function, arguments", SOME_CALLS)
def test_every_other_call_is_refused(pool, path, plugin, function, arguments):
    with open(path, "w") as target:
        target.write("[polcy]\ndeny = *\n")
    with calls.refused(function, "PluginError", "[polcy] is no section: [policy] is meant?"):
        pool.call(plugin, function, arguments)


@pytest.mark.parametrize("data, found", [
    (None, "all defaults"), (SHIPPED.encode(), "all defaults"), (b"[transfer]\nreserve = 512\n", "all defaults"),
    (b"[transfer]\nreserve=1\nnice = 0\n[network]\nproxy = http://user:secret@p:1\n",
     "[network] proxy = p:1; [transfer] nice = 0; reserve = 1"),
])
def test_the_settings_in_force(pool, path, data, found):
    if data is not None:
        with open(path, "wb") as target:
            target.write(data)
    row = examine(pool.login(), pool)["settings"]
    assert row == {"check": "settings", "ok": True, "found": found, "problem": None, "fix": None}
    pool.call("dom0_plugin_version.py", "get_version")


@pytest.mark.parametrize("text", [
    "[policy]\nrequire_pool_admin = no\n[polcy]\n", "[policy]\nrequire_pool_admin = no\ndeny = glance\n"])
def test_only_a_pool_administrator_is_told_more(pool, path, text):
    with open(path, "w") as target:
        target.write(text)
    operator = pool.login(pool.operator_username, pool.operator_password)
    vm = pool.database.refs("VM")[0]
    with calls.refused("doctor", "PluginError", "/etc/dom0-plugins.conf: "):
        operator.xenapi.VM.call_host_plugin(vm, "dom0_host.py", "doctor", {})


def test_without_an_answer_of_xapi_the_role_is_not_known(pool, path):
    with open(path, "w") as target:
        target.write("[polcy]\n")
    pool.faults.fail("session.get_is_local_superuser", "INTERNAL_ERROR")
    pool.faults.fail("session.get_rbac_permissions", "INTERNAL_ERROR")
    with calls.refused("doctor", "PluginError", "[polcy] is no section"):
        examine(pool.login(), pool)


@pytest.mark.parametrize("plugin, function, arguments", SOME_CALLS)
def test_a_call_of_any_kind_is_denied_by_its_name(pool, path, plugin, function, arguments):
    pattern = "%s.%s" % (plugin[:-3], function)
    with open(path, "w") as target:
        target.write("[policy]\ndeny = agent.*, %s\n" % pattern)
    with calls.refused(function, "Denied", "%s is denied by '%s'" % (pattern, pattern)):
        pool.call(plugin, function, arguments)


def test_a_doctor_that_is_denied_stays_so(pool, path):
    with open(path, "w") as target:
        target.write("[policy]\ndeny = dom0_host.*\n")
    with pytest.raises(XenAPI.Failure) as caught:
        examine(pool.login(), pool)
    assert caught.value.details[2] == "Denied"


def test_the_checks_that_need_the_settings_say_so(pool, path):
    with open(path, "w") as target:
        target.write("[polcy]\n")
    found = examine(pool.login(), pool)
    assert "settings, which cannot be used" in found["free space"]["problem"] and "'settings'" in found["free space"]["fix"]
