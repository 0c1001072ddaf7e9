# SPDX-License-Identifier: Apache-2.0
"""dom0-plugins as a process, on hosts whose plug-in answers as a test says: what it asks of whom, and what it makes of it."""

import json
import os
import re
import signal
import termios

import pytest

from tests.calls import calls
from tests.harness.pool import Pool
from tests.packages import packages
from tests.packages import pool_tool as tool

CERTIFICATE = os.path.join(tool.CHECKOUT, "tests/unit/web/tls_certificate.pem")
NOBODY = "http://127.0.0.250:9"


def open_pool(hosts=1, **options):
    pool = Pool(hosts=hosts, plugins=False, **options)
    for host in pool.hosts:
        tool.stand_in(host)
    return pool


@pytest.fixture
def pool():
    with open_pool(3) as pool:
        yield pool


@pytest.fixture
def one():
    with open_pool() as pool:
        yield pool


def expect_idle(pool):
    """The tool has left no session and no task."""
    assert not tool.sessions(pool) and not pool.database.refs("task")


# What is asked of whom

def test_setup_prepares_trusts_and_checks_every_host(pool):
    result = tool.run([pool.url], "setup", "--bridge", "--sr-uuid", "SR")
    assert (result.status, result.stderr) == (0, "")
    for host in pool.hosts:
        (first, arguments), key, (third, trusted), (last, checked) = tool.calls(host)
        assert (first, arguments) == ("prepare", {"sr_uuid": "SR", "bridge": "true"})
        assert key == ("ssh_key", {})
        assert third == "trust_keys" and json.loads(trusted["keys"]) == {
            other.uuid: {"public_key": "ssh-ed25519 KEY-" + other.name, "addresses": [other.ip],
                         "host_keys": ["ssh-ed25519 HOST-" + other.name]} for other in pool.hosts if other is not host}
        assert (last, checked) == ("doctor", {"sr_uuid": "SR"})
        assert result.row(host.name) == ["ok", "done", "already", "1", "done", "1", "ok"]
    assert result.lines[0].split() == ["host", "state", "/images", "/boot/guest", "trust", "doctor"]
    expect_idle(pool)


def test_a_dry_run_asks_for_nothing_else(pool):
    for host in pool.hosts[:2]:
        tool.stand_in(host, prepare=tool.steps(("/images", "would")), trust_keys=tool.steps((pool.hosts[2].uuid, "would")),
                      ssh_key={"host_uuid": host.uuid, "public_key": None, "addresses": [], "host_keys": []})
    result = tool.run([pool.url], "--json", "setup", "--dry-run")
    assert result.status == 0 and result.data["dry_run"] is True
    for host in pool.hosts:
        for function, arguments in tool.calls(host):
            assert arguments["dry_run"] == "true" and function != "doctor"
    # What would be trusted when its key is made, is told without a call about it.
    first, second, third = pool.hosts
    assert [json.loads(arguments["keys"]).keys() for function, arguments in tool.calls(first) if function == "trust_keys"] == [
        {third.uuid: 0}.keys()]
    assert [(row["name"], row["outcome"]) for row in result.host("h0")["stages"]["trust"]] == [
        (third.uuid, "would"), (second.uuid, "would")]
    assert not [function for function, _ in tool.calls(third) if function == "trust_keys"]


@pytest.mark.parametrize("arguments, function, asked", [
    (["prepare", "--console-log"], "prepare", {"console_log": "true"}),
    (["undo-prepare", "--dry-run"], "undo_prepare", {"dry_run": "true"}),
    (["distrust", "--all"], "distrust_keys", {}),
    (["distrust", "--dry-run", "3d8a3a7e-0000-4000-8000-000000000001"], "distrust_keys",
     {"dry_run": "true", "host_uuids": '["3d8a3a7e-0000-4000-8000-000000000001"]'}),
    (["doctor"], "doctor", {}),
    (["version"], "version", {}),
])
def test_a_command_is_one_call(one, arguments, function, asked):
    result = tool.run([one.url], *arguments)
    assert result.status == 0 and tool.calls(one.hosts[0]) == [(function, asked)]
    if function == "version":
        assert result.row("h0") == ["ok", "0.1.0", "2.1", "3.6.8"]


def test_trust_among_the_hosts_of_all_pools(pool):
    with open_pool(ip="127.0.0.40") as other, open_pool(ip="127.0.0.50") as third:
        result = tool.run([pool.hosts[1].url, other.url, third.url, pool.url], "--json", "trust")
        assert result.status == 0 and len(result.data["hosts"]) == 5
        assert [each["url"] for each in result.data["pools"]] == [pool.url, other.url, third.url]
        uuids = {host["uuid"] for host in result.data["hosts"]}
        for host in pool.hosts + other.hosts + third.hosts:
            assert set(json.loads(tool.calls(host)[-1][1]["keys"])) == uuids - {host.uuid}
        for each in (pool, other, third):
            expect_idle(each)


