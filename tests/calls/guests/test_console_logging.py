# SPDX-License-Identifier: Apache-2.0
"""Guests' consoles are logged: turned on and off, tended, and never one guest's text for another's."""

import base64
import contextlib
import fcntl
import os
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import zlib

import pytest

from tests import conftest
from tests.calls import calls
from tests.calls import pythons
from tests.calls.guests.console_host import (
    BOOT_ID, CRONTAB, DIRECTORY, HOUR_S, RECORD, STATE, UNIT, VALUE, WANTED, ConsoleHost, Writer)
from tests.harness import fixtures
from tests.harness.guests import xenstored
from tests.harness.guests.xenstore_client import Refused
from tests.harness.pool import Pool

MIB = 1 << 20
READ_BYTES = 102400
KEPT_BYTES = 256 << 10
UNIT_BYTES = 64 << 10
LINE_BYTES = 10
OTHER_BOOT = "0b0b0b0b-1111-4222-8333-444444444444"
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for mounts")


@pytest.fixture
def any_host(dom0_python):
    """On each dom0 Python in turn, and not prepared for anything."""
    with Pool(python=dom0_python, is_prepared=False) as pool:
        yield ConsoleHost(pool)


@pytest.fixture
def console_host():
    """On the oldest dom0 Python, with logging on and a boot since."""
    with Pool(python=pythons.OLDEST, hosts=2) as pool:
        host = ConsoleHost(pool)
        host.turn_on()
        host.boot()
        host.tend()
        yield host


def read_record(host):
    try:
        with host.host.xenstore.client() as client:
            return client.read(RECORD)
    except Refused:
        return None


# On and off


def test_on_and_off(any_host):
    host = any_host
    assert host.turn_on() == [DIRECTORY, CRONTAB, UNIT, WANTED, "xenstore's /local/logconsole/@"]
    assert host.turn_on() == []
    assert read_record(host) == VALUE
    assert {stat.S_IMODE(os.stat(host.locate(path)).st_mode) for path in (CRONTAB, UNIT)} == {0o644}
    assert stat.S_IMODE(os.stat(host.locate(DIRECTORY)).st_mode) == 0o700
    assert os.readlink(host.locate(WANTED)) == UNIT

    vm = host.start(7)
    host.write_log(7)
    stopped = host.start(6)
    host.write_log(6)
    assert host.tend() == {"cut": [], "removed": [], "claims_set": 2, "claims_removed": 0}
    host.end(stopped)

    # The domain is logged to its end, and cron sees to it.
    assert host.turn_off() == [UNIT, WANTED, "xenstore's /local/logconsole/@"]
    assert host.list_logs() == ["console.7"] and os.path.exists(host.locate(CRONTAB)) and read_record(host) is None
    assert host.get_claim(vm) == host.get_claim(stopped) == (None, None)
    assert host.turn_off() == []
    host.write_log(7, b"x" * 2 * MIB)
    assert host.tend() == {"cut": [7], "removed": [], "claims_set": 0, "claims_removed": 0}
    assert read_record(host) is None
    host.end(vm)
    assert host.tend()["removed"] == [7]
    for path in (CRONTAB, UNIT, WANTED, STATE, DIRECTORY):
        assert not os.path.lexists(host.locate(path))
    for call, name in ((host.tend, "tend_console_logs"), (host.cut, "cut_console_logs")):
        with calls.refused(name, "PluginError", "not on here", "console_log=true"):
            call()
    assert host.turn_off() == []


def test_off_at_once(console_host):
    host = console_host
    host.write_log(5)
    assert sorted(host.turn_off()) == sorted([CRONTAB, UNIT, WANTED, "xenstore's /local/logconsole/@"])
    assert not os.path.exists(host.locate(DIRECTORY)) and not os.path.exists(host.locate(CRONTAB))
    assert len(host.turn_on()) == 5


def test_on_again_while_off_is_not_finished(console_host):
    host = console_host
    host.start(7)
    host.write_log(7)
    host.turn_off()
    assert host.turn_on() == [UNIT, WANTED, "xenstore's /local/logconsole/@"]
    assert host.list_logs() == ["console.7"]


