# SPDX-License-Identifier: Apache-2.0
"""Hosts that let each other send disks, by the plug-in alone; what a stolen key is good for; with real sshd, ssh and rsync."""

import contextlib
import json

import pytest

from tests import conftest
from tests.integration import host_calls
from tests.integration import migrations
from tests.integration import transfer_cases as cases

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
    return host_calls.write_file(host, path, text.encode("ascii"))


def trust_each_other(pair):
    """As the tool for a pool does it; each host by the other's answer as it is."""
    keys = {host.uuid: call(pair.pool, "ssh_key", host=number) for number, host in enumerate(pair.pool.hosts)}
    for number in range(2):
        steps = call(pair.pool, "trust_keys", host=number, keys=keys)
        assert outcomes(steps) == {pair.pool.hosts[number].uuid: "already", pair.pool.hosts[1 - number].uuid: "done"}
    return keys


@contextlib.contextmanager
def open_trusting_pair(python):
    with migrations.open_pair(python, is_trusted=False) as pair:
        pair.host = pair.target.ip
        pair.daemon.pose_as_standard(pair.source)
        pair.keys = trust_each_other(pair)
        yield pair


@pytest.fixture(scope="module")
def pair():
    with open_trusting_pair(conftest.DOM0_PYTHONS[-1][1]) as pair:
        cases.write_settings(pair.source, STRICT)
        yield pair


def test_a_migration(dom0_python):
    with open_trusting_pair(dom0_python) as pair:
        cases.write_settings(pair.source, STRICT)
        before = read(pair.source, KNOWN)
        uuids, digest = pair.write_guest()
        label = migrations.make_label()
        host_calls.write_file(pair.target, "/images/instance%s/7.vhd" % label, b"of an earlier attempt")
        pair.transfer_chain(label, uuids)
        stack = [migrations.make_label() for _ in uuids]
        pair.receive(label, stack)
        assert migrations.digest_of(pair.target_sr, stack[0]) == digest
        assert read(pair.source, KNOWN) == before

        assert outcomes(call(pair.pool, "distrust_keys", host=1, host_uuids=[pair.source.uuid])) == {pair.source.uuid: "done"}
        with cases.refused("transfer_vhd", "PluginError", "does not let root of this host in"):
            pair.transfer(label, uuids[0], 0)
        assert outcomes(call(pair.pool, "distrust_keys")) == {pair.target.uuid: "done"}
        with cases.refused("transfer_vhd", "PluginError", "host key"):
            pair.transfer(label, uuids[0], 0)
        assert (read(pair.target, ADMITTED), read(pair.source, KNOWN)) == ("", "")
