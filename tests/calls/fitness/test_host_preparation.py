# SPDX-License-Identifier: Apache-2.0
"""Hosts as they are installed become fit for the plug-ins, by dom0_host.py prepare, and are what they were after undo_prepare."""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import uuid

import pytest
import XenAPI

from tests import fault_points
from tests.calls import calls
from tests.calls import pythons
from tests.calls import sr_disks
from tests.calls.boot import kernel_host
from tests.calls.guests import console_host
from tests.calls.migration import migrations
from tests.calls.scene import Scene
from tests.harness.pool import Pool

PLUGIN = "dom0_host.py"
IMAGES, BOOT_GUEST = "/images", "/boot/guest"
MODPROBE = "/etc/modprobe.d"
BLACKLIST = MODPROBE + "/blacklist-bridge.conf"
LIFTED = "blacklist-bridge.conf.lifted-by-dom0-plugins"
RULE = b"install bridge /bin/true\n"
ALL = {"bridge": "true", "console_log": "true"}
STEPS = [IMAGES, BOOT_GUEST, "bridge", "console log"]


def call(pool, function="prepare", **arguments):
    return json.loads(pool.call(PLUGIN, function, arguments))


def outcomes(steps):
    """{step: outcome}; a problem, and nothing else, says what to do."""
    for step in steps:
        assert set(step) == {"step", "outcome", "detail", "fix"} and step["detail"]
        assert bool(step["fix"]) == (step["outcome"] == "problem")
    return {step["step"]: step["outcome"] for step in steps}


def find(steps, name):
    return [step for step in steps if step["step"] == name][0]


def read_host(pool):
    """All that a call may change: names, kinds, targets of links, contents; VMs. Not Python's byte-code, and not the log."""
    host, found = pool.hosts[0], {}
    for parent, directories, names in os.walk(host.root):
        passed_over = (host.plugin_dir, host.dom0.locate("/opt"))
        directories[:] = [name for name in directories if os.path.join(parent, name) not in passed_over]
        for name in directories + names:
            path = os.path.join(parent, name)
            status = os.lstat(path)
            if os.path.islink(path):
                found[path] = os.readlink(path)
            elif os.path.isfile(path):
                with open(path, "rb") as source:
                    found[path] = source.read()
            else:
                found[path] = status.st_mode
    del found[host.dom0.locate("/var/log/messages")]
    found.update((ref, record["other_config"]) for ref, record in pool.database.records("VM").items())
    return found


class Bare(Scene):
    """A host as it is installed, which tests break in ways of their own."""

    plugin = PLUGIN

    def __init__(self, pool):
        super().__init__(pool)
        self.images = "%s/dom0-plugins-%s/images" % (self.sr.path, self.host.uuid)

    def target(self, path):
        return os.path.realpath(self.locate(path))

    def write_blacklist(self, data=RULE):
        calls.write_file(self.host, BLACKLIST, data)

    def list_modprobe(self):
        return sorted(os.listdir(self.locate(MODPROBE)))

    def update_sr(self, sr, **fields):
        self.pool.database.update("SR", sr.ref, **fields)

    @contextlib.contextmanager
    def more_srs(self, *changes):
        """Within, the host has another SR for each of these maps of fields."""
        added = [self.pool.add_sr("disk %d" % number) for number in range(len(changes))]
        for sr, fields in zip(added, changes):
            self.update_sr(sr, **dict({"other_config": {}}, **fields))
        try:
            yield added
        finally:
            for sr in added:
                self.pool.database.destroy("PBD", self.pool.database.refs("PBD", SR=sr.ref)[0])
                shutil.rmtree(sr.path)

    def clear(self):
        for path in (IMAGES, BOOT_GUEST):
            located = self.locate(path)
            if os.path.isdir(located) and not os.path.islink(located):
                shutil.rmtree(located)
            elif os.path.lexists(located):
                os.unlink(located)
        for name in os.listdir(self.sr.path):
            if name.startswith("dom0-plugins") or name in ("images", "os-images"):
                shutil.rmtree(os.path.join(self.sr.path, name))
        shutil.rmtree(self.locate(MODPROBE), ignore_errors=True)
        self.update_sr(self.sr, type="ext", shared=False, content_type="user", other_config={"i18n-key": "local-storage"},
                       name_label="Local storage")