def test_only_the_hosts_that_are_named(pool):
    result = tool.run([pool.url], "--host", "h2", "--host", pool.hosts[0].uuid, "prepare")
    assert result.status == 0 and [line.split()[0] for line in result.lines[2:]] == ["h0", "h2"]
    assert tool.calls(pool.hosts[1]) == []
    with open_pool(ip="127.0.0.40") as other:
        result = tool.run([pool.url, other.url], "--host", "h0", "prepare")
        assert result.status == 2 and "several hosts" in result.stderr and tool.calls(other.hosts[0]) == []
    result = tool.run([pool.url, NOBODY], "--host", "h7", "prepare")
    assert result.status == 2 and "no pool has a host h7" in result.stderr and NOBODY in result.stderr
    expect_idle(pool)


# What does not work

def expect_problem(result, name, *texts, others=("h0", "h2")):
    """The host `name` is named with its problem, and the others are done."""
    assert result.status == 1
    assert result.row(name)[:2] == ["not", "reached"]
    line = [line for line in result.lines if line.startswith(name + ": ")]
    fix = result.lines[result.lines.index(line[0]) + 1]
    for text in texts:
        assert text in line[0] + fix
    assert fix.startswith("    fix: ")
    for other in others:
        assert result.row(other)[0] == "ok"


def test_a_dead_host(pool):
    pool.database.update("host_metrics", pool.database.get("host", pool.hosts[1].ref, "metrics"), live=False)
    result = tool.run([pool.url], "setup")
    expect_problem(result, "h1", "not live")
    assert "No host was made to trust h1" in result.stdout and tool.calls(pool.hosts[1]) == []
    assert json.loads(tool.calls(pool.hosts[0])[2][1]["keys"]).keys() == {pool.hosts[2].uuid}


def test_a_host_that_its_pool_cannot_reach(one):
    one.faults.fail("host.call_plugin", "HOST_OFFLINE", one.hosts[0].ref)
    expect_problem(tool.run([one.url], "setup"), "h0", "HOST_OFFLINE", others=())
    assert tool.calls(one.hosts[0]) == []


def test_a_host_without_the_plug_ins(pool):
    os.unlink(os.path.join(pool.hosts[1].plugin_dir, tool.PLUGIN))
    expect_problem(tool.run([pool.url], "setup"), "h1", "not installed", "install.sh root@127.0.0.2")


def test_a_host_that_does_not_answer(pool):
    pool.hosts[1].dom0.add_plugin(tool.PLUGIN, tool.HANGING)
    result = tool.run([pool.url], "--timeout", "1", "setup")
    expect_problem(result, "h1", "no answer within 1 s", "--timeout")
    assert not tool.sessions(pool)
    # The task is to go when the call ends.
    assert [set(pool.database.get("task", ref, "current_operations").values()) for ref in pool.database.refs("task")] == [
        {"cancel", "destroy"}]


def test_answers_that_are_none(pool):
    for reply in (None, [["step", "done"]], [{"step": "/images", "outcome": "perhaps"}]):
        tool.stand_in(pool.hosts[1], prepare=reply, ssh_key=reply, doctor=reply)
        result = tool.run([pool.url], "--json", "setup")
        assert result.status == 1
        stages = result.host("h1")["stages"]
        assert [row["outcome"] for row in stages["prepare"]] == ["problem"] and "version" in stages["prepare"][0]["fix"]
        assert [(row["name"], row["outcome"]) for row in stages["trust"]] == [("ssh_key", "problem"), ("other", "done")]
        assert [row["outcome"] for row in stages["doctor"]] == ["problem"]
        assert [row["outcome"] for row in result.host("h0")["stages"]["doctor"]] == ["ok"]


@pytest.mark.parametrize("plugin, text", [
    ("#!/bin/sh\nkill -9 $$\n", "the plug-in failed (signal: SIGKILL)"),
    ("#!/bin/sh\necho first >&2; echo last >&2; exit 3\n", "the plug-in failed (non-zero exit): last"),
    ("#!/bin/sh\necho nonsense\n", "the plug-in failed (failed to parse plugin output): "),
    ("#!/usr/bin/python3\nimport xmlrpc.client as xml\n"
     "print(xml.dumps(({'Status': 'Success', 'Value': '<&'},), methodresponse=True))", "answers to prepare with no JSON"),
])
def test_a_plug_in_that_dies(one, plugin, text):
    one.hosts[0].dom0.add_plugin(tool.PLUGIN, plugin)
    result = tool.run([one.url], "prepare")
    assert result.status == 1 and "h0: prepare: " in result.stdout
    assert text in result.stdout


