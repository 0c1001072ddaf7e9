# SPDX-License-Identifier: Apache-2.0
"""dom0_host.py doctor on a host that is broken in one way after another: it names what is broken, and changes nothing."""

import contextlib
import os

import pytest

from tests.calls import calls
from tests.calls import pythons
from tests.calls.fitness import installed_pool
from tests.calls.guests import console_host
from tests.calls.scene import Scene

pytestmark = pytest.mark.needs("rsync", "ssh", "sshd", "ssh-keygen")

PLUGIN = "dom0_host.py"
NAMES = ["xapi", "python", "settings", "sr", "free space", "images", "boot guest", "locks", "leftovers", "vhd-util", "xenstore",
         "console logs", "rsync", "ssh", "sshd", "trust", "clock", "versions"]


class Ward(Scene):
    """Two hosts that are prepared and trust each other; the second, which is not the coordinator, is the one that is examined."""

    plugin = PLUGIN

    def __init__(self, pool, daemons):
        super().__init__(pool, number=1)
        self.daemon = daemons[1]
        both = [Scene(pool, plugin=PLUGIN), self]
        keys = {scene.host.uuid: scene.ask("ssh_key") for scene in both}
        for scene in both:
            scene.call("prepare", console_log="true")
            scene.call("trust_keys", keys=keys)

    def examine(self, **arguments):
        """{check: its row}, in order"""
        rows = self.ask("doctor", **arguments)
        for row in rows:
            assert set(row) == {"check", "ok", "found", "problem", "fix"}
            assert row["found"] and not row["problem"] and not row["fix"] if row["ok"] else row["problem"] and row["fix"]
        return {row["check"]: row for row in rows}

    def run(self, command):
        return installed_pool.run_on(self.host, command)

    @contextlib.contextmanager
    def between(self, command, remedy):
        """Within, what a command of an administrator has done."""
        self.run(command)
        try:
            yield
        finally:
            self.run(remedy)

    @contextlib.contextmanager
    def record(self, class_name, ref, **fields):
        """Within, a record of XAPI has these fields."""
        before = self.pool.database.record(class_name, ref)
        self.pool.database.update(class_name, ref, **fields)
        try:
            yield
        finally:
            self.pool.database.update(class_name, ref, **{name: before[name] for name in fields})

    @property
    def pbd(self):
        return self.pool.database.refs("PBD", SR=self.sr.ref)[0]

    def look(self):
        """What a call may change: every name with its times, and XAPI's records."""
        tree = self.run("find / /root/.ssh /etc/ssh /var/run/sr-mount /images/ /boot/guest/ /var/lock/sm /etc/xapi.d -xdev"
                        " \\( -path /proc -o -path /tmp -o -path /dev -o -path /usr \\) -prune -o -printf '%p %i %m %s %T@ %C@\\n'")
        records = {name: self.pool.database.records(name) for name in ("VM", "SR", "PBD", "VDI", "VBD", "host", "pool", "task")}
        return [line for line in tree.splitlines() if ".py" not in line and "__pycache__" not in line], records


@pytest.fixture(scope="module")
def ward():
    with installed_pool.open_pool([pythons.OLDEST, pythons.NEWEST], ip="127.0.0.71") as (pool, daemons):
        yield Ward(pool, daemons)


def test_a_healthy_host(ward):
    ward.examine()  # which compiles the plug-ins
    before = ward.look()
    found = ward.examine()
    assert ward.look() == before
    assert list(found) == NAMES and all(row["ok"] for row in found.values()), [row for row in found.values() if not row["ok"]]
    assert found["settings"]["found"] == "[transfer] nice = 0; reserve = 1; collection_wait = 5; [migration] host_keys = strict"
    assert "XCP-ng 8.3.0" in found["xapi"]["found"] and ward.sr.uuid in found["sr"]["found"]
    assert found["sshd"]["found"].startswith("SSH-2.0-OpenSSH") and "MiB" in found["free space"]["found"]
    assert ward.examine(sr_uuid=ward.sr.uuid)["sr"]["ok"]


# What is broken, as a context; the checks that name it; words of the first one's problem.