@pytest.fixture(scope="module")
def bare_pool():
    with Pool(python=pythons.NEWEST, is_prepared=False) as pool:
        yield pool


@pytest.fixture
def bare(bare_pool):
    host = Bare(bare_pool)
    host.clear()
    return host


# On a host as it is installed, under every Python that a dom0 has

def test_from_bare_to_working_and_back(dom0_python):
    with Pool(python=dom0_python, is_prepared=False) as pool:
        bare = Bare(pool)
        bare.update_sr(bare.sr, name_label="Stockage local")
        bare.write_blacklist()
        before = read_host(pool)

        steps = call(pool, dry_run="true", **ALL)
        assert outcomes(steps) == dict.fromkeys(STEPS, "would") and [step["step"] for step in steps] == STEPS
        assert read_host(pool) == before

        umask = os.umask(0o077)
        assert outcomes(call(pool)) == {IMAGES: "done", BOOT_GUEST: "done"}
        os.umask(umask)
        assert outcomes(call(pool, **ALL)) == {IMAGES: "already", BOOT_GUEST: "already", "bridge": "done", "console log": "done"}
        prepared = read_host(pool)
        assert outcomes(call(pool, **ALL)) == dict.fromkeys(STEPS, "already")
        assert outcomes(call(pool, dry_run="true", **ALL)) == dict.fromkeys(STEPS, "already")
        assert read_host(pool) == prepared
        assert bare.target(IMAGES) == os.path.realpath(bare.images)
        assert bare.target(BOOT_GUEST).startswith(os.path.realpath(bare.sr.path))
        assert [os.stat(bare.locate(path)).st_mode & 0o777 for path in (IMAGES, BOOT_GUEST)] == [0o700, 0o755]

        check_kernel(pool)
        check_migration(pool)
        # What else looks into the SR leaves the directories alone.
        bare.sr.collect_garbage()
        assert json.loads(pool.call("glance.py", "sweep", {"sr_uuid": bare.sr.uuid})) == []
        disks = {name for name in os.listdir(bare.sr.path) if name.endswith((".vhd", ".raw"))}
        assert bare.sr.scan().keys() == {name[:-4] for name in disks} and os.path.isdir(bare.images)
        for name in disks:
            os.unlink(os.path.join(bare.sr.path, name))

        assert outcomes(call(pool, "undo_prepare", dry_run="true")) == dict.fromkeys(STEPS, "would")
        assert outcomes(call(pool, "undo_prepare")) == dict.fromkeys(STEPS, "done")
        # The locks are those of the other calls.
        of_others = (bare.locate("/etc/dom0-plugins.conf"), bare.locate("/run/lock/sm/"))
        assert {path: found for path, found in read_host(pool).items() if not path.startswith(of_others)} == before
        assert outcomes(call(pool, "undo_prepare")) == dict.fromkeys(STEPS, "already")


def check_kernel(pool):
    host = kernel_host.KernelHost(pool)
    vdi_uuid, ref = host.add_disk()
    host.copy(ref)
    assert host.read_kernel(vdi_uuid) == kernel_host.KERNEL
    host.call("remove_kernel_ramdisk", kernel_file="/boot/guest/" + vdi_uuid)
    assert os.listdir(host.directory) == []


def check_migration(pool):
    """A guest that is resized on its host comes through /images."""
    pair = migrations.Pair(pool, None)
    calls.write_settings(pool.hosts[0], migrations.SETTINGS)
    uuids, digest = pair.write_guest(2)
    label = migrations.make_label()
    pair.transfer_chain(label, uuids)
    stack = calls.make_uuids(len(uuids))
    pair.receive(label, stack)
    assert sr_disks.guest_digest(pool.srs[0].path, stack[0]) == digest
    assert os.listdir(pool.hosts[0].dom0.locate(IMAGES)) == []


# What is there already

@pytest.mark.parametrize("target", ["/var/run/sr-mount/{sr}/os-images", "/run/sr-mount/{sr}/images"])
def test_the_links_of_the_guide_stay(bare, target):
    path = bare.locate(target.format(sr=bare.sr.uuid))
    os.mkdir(path)
    os.symlink(path, bare.locate(IMAGES))
    steps = call(bare.pool)
    assert outcomes(steps) == {IMAGES: "already", BOOT_GUEST: "done"}
    assert outcomes(call(bare.pool, "undo_prepare"))[IMAGES] == "already"
    assert os.readlink(bare.locate(IMAGES)) == path and os.path.isdir(path)


