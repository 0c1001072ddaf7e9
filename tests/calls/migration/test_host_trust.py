# SPDX-License-Identifier: Apache-2.0
"""Hosts that let each other send disks, by the plug-in alone; what a stolen key is good for; with real sshd, ssh and rsync."""

import contextlib
import json
import os
import shutil
import stat
import subprocess
import uuid

import pytest
import XenAPI

from tests.calls import calls
from tests.calls import pythons
from tests.calls import sr_disks
from tests.calls.migration import migrations
from tests.contract import calls as contract_calls
from tests.harness.pool import Pool

pytestmark = pytest.mark.needs("rsync", "ssh", "sshd", "ssh-keygen")

PLUGIN = "dom0_host.py"
ADMITTED, KNOWN = "/root/.ssh/authorized_keys", "/root/.ssh/known_hosts"
STRICT = migrations.SETTINGS + "[migration]\nhost_keys = strict\n"
SECRET = "root:$6$verysecret:19000"


def call(pool, function, host=0, **arguments):
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in arguments.items()}
    return json.loads(pool.call(PLUGIN, function, texts, host=host))


def outcomes(steps):
    return {step["step"]: step["outcome"] for step in steps}


def read(host, path):
    with open(host.dom0.locate(path)) as source:
        return source.read()


def write(host, path, text):
    return calls.write_file(host, path, text.encode("ascii"))


def trust_each_other(pair):
    """As the tool for a pool does it; each host by the other's answer as it is."""
    keys = {host.uuid: call(pair.pool, "ssh_key", host=number) for number, host in enumerate(pair.pool.hosts)}
    for number in range(2):
        steps = call(pair.pool, "trust_keys", host=number, keys=keys)
        assert outcomes(steps) == {pair.pool.hosts[number].uuid: "already", pair.pool.hosts[1 - number].uuid: "done"}
    return keys


@contextlib.contextmanager
def open_trusting_pair(python, more=""):
    """A Pair in which each host has been told the other's key; more: lines for sshd_config of the target."""
    with migrations.open_pair(python, more, is_trusted=False) as pair:
        pair.host = pair.target.ip
        pair.daemon.pose_as_standard(pair.source)
        pair.keys = trust_each_other(pair)
        yield pair


@pytest.mark.parametrize("python", pythons.ROTATION, ids=pythons.version_of)
def test_a_migration(python):
    with open_trusting_pair(python) as pair:
        calls.write_settings(pair.source, STRICT)
        before = read(pair.source, KNOWN)
        uuids, digest = pair.write_guest()
        label = migrations.make_label()
        calls.write_file(pair.target, "/images/instance%s/7.vhd" % label, b"of an earlier attempt")
        pair.transfer_chain(label, uuids)
        stack = [migrations.make_label() for _ in uuids]
        pair.receive(label, stack)
        assert sr_disks.guest_digest(pair.target_sr.path, stack[0]) == digest
        assert read(pair.source, KNOWN) == before

        assert outcomes(call(pair.pool, "distrust_keys", host=1, host_uuids=[pair.source.uuid])) == {pair.source.uuid: "done"}
        with calls.refused("transfer_vhd", "PluginError", "does not let root of this host in"):
            pair.transfer(label, uuids[0], 0)
        assert outcomes(call(pair.pool, "distrust_keys")) == {pair.target.uuid: "done"}
        with calls.refused("transfer_vhd", "PluginError", "host key"):
            pair.transfer(label, uuids[0], 0)
        assert (read(pair.target, ADMITTED), read(pair.source, KNOWN)) == ("", "")


# One host, whose plug-ins run as anybody

@pytest.fixture(scope="module", params=pythons.EDGES, ids=pythons.version_of)
def single(request):
    with Pool(python=request.param) as pool:
        yield pool


@pytest.fixture
def pool(single):
    """It has met nobody and has no key."""
    directory = single.hosts[0].dom0.locate("/root/.ssh")
    yield single
    calls.remove_settings(single.hosts[0])
    shutil.rmtree(directory)
    os.mkdir(directory, 0o700)


def locate(pool, path):
    return pool.hosts[0].dom0.locate(path)


def make_entry(**changes):
    return dict({"public_key": contract_calls.PUBLIC_KEY, "addresses": ["10.0.0.7"],
                 "host_keys": [contract_calls.PUBLIC_KEY]}, **changes)