def _program(name, text):
    """The host's program of this name is a script."""
    @contextlib.contextmanager
    def replace(ward):
        path = os.path.join(ward.host.dom0.bin_dir, name)
        if os.path.exists(path):
            os.rename(path, path + ".away")
        with ward.host.dom0.program(name, "#!/bin/sh\n%s\n" % text):
            yield
        if os.path.exists(path + ".away"):
            os.rename(path + ".away", path)
    return replace


def _instead(path, command):
    """What is at a path is away, and a command may have put something in its place."""
    def replace(ward):
        return ward.between("mv -T {0} {0}.away; {1}".format(path, command.format(path)),
                            "rm -rf {0}; mv -T {0}.away {0}".format(path))
    return replace


@contextlib.contextmanager
def _settings(ward, old, new):
    calls.write_settings(ward.host, installed_pool.SETTINGS.replace(old, new))
    yield
    calls.write_settings(ward.host, installed_pool.SETTINGS)


@contextlib.contextmanager
def _stopped_xenstored(ward):
    ward.host.xenstore.stop()
    yield
    ward.host.xenstore.start()
    ward.call("prepare", console_log="true")


@contextlib.contextmanager
def _stopped_sshd(ward):
    ward.daemon.stop()
    yield
    ward.daemon.start()


@contextlib.contextmanager
def _late_clock(ward):
    ward.pool.clock.advance(30)
    yield
    ward.pool.clock.advance(-30)


@contextlib.contextmanager
def _old_release(ward):
    path = os.path.join(ward.pool.hosts[0].plugin_dir, "dom0_lib/__init__.py")
    with open(path) as source:
        text = source.read()
    with open(path, "w") as target:
        target.write(text.replace("__version__ = '", "__version__ = '0.0.0.9"))
    yield
    with open(path, "w") as target:
        target.write(text)


@contextlib.contextmanager
def _no_plug_in(ward):
    path = os.path.join(ward.pool.hosts[0].plugin_dir, PLUGIN)
    os.rename(path, path + ".away")
    yield
    os.rename(path + ".away", path)


@contextlib.contextmanager
def _dead_process(ward, directory):
    path = directory + "/.dom0-plugins-0123456789abcdef"
    ward.run("mkdir %s; : > %s/owner" % (path, path))
    yield
    ward.run("rm -r %s" % path)


@contextlib.contextmanager
def _abandoned_arrival(ward):
    ward.run("mkdir /images/instance7; cd /images/instance7; : > 0.vhd; touch -d '3 days ago' 0.vhd .")
    yield
    ward.run("rm -r /images/instance7")


@contextlib.contextmanager
def _lost_record(ward):
    with ward.host.xenstore.client() as client:
        client.rm(console_host.RECORD)
    yield
    ward.call("prepare", console_log="true")


@contextlib.contextmanager
def _no_sr(ward):
    """The SR is detached: its directory has gone, and what leads there dangles."""
    with ward.record("PBD", ward.pbd, currently_attached=False), _instead("/run/sr-mount/" + ward.sr.uuid, "")(ward):
        yield


