# SPDX-License-Identifier: Apache-2.0
"""partition_utils.py with the machine's own sfdisk, mkfs and mkswap, on files and block devices; and disks that stay untouched."""

import json
import os
import signal
import stat
import subprocess
import threading
import time

import pytest
import XenAPI

from tests import patience
from tests.calls import calls
from tests.calls import pythons
from tests.calls.devices.disk_host import DISK_BYTES, open_disk_host

START = 2048
DEADLINE_S = 60
LOOP_MAJOR = 7

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for loop devices")


@pytest.fixture
def any_host(dom0_python):
    """On every dom0 Python in turn."""
    with open_disk_host(dom0_python) as host:
        yield host


@pytest.fixture(scope="module")
def oldest_host():
    with open_disk_host(pythons.OLDEST) as host:
        yield host


@pytest.fixture
def disk_host(oldest_host):
    """On the oldest dom0 Python; nothing is plugged."""
    yield oldest_host
    oldest_host.unplug_all()


@pytest.fixture
def block_device(disk_host):
    """A plugged disk whose node is a real block device: (its name, the machine's loop device behind it)."""
    device, _ = disk_host.plug()
    image = os.path.realpath(disk_host.node(device))
    loop = run("losetup", "--find", "--show", image).strip()
    os.unlink(disk_host.node(device))
    os.mknod(disk_host.node(device), 0o600 | stat.S_IFBLK, os.makedev(LOOP_MAJOR, int(loop[len("/dev/loop"):])))
    try:
        yield device, loop
    finally:
        run("losetup", "--detach", loop)


def run(*command):
    environment = dict(os.environ, PATH="/usr/sbin:/sbin:" + os.environ["PATH"])
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True,
                          universal_newlines=True, timeout=DEADLINE_S, env=environment).stdout


def list_partitions(path):
    """[(first sector, sectors, type)], by sfdisk."""
    table = json.loads(run("sfdisk", "--json", path))["partitiontable"]
    return [(entry["start"], entry["size"], entry["type"]) for entry in table["partitions"]]


def probe(path, start=START):
    """{TYPE, LABEL, ...} of the partition's content, by blkid."""
    lines = run("blkid", "--probe", "--output", "export", "--offset", str(start * 512), path).splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