@pytest.mark.parametrize("entries", [[], ["instance-of-somebody"]])
def test_a_real_directory_is_never_replaced(bare, entries):
    for path in (IMAGES, BOOT_GUEST):
        os.mkdir(bare.locate(path))
        for name in entries:
            os.mkdir(bare.locate(path + "/" + name))
    steps = call(bare.pool)
    assert outcomes(steps) == {IMAGES: "problem", BOOT_GUEST: "already"}
    assert "own file system" in find(steps, IMAGES)["detail"] and "own file system" in find(steps, BOOT_GUEST)["detail"]
    assert outcomes(call(bare.pool, "undo_prepare")).keys() == set(STEPS)
    for path in (IMAGES, BOOT_GUEST):
        assert os.listdir(bare.locate(path)) == entries and not os.path.islink(bare.locate(path))


def test_a_directory_of_another_file_system(bare):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        os.symlink(directory, bare.locate(IMAGES))
        steps = call(bare.pool)
        assert find(steps, IMAGES)["outcome"] == "already" and directory in find(steps, IMAGES)["detail"]


@pytest.mark.parametrize("kind, words", [
    ("file", "no directory"), ("link to nothing", "/nowhere"), ("link to a file", "no directory"),
    ("link to a detached SR", "xe pbd-plug"), ("link to /tmp", "own file system")])
def test_what_stands_in_the_way(bare, kind, words):
    located = bare.locate(IMAGES)
    if kind == "file":
        calls.write_file(bare.host, IMAGES, b"kept")
    else:
        detached = "/var/run/sr-mount/%s/dom0-plugins-%s/images" % (uuid.uuid4(), bare.host.uuid)
        targets = {"link to nothing": "/nowhere", "link to a file": bare.locate("/etc/xapi.conf"),
                   "link to /tmp": bare.locate("/tmp"), "link to a detached SR": bare.locate(detached)}
        os.symlink(targets[kind], located)
    before = identify(located)
    step = find(call(bare.pool), IMAGES)
    assert step["outcome"] == "problem" and words in step["detail"] + step["fix"]
    assert identify(located) == before


def identify(path):
    """Not its atime: to look at a link is to read it."""
    status = os.lstat(path)
    return status.st_ino, status.st_mode, status.st_mtime, status.st_ctime


def test_a_directory_that_somebody_has_removed(bare):
    assert outcomes(call(bare.pool))[IMAGES] == "done"
    os.rmdir(bare.images)
    step = find(call(bare.pool, dry_run="true"), IMAGES)
    assert step["outcome"] == "would" and not os.path.exists(bare.images)
    assert outcomes(call(bare.pool))[IMAGES] == "done" and os.path.isdir(bare.images)


def test_a_server_that_is_away(bare):
    """As long as a file server does not answer, neither does whoever asks for its files; here that is the child."""
    assert outcomes(call(bare.pool))[IMAGES] == "done"
    with bare.host.dom0.program("stat", "#!/bin/sh\nexec sleep 100\n"):
        for function in ("prepare", "undo_prepare"):
            step = find(call(bare.pool, function), IMAGES)
            assert step["outcome"] == "problem" and "does not answer" in step["detail"]
    assert os.path.isdir(bare.locate(IMAGES))


@pytest.mark.parametrize("python", pythons.EDGES, ids=pythons.version_of)
def test_a_name_of_another_encoding(python):
    with Pool(python=python, is_prepared=False) as pool:
        os.symlink(b"/nowhere/\xe4", pool.hosts[0].dom0.locate(IMAGES))
        assert "/nowhere/\ufffd" in find(call(pool), IMAGES)["detail"].replace("\udce4", "\ufffd")
        images, = [row for row in call(pool, "doctor") if row["check"] == "images"]
        assert not images["ok"] and "/nowhere/" in images["problem"]


# Which SR

def test_the_installers_sr_before_others(bare):
    with bare.more_srs({"type": "ext"}, {"type": "nfs", "shared": True}, {"type": "iso", "content_type": "iso"}):
        assert outcomes(call(bare.pool))[IMAGES] == "done"
        assert bare.target(IMAGES) == os.path.realpath(bare.images)