BREAKAGES = {
    "no /images": (_instead("/images", ""), ["images"], "there is no /images"),
    "/images leads nowhere": (_instead("/images", "ln -s /nowhere {0}"), ["images"], "/nowhere"),
    "/images is a file": (_instead("/images", ": > {0}"), ["images"], "no directory"),
    "/images is on /": (_instead("/images", "mkdir {0}"), ["images"], "own file system"),
    "no /boot/guest": (_instead("/boot/guest", ""), ["boot guest"], "/boot/guest"),
    "the SR is detached": (_no_sr, ["sr", "free space", "images", "boot guest", "leftovers"], "no file based SR"),
    "its server is away": (_program("stat", "exec sleep 100"), ["sr", "free space", "images", "boot guest", "leftovers"],
                           "does not answer"),
    "the SR makes QCOW2": (lambda ward: ward.record("PBD", ward.pbd, device_config={"preferred-image-formats": "qcow2,vhd"}),
                           ["sr"], "qcow2"),
    "a misspelt setting": (lambda ward: _settings(ward, "reserve =", "resrve ="), ["settings", "free space", "trust"],
                           "'reserve' is meant?"),
    "a setting that is none": (lambda ward: _settings(ward, "strict", "perhaps"), ["settings", "free space", "trust"],
                               "'host_keys' in [migration] needs accept-new or strict"),
    "the SR is full": (lambda ward: _settings(ward, "reserve = 1", "reserve = 16000000"), ["free space"], "should have"),
    "a file in place of the locks": (_instead("/run/lock", "mkdir {0}; : > {0}/sm"), ["locks"], "/var/lock/sm"),
    "a killed import": (lambda ward: _dead_process(ward, "/run/sr-mount/" + ward.sr.uuid), ["leftovers"], ".dom0-plugins-0123"),
    "a killed copy of a kernel": (lambda ward: _dead_process(ward, "/boot/guest"), ["leftovers"], "/boot/guest/.dom0-plugins-0123"),
    "an abandoned migration": (_abandoned_arrival, ["leftovers"], "instance7"),
    "vhd-util is another": (_program("vhd-util", "echo who am I"), ["vhd-util"], "who am I"),
    "xenstored is down": (_stopped_xenstored, ["xenstore", "console logs"], "xenstored"),
    "console logs lost their record": (_lost_record, ["console logs"], "/local/logconsole/@"),
    "an old rsync": (_program("rsync", "echo rsync  version 3.0.9  protocol version 30"), ["rsync"], "3.0.9"),
    "rsync with a superscript": (_program("rsync", "echo rsync  version 3.1.\u00b2"), ["rsync"], "does not tell its version"),
    "rsync dies": (_program("rsync", "echo no shared library >&2; exit 127"), ["rsync"], "no shared library"),
    "rsync hangs": (_program("rsync", "exec sleep 100"), ["rsync"], "within 5 s"),
    "ssh dies": (_program("ssh", "exit 127"), ["ssh"], "127"),
    "sshd is down": (_stopped_sshd, ["sshd"], "refused"),
    "not trusted": (_instead("/root/.ssh/authorized_keys", ""), ["trust"], "h0 may not send disks here"),
    "not known": (_instead("/root/.ssh/known_hosts", ""), ["trust"], "h0 is not known by its host keys"),
    "a key without limits": (_instead("/root/.ssh/authorized_keys", "cp {0}.away {0}; grep -o 'ssh-ed25519 [^ ]*' {0}.away >> {0}"),
                             ["trust"], "line 2 of /root/.ssh/authorized_keys"),
    "no key of its own": (_instead("/root/.ssh/id_ed25519", ""), ["trust"], "no ssh key"),
    "the clock is late": (_late_clock, ["clock"], "behind"),
    "another release": (_old_release, ["versions"], "h0 0.0.0.9"),
    "no plug-in": (_no_plug_in, ["versions"], "h0 has no such plug-in"),
}


@pytest.mark.parametrize("name", BREAKAGES)
def test_what_is_broken_is_named(ward, name):
    breakage, checks, words = BREAKAGES[name]
    with breakage(ward):
        found = ward.examine()
        assert [check for check, row in found.items() if not row["ok"]] == checks
        assert words in found[checks[0]]["problem"]
    assert list(found) == NAMES


def test_without_xapi(ward):
    """What needs it says so, and the rest is examined."""
    ward.pool.faults.fail("host.get_by_uuid", "INTERNAL_ERROR")
    found = ward.examine()
    assert [check for check, row in found.items() if not row["ok"]] == [
        "xapi", "sr", "free space", "leftovers", "sshd", "trust", "clock", "versions"]
    assert "INTERNAL_ERROR" in found["xapi"]["problem"]


def test_an_sr_that_is_none(ward):
    found = ward.examine(sr_uuid=ward.pool.srs[0].uuid)
    assert not found["sr"]["ok"] and "sr_uuid" in found["sr"]["problem"] and found["images"]["ok"]


def test_a_line_that_is_only_our_mark(ward):
    mark = "dom0-plugins:00000000-0000-4000-8000-000000000000"
    with _instead("/root/.ssh/authorized_keys", "cp {0}.away {0}; echo %s >> {0}" % mark)(ward):
        assert ward.examine()["trust"]["ok"]


def test_what_arrives_just_now_is_no_leftover(ward):
    with ward.between("mkdir /images/instance8; : > /images/instance8/.0.vhd.kS3x9q", "rm -r /images/instance8"):
        assert ward.examine()["leftovers"]["ok"]
