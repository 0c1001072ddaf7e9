# SPDX-License-Identifier: Apache-2.0
"""host_join on every dom0 Python: a host joins, and the VM that runs nova-compute on it is started again in every case."""

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading

import pytest
import XenAPI

from tests.calls import calls
from tests.calls import pythons
from tests.calls.calls import refused
from tests.harness.pool import Pool

PLUGIN, FUNCTION = "xenhost.py", "host_join"
UNKNOWN_UUID = "11111111-2222-4333-8444-555555555555"
MASTER_PASSWORD, HOST_PASSWORD = "m4ster-s3cret", "h0st-s3cret"


class Site(object):
    """A pool that is called, a host of its own that is to join it, and the VM on that one."""

    def __init__(self, master, other):
        self.master, self.other = master, other
        self.vm = other.add_vm("nova-compute")
        self.vm_uuid = other.database.get("VM", self.vm, "uuid")

    def join(self, **changes):
        arguments = dict({
            "compute_uuid": self.vm_uuid, "url": self.other.url, "user": "root", "password": HOST_PASSWORD, "force": "false",
            "master_addr": self.master.hosts[0].address, "master_user": "root", "master_pass": MASTER_PASSWORD}, **changes)
        return calls.call_json(self.master, PLUGIN, FUNCTION, **arguments)

    def state_in(self, pool):
        """power_state of the VM in a pool's database; None where it is unknown."""
        refs = pool.database.refs("VM", uuid=self.vm_uuid)
        return pool.database.get("VM", refs[0], "power_state") if refs else None

    def log(self):
        return [line for line in self.master.hosts[0].syslog_lines() if "host_join" in line]

    def check_secrets(self, *texts):
        for text in self.master.hosts[0].syslog_lines() + list(texts):
            assert MASTER_PASSWORD not in text and HOST_PASSWORD not in text


class _Pool(Pool):
    password = MASTER_PASSWORD


class _OtherPool(Pool):
    password = HOST_PASSWORD


@contextlib.contextmanager
def make_site(python):
    with _Pool(python=python) as master, _OtherPool(python=sys.executable, plugins=False, ip="127.0.0.41") as other:
        yield Site(master, other)


@pytest.fixture(params=pythons.EDGES, ids=pythons.version_of)
def site(request):
    with make_site(request.param) as site:
        yield site


@pytest.fixture
def each_site(dom0_python):
    with make_site(dom0_python) as site:
        yield site


def test_join(each_site):
    site = each_site
    assert site.join() is None
    assert site.state_in(site.master) == "Running"
    assert [site.master.database.get("host", ref, "name_label") for ref in site.master.database.refs("host")] == ["h0", "h0"]
    with pytest.raises(XenAPI.Failure) as caught:
        site.other.login()
    assert caught.value.details == ["HOST_IS_SLAVE", site.master.hosts[0].address]
    done = [line.partition("host_join: done: ")[2] for line in site.log() if "host_join: done: " in line]
    assert done == ["log in to %s" % site.other.url, "find VM %s there" % site.vm_uuid, "shut down VM %s" % site.vm_uuid,
                    "join the pool of %s" % site.master.hosts[0].address, "start VM %s again" % site.vm_uuid]
    assert site.other.faults.calls["pool.join"] == 1 and site.other.faults.calls["VM.start"] == 0
    site.check_secrets()


def test_forced_join(site):
    assert site.join(force="true") is None
    assert site.other.faults.calls["pool.join_force"] == 1 and site.other.faults.calls["pool.join"] == 0
    assert site.state_in(site.master) == "Running"


@pytest.mark.parametrize("changes, step, code", [
    ({"password": "wrong-" + HOST_PASSWORD[:5]}, "log in to", "SESSION_AUTHENTICATION_FAILED"),
    ({"compute_uuid": UNKNOWN_UUID}, "find VM %s there" % UNKNOWN_UUID, "UUID_INVALID"),
    ({"url": "http://127.0.0.1:1"}, "log in to http://127.0.0.1:1", "Connection refused"),
])
def test_failures_before_anything_is_done(site, changes, step, code):
    with refused(FUNCTION, "PluginError", "host_join cannot " + step, code):
        site.join(**changes)
    assert site.state_in(site.other) == "Running"
    assert site.other.faults.calls["VM.clean_shutdown"] == site.other.faults.calls["pool.join"] == 0
    site.check_secrets()


@pytest.mark.parametrize("changes, code", [
    ({"master_pass": "wrong-" + MASTER_PASSWORD[:5]}, "SESSION_AUTHENTICATION_FAILED"),
    ({"master_addr": "127.0.0.1:1"}, "JOINING_HOST_CONNECTION_FAILED")])