def test_an_sr_without_files_is_passed_over(bare):
    bare.update_sr(bare.sr, type="lvm")
    os.rename(bare.sr.path, bare.sr.path + ".away")
    try:
        with bare.more_srs({"type": "nfs", "shared": True}) as (other,):
            assert outcomes(call(bare.pool)) == {IMAGES: "done", BOOT_GUEST: "done"}
            assert bare.target(IMAGES) == os.path.realpath("%s/dom0-plugins-%s/images" % (other.path, bare.host.uuid))
            assert outcomes(call(bare.pool, "undo_prepare"))[IMAGES] == "done" and os.listdir(other.path) == []
        step = find(call(bare.pool), IMAGES)
        assert step["outcome"] == "problem" and "no file based SR" in step["detail"] and "lvm" in step["detail"]
        with calls.refused("prepare", "ArgumentError", "sr_uuid", "lvm"):
            call(bare.pool, sr_uuid=bare.sr.uuid)
    finally:
        os.rename(bare.sr.path + ".away", bare.sr.path)


def test_several_that_would_do(bare):
    bare.update_sr(bare.sr, other_config={})
    with bare.more_srs({"type": "ext"}) as (other,):
        steps = call(bare.pool)
        assert outcomes(steps) == {IMAGES: "problem", BOOT_GUEST: "problem"}
        assert bare.sr.uuid in find(steps, IMAGES)["detail"] and other.uuid in find(steps, IMAGES)["detail"]
        assert not os.path.lexists(bare.locate(IMAGES))
        assert outcomes(call(bare.pool, sr_uuid=other.uuid)) == {IMAGES: "done", BOOT_GUEST: "done"}
        assert bare.target(IMAGES).startswith(os.path.realpath(other.path))
        # What is right needs no choice.
        assert outcomes(call(bare.pool)) == {IMAGES: "already", BOOT_GUEST: "already"}
        step = find(call(bare.pool, sr_uuid=bare.sr.uuid), IMAGES)
        assert step["outcome"] == "problem" and "not in that SR" in step["detail"] and "undo_prepare" in step["fix"]
        assert outcomes(call(bare.pool, "undo_prepare"))[IMAGES] == "done"
        # Also where the link dangles: it is mended in no other SR than that.
        call(bare.pool, sr_uuid=other.uuid)
        os.rmdir(bare.target(IMAGES))
        step = find(call(bare.pool, sr_uuid=bare.sr.uuid), IMAGES)
        assert step["outcome"] == "problem" and "not in that SR" in step["detail"]
        assert outcomes(call(bare.pool, "undo_prepare"))[IMAGES] == "done"
    with calls.refused("prepare", "ArgumentError", "sr_uuid", bare.sr.uuid):
        call(bare.pool, sr_uuid=str(uuid.uuid4()))
    assert not os.path.lexists(bare.locate(IMAGES))


def test_an_sr_that_is_a_directory_of_another_disk(bare):
    """The driver `file` makes a link where others mount."""
    os.rename(bare.sr.path, bare.sr.path + "-elsewhere")
    with tempfile.TemporaryDirectory(dir=bare.locate("/tmp")) as elsewhere:
        os.symlink(elsewhere, bare.sr.path)
        assert outcomes(call(bare.pool)) == {IMAGES: "done", BOOT_GUEST: "done"}
        assert outcomes(call(bare.pool)) == {IMAGES: "already", BOOT_GUEST: "already"}
        assert os.listdir(elsewhere) == ["dom0-plugins-" + bare.host.uuid]
        assert outcomes(call(bare.pool, "undo_prepare"))[IMAGES] == "done" and os.listdir(elsewhere) == []
        os.unlink(bare.sr.path)
    os.rename(bare.sr.path + "-elsewhere", bare.sr.path)


def test_an_sr_of_isos_is_none(bare):
    bare.update_sr(bare.sr, type="iso", content_type="iso")
    assert "no file based SR" in find(call(bare.pool), IMAGES)["detail"]


# Undo