def test_one_fault_of_many_hosts_is_told_once(pool):
    for host in pool.hosts[:2]:
        tool.stand_in(host, doctor=[{"check": "rsync", "ok": False, "found": "none", "problem": "there is no rsync",
                                     "fix": "yum install rsync"}])
    result = tool.run([pool.url], "doctor")
    assert result.status == 1 and result.row("h1") == ["problems", "1", "problem"] and result.row("h2") == ["ok", "1", "ok"]
    assert result.lines[-2:] == ["h0, h1: rsync: there is no rsync", "    fix: yum install rsync"]


def test_a_coordinator_that_dies(pool):
    pool.faults.die("host.call_plugin")
    result = tool.run([pool.url], "setup")
    assert result.status == 1
    for host in pool.hosts:
        assert result.row(host.name)[:2] == ["not", "reached"]
    assert "lost its pool at %s" % pool.url in result.stdout


# Logging in

def test_the_url_of_a_member(pool):
    result = tool.run([pool.hosts[2].url], "--json", "prepare")
    assert result.status == 0 and [each["url"] for each in result.data["pools"]] == [pool.url]


def test_a_member_whose_coordinator_is_dead(pool):
    member = pool.hosts[1]
    pool.hosts[0].stop_xapi()
    result = tool.run([member.url], "prepare")
    assert result.status == 2 and "%s cannot be reached: Connection refused" % pool.url in result.stdout


def test_a_wrong_password(one):
    secret = "wrong-secret"
    result = tool.run([one.url], "prepare", password=secret)
    assert result.status == 2 and "does not let root in" in result.stdout and "--password-file" in result.stdout
    result = tool.run([one.url, NOBODY], "--json", "prepare", password=secret)
    assert result.status == 2 and [pool["problem"] is None for pool in result.data["pools"]] == [False, False]
    assert secret not in result.stdout + result.stderr
    assert tool.calls(one.hosts[0]) == []


def test_one_pool_of_two(one):
    with open_pool(ip="127.0.0.40") as other:
        other.faults.fail("session.login_with_password", "SESSION_AUTHENTICATION_FAILED", "root", "x")
        result = tool.run([NOBODY, other.url, one.url], "prepare")
    assert result.status == 1 and [line.split()[:2] for line in result.lines[2:5]] == [
        ["-", "127.0.0.250"], ["-", "127.0.0.40"], ["harness", "h0"]]
    assert "127.0.0.250: %s cannot be reached: Connection refused" % NOBODY in result.lines


def test_where_the_password_comes_from(one, tmp_path):
    path = tmp_path / "password"
    path.write_text("harness\nsomething else\n")
    assert tool.run([one.url], "--password-file", str(path), "prepare", password="wrong").status == 0
    process = tool.start([one.url], "--password-file", "-", "prepare", password=None, stdin=-1)
    assert tool.finish(process, "harness\n").status == 0


@pytest.mark.parametrize("arguments, text", [
    (["prepare"], "--url"),
    (["--url", "ftp://h", "prepare"], "ftp://h"),
    (["--url", "https://h/path", "prepare"], "https://h/path"),
    (["--url", "https://h:port", "prepare"], "https://h:port"),
    (["--url", "https://root:secret@h", "prepare"], "--password-file"),
    (["--url", NOBODY, "distrust"], "--all"),
    (["--url", NOBODY, "distrust", "h0"], "'h0' is no uuid"),
    (["--url", NOBODY, "distrust", "--all", "3d8a3a7e-0000-4000-8000-000000000001"], "--all"),
    (["--url", NOBODY, "--timeout", "0", "prepare"], "--timeout"),
    (["--url", NOBODY, "--ca-file", "/nowhere", "prepare"], "/nowhere"),
    (["--url", NOBODY, "--ca-file", __file__, "prepare"], "--ca-file"),
    (["--url", NOBODY, "--ca-file", __file__, "--insecure", "prepare"], "--insecure"),
])
def test_wrong_usage(arguments, text):
    result = tool.run([], *arguments)
    assert (result.status, result.stdout) == (2, "") and text in result.stderr and "secret" not in result.stderr


def test_no_password():
    result = tool.run([NOBODY], "prepare", password=None)
    assert result.status == 2 and "DOM0_PLUGINS_PASSWORD" in result.stderr


