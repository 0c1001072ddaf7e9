# SPDX-License-Identifier: Apache-2.0
"""One command makes of three hosts as they are installed a pool in which guests move; with real plug-ins, sshd, ssh and rsync."""

import json
import os

import pytest

from tests.calls import calls
from tests.calls import sr_disks
from tests.calls.fitness import installed_pool
from tests.calls.migration import migrations
from tests.packages import pool_tool as tool

pytestmark = pytest.mark.needs("rsync", "ssh", "sshd", "ssh-keygen")

OLD_RSYNC = "#!/bin/sh\necho 'rsync  version 3.0.9  protocol version 30'\n"
STEPS = ["/images", "/boot/guest", "bridge", "console", "log"]


def move_guest(pool, places):
    """A guest moves from one host to another, as nova has it moved, and is the same there."""
    pair = migrations.Pair(pool, None, places)
    pair.host = pair.target.ip
    uuids, digest = pair.write_guest()
    label = migrations.make_label()
    pair.transfer_chain(label, uuids)
    stack = calls.make_uuids(len(uuids))
    pair.receive(label, stack)
    assert sr_disks.guest_digest(pair.target_sr.path, stack[0]) == digest


def test_from_installed_to_migrating_and_back():
    with installed_pool.open_pool(installed_pool.PYTHONS) as (pool, _):
        every_host = [host.name for host in pool.hosts]
        result = tool.run([pool.url], "setup", "--bridge", "--console-log", "--dry-run")
        assert result.status == 0 and [result.row(name) for name in every_host] == [["ok"] + ["would"] * 4 + ["2", "would"]] * 3

        result = tool.run([pool.url], "setup", "--bridge", "--console-log")
        assert result.lines[0].split() == ["host", "state"] + STEPS + ["trust", "doctor"]
        assert [result.row(name)[:7] for name in every_host] == [["ok"] + ["done"] * 4 + ["2", "done"]] * 3, result.stdout
        assert result.status == 0 and not result.stderr

        move_guest(pool, (0, 1))
        move_guest(pool, (2, 0))

        result = tool.run([pool.url], "setup", "--bridge", "--console-log")
        assert [result.row(name)[:7] for name in every_host] == [["ok"] + ["already"] * 4 + ["2", "already"]] * 3
        assert tool.run([pool.url], "doctor").status == 0

        break_host(pool)

        assert tool.run([pool.url], "distrust", "--all").status == 0
        with calls.refused("transfer_vhd", "PluginError", "host key"):
            move_guest(pool, (0, 1))
        result = tool.run([pool.url], "undo-prepare")
        assert result.status == 0 and [result.row(name) for name in every_host] == [["ok"] + ["done"] * 4] * 3


def break_host(pool):
    """One host of the three is broken in five ways; doctor names each, of that host and of no other."""
    host, sr = pool.hosts[1], pool.srs[1]
    pbd, = pool.database.refs("PBD", SR=sr.ref)
    left = sr.path + "/.dom0-plugins-0123456789abcdef"
    installed_pool.run_on(host, "mv /images /images.away")
    os.mkdir(left)
    open(left + "/owner", "w").close()
    pool.database.update("PBD", pbd, device_config={"preferred-image-formats": "qcow2,vhd"})
    host.xenstore.stop()
    rsync = host.dom0.add_program("rsync", OLD_RSYNC)

    result = tool.run([pool.url], "--json", "doctor")
    found = {each.name: {row["name"]: row["detail"] for row in result.host(each.name)["stages"]["doctor"] if row["outcome"] != "ok"}
             for each in pool.hosts}
    assert result.status == 1 and not found["h0"] and not found["h2"]
    assert found["h1"].keys() == {"images", "leftovers", "sr", "rsync", "xenstore", "console logs"}
    for name, words in (("images", "no /images"), ("leftovers", os.path.basename(left)), ("sr", "qcow2"), ("rsync", "3.0.9"),
                        ("xenstore", "xenstored")):
        assert words in found["h1"][name]
    assert all(row["fix"] for row in result.host("h1")["stages"]["doctor"] if row["outcome"] != "ok")

    installed_pool.run_on(host, "mv /images.away /images")
    assert json.loads(pool.call("glance.py", "sweep", {"sr_uuid": sr.uuid}, host=1)) == [os.path.basename(left)]
    pool.database.update("PBD", pbd, device_config={})
    host.xenstore.start()
    os.unlink(rsync)
    # The record that xenstored has lost is written again.
    assert tool.run([pool.url], "prepare", "--console-log").row("h1") == ["ok", "already", "already", "done"]
    assert tool.run([pool.url], "doctor").status == 0