def make_host_key(pool, path, *options):
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-f", locate(pool, path)] + list(options), check=True, stdin=subprocess.DEVNULL)
    with open(locate(pool, path) + ".pub") as source:
        return " ".join(source.read().split()[:2])


def test_a_key_is_made_once(pool):
    assert call(pool, "ssh_key", dry_run=True)["public_key"] is None
    assert os.listdir(locate(pool, "/root/.ssh")) == []
    os.rmdir(locate(pool, "/root/.ssh"))
    answer = call(pool, "ssh_key")
    assert answer["addresses"] == [pool.hosts[0].ip] and answer["host_uuid"] == pool.hosts[0].uuid
    assert sorted(os.listdir(locate(pool, "/root/.ssh"))) == ["id_ed25519", "id_ed25519.pub"]
    modes = [stat.S_IMODE(os.stat(locate(pool, "/root/.ssh" + name)).st_mode) for name in ("", "/id_ed25519")]
    assert modes == [0o700, 0o600]
    assert read(pool.hosts[0], "/root/.ssh/id_ed25519.pub").startswith(answer["public_key"] + " root@" + pool.hosts[0].uuid)
    assert call(pool, "ssh_key") == answer == call(pool, "ssh_key", dry_run=True)


@pytest.mark.parametrize("options", [["-t", "rsa", "-b", "2048"], ["-t", "ecdsa"]], ids=["rsa", "ecdsa"])
def test_a_key_that_is_there(pool, options):
    """Its public half is the key's own, whatever lies beside it."""
    public = make_host_key(pool, "/root/.ssh/id_" + options[1], *options)
    write(pool.hosts[0], "/root/.ssh/id_%s.pub" % options[1], contract_calls.PUBLIC_KEY)
    assert call(pool, "ssh_key")["public_key"] == public
    write(pool.hosts[0], "/root/.ssh/id_ed25519", "no key")
    assert call(pool, "ssh_key")["public_key"] == public


def test_a_key_with_a_passphrase(pool):
    make_host_key(pool, "/root/.ssh/id_ed25519")
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "secret", "-f", locate(pool, "/root/.ssh/id_ed25519")], check=True,
                   stdout=subprocess.DEVNULL)
    with calls.refused("ssh_key", "PluginError", "/root/.ssh/id_ed25519", "passphrase"):
        call(pool, "ssh_key")


def test_a_key_of_the_settings(pool):
    write(pool.hosts[0], "/etc/dom0-plugins.conf", "[migration]\nidentity_file = /root/.ssh/other\n")
    with calls.refused("ssh_key", "PluginError", "/root/.ssh/other", "ssh-keygen", "identity_file"):
        call(pool, "ssh_key")
    public = make_host_key(pool, "/root/.ssh/other")
    make_host_key(pool, "/root/.ssh/id_ed25519")
    assert call(pool, "ssh_key")["public_key"] == public


def test_addresses_and_host_keys(pool):
    pif, = pool.database.refs("PIF")
    pool.database.update("PIF", pif, IPv6=["fe80::1/64", "FD00::7/64"])
    network = pool.database.get("PIF", pif, "network")
    other = pool.database.create("PIF", device="aeth", host=pool.hosts[0].ref, network=network, IP="10.9.9.9")
    public = [make_host_key(pool, "/etc/ssh/ssh_host_%s_key" % kind, "-t", kind) for kind in ("ed25519", "rsa")]
    write(pool.hosts[0], "/etc/ssh/ssh_host_ecdsa_key.pub", "rubbish")
    answer = call(pool, "ssh_key")
    pool.database.destroy("PIF", other)
    assert answer["addresses"] == [pool.hosts[0].ip, "fd00::7", "10.9.9.9"] and answer["host_keys"] == public