@pytest.mark.needs("sfdisk", "mkfs.ext3", "mkswap", "blkid", "e2fsck")
def test_as_nova_does(any_host):
    """The disk of a new guest is partitioned and formatted, and standard tools read the result."""
    for fs_type, label in (("ext3", "ephemeral"), ("swap", None)):
        device, _ = any_host.plug()
        assert any_host.ask("wait_for_dev", "/dev/" + device, 10) == "/dev/" + device
        assert any_host.ask("make_partition", device, "2048", "-") is None
        assert any_host.ask("mkfs", device, "1", fs_type, label) is None
        path = any_host.node(device)
        assert list_partitions(path) == [(START, DISK_BYTES // 512 - START, "83")]
        found = probe(path)
        assert (found["TYPE"], found.get("LABEL")) == (fs_type, label)
        if fs_type == "ext3":
            run("e2fsck", "-fn", "%s?offset=%d" % (path, START * 512))


@pytest.mark.needs("sfdisk", "mkfs.ext3", "blkid")
def test_plain_form_on_a_block_device(disk_host, block_device):
    device, loop = block_device
    disk_host.ask("make_partition", dev=device, partition_start="2048")
    disk_host.ask("mkfs", dev=device, partnum="1", fs_type="ext3", fs_label="")
    assert list_partitions(loop) == [(START, DISK_BYTES // 512 - START, "83")]
    assert probe(loop)["TYPE"] == "ext3" and "LABEL" not in probe(loop)


@pytest.mark.needs("sfdisk", "mkfs.ext3", "e2fsck")
def test_the_file_system_is_whole(disk_host, block_device):
    device, loop = block_device
    disk_host.ask("make_partition", device, "2048", "-")
    disk_host.ask("mkfs", device, "1", "ext3", "a label of 16 ch")
    part = run("losetup", "--find", "--show", "--offset", str(START * 512), loop).strip()
    try:
        run("e2fsck", "-fn", part)
        assert "a label of 16 ch" in run("blkid", "-p", part)
        # The file system fills the partition, and nothing before it has changed.
        blocks = [line for line in run("dumpe2fs", "-h", part).splitlines() if line.startswith("Block count")][0]
        assert int(blocks.split()[-1]) * 1024 == DISK_BYTES - START * 512
    finally:
        run("losetup", "--detach", part)


@pytest.mark.needs("sfdisk")
def test_a_table_is_replaced(disk_host):
    device, _ = disk_host.plug()
    subprocess.run(["/sbin/sfdisk", "--quiet", disk_host.node(device)], input=b"label: gpt\n2048,4096\n8192,4096\n", check=True,
                   timeout=DEADLINE_S)
    disk_host.ask("make_partition", device, "2048", "-")
    assert list_partitions(disk_host.node(device)) == [(START, DISK_BYTES // 512 - START, "83")]


# sfdisk before util-linux 2.26, as on old hosts: it insists on these options.
OLD_SFDISK = """#!/bin/sh
case "$*" in *--version*) echo "sfdisk from util-linux %(version)s"; exit 0;; esac
echo "$@" > %(log)s
case "$*" in *-uS*) ;; *) echo "cylinders, then" >&2; exit 1;; esac
case "$*" in *--force*) ;; *) if [ %(needs_force)d = 1 ]; then echo "Use the --force flag" >&2; exit 1; fi;; esac
for device in "$@"; do :; done
exec /sbin/sfdisk --quiet "$device"
"""


@pytest.mark.needs("sfdisk")
@pytest.mark.parametrize("version, needs_force", [("2.13-pre7", False), ("2.22", False), ("2.23.2", True), ("2.25.1", True)])
def test_an_old_sfdisk(disk_host, tmp_path, version, needs_force):
    log = str(tmp_path / "log")
    device, _ = disk_host.plug()
    with disk_host.host.dom0.program("sfdisk", OLD_SFDISK % {"version": version, "log": log, "needs_force": needs_force}):
        disk_host.ask("make_partition", device, "2048", "-")
    assert ("--force" in open(log).read()) == needs_force
    assert list_partitions(disk_host.node(device)) == [(START, DISK_BYTES // 512 - START, "83")]


@pytest.mark.parametrize("text, class_name, reason", [
    ("echo sfdisk from util-linux 2.38.1", "StorageError", "no partition 1"),
    ("case $1 in --version) echo sfdisk from util-linux 2.38;; *) echo broken >&2; exit 3;; esac", "CommandFailed", "broken"),
    ("echo who am I", "PluginError", "who am I"),
], ids=["does nothing", "fails", "has no version"])
def test_an_sfdisk_that_does_not_work(disk_host, text, class_name, reason):
    device, _ = disk_host.plug()
    with disk_host.host.dom0.program("sfdisk", "#!/bin/sh\n%s\n" % text), calls.refused("make_partition", class_name, reason):
        disk_host.ask("make_partition", device, "2048", "-")
    assert not any(disk_host.read_device(device))


def test_an_mkfs_that_fails(disk_host):
    """The loop device is detached; the error names the failure."""
    device, _ = disk_host.plug()
    disk_host.ask("make_partition", device, "2048", "-")
    before = disk_host.read_device(device)
    failing = disk_host.host.dom0.program("mkfs.ext3", "#!/bin/sh\necho no room >&2\nexit 4\n")
    with failing, calls.refused("mkfs", "CommandFailed", "no room"):
        disk_host.ask("mkfs", device, "1", "ext3", None)
    assert disk_host.read_device(device) == before


def test_killed_while_formatting(disk_host, tmp_path):
    """The kernel lets go of the disk when the last process that has the loop device open has ended."""
    device, vbd = disk_host.plug()
    disk_host.ask("make_partition", device, "2048", "-")
    started = tmp_path / "started"
    text = "#!/bin/sh\nfor last; do :; done\nexec 9<>$last; touch %s; exec sleep 60\n" % started
    with disk_host.host.dom0.program("mkfs.ext3", text):
        for number in (signal.SIGTERM, signal.SIGKILL):
            thread = threading.Thread(target=attempt, args=(disk_host, device))
            thread.start()
            calls.wait_until(started.exists)
            assert len(disk_host.list_loops()) == 1
            for pid in disk_host.host.dom0.processes.running_pids():
                (os.kill if number == signal.SIGTERM else os.killpg)(pid, number)
            thread.join(DEADLINE_S)
            calls.wait_until(lambda: not disk_host.list_loops())
            started.unlink()
    disk_host.api.VBD.unplug(vbd)


def attempt(host, device):
    with pytest.raises(XenAPI.Failure) as caught:
        host.ask("mkfs", device, "1", "ext3", None)
    assert "signal: SIG" in caught.value.details[1]


def test_cancelled_while_formatting(disk_host, tmp_path):
    device, vbd = disk_host.plug()
    disk_host.ask("make_partition", device, "2048", "-")
    task, started = disk_host.api.task.create("mkfs", ""), tmp_path / "started"
    outcomes = []

    def call():
        with pytest.raises(XenAPI.Failure) as caught:
            disk_host.ask("mkfs", dev=device, partnum="1", fs_type="ext3", task=task)
        outcomes.append(caught.value.details)
    with disk_host.host.dom0.program("mkfs.ext3", "#!/bin/sh\ntouch %s; exec sleep 60\n" % started):
        thread = threading.Thread(target=call)
        thread.start()
        calls.wait_until(started.exists)
        disk_host.api.task.cancel(task)
        thread.join(DEADLINE_S)
    assert outcomes == [["TASK_CANCELLED", task]]
    assert disk_host.list_loops() == []
    disk_host.api.VBD.unplug(vbd)


# Refusals

@pytest.mark.parametrize("case", ["not plugged", "another's", "read-only", "unplugged", "into a guest"])
def test_a_disk_that_nobody_plugged(disk_host, case):
    if case == "not plugged":
        device = "xvdz"
        with open(disk_host.node(device), "wb") as target:
            target.truncate(DISK_BYTES)
    elif case == "another's":
        device = "sda"
        os.symlink(disk_host.plug()[0], disk_host.node(device))
    else:
        device, vbd = disk_host.plug(mode="RO" if case == "read-only" else "RW")
        if case == "unplugged":
            disk_host.api.VBD.unplug(vbd)
        elif case == "into a guest":
            disk_host.pool.database.update("VBD", vbd, VM=disk_host.pool.add_vm("guest"))
    for function, rest in (("make_partition", ("2048", "-")), ("mkfs", ("1", "ext3", None))):
        with calls.refused(function, "StorageError", device, "plugged into dom0 for writing"):
            disk_host.ask(function, device, *rest)
    if os.path.exists(disk_host.node(device)):
        assert not any(disk_host.read_device(device))
        disk_host.remove(device)


@pytest.mark.needs("mkfs.ext3")
def test_a_mounted_disk(disk_host, block_device, tmp_path):
    """A mounted disk is not touched, even if XAPI says that it is plugged for writing."""
    device, loop = block_device
    run("mkfs.ext3", "-q", "-F", loop)
    # Read-only, so that nobody else writes between the two looks.
    run("mount", "-o", "ro", loop, str(tmp_path))
    try:
        before = disk_host.read_device(device)
        for function, rest in (("make_partition", ("2048", "-")), ("mkfs", ("1", "ext3", None))):
            with calls.refused(function, "StorageError", device, "in use"):
                disk_host.ask(function, device, *rest)
        assert disk_host.read_device(device) == before
    finally:
        run("umount", str(tmp_path))


def test_no_disk_at_all(disk_host):
    for kind in ("absent", "directory", "fifo", "character"):
        device, _ = disk_host.plug()
        path = disk_host.node(device)
        os.unlink(path)
        if kind == "directory":
            os.mkdir(path)
        elif kind != "absent":
            os.mknod(path, 0o600 | (stat.S_IFIFO if kind == "fifo" else stat.S_IFCHR), os.makedev(1, 3))
        for function, rest in (("make_partition", ("2048", "-")), ("mkfs", ("1", "ext3", None))):
            with calls.refused(function, "StorageError", device):
                disk_host.ask(function, device, *rest)


TABLE = bytes(446) + b"\0\0\0\0\x83\0\0\0" + (2048).to_bytes(4, "little") + (79872).to_bytes(4, "little") + bytes(48) + b"\x55\xaa"


@pytest.mark.parametrize("content, reason", [
    (b"", "no partition 1"), (TABLE[:510] + b"\0\0", "no partition 1"),
    (TABLE[:458] + (79873).to_bytes(4, "little") + TABLE[462:], "not on the disk"),
    (TABLE[:454] + b"\xff\xff\xff\xff\xff\xff\xff\xff" + TABLE[462:], "not on the disk"),
    (TABLE[:454] + bytes(4) + TABLE[458:], "no partition 1"),
], ids=["empty", "no signature", "a sector too long", "out of all bounds", "at the table itself"])
def test_a_table_that_lies(disk_host, content, reason):
    device, _ = disk_host.plug(content=content)
    with calls.refused("mkfs", "StorageError", reason):
        disk_host.ask("mkfs", device, "1", "ext3", None)
    assert disk_host.read_device(device).rstrip(b"\0") == content.rstrip(b"\0")


def test_a_disk_too_small(disk_host):
    device, _ = disk_host.plug(size_bytes=START * 512)
    with calls.refused("make_partition", "ArgumentError", "partition_start", "2048 sectors"):
        disk_host.ask("make_partition", device, "2048", "-")
    with calls.refused("mkfs", "ArgumentError", "fs_label", "15"):
        disk_host.ask("mkfs", device, "1", "swap", "x" * 16)


def test_waiting_for_a_device(disk_host):
    started = time.monotonic()
    assert disk_host.ask("wait_for_dev", "/dev/sm/backend/x/y", 1) == ""
    assert 1 <= time.monotonic() - started < patience.LIMIT_S
    assert disk_host.ask("wait_for_dev", dev_path="/dev/null-of-dom0", max_seconds="0") == ""
    path = disk_host.node("sm/backend/x/y")
    os.makedirs(os.path.dirname(path))
    threading.Timer(0.3, lambda: open(path, "w").close()).start()
    assert disk_host.ask("wait_for_dev", dev_path="/dev/sm/backend/x/y") == "/dev/sm/backend/x/y"
