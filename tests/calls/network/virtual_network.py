# SPDX-License-Identifier: Apache-2.0
"""A network of its own for a simulated host: dom0's ip, brctl, iptables and ovs-vsctl are the machine's, but see and change
nothing outside. Needs root."""

import os
import secrets
import shutil
import signal
import subprocess
import tempfile

import pytest

from tests.calls import calls
from tests.calls import pythons
from tests.harness.pool import Pool

DEADLINE_S = 30
PROGRAMS = ("ip", "brctl", "bridge", "iptables-save", "iptables-restore", "ip6tables-save", "ip6tables-restore")
_PATH = "/usr/sbin:/sbin:/usr/bin:/bin"


class Namespace(object):
    """A network namespace with a name, as `ip netns` makes it."""

    def __init__(self):
        self.name = "dom0-%s" % secrets.token_hex(4)
        _run("ip", "netns", "add", self.name)

    def close(self):
        _run("ip", "netns", "delete", self.name)

    def run(self, *command, check=True):
        """Run a program of this machine in the namespace. Returns its output."""
        return _run("ip", "netns", "exec", self.name, *command, check=check)

    def supply(self, host, programs=PROGRAMS):
        """Make these programs of the host's dom0 the machine's, in this namespace."""
        for program in programs:
            calls.write_program(host, program, 'exec %s netns exec %s %s "$@"' % (
                shutil.which("ip", path=_PATH), self.name, shutil.which(program, path=_PATH) or "/usr/sbin/" + program))


@pytest.fixture(scope="module", params=pythons.EDGES, ids=pythons.version_of)
def network_pool(request):
    """One host; its dom0 has a network of its own in tests that take `network`, too."""
    with Pool(python=request.param) as pool:
        yield pool


@pytest.fixture
def network(network_pool):
    """A Namespace that is the network of the host's dom0."""
    namespace = Namespace()
    try:
        namespace.supply(network_pool.hosts[0])
        yield namespace
    finally:
        namespace.close()


class Switch(object):
    """An Open vSwitch of its own, whose devices are dummies: its database, its daemon, and ovs-vsctl for a host's dom0."""

    def __init__(self):
        self._directory = tempfile.mkdtemp(prefix="ovs-")
        self._processes = []
        self.database = "unix:%s/db.sock" % self._directory

    def __enter__(self):
        try:
            path = os.path.join(self._directory, "conf.db")
            self._run("ovsdb-tool", "create", path, "/usr/share/openvswitch/vswitch.ovsschema")
            self._start("ovsdb-server", path, "--remote=p" + self.database, "--unixctl=%s/server.ctl" % self._directory)
            self.vsctl("--no-wait", "init")
            self._start("ovs-vswitchd", self.database, "--enable-dummy=override", "--disable-system",
                        "--unixctl=%s/switch.ctl" % self._directory)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info):
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=DEADLINE_S)
        shutil.rmtree(self._directory)

    def vsctl(self, *arguments):
        return self._run("ovs-vsctl", "--timeout=%d" % DEADLINE_S, "--db=" + self.database, *arguments)

    def supply(self, host):
        calls.write_program(host, "ovs-vsctl", 'exec /usr/bin/ovs-vsctl --db=%s "$@"' % self.database)

    def _run(self, *command):
        return _run(*command, env=dict(os.environ, PATH=_PATH, OVS_RUNDIR=self._directory))

    def _start(self, program, *arguments):
        log = os.path.join(self._directory, program + ".log")
        with open(log, "w") as output:
            self._processes.append(subprocess.Popen(
                [program] + list(arguments), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                env=dict(os.environ, PATH=_PATH, OVS_RUNDIR=self._directory)))
        calls.wait_until(lambda: os.path.exists(self.database.partition(":")[2]))


def _run(*command, check=True, env=None):
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            universal_newlines=True, timeout=DEADLINE_S, env=env or dict(os.environ, PATH=_PATH))
    if check and result.returncode != 0:
        raise AssertionError("%s: %s" % (" ".join(command), result.stderr.strip()))
    return result.stdout
