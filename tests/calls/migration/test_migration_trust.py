# SPDX-License-Identifier: Apache-2.0
"""Who may send a guest to whom, what the other host may lack, and what lies there already; with real programs."""

import contextlib
import os
import shutil
import subprocess

import pytest

from tests.calls import calls
from tests.calls import pythons
from tests.calls import sr_disks
from tests.calls.migration import migrations

pytestmark = pytest.mark.needs("rsync", "ssh", "sshd", "ssh-keygen")

TRANSFER = "transfer_vhd"
# CentOS 7's ssh, as far as it is asked for here.
OLD_SSH = """#!/bin/sh
for argument; do
    case $argument in
        *accept-new*) echo 'command-line: line 0: unsupported option "accept-new".' >&2; exit 255;;
    esac
done
exec /usr/bin/ssh "$@"
"""


@pytest.fixture(scope="module")
def pair():
    with migrations.open_pair(pythons.NEWEST) as pair:
        yield pair


@pytest.fixture
def disk(pair):
    uuids, _ = pair.write_guest(1)
    yield uuids[0]
    os.unlink(sr_disks.vhd_path(pair.source_sr.path, uuids[0]))


@pytest.fixture
def label():
    return migrations.make_label()


@pytest.fixture(autouse=True)
def strangers(pair):
    """The source has met no host yet."""
    forget(pair)
    yield
    forget(pair)
    calls.write_settings(pair.source, migrations.SETTINGS)


def known_hosts(pair):
    return pair.source.dom0.locate("/root/.ssh/known_hosts")


def forget(pair):
    with contextlib.suppress(FileNotFoundError):
        os.unlink(known_hosts(pair))


def set_migration(pair, text):
    calls.write_settings(pair.source, migrations.SETTINGS + "[migration]\n%s\n" % text)


@contextlib.contextmanager
def new_key(pair):
    """Within, the target is as after a new installation."""
    pair.daemon.stop()
    pair.daemon.renew_key()
    pair.daemon.start()
    yield
    forget(pair)


@contextlib.contextmanager
def moved_away(path):
    os.rename(path, path + ".away")
    try:
        yield
    finally:
        os.rename(path + ".away", path)


def expect_refusal(pair, disk, label, class_name, *parts, **changes):
    """Refused, with nothing sent and all as it was."""
    with sr_disks.unchanged(pair.source_sr.path), calls.refused(TRANSFER, class_name, *parts) as messages:
        pair.transfer(label, disk, 0, **changes)
    assert "0.vhd" not in pair.arrived(label)
    pair.expect_idle()
    return messages[0]


SSH = pytest.mark.parametrize("ssh", [None, OLD_SSH], ids=["this ssh", "ssh of CentOS 7"])


def use(pair, ssh):
    return pair.source.dom0.program("ssh", ssh) if ssh else contextlib.nullcontext()


@SSH
def test_a_host_that_was_not_met_before(pair, disk, label, ssh):
    with use(pair, ssh):
        assert pair.transfer(label, disk, 0) is None
        with open(known_hosts(pair)) as known:
            assert len(known.readlines()) == 1
        set_migration(pair, "host_keys = strict")
        assert pair.transfer(label, disk, 0) is None


@SSH
@pytest.mark.parametrize("policy", ["accept-new", "strict"])
def test_a_host_whose_key_has_changed(pair, disk, label, policy, ssh):
    assert pair.transfer(label, disk, 1) is None
    set_migration(pair, "host_keys = " + policy)
    with use(pair, ssh), new_key(pair):
        expect_refusal(pair, disk, label, "PluginError", "ssh-keygen -R", "not the one that this host knows")


@SSH
def test_a_strict_source_meets_a_stranger(pair, disk, label, ssh):
    set_migration(pair, "host_keys = strict")
    with use(pair, ssh):
        expect_refusal(pair, disk, label, "PluginError", "known_hosts", "host_keys = accept-new")
    assert not os.path.exists(known_hosts(pair))


def test_a_host_that_does_not_trust_this_one(pair, disk, label):
    with moved_away(pair.target.dom0.locate("/root/.ssh/authorized_keys")):
        text = expect_refusal(pair, disk, label, "PluginError", "/root/.ssh/authorized_keys there", "Permission denied")
    assert "password" not in text


def test_a_key_of_its_own(pair, disk, label):
    key = pair.source.dom0.locate("/root/.ssh/id_ed25519")
    shutil.copy(key, pair.source.dom0.locate("/opt/harness/key"))
    with moved_away(key):
        set_migration(pair, "identity_file = /opt/harness/key")
        assert pair.transfer(label, disk, 0) is None


@pytest.mark.parametrize("port", [80, 443])
def test_a_port_of_xapi_is_none_of_ssh(pair, disk, label, port):
    config = pair.source.dom0.locate("/root/.ssh/config")
    with open(config, "w") as target:
        target.write("Host %s\nPort %d\n" % (pair.target.ip, pair.daemon.port))
    try:
        assert pair.transfer(label, disk, 0, host="%s:%d" % (pair.target.ip, port)) is None
    finally:
        os.unlink(config)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "[::1]:80", "h0", "H0:22"])
def test_this_host_needs_no_ssh(pair, disk, label, name):
    with pair.source.dom0.program("ssh", "#!/bin/sh\nexit 255\n"):
        assert pair.transfer(label, disk, 0, host=name) is None
    arrived = pair.source.dom0.locate("/images/instance%s" % label)
    assert os.listdir(arrived) == ["0.vhd"]
    shutil.rmtree(arrived)


# What may be wrong with the other host