def test_what_is_in_use_stays(bare):
    call(bare.pool)
    os.mkdir(bare.locate(IMAGES + "/instance7"))
    steps = call(bare.pool, "undo_prepare")
    assert outcomes(steps)[IMAGES] == "problem" and outcomes(steps)[BOOT_GUEST] == "done"
    assert "entries: 1" in find(steps, IMAGES)["detail"] and os.path.isdir(bare.locate(IMAGES + "/instance7"))
    assert not os.path.lexists(bare.locate(BOOT_GUEST))
    os.rmdir(bare.locate(IMAGES + "/instance7"))
    assert outcomes(call(bare.pool, "undo_prepare"))[IMAGES] == "done" and os.listdir(bare.sr.path) == []


def test_an_sr_that_has_gone(bare):
    with bare.more_srs({"type": "ext"}) as (other,):
        call(bare.pool, sr_uuid=other.uuid)
    assert outcomes(call(bare.pool))[IMAGES] == "problem"
    step = find(call(bare.pool, "undo_prepare"), IMAGES)
    assert step["outcome"] == "done" and "not attached" in step["detail"] and not os.path.lexists(bare.locate(IMAGES))
    assert outcomes(call(bare.pool))[IMAGES] == "done"


@pytest.mark.parametrize("point", [name for name in fault_points.NAMES if name.startswith("directory.")])
@pytest.mark.parametrize("number", [1, 2])
def test_killed_half_way(bare, point, number):
    if point == "directory.removed":
        call(bare.pool)
    with bare.fault("%s:kill:%d" % (point, number)), pytest.raises(XenAPI.Failure, match="SIGKILL"):
        call(bare.pool, "undo_prepare" if point == "directory.removed" else "prepare")
    assert set(outcomes(call(bare.pool)).values()) <= {"done", "already"}
    assert os.path.isdir(bare.locate(IMAGES)) and os.path.isdir(bare.locate(BOOT_GUEST))
    with bare.fault("%s:kill:%d" % (point, number)), contextlib.suppress(XenAPI.Failure):
        call(bare.pool, "undo_prepare")
    assert set(outcomes(call(bare.pool, "undo_prepare")).values()) <= {"done", "already"}
    assert os.listdir(bare.sr.path) == [] and not os.path.lexists(bare.locate(IMAGES))


@pytest.mark.parametrize("point", ["directory.begun", "directory.made", "directory.linked", "directory.removed"])
def test_undone_after_it_was_killed(bare, point):
    if point == "directory.removed":
        call(bare.pool)
    with bare.fault(point + ":kill"), pytest.raises(XenAPI.Failure, match="SIGKILL"):
        call(bare.pool, "undo_prepare" if point == "directory.removed" else "prepare")
    assert "problem" not in outcomes(call(bare.pool, "undo_prepare")).values()
    assert os.listdir(bare.sr.path) == [] and not os.path.lexists(bare.locate(IMAGES))


@pytest.mark.parametrize("point", ["directory.made", "directory.linked"])
def test_an_error_of_the_disk_is_a_problem_of_its_step(bare, point):
    with bare.fault(point + ":enospc"):
        steps = call(bare.pool)
    assert outcomes(steps) == {IMAGES: "problem", BOOT_GUEST: "done"} and "space" in find(steps, IMAGES)["detail"]
    assert set(outcomes(call(bare.pool)).values()) <= {"done", "already"}


# The blacklist

def test_a_blacklist_that_an_update_has_brought_back(bare):
    bare.write_blacklist()
    calls.write_file(bare.host, MODPROBE + "/other.conf", b"# not ours")
    assert outcomes(call(bare.pool, bridge="true"))["bridge"] == "done"
    assert bare.list_modprobe() == [LIFTED, "other.conf"]
    for function, expected in (("prepare", LIFTED), ("undo_prepare", "blacklist-bridge.conf")):
        bare.write_blacklist()
        assert outcomes(call(bare.pool, function, **({"bridge": "true"} if function == "prepare" else {})))["bridge"] == "done"
        assert bare.list_modprobe() == [expected, "other.conf"]
        with open(bare.locate(MODPROBE + "/" + expected), "rb") as source:
            assert source.read() == RULE