def test_steps(pool):
    first, second, own = str(uuid.uuid4()), str(uuid.uuid4()), pool.hosts[0].uuid
    write(pool.hosts[0], KNOWN, "10.0.0.7 ssh-ed25519 AAAAC3\nxen9 ssh-rsa AAAA\n")
    write(pool.hosts[0], ADMITTED, "ssh-rsa AAAA\n%s old line" % contract_calls.PUBLIC_KEY)
    another = make_entry(addresses=["10.0.0.8"], public_key=contract_calls.PUBLIC_KEY[:-1] + "g")
    keys = {first: make_entry(), own: make_entry(), second: another}
    before = read(pool.hosts[0], ADMITTED), read(pool.hosts[0], KNOWN)
    assert outcomes(call(pool, "trust_keys", keys=keys, dry_run=True)) == {first: "problem", second: "would", own: "already"}
    assert (read(pool.hosts[0], ADMITTED), read(pool.hosts[0], KNOWN)) == before

    steps = {step["step"]: step for step in call(pool, "trust_keys", keys=keys)}
    assert outcomes(steps.values()) == {first: "problem", second: "done", own: "already"}
    assert steps[first]["detail"] == (
        "line 1 of /root/.ssh/known_hosts has another key for one of its addresses; "
        "may send disks here, is known by its host keys; line 2 of /root/.ssh/authorized_keys admits its key without limits")
    assert steps[first]["fix"].startswith("remove such a line") and steps[second]["fix"] is None
    assert own not in read(pool.hosts[0], ADMITTED)
    assert outcomes(call(pool, "trust_keys", keys={second: keys[second]})) == {second: "already"}

    everybody = call(pool, "distrust_keys", dry_run=True)
    assert outcomes(everybody) == {first: "would", second: "would"}
    assert outcomes(call(pool, "distrust_keys", host_uuids=[second, own])) == {second: "done", own: "already"}
    assert outcomes(call(pool, "distrust_keys")) == {first: "done"}
    assert call(pool, "distrust_keys") == []
    assert (read(pool.hosts[0], ADMITTED), read(pool.hosts[0], KNOWN)) == (before[0] + "\n", before[1])


def test_a_file_that_cannot_be_written(pool):
    keys = {str(uuid.uuid4()): make_entry() for _ in range(2)}
    with calls.fault(pool.hosts[0], "trust.written:enospc"):
        steps = call(pool, "trust_keys", keys=keys)
    assert outcomes(steps) == dict.fromkeys(keys, "problem")
    assert {step["detail"] for step in steps} == {"cannot write %s: [Errno 28] No space left on device" % ADMITTED}
    assert all(step["fix"] for step in steps)
    # The other file is no reason to leave this one.
    assert os.listdir(locate(pool, "/root/.ssh")) == ["known_hosts"]
    assert outcomes(call(pool, "trust_keys", keys=keys)) == dict.fromkeys(keys, "done")


# Killed anywhere

@pytest.mark.parametrize("point", ["key.made", "key.linked"])
def test_a_killed_call_leaves_no_half_key(pool, point):
    with calls.fault(pool.hosts[0], point + ":kill"), pytest.raises(XenAPI.Failure):
        call(pool, "ssh_key")
    made = os.path.exists(locate(pool, "/root/.ssh/id_ed25519"))
    assert made == (point == "key.linked")
    before = read(pool.hosts[0], "/root/.ssh/id_ed25519") if made else None
    answer = call(pool, "ssh_key")
    assert answer["public_key"] and before in (None, read(pool.hosts[0], "/root/.ssh/id_ed25519"))


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("point", ["trust.written", "trust.replaced"])
@pytest.mark.parametrize("function", ["trust_keys", "distrust_keys"])
def test_a_killed_call_leaves_the_old_or_the_new(pool, function, point, count):
    others = {ADMITTED: "ssh-rsa AAAA admin", KNOWN: "xen9 ssh-rsa AAAA\n"}
    for path, text in others.items():
        write(pool.hosts[0], path, text)
    keys = {str(uuid.uuid4()): make_entry()}
    states = [{path: read(pool.hosts[0], path) for path in others}]
    call(pool, "trust_keys", keys=keys)
    states.append({path: read(pool.hosts[0], path) for path in others})
    if function == "trust_keys":
        call(pool, "distrust_keys")
    arguments = {"keys": keys} if function == "trust_keys" else {}
    with calls.fault(pool.hosts[0], "%s:kill:%d" % (point, count)), pytest.raises(XenAPI.Failure):
        call(pool, function, **arguments)
    for path in others:
        assert read(pool.hosts[0], path) in {state[path] for state in states} | {others[path] + "\n"}
    steps = call(pool, function, **arguments)
    assert set(outcomes(steps).values()) <= {"done", "already"}
    assert all((list(keys)[0] in read(pool.hosts[0], path)) == (function == "trust_keys") for path in others)
    assert all(read(pool.hosts[0], path).startswith(text) for path, text in others.items())
    assert sorted(os.listdir(locate(pool, "/root/.ssh"))) == ["authorized_keys", "known_hosts"]