def test_certificates(one):
    with tool.tls_front(one.url, CERTIFICATE) as url:
        result = tool.run([url], "prepare")
        assert result.status == 2
        assert "is not trusted: self" in result.stdout and "--ca-file" in result.stdout and "--insecure" in result.stdout
        assert tool.run([url], "--ca-file", CERTIFICATE, "prepare").status == 0
        assert tool.run([url.replace("https://", "")], "--insecure", "prepare").status == 0
        assert tool.run([url.replace("https:", "http:")], "prepare").status == 2
    with tool.tls_front(one.url, CERTIFICATE, "127.0.0.2") as url:
        result = tool.run([url], "--ca-file", CERTIFICATE, "prepare")
        assert result.status == 2 and "mismatch" in result.stdout
    assert tool.run([one.url.replace("http:", "https:")], "--insecure", "prepare").status == 2


@pytest.mark.needs("openssl")
def test_an_old_host(one, tmp_path):
    """As XenServer 7 is: a certificate without the extensions of today, and one suite that exchanges keys by RSA."""
    path = str(tmp_path / "host.pem")
    config = tmp_path / "openssl.cnf"
    config.write_text("[req]\ndistinguished_name = name\n[name]\n")
    packages.run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", path + ".key",
                 "-out", path, "-config", str(config))
    with open(path, "a") as certificate, open(path + ".key") as key:
        certificate.write(key.read())
    with tool.tls_front(one.url, path, "localhost", "AES128-SHA256") as url:
        assert tool.run([url], "--ca-file", path, "prepare").status == 0
        assert tool.run([url], "--insecure", "prepare").status == 0
        assert tool.run([url], "prepare").status == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_logs_out(one, number):
    one.hosts[0].dom0.add_plugin(tool.PLUGIN, tool.HANGING)
    process = tool.start([one.url], "setup")
    calls.wait_until(one.hosts[0].dom0.processes.running_pids)
    assert tool.sessions(one)
    result = tool.interrupt(process, number)
    assert (result.status, result.stdout) == (130, "") and "interrupted" in result.stderr
    assert not tool.sessions(one)


def test_below_nohup_a_hangup_does_nothing(one):
    one.hosts[0].dom0.add_plugin(tool.PLUGIN, tool.HANGING)
    process = tool.start([one.url], "setup", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    calls.wait_until(one.hosts[0].dom0.processes.running_pids)
    with open("/proc/%d/status" % process.pid) as status:
        ignored = int(re.search(r"^SigIgn:\s*(\w+)$", status.read(), re.MULTILINE).group(1), 16)
    assert ignored >> signal.SIGHUP - 1 & 1
    assert tool.interrupt(process, signal.SIGTERM).status == 130


# Where it is written to

def test_nothing_is_cut_or_wrapped(pool):
    command = "xe sr-create name-label='%s'" % " ".join(["word"] * 60)
    names = ["step-%d-of-a-host" % number for number in range(12)]
    tool.stand_in(pool.hosts[1], prepare=tool.steps(*[(name, "problem", "\x1b[31mwhy", command) for name in names]))
    result = tool.run([pool.url], "prepare")
    assert result.status == 1 and result.lines[0].split()[-12:] == names
    assert result.lines.count("    fix: " + command) == 12
    assert "\x1b" not in result.stdout and "h1: step-0-of-a-host: ?[31mwhy" in result.lines


def test_progress_is_for_a_terminal(one):
    terminal, stderr = os.openpty()
    process = tool.start([one.url], "--json", "setup", stderr=stderr)
    os.close(stderr)
    result = tool.finish(process)
    assert result.status == 0 and result.data["ok"] is True
    shown = os.read(terminal, 1 << 16).decode()
    os.close(terminal)
    assert "prepare" in shown and "1/1" in shown


def test_a_table_on_a_terminal(one):
    """In colours, and the password is asked for."""
    terminal, child = os.openpty()
    process = tool.start([one.url], "prepare", password=None, stdin=child, stdout=child, stderr=child, start_new_session=True)
    os.close(child)
    shown = b""
    while b"Password of root" not in shown:
        shown += os.read(terminal, 1000)
    # What is typed before the echo is off is thrown away.
    calls.wait_until(lambda: not termios.tcgetattr(terminal)[3] & termios.ECHO)
    os.write(terminal, b"harness\n")
    assert process.wait(tool.DEADLINE_S) == 0
    shown = os.read(terminal, 1 << 16).decode()
    os.close(terminal)
    assert "h0" in shown and "\x1b[32m" in shown and "harness" not in shown