def test_a_blacklist_of_which_there_are_two(bare):
    """One of them is an administrator's work."""
    bare.write_blacklist(b"# edited\n" + RULE)
    call(bare.pool, bridge="true")
    bare.write_blacklist()
    for steps in (call(bare.pool, bridge="true"), call(bare.pool, "undo_prepare")):
        step = find(steps, "bridge")
        assert step["outcome"] == "problem" and "different content" in step["detail"]
    assert bare.list_modprobe() == ["blacklist-bridge.conf", LIFTED]
    os.unlink(bare.locate(BLACKLIST))
    assert outcomes(call(bare.pool, "undo_prepare"))["bridge"] == "done"
    with open(bare.locate(BLACKLIST), "rb") as source:
        assert source.read() == b"# edited\n" + RULE


def test_a_host_that_has_come_to_need_the_bridge(bare):
    """Its management network would be gone at the next boot."""
    bare.write_blacklist()
    call(bare.pool, bridge="true")
    path = calls.write_file(bare.host, "/etc/xensource/network.conf", b"bridge\n")
    try:
        step = find(call(bare.pool, "undo_prepare"), "bridge")
        assert step["outcome"] == "problem" and "network.conf" in step["detail"] and bare.list_modprobe() == [LIFTED]
    finally:
        os.unlink(path)
    assert outcomes(call(bare.pool, "undo_prepare"))["bridge"] == "done"


@pytest.mark.needs("modprobe")
def test_what_modprobe_reads(bare):
    """The real program, told to read this directory only."""
    def read():
        return subprocess.run(["modprobe", "-C", bare.locate(MODPROBE), "-c"], stdout=subprocess.PIPE, check=True).stdout
    bare.write_blacklist()
    assert b"install bridge" in read()
    call(bare.pool, bridge="true")
    assert b"install bridge" not in read()
    call(bare.pool, "undo_prepare")
    assert b"install bridge" in read()


# Console logs

def test_what_else_logs_consoles(bare):
    """Somebody else's file is named, and the other steps are done."""
    calls.write_file(bare.host, console_host.CRONTAB, b"# ours alone\n")
    try:
        steps = call(bare.pool, console_log="true")
        assert outcomes(steps) == {IMAGES: "done", BOOT_GUEST: "done", "console log": "problem"}
        assert console_host.CRONTAB in find(steps, "console log")["fix"]
    finally:
        os.unlink(bare.locate(console_host.CRONTAB))


def test_a_log_of_somebody_else(bare):
    """As OpenStack's guide has it: the record alone, and a script of the administrator's."""
    host = console_host.ConsoleHost(bare.pool)
    os.mkdir(bare.locate(console_host.DIRECTORY))
    host.write_log(7, b"kept")
    with bare.host.xenstore.client() as client:
        client.write(console_host.RECORD, console_host.VALUE)
    try:
        assert find(call(bare.pool, "undo_prepare"), "console log")["outcome"] == "already"
        assert host.list_logs() == ["console.7"]
        with bare.host.xenstore.client() as client:
            assert client.read(console_host.RECORD) == console_host.VALUE
        row, = [row for row in call(bare.pool, "doctor") if row["check"] == "console logs"]
        assert row["ok"] and "other software" in row["found"]
        # Turned on it is ours.
        assert find(call(bare.pool, console_log="true"), "console log")["outcome"] == "done"
    finally:
        assert find(call(bare.pool, "undo_prepare"), "console log")["outcome"] == "done"
    assert not os.path.exists(bare.locate(console_host.DIRECTORY))


def test_a_guest_that_runs_on_when_logging_ends(bare):
    call(bare.pool, console_log="true")
    host = console_host.ConsoleHost(bare.pool)
    guest = host.start(7)
    host.write_log(7)
    for outcome in ("done", "already"):
        step = find(call(bare.pool, "undo_prepare"), "console log")
        assert step["outcome"] == outcome and "until they end" in step["detail"] and host.list_logs() == ["console.7"]
    host.end(guest)
    host.tend()
    assert find(call(bare.pool, "undo_prepare"), "console log")["outcome"] == "already"
    assert not os.path.exists(host.locate(console_host.DIRECTORY))


def test_without_xenstored(bare):
    bare.host.xenstore.stop()
    try:
        steps = call(bare.pool, console_log="true")
        assert outcomes(steps) == {IMAGES: "done", BOOT_GUEST: "done", "console log": "problem"}
        assert "xenstore" in find(steps, "console log")["detail"]
    finally:
        bare.host.xenstore.start()