@pytest.mark.parametrize("path", [CRONTAB, UNIT, WANTED])
def test_what_is_somebody_elses(console_host, path):
    host = console_host
    host.turn_off()
    calls.write_file(host.host, path, b"* * * * * root true\n")
    with pytest.raises(RuntimeError, match="PluginError: %s is not ours" % path):
        host.turn_on()
    assert host.turn_off() == []
    assert host.read(path) == b"* * * * * root true\n"
    assert [other for other in (CRONTAB, UNIT, WANTED) if os.path.lexists(host.locate(other))] == [path]


def test_a_record_that_is_somebody_elses(console_host):
    host = console_host
    with host.host.xenstore.client() as client:
        client.write(RECORD, b"/consoles/console.%d.log")
    host.tend()
    with pytest.raises(RuntimeError, match="PluginError: .* is /consoles/console.%d.log, which is not ours: .*xenstore-rm"):
        host.turn_on()
    host.turn_off()
    assert read_record(host) == b"/consoles/console.%d.log"


def test_what_has_gone_or_is_of_another_release_is_made_anew(console_host):
    host = console_host
    wanted = host.read(UNIT)
    calls.write_file(host.host, UNIT, wanted.replace(b"TimeoutStartSec=30", b"TimeoutStartSec=60"))
    os.unlink(host.locate(WANTED))
    with host.host.xenstore.client() as client:
        client.rm(RECORD)
    assert host.turn_on() == [UNIT, WANTED, "xenstore's /local/logconsole/@"]
    assert host.read(UNIT) == wanted
    with host.host.xenstore.client() as client:
        client.rm(RECORD)
    host.tend()
    assert read_record(host) == VALUE


# As cron and systemd run it