def test_a_join_that_fails(site, changes, code):
    with refused(FUNCTION, "PluginError", "host_join cannot join the pool of", code):
        site.join(**changes)
    assert site.state_in(site.other) == "Running" and site.state_in(site.master) is None
    assert site.other.faults.calls["VM.clean_shutdown"] == site.other.faults.calls["VM.start"] == 1
    assert not site.other.database.refs("session"), "the session at the other host is closed"
    site.check_secrets()


def test_other_guests_on_the_host(site):
    site.other.add_vm("somebody's")
    with refused(FUNCTION, "PluginError", "host_join cannot join the pool of", "JOINING_HOST_CANNOT_HAVE_RUNNING_VMS"):
        site.join()
    assert site.state_in(site.other) == "Running"


def test_a_vm_that_does_not_shut_down(site):
    site.other.faults.fail("VM.clean_shutdown", "VM_SHUTDOWN_TIMEOUT", "vm", site.vm, "1200")
    with refused(FUNCTION, "PluginError", "host_join cannot shut down VM", "VM_SHUTDOWN_TIMEOUT"):
        site.join()
    assert site.state_in(site.other) == "Running" and site.other.faults.calls["pool.join"] == 0


def test_a_vm_that_does_not_start_at_once(site):
    site.master.faults.fail("VM.start", "OTHER_OPERATION_IN_PROGRESS", "VM", "x", times=2)
    assert site.join() is None
    assert site.state_in(site.master) == "Running"


def test_xapi_that_dies_while_it_joins(site):
    """Nobody knows whether the host has joined: the VM is looked for in both places."""
    site.other.faults.die("pool.join")
    threading.Timer(1.5, site.other.start_xapi).start()
    with refused(FUNCTION, "PluginError", "host_join cannot join the pool of", "closed the connection"):
        site.join()
    assert site.state_in(site.other) == "Running"


def end_by_signal(site, message):
    """Join while `message` is held up at the other host, and end the plug-in by a signal there; the failure's details."""
    hold = threading.Event()
    site.other.faults.wait(message, hold)
    failures = []

    def join():
        try:
            site.join(master_pass="wrong")
        except XenAPI.Failure as failure:
            failures.append(failure.details)
    thread = threading.Thread(target=join)
    thread.start()
    calls.wait_until(lambda: site.other.faults.calls[message])
    assert site.state_in(site.other) == "Halted"
    for pid in site.master.hosts[0].dom0.processes.running_pids():
        os.kill(pid, signal.SIGTERM)
    thread.join(60)
    state = site.state_in(site.other)
    hold.set()
    assert failures[0][:2] == ["XENAPI_PLUGIN_FAILURE", "signal: SIGTERM"]
    return state


@pytest.mark.parametrize("message", ["pool.join", "VM.start"])
def test_a_signal(site, message):
    """A signal that comes while the VM is started again, too: the plug-in begins that step once more."""
    assert end_by_signal(site, message) == "Running"


class TlsDoor(object):
    """HTTPS in front of a host's XAPI, with a certificate that nobody has signed but the host."""

    def __init__(self, target, directory):
        self._target = target
        names = [os.path.join(str(directory), name) for name in ("key.pem", "certificate.pem")]
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=host", "-days", "2", "-keyout",
                        names[0], "-out", names[1]], check=True, stderr=subprocess.DEVNULL, timeout=60)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(names[1], names[0])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = "https://127.0.0.1:%d" % self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)  # a close alone leaves accept() waiting
        self._listener.close()

    def _accept(self):
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        try:
            with self._context.wrap_socket(client, server_side=True) as near, socket.create_connection(self._target) as far:
                back = threading.Thread(target=_copy, args=(far, near), daemon=True)
                back.start()
                _copy(near, far)
                back.join()
        except OSError:
            pass


def _copy(source, target):
    try:
        for data in iter(lambda: source.recv(65536), b""):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


@pytest.mark.needs("openssl")
def test_https(site, tmp_path):
    """XAPI's certificate is its own: it is not verified unless that is asked for."""
    address, _, port = site.other.hosts[0].address.partition(":")
    door = TlsDoor((address, int(port)), tmp_path)
    try:
        calls.write_file(site.master.hosts[0], calls.SETTINGS, b"[tls]\nverify_hosts = yes\n")
        with refused(FUNCTION, "PluginError", "host_join cannot log in to https://", "is not trusted"):
            site.join(url=door.url)
        assert site.other.faults.calls["session.login_with_password"] == 0
        calls.write_file(site.master.hosts[0], calls.SETTINGS, b"")
        assert site.join(url=door.url) is None
    finally:
        door.close()
    assert site.state_in(site.master) == "Running"