def test_nobody_listens(pair, disk, label):
    pair.daemon.stop()
    try:
        expect_refusal(pair, disk, label, "RetryableError", pair.target.ip, "Connection refused")
    finally:
        pair.daemon.start()


def test_a_host_without_images(pair, disk, label):
    with without_images(pair.target):
        expect_refusal(pair, disk, label, "PluginError", "directory /images")


def test_this_host_without_images(pair, disk, label):
    with without_images(pair.source):
        expect_refusal(pair, disk, label, "PluginError", "there is no directory /images", host="localhost")


def test_a_full_disk(pair, label):
    uuids, _ = pair.write_guest(1, blocks=4)
    run_in(pair.target, "mount -t tmpfs -o size=4m tmpfs /images")
    try:
        expect_refusal(pair, uuids[0], label, "StorageError", "full", "No space left")
    finally:
        run_in(pair.target, "umount /images")
    os.unlink(sr_disks.vhd_path(pair.source_sr.path, uuids[0]))


def run_in(host, script):
    subprocess.run(["sh", "-ec", script], check=True, timeout=20, preexec_fn=host.dom0.processes.namespace.enter)


@contextlib.contextmanager
def without_images(host):
    run_in(host, "umount /images; rmdir /images")
    try:
        yield
    finally:
        run_in(host, "mkdir /images; mount --bind %s /images" % host.dom0.locate("/images"))


# What ssh and rsync say, in the words of a program that says no more

@pytest.mark.parametrize("words, status, class_name, text", [
    ("bash: rsync: command not found", 127, "PluginError", "it has no rsync"),
    ("sh: 1: rsync: not found", 127, "PluginError", "it has no rsync"),
    ("ssh: Could not resolve hostname x: Name or service not known", 255, "PluginError", "no address"),
    ("ssh: Could not resolve hostname x: Temporary failure in name resolution", 255, "RetryableError", "Temporary failure"),
    ("ssh: connect to host x port 22: No route to host", 255, "RetryableError", "No route to host"),
    ("ssh: connect to host x port 22: Connection timed out", 255, "RetryableError", "timed out"),
    ("root@x: Permission denied (publickey,gssapi-keyex,gssapi-with-mic,password).", 255, "PluginError", "authorized_keys"),
    ("dom0-plugins: this key may only send disks into /images by rsync", 1, "PluginError", "trust_keys"),
    ("Host key verification failed.", 255, "PluginError", "does not trust its key"),
    ("Unable to negotiate with x port 22: no matching cipher found.", 255, "RetryableError", "no matching cipher"),
])
def test_what_ssh_says(pair, disk, label, words, status, class_name, text):
    with pair.source.dom0.program("ssh", "#!/bin/sh\necho '%s' >&2\nexit %d\n" % (words, status)):
        expect_refusal(pair, disk, label, class_name, text)


def test_a_shell_that_talks(pair, disk, label):
    with pair.source.dom0.program("ssh", "#!/bin/sh\necho Welcome to this host, dear administrator\n"):
        expect_refusal(pair, disk, label, "PluginError", "is your shell clean")


def test_a_host_without_rsync(pair, disk, label):
    with pair.source.dom0.program("rsync", "#!/bin/nowhere\n"):
        expect_refusal(pair, disk, label, "CommandNotFound", "rsync")


# What lies there already

def put(pair, label, name, content=b"old"):
    path = pair.arrived_path(label, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as target:
        target.write(content)
    return path


def test_the_leaf_removes_what_a_longer_chain_has_left(pair, label):
    uuids, digest = pair.write_guest(2)
    names = {"1.vhd", "2.vhd", "11.vhd", ".1.vhd.Ab12Cd"}
    for name in names:
        put(pair, label, name)
    pair.transfer(label, uuids[1], 1)
    assert set(pair.arrived(label)) == names
    pair.transfer(label, uuids[0], 0)
    # A file that rsync writes may be a living transfer's.
    assert set(pair.arrived(label)) == {"0.vhd", "1.vhd", ".1.vhd.Ab12Cd"}
    stack = [migrations.make_label() for _ in range(2)]
    pair.receive(label, stack)
    assert sr_disks.guest_digest(pair.target_sr.path, stack[0]) == digest
    assert not os.path.exists(pair.arrived_path(label, ""))


def test_what_looks_like_the_same_file_is_compared(pair, disk, label):
    source = sr_disks.vhd_path(pair.source_sr.path, disk)
    with open(source, "rb") as original:
        content = bytearray(original.read())
    content[100000] ^= 1
    path = put(pair, label, "0.vhd", content)
    status = os.stat(source)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with migrations.gate_to(pair) as gate:
        pair.transfer(label, disk, 0)
        assert gate.passed_bytes < len(content) // 4
    with open(path, "rb") as sent, open(source, "rb") as original:
        assert sent.read() == original.read()


def test_a_chain_that_does_not_end(pair, label):
    """Before the leaf is sent its chain is looked at: what has no base cannot arrive."""
    uuids, _ = pair.write_guest(3)
    os.unlink(sr_disks.vhd_path(pair.source_sr.path, uuids[2]))
    expect_refusal(pair, uuids[0], label, "StorageError", "no VHD of VDI " + uuids[2])
    assert pair.transfer(label, uuids[1], 1) is None
    for each in uuids[:2]:
        os.unlink(sr_disks.vhd_path(pair.source_sr.path, each))


def test_a_disk_that_is_not_there(pair, label):
    missing = migrations.make_label()
    for place in (0, 1):
        with calls.refused(TRANSFER, "StorageError", missing):
            pair.transfer(label, missing, place)
    assert pair.arrived(label) == {}