class Namespace(object):
    """Commands run where everything is in its place, as on a host."""

    def __init__(self, pool):
        self.host = ConsoleHost(pool)
        self._namespace = pool.hosts[0].dom0.processes.namespace

    def run(self, script, environment=None):
        environment = dict({"PATH": "/opt/harness/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, **environment or {})
        return subprocess.run(["sh", "-c", script], preexec_fn=self._namespace.enter, env=environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, universal_newlines=True, check=True, timeout=60).stdout

    def switch(self, call):
        self.run("cd /etc/xapi.d/plugins && exec %s -B -c 'from dom0_lib.guests import console_logging as it; it.%s'" % (
            shlex.quote(self.host.host.dom0.python), call))


@NEEDS_ROOT
def test_the_commands_of_cron_and_systemd(make_pool):
    fixtures.require_xenstored("xenstored")
    pool = make_pool(has_namespace=True, is_prepared=False, xenstore="xenstored")
    pool.hosts[0].dom0.add_program("/opt/xensource/bin/xe", "#!/bin/sh\nexec %s -m tests.harness.xe -s %s \"$@\"\n" % (
        shlex.quote(sys.executable), pool.url))
    pool.hosts[0].dom0.open_namespace()
    machine = Namespace(pool)
    machine.switch("turn_on()")

    # systemd
    unit = machine.run("cat " + WANTED).splitlines()
    for line in ("After=xenstored.service", "ConditionPathExists=!" + STATE, "Type=oneshot"):
        assert line in unit
    commands = [line.partition("=")[2].replace("%%", "%") for line in unit if line.startswith("ExecStart=")]
    assert len(commands) == 2
    machine.run("rm -f %s; echo old >%s/console.5; xenstore-rm /local/logconsole/@" % (STATE, DIRECTORY), tools())
    machine.run(" && ".join(commands), tools())
    assert read_record(machine.host) == VALUE
    assert machine.run("ls %s; cat %s" % (DIRECTORY, STATE)) == ""

    # cron
    crontab = machine.run("cat " + CRONTAB).splitlines()
    assert all("%" not in line for line in crontab)
    settings = dict(line.split("=", 1) for line in crontab if line.startswith("PATH="))
    schedule, user, command = crontab[-1][:9], crontab[-1].split()[5], crontab[-1].split(None, 6)[6]
    assert (schedule, user) == ("* * * * *", "root")
    vm = machine.host.start(7)
    machine.run("head -c 3000000 /dev/zero >%s/console.7" % DIRECTORY)
    environment = dict(settings, PYTHONPATH=conftest.CHECKOUT)
    assert machine.run(command, environment) == ""
    assert machine.host.get_claim(vm)[0] == "7"
    assert machine.run("stat -c %%b %s/console.7" % DIRECTORY) == "%d\n" % measure_cut(3000000)

    # A guest cannot fill dom0 while XAPI is away either.
    machine.run("head -c 4000000 /dev/zero >%s/console.8" % DIRECTORY)
    pool.stop_xapi()
    machine.run(command, environment)
    assert machine.run("stat -c %%b %s/console.8" % DIRECTORY) == "%d\n" % measure_cut(4000000)


def tools():
    return dict(xenstored.tool_environment("/var/run/xenstored/socket"),
                PATH="%s:/usr/sbin:/usr/bin:/sbin:/bin" % xenstored.tools_dir())


def measure_cut(size_bytes):
    """Blocks of 512 bytes of a log of this size that has been cut, on a file system with blocks of 4 KiB."""
    return (-(-size_bytes // 4096) * 4096 - (size_bytes - KEPT_BYTES) // UNIT_BYTES * UNIT_BYTES) // 512


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="not applicable: no systemd here that could judge")
def test_systemd_takes_the_unit(console_host, tmp_path):
    path = str(tmp_path / os.path.basename(UNIT))
    shutil.copy(console_host.locate(UNIT), path)
    done = subprocess.run(["systemd-analyze", "verify", path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          universal_newlines=True, timeout=60)
    assert os.path.basename(UNIT) not in done.stdout, done.stdout


# Long logs


@contextlib.contextmanager
def mounted(directory, kind):
    """A new file system at `directory`."""
    image = tempfile.mkdtemp()
    try:
        command = ["mount", "-t", kind, kind, directory]
        if kind not in ("tmpfs", "ramfs"):
            path = os.path.join(image, kind)
            with open(path, "wb") as target:
                target.truncate((320 if kind == "xfs" else 96) * MIB)
            subprocess.run(["mkfs.%s" % kind, "-q", path], env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}, check=True, timeout=60)
            command = ["mount", "-o", "loop", path, directory]
        subprocess.run(command, check=True, timeout=60)
        try:
            yield
        finally:
            subprocess.run(["umount", directory], check=True, timeout=60)
    finally:
        shutil.rmtree(image)


def check_lines(data, end=None):
    """`data` must be the last lines up to number `end`, none missing and none double; without `end`, up to any line."""
    if end is None:
        data = data[:data.rindex(b"\n") + 1]  # half a line may have come
        end = int(data[-LINE_BYTES:]) + 1
    count = len(data) // LINE_BYTES
    assert data[len(data) % LINE_BYTES:] == b"".join(b"%09d\n" % number for number in range(end - count, end))


def check_end(path, end):
    """The log must be short now and end with the writer's last line. Returns its size."""
    status = os.stat(path)
    assert status.st_blocks * 512 <= MIB + 64 * 1024
    with open(path, "rb") as source:
        source.seek(max(0, status.st_size - KEPT_BYTES))
        data = source.read()
    assert len(data) == KEPT_BYTES
    check_lines(data, end)
    return status.st_size


def read_end(host, domid):
    reply = host.pool.call("console.py", "get_console_log", {"dom_id": str(domid)})
    return zlib.decompress(base64.b64decode(reply))


def flood(host, **options):
    """Cut logs again and again while a guest writes as fast as it can. Returns (log's path, lines)."""
    path = host.locate_log(7)
    cuts = 0
    with Writer(path, **options) as writer:
        while cuts < 6:
            cuts += len(host.cut())
            if os.path.exists(path) and os.stat(path).st_size > MIB:
                # A reader meanwhile sees lines without a gap.
                data = read_end(host, 7)
                assert len(data) == READ_BYTES
                check_lines(data)
        lines = writer.finish()
    host.cut()
    return path, lines


@NEEDS_ROOT
@pytest.mark.needs("mkfs.ext3")
@pytest.mark.parametrize("kind", ["ext3", "ext4", "tmpfs"])
def test_a_guest_that_floods_its_log(console_host, kind):
    host = console_host
    with mounted(host.locate(DIRECTORY), kind):
        path, lines = flood(host)
        size = check_end(path, lines)
        assert size == lines * LINE_BYTES > 3 * MIB


def test_on_every_python(any_host):
    any_host.turn_on()
    path, lines = flood(any_host)
    check_end(path, lines)


def test_a_writer_with_an_offset_of_its_own(console_host):
    """QEMU does not append: if the log became shorter, there would be a hole before QEMU's next line."""
    path, lines = flood(console_host, appends=False)
    check_end(path, lines)


@NEEDS_ROOT
def test_where_no_holes_can_be_made(console_host):
    """The log is written in pieces: only lines that come between two pieces may be lost."""
    host = console_host
    with mounted(host.locate(DIRECTORY), "ramfs"):
        path = host.locate_log(7)
        with Writer(path, is_asked=True) as writer:
            cuts = 0
            while cuts < 4:
                writer.ask()
                cuts += len(host.cut())
            lines = writer.finish()
        assert check_end(path, lines) < 2 * MIB < lines * LINE_BYTES


def test_what_is_cut_and_what_is_not(console_host):
    host = console_host
    for domid in (5, 6):
        host.start(domid)
    host.write_log(5, b"x" * MIB)
    host.write_log(6, b"x" * MIB + b"y" * KEPT_BYTES)
    secret = calls.write_file(host.host, "/var/log/secret", b"s" * 2 * MIB)
    os.symlink(secret, host.locate_log(7))
    os.mkfifo(host.locate_log(8))
    for domid in (7, 8):
        os.utime(host.locate_log(domid), (0, 0), follow_symlinks=False)
    for suffix in ("9x", "", "-1", "010", "1234567", "9.gz"):
        host.write_log(suffix, b"x" * 2 * MIB, HOUR_S)
    others = [name for name in host.list_logs() if name not in ("console.5", "console.6")]
    assert host.tend()["cut"] == [6]
    assert host.read("/var/log/secret") == b"s" * 2 * MIB
    assert os.stat(host.locate_log(5)).st_blocks * 512 == MIB
    assert host.read(DIRECTORY + "/console.6").endswith(b"y" * KEPT_BYTES)
    assert host.cut() == []
    assert host.list_logs() == sorted(others + ["console.5", "console.6"])
    for name in others:
        if stat.S_ISREG(os.lstat(host.locate(DIRECTORY + "/" + name)).st_mode):
            assert os.stat(host.locate(DIRECTORY + "/" + name)).st_blocks * 512 == 2 * MIB


def test_two_calls_do_not_overlap(console_host):
    fd = os.open(console_host.locate(DIRECTORY), os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        with calls.refused("cut_console_logs", "RetryableError", "another call", DIRECTORY):
            console_host.cut()
    finally:
        os.close(fd)


# Whose log it is


def test_claims_are_kept_current(console_host):
    host = console_host
    vm = host.start(5, other_config={"last_dom_id": "3", "other": "stays"})
    assert host.tend()["claims_set"] == 1
    assert host.get_claim(vm) == ("5", host.make_mark(vm))
    assert host.pool.database.get("VM", vm, "other_config")["other"] == "stays"
    assert host.tend()["claims_set"] == 0
    # It reboots, and stops.
    host.end(vm)
    host.start(6, vm)
    assert host.tend()["claims_set"] == 1
    assert host.get_claim(vm) == ("6", host.make_mark(vm))
    host.write_log(6, age_s=HOUR_S)
    host.end(vm)
    assert host.tend() == {"cut": [], "removed": [], "claims_set": 0, "claims_removed": 0}
    assert host.get_claim(vm) == ("6", host.make_mark(vm)) and host.list_logs() == ["console.6"]


def test_xapi_is_asked_when_there_is_a_reason(console_host):
    host = console_host
    calls = host.pool.faults.calls

    def count():
        before = calls["VM.get_all_records_where"]
        host.tend()
        return calls["VM.get_all_records_where"] - before
    # xenstore knows of a domain before XAPI does.
    host.host.xenstore.introduce(5, "guest")
    assert (count(), count()) == (2, 2)
    host.host.xenstore.release(5)
    vm = host.start(6)
    assert (count(), count(), count()) == (2, 0, 0)
    host.pool.database.update("VM", vm, other_config={})
    host.let_time_pass()
    assert (count(), count()) == (2, 0)
    assert host.get_claim(vm) == ("6", host.make_mark(vm))


def test_a_vm_that_vanishes(console_host):
    host = console_host
    gone, there = host.start(5), host.start(6)
    host.pool.faults.fail("VM.remove_from_other_config", "HANDLE_INVALID", "VM", gone)
    assert host.tend()["claims_set"] == 1
    assert [host.get_claim(vm)[0] for vm in (gone, there)].count(None) == 1
    # A client that sets it at the same time.
    host.let_time_pass()
    host.pool.faults.fail("VM.add_to_other_config", "MAP_DUPLICATE_KEY", "VM", "other_config", gone, "last_dom_id")
    assert host.tend()["claims_set"] == 0
    host.let_time_pass()
    assert host.tend()["claims_set"] == 1
    assert [host.get_claim(vm)[0] for vm in (gone, there)] == ["5", "6"]


def test_xapi_that_dies(console_host):
    host = console_host
    vm = host.start(5)
    host.write_log(5, b"x" * 2 * MIB)
    host.pool.faults.fail("VM.add_to_other_config", "INTERNAL_ERROR", "x")
    with calls.refused("tend_console_logs", "PluginError", "last_dom_id", "INTERNAL_ERROR"):
        host.tend()
    assert os.stat(host.locate_log(5)).st_blocks * 512 < MIB
    assert host.get_claim(vm)[0] is None
    assert host.tend()["claims_set"] == 1


def test_after_a_boot_no_stopped_guest_has_a_claim(console_host):
    host = console_host
    stopped, nova_only = host.start(5), host.add_stopped(last_dom_id="9")
    never_met_again = host.start(6)
    elsewhere = host.add_stopped(last_dom_id="5", last_dom_of="/".join([host.pool.hosts[1].uuid, OTHER_BOOT, "x"]))
    host.tend()
    host.boot()
    tenant = host.start(5)
    host.write_log(5)
    assert host.get_claim(stopped)[0] == "5"
    reply = host.tend()
    assert (reply["claims_set"], reply["claims_removed"]) == (1, 2)
    assert host.get_claim(stopped) == host.get_claim(never_met_again) == (None, None)
    assert host.get_claim(tenant) == ("5", host.make_mark(tenant))
    assert host.get_claim(nova_only) == ("9", None) and host.get_claim(elsewhere)[0] == "5"


@pytest.mark.parametrize("unit_runs", [True, False])
def test_logs_of_the_boot_before(console_host, unit_runs):
    """Where the unit has not run, xenconsoled goes on behind another guest's text."""
    host = console_host
    for domid in (5, 6):
        host.start(domid)
        host.write_log(domid, b"a secret of yesterday\n")
    host.tend()
    host.boot(unit_runs)
    vm = host.start(5)
    with open(host.locate_log(5), "ab") as log:
        log.write(b"today\n")
    reply = host.tend()
    assert reply["removed"] == ([] if unit_runs else [5, 6])
    assert host.list_logs() == ["console.5"]
    with open(host.locate_log(5), "ab") as log:
        log.write(b"later\n")
    host.end(vm)
    host.tend()
    assert read_end(host, 5) == (b"today\nlater\n" if unit_runs else b"later\n")


def test_logs_of_the_boot_before_go_once(console_host):
    host = console_host
    host.boot(unit_runs=False)
    host.start(5)
    host.write_log(5, b"yesterday")
    host.pool.faults.fail("VM.get_all_records_where", "INTERNAL_ERROR", "x")
    with calls.refused("tend_console_logs", "PluginError", "INTERNAL_ERROR"):
        host.tend()
    assert host.read(DIRECTORY + "/console.5") == b""
    host.write_log(5, b"today")
    assert host.tend()["removed"] == []
    assert host.read(DIRECTORY + "/console.5") == b"today"


def test_logs_that_were_there_before_it_was_turned_on(any_host):
    host = any_host
    os.mkdir(host.locate(DIRECTORY))
    with open("/proc/uptime") as source:
        before_boot_s = float(source.read().split()[0]) + HOUR_S
    host.start(5)
    for domid, age_s in ((5, before_boot_s), (6, before_boot_s), (7, 0)):
        host.write_log(domid, b"text", age_s)
    host.turn_on()
    assert host.list_logs() == ["console.5", "console.7"]
    assert host.read(DIRECTORY + "/console.5") == b"" and host.read(DIRECTORY + "/console.7") == b"text"
    assert host.tend()["removed"] == []


def test_claims_without_a_mark(console_host):
    host = console_host
    running = host.start(5)
    marked = host.start(6)
    host.tend()
    host.end(marked)
    vms = {domid: host.add_stopped(last_dom_id=domid) for domid in ("5", "6", "7", "-1", "x")}
    assert host.tend()["claims_removed"] == 4
    assert [domid for domid, vm in vms.items() if host.get_claim(vm)[0]] == ["7"]
    assert host.get_claim(running)[0] == "5" and host.get_claim(marked)[0] == "6"


def test_copies_of_a_vm(console_host):
    """A copy of a VM has the original's other_config, and with it a claim to the original's log."""
    host = console_host
    vm = host.start(5)
    host.tend()
    copied = host.pool.database.get("VM", vm, "other_config")
    copy, template = host.add_stopped(**copied), host.add_stopped(**copied)
    host.pool.database.update("VM", template, is_a_template=True)
    host.end(vm)
    assert host.tend()["claims_removed"] == 1
    assert host.get_claim(copy) == (None, None) and host.get_claim(vm)[0] == "5"


def test_a_domain_id_that_comes_round_again(console_host):
    host = console_host
    first = host.start(5)
    host.tend()
    host.end(first)
    host.tend()
    second = host.start(5)
    assert host.tend()["claims_removed"] == 1
    assert host.get_claim(first) == (None, None) and host.get_claim(second)[0] == "5"


def test_two_hosts_with_the_same_ids(console_host):
    one, other = console_host, ConsoleHost(console_host.pool, 1)
    other.turn_on()
    other.boot()
    vms = [one.start(5), other.start(5)]
    for host in (one, other):
        host.write_log(5, age_s=HOUR_S)
    for _ in range(2):
        assert [host.tend()["claims_removed"] for host in (one, other)] == [0, 0]
        assert [host.get_claim(vm) for host, vm in zip((one, other), vms)] == [
            ("5", host.make_mark(vm)) for host, vm in zip((one, other), vms)]
        if one.pool.database.get("VM", vms[0], "power_state") == "Running":
            for host, vm in zip((one, other), vms):
                host.end(vm)
    # The first one's guest goes to the other host.
    other.start(6, vms[0])
    assert other.tend()["claims_set"] == 1
    assert one.get_claim(vms[0]) == ("6", other.make_mark(vms[0]))
    one.let_time_pass()
    assert one.tend()["removed"] == [5]
    assert other.list_logs() == ["console.5"]


def test_logs_that_nobody_claims(console_host):
    host = console_host
    host.host.xenstore.introduce(8, "not known to XAPI yet")
    running = host.start(5)
    for domid, age_s in ((5, HOUR_S), (6, HOUR_S), (7, 60), (8, HOUR_S), (9, -HOUR_S)):
        host.write_log(domid, age_s=age_s)
    assert host.tend()["removed"] == [6, 9]
    assert host.list_logs() == ["console.5", "console.7", "console.8"]
    assert host.get_claim(running)[0] == "5"
    os.utime(host.locate_log(7), (0, 0))
    host.let_time_pass()
    assert host.tend()["removed"] == [7]


def test_a_host_without_its_files(console_host):
    host = console_host
    os.unlink(host.locate(BOOT_ID))
    host.let_time_pass()
    with calls.refused("tend_console_logs", "PluginError", BOOT_ID):
        host.tend()
    host.host.xenstore.stop()
    try:
        with calls.refused("tend_console_logs", "RetryableError", "xenstored"):
            host.tend()
        assert host.cut() == []
    finally:
        host.host.xenstore.start()
    shutil.rmtree(host.locate(DIRECTORY))
    assert host.cut() == [] and os.path.isdir(host.locate(DIRECTORY))
