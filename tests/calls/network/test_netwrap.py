# SPDX-License-Identifier: Apache-2.0
"""neutron's commands: the real programs in a network namespace of the test, and refusals."""

import base64
import contextlib
import json
import os
import subprocess
import sys
import time
import zlib

import pytest
import XenAPI

from tests.calls import calls
from tests.calls import pythons
from tests.calls.network import network_namespace
from tests.harness.pool import Pool
from tests.harness.xapi.failures import Failure
from tests.unit.network import test_net_filters

UNAUTHORIZED = ["XENAPI_PLUGIN_FAILURE", "run_command", "Denied", "Unauthorized command"]
NOT_FOUND = ["XENAPI_PLUGIN_FAILURE", "run_command", "CommandNotFound", "Executable not found"]
RULES = """*filter
:neutron-test - [0:0]
-A neutron-test -s 10.0.0.%d/32 -m comment --comment "gr\xfc\xdfe" -j DROP
COMMIT
"""


class Dom0(object):
    """Calls of netwrap.py from this thread, whose network namespace the plug-in has."""

    def __init__(self, pool):
        self.pool = pool
        self.dom0 = pool.hosts[0].dom0
        self._session_ref = pool.login().handle

    def call(self, arguments):
        return self.dom0.call_plugin("netwrap.py", "run_command", self._session_ref, arguments)

    def run(self, command, command_input=None):
        """(exit status, stdout, stderr) as neutron gets them; the command is parted at blanks."""
        words = command.split() if isinstance(command, str) else command
        reply = json.loads(self.call({"cmd": json.dumps(words), "cmd_input": json.dumps(command_input)}))
        assert sorted(reply) == ["err", "out", "returncode"]
        return reply["returncode"], reply["out"], reply["err"]

    def details(self, command, command_input=None):
        with pytest.raises(Failure) as caught:
            self.run(command, command_input)
        return [caught.value.code] + list(caught.value.params)

    def add_program(self, name, script):
        self.dom0.add_program(name, "#!/bin/sh\n" + script)

    def write_settings(self, text):
        calls.write_settings(self.pool.hosts[0], text)


@pytest.fixture
def dom0(pool):
    return Dom0(pool)


@pytest.fixture(scope="module", params=pythons.OLD, ids=pythons.version_of)
def old_dom0(request):
    with Pool(python=request.param) as pool:
        yield Dom0(pool)


@pytest.fixture
def namespace():
    try:
        with network_namespace.entered():
            yield
    except PermissionError as error:
        pytest.skip("not applicable: a network namespace needs root: %s" % error)


def needs_kernel(*commands):
    """Skip the test on a kernel that cannot run these commands."""
    for command in commands:
        process = subprocess.run(command.split(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                 timeout=60)
        if process.returncode != 0:
            pytest.skip("not applicable: this kernel: %s: %s" % (command, process.stdout.decode("utf-8", "replace").strip()))


# The real programs

@pytest.mark.needs("ip")
def test_links_addresses_and_routes(dom0, namespace):
    needs_kernel("ip link add probe0 type veth peer name probe1")
    assert dom0.run("ip link add int-br type veth peer name phy-br") == (0, "", "")
    for command in ("ip link set int-br up", "ip link set dev phy-br mtu 1400 up", "ip link set int-br address fa:16:3e:00:00:01",
                    "ip -4 addr add 10.0.0.1/24 brd 10.0.0.255 scope global dev int-br",
                    "ip -4 route replace 10.1.0.0/16 via 10.0.0.2 metric 7 dev int-br",
                    "ip -4 rule add from 10.2.0.0/16 table 16 priority 100",
                    "ip -4 neigh replace 10.0.0.9 lladdr fa:16:3e:00:00:02 nud permanent dev int-br"):
        assert dom0.run(command) == (0, "", ""), command
    status, out, err = dom0.run("ip -o link show int-br")
    assert (status, err) == (0, "") and "fa:16:3e:00:00:01" in out and out.endswith("\n")
    assert "10.0.0.1/24" in dom0.run("ip -o -4 addr show dev int-br")[1]
    assert "10.1.0.0/16 via 10.0.0.2" in dom0.run("ip -4 route list dev int-br")[1]
    assert "from 10.2.0.0/16" in dom0.run("ip -4 rule list")[1]
    assert "PERMANENT" in dom0.run("ip neigh show dev int-br")[1]
    assert dom0.run("ip link show dev nobody") == (1, "", 'Device "nobody" does not exist.\n')
    assert dom0.run("ip link delete int-br") == (0, "", "")


@pytest.mark.needs("iptables-save", "iptables-restore")
def test_rules(dom0, namespace):
    needs_kernel("iptables-save", "iptables-restore --test /dev/null")
    assert dom0.run("iptables-restore -n", RULES % 1) == (0, "", "")
    deflated = base64.b64encode(zlib.compress((RULES % 2).encode("utf-8"))).decode("ascii")
    reply = dom0.call({"cmd": '["iptables-restore", "-n", "-w", "10"]', "cmd_input_deflated": deflated})
    assert json.loads(reply) == {"returncode": 0, "out": "", "err": ""}
    status, out, _ = dom0.run("iptables-save -t filter")
    assert status == 0 and '-A neutron-test -s 10.0.0.2/32 -m comment --comment "gr\xfc\xdfe" -j DROP\n' in out
    status, _, err = dom0.run("iptables-restore -n", "*filter\n-A nowhere -j DROP\nCOMMIT\n")
    assert status != 0 and err


@pytest.mark.needs("iptables-save", "iptables-restore")
def test_ten_thousand_rules(old_dom0, namespace):
    """More than one argument of a process can hold, and more than another pipe would."""
    needs_kernel("iptables-save", "iptables-restore --test /dev/null")
    rules = "".join("-A neutron-test -s 10.%d.%d.1/32 -j DROP\n" % divmod(number, 250) for number in range(10000))
    text = "*filter\n:neutron-test - [0:0]\n%sCOMMIT\n" % rules
    deflated = base64.b64encode(zlib.compress(text.encode("ascii"), 9)).decode("ascii")
    assert len(text) > 400000 and len(deflated) < 100000
    reply = old_dom0.call({"cmd": '["iptables-restore", "-n"]', "cmd_input_deflated": deflated})
    assert json.loads(reply)["returncode"] == 0
    assert old_dom0.run("iptables-save")[1].count("-A neutron-test") == 10000


@pytest.mark.needs("ipset", "conntrack", "sysctl")
def test_sets_connections_and_settings_of_the_kernel(old_dom0, namespace):
    needs_kernel("ipset create probe hash:net", "ipset destroy probe", "conntrack -L", "sysctl -b net.ipv4.ip_forward")
    assert old_dom0.run("ipset restore -exist", "create NIPv4a hash:net family inet\nadd NIPv4a 10.0.0.0/24\n") == (0, "", "")
    assert old_dom0.run("ipset add -exist NIPv4a 10.9.0.1") == (0, "", "")
    assert "10.9.0.1" in old_dom0.run("ipset list NIPv4a")[1]
    assert old_dom0.run("ipset add nobody 10.9.0.1")[0] == 1
    status, _, err = old_dom0.run("conntrack -D -f ipv4 -d 10.0.0.5 -w 7")
    assert status == 1 and "0 flow entries have been deleted" in err
    assert old_dom0.run("sysctl -w net.ipv4.ip_forward=1") == (0, "net.ipv4.ip_forward = 1\n", "")
    assert old_dom0.run("sysctl -b net.ipv4.ip_forward") == (0, "1", "")


@contextlib.contextmanager
def running_switch(root):
    """Open vSwitch without the kernel's part, its sockets under /run/openvswitch of the host's tree."""
    run_dir = os.path.join(root, "run/openvswitch")
    os.makedirs(run_dir, exist_ok=True)
    database, socket = os.path.join(root, "tmp/conf.db"), os.path.join(run_dir, "db.sock")
    environ = dict(os.environ, OVS_RUNDIR=run_dir, OVS_LOGDIR=run_dir, OVS_DBDIR=run_dir)
    quiet = dict(env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    subprocess.run(["ovsdb-tool", "create", database, "/usr/share/openvswitch/vswitch.ovsschema"], check=True, timeout=60, **quiet)
    with contextlib.ExitStack() as stack:
        for command in (["ovsdb-server", "--remote=punix:" + socket, "--unixctl=none", database],
                        ["ovs-vswitchd", "--disable-system", "--enable-dummy", "--unixctl=none", "unix:" + socket]):
            process = subprocess.Popen(command, **quiet)
            stack.callback(process.wait)
            stack.callback(process.kill)
            deadline = time.monotonic() + 30
            while not os.path.exists(socket):
                assert process.poll() is None and time.monotonic() < deadline, command
                time.sleep(0.02)
        subprocess.run(["ovs-vsctl", "--db=unix:" + socket, "--timeout=30", "init"], check=True, timeout=60, **quiet)
        yield


@pytest.fixture(scope="module", params=pythons.OLD, ids=pythons.version_of)
def switch_dom0(request):
    try:
        with Pool(python=request.param, has_namespace=True) as pool, running_switch(pool.hosts[0].dom0.root):
            pool.hosts[0].dom0.open_namespace()
            yield Dom0(pool)
    except PermissionError as error:
        pytest.skip("not applicable: %s" % error)


@pytest.mark.needs("ovs-vsctl", "ovs-ofctl", "ovsdb-server", "ovs-vswitchd")
def test_a_switch(switch_dom0):
    run = switch_dom0.run
    assert run("ovs-vsctl --timeout=10 --oneline --format=json -- --may-exist add-br br-int "
               "-- set Bridge br-int datapath_type=dummy fail_mode=secure") == (0, "\n\n", "")
    assert run("ovs-vsctl --timeout=10 add-port br-int tap1 tag=5 "
               "-- set Interface tap1 type=dummy external_ids:iface-id=x") == (0, "", "")
    assert run("ovs-vsctl list-ports br-int") == (0, "tap1\n", "")
    assert json.loads(run("ovs-vsctl --format=json -- --columns=name,tag list Port tap1")[1])["data"] == [["tap1", 5]]
    assert run("ovs-vsctl br-exists nobody")[0] == 2
    flows = "table=0,priority=7,actions=drop\ntable=0,priority=8,tcp,actions=normal\n"
    assert run("ovs-ofctl add-flows br-int -", flows) == (0, "", "")
    assert run("ovs-ofctl --strict del-flows br-int priority=8,tcp") == (0, "", "")
    status, out, _ = run("ovs-ofctl dump-flows br-int table=0")
    assert status == 0 and "priority=7 actions=drop" in out and "priority=8" not in out
    assert "Open_vSwitch" in run("ovsdb-client list-dbs")[1]
    assert run("ovs-vsctl --if-exists del-br br-int") == (0, "", "")


# Texts that neutron compares, and bytes

def test_texts_that_neutron_compares(dom0):
    assert dom0.details("rm -rf x") == UNAUTHORIZED
    with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(dom0.dom0.bin_dir, "ip"))
    dom0.dom0.plugin_environment["PATH"] = dom0.dom0.bin_dir
    assert dom0.details("ip link") == NOT_FOUND
    assert dom0.details("/sbin/ip link") == UNAUTHORIZED
    line = next(line for line in dom0.pool.hosts[0].syslog_lines() if "refused to run" in line)
    assert line.endswith("refused to run rm -rf x: rm")


def test_bytes_arrive_whatever_they_are(dom0):
    dom0.add_program("ip", r"printf 'caf\303\251 \377\000\033[0m\r\n\355\240\200'; cat >&2; kill -9 $$")
    status, out, err = dom0.run("ip link", "\udcff\u20ac\x00\n")
    assert status == -9
    assert out.encode("utf-8", "surrogateescape") == b"caf\xc3\xa9 \xff\0\x1b[0m\r\n\xed\xa0\x80"
    assert err.encode("utf-8", "surrogateescape") == b"\xff\xe2\x82\xac\0\n"


def test_the_environment_of_a_command_is_bare(dom0):
    dom0.add_program("ip", "env; test -t 0 || echo no terminal; cat")
    assert sorted(dom0.run("ip link")[1].splitlines()) == [
        "LC_ALL=C", "PATH=" + dom0.dom0.plugin_environment["PATH"], "PWD=/", "no terminal"]


def test_arguments_are_no_shell_text(old_dom0):
    old_dom0.add_program("ovs-vsctl", r'for a in "$@"; do printf "<%s>" "$a"; done')
    words = ["ovs-vsctl", "set", "Interface", "x", "external_ids:a=$(id) `id` ; * \"'"]
    assert old_dom0.run(words) == (0, "<%s>" % "><".join(words[1:]), "")
    os.remove(os.path.join(old_dom0.dom0.bin_dir, "ovs-vsctl"))


# Refusals

@pytest.mark.parametrize("python", pythons.OLD[-1:], ids=pythons.version_of)
def test_nothing_that_is_refused_runs(python):
    """Each through a process; every program would leave a mark."""
    with Pool(python=python) as pool:
        dom0 = Dom0(pool)
        mark = dom0.dom0.locate("/tmp/ran")
        names = {argv[0] for argv, _ in test_net_filters.ALLOWED + test_net_filters.REFUSED}
        for name in names - {""}:
            if "/" not in name and name.isprintable():
                dom0.add_program(name, "echo $0 $* >> %s\n" % mark)
        assert len(test_net_filters.REFUSED) > 180
        for argv, input_data in test_net_filters.REFUSED:
            details = dom0.details(argv, input_data.decode("latin-1") if input_data else None)
            if all(word.isprintable() for word in argv):
                assert details == UNAUTHORIZED, argv
            else:
                assert details[:3] == ["XENAPI_PLUGIN_FAILURE", "run_command", "ArgumentError"], argv
            assert not os.path.exists(mark), argv
        assert dom0.run("ip link")[0] == 0
        assert os.path.exists(mark)


@pytest.mark.parametrize("arguments", [
    {"cmd": "ip link"}, {"cmd": '"ip link"'}, {"cmd": "[]"}, {"cmd": "{}"}, {"cmd": '["ip", 1]'}, {"cmd": '["ip", "a\\u0000"]'},
    {"cmd": '["ip", "a\\n"]'}, {"cmd": '["ip", "caf\\u00e9"]'}, {"cmd": '["ip"]', "cmd_input": "text"},
    {"cmd": '["ip"]', "cmd_input": "5"}, {"cmd": '["ip"]', "shell": "true"}, {"cmd": '["ip"]', "cmd_input_deflated": "x"},
    {"cmd": '["ip"]', "cmd_input": '"x"', "cmd_input_deflated": "eJwDAAAAAAE="}, {}])
def test_what_is_no_call(old_dom0, arguments):
    with pytest.raises(Failure) as caught:
        old_dom0.call(arguments)
    assert list(caught.value.params)[:2] == ["run_command", "ArgumentError"]


def test_input_that_inflates_without_end(old_dom0):
    bomb = base64.b64encode(zlib.compress(bytes(64 << 20), 9)).decode("ascii")
    with pytest.raises(Failure) as caught:
        old_dom0.call({"cmd": '["iptables-restore"]', "cmd_input_deflated": bomb})
    assert caught.value.params[2].startswith("argument 'cmd_input_deflated': inflates to more than 8388608 bytes")


# The host's settings

def test_settings_narrow_the_list(dom0):
    dom0.add_program("ip", "exit 0")
    dom0.add_program("sysctl", "exit 0")
    dom0.write_settings("[netwrap]\ncommands = ip * show *, ip link set tap* up\n")
    assert dom0.run("ip link show eth0")[0] == 0
    assert dom0.run("ip link set tap1 up")[0] == 0
    for command in ("ip link set eth0 up", "ip link set tap1 down", "sysctl -w net.ipv4.ip_forward=1", "ip netns exec show x"):
        assert dom0.details(command) == UNAUTHORIZED
    dom0.write_settings("[netwrap]\ncommands =\n")
    assert dom0.details("ip link show eth0") == UNAUTHORIZED
    dom0.write_settings("[netwrap]\ncommands = *, rm *\n")
    assert dom0.details("rm -rf x") == UNAUTHORIZED
    dom0.write_settings("[policy]\ndeny = netwrap.*\n")
    assert dom0.details("ip link show eth0")[2] == "Denied"
    dom0.write_settings("[netwrap]\ntimeout = never\n")
    assert "'timeout' in [netwrap] needs a whole number" in dom0.details("ip link show eth0")[3]


def test_a_command_that_does_not_end(old_dom0):
    old_dom0.add_program("ip", "exec sleep 60")
    old_dom0.write_settings("[netwrap]\ntimeout = 1\n")
    try:
        assert old_dom0.details("ip link")[2:] == ["CommandFailed", "command 'ip' was killed: it did not end within 1 s"]
    finally:
        os.remove(os.path.join(old_dom0.dom0.bin_dir, "ip"))
        os.remove(old_dom0.dom0.locate("/etc/dom0-plugins.conf"))


def test_output_is_bounded(old_dom0):
    old_dom0.add_program("ip", "head -c $((4 << 20)) /dev/zero")
    try:
        assert len(old_dom0.run("ip link")[1]) == 4 << 20
        old_dom0.add_program("ip", "exec cat /dev/zero")
        assert old_dom0.details("ip link")[2:] == ["CommandFailed", "command 'ip' was killed: it wrote more than 4194304 bytes"]
    finally:
        os.remove(os.path.join(old_dom0.dom0.bin_dir, "ip"))


# Roles that may call

def test_a_vm_operator_may_not(dom0):
    """VM.call_host_plugin lets one call any plug-in; this one asks for more."""
    dom0.add_program("ip", "echo ran")
    vm = dom0.pool.add_vm("guest")
    arguments = {"cmd": '["ip", "link"]', "cmd_input": "null"}
    root = dom0.pool.login()
    assert json.loads(root.xenapi.VM.call_host_plugin(vm, "netwrap.py", "run_command", arguments))["out"] == "ran\n"
    operator = dom0.pool.login(dom0.pool.operator_username, dom0.pool.operator_password)
    with pytest.raises(XenAPI.Failure) as caught:
        operator.xenapi.VM.call_host_plugin(vm, "netwrap.py", "run_command", arguments)
    assert caught.value.details[2:] == [
        "Denied", "netwrap.run_command acts on the host itself: it needs the role of a pool administrator"]
    dom0.write_settings("[policy]\nrequire_pool_admin = no\n")
    assert json.loads(operator.xenapi.VM.call_host_plugin(vm, "netwrap.py", "run_command", arguments))["out"] == "ran\n"


def test_the_role_is_asked_for_without_the_xenapi_module():
    """The module costs a call 60-80 ms: an interpreter that lacks it answers root, and cannot tell about others."""
    with Pool(python=os.path.join(sys.base_prefix, "bin", "python%d.%d" % sys.version_info[:2])) as pool:
        dom0 = Dom0(pool)
        dom0.add_program("ip", "echo ran")
        assert dom0.run("ip link") == (0, "ran\n", "")
        operator = pool.login(pool.operator_username, pool.operator_password)
        with pytest.raises(XenAPI.Failure) as caught:
            operator.xenapi.VM.call_host_plugin(pool.add_vm("guest"), "netwrap.py", "run_command", {"cmd": '["ip", "link"]'})
        assert caught.value.details[2] == "PluginError" and "XenAPI module is not installed" in caught.value.details[3]


def test_without_xapi_nothing_runs(old_dom0):
    old_dom0.add_program("ip", "touch %s" % old_dom0.dom0.locate("/tmp/ran"))
    old_dom0.pool.stop_xapi()
    try:
        details = old_dom0.details("ip link")
        assert details[2] == "RetryableError" and "XAPI cannot be reached" in details[3]
        assert not os.path.exists(old_dom0.dom0.locate("/tmp/ran"))
    finally:
        old_dom0.pool.start_xapi()
        os.remove(os.path.join(old_dom0.dom0.bin_dir, "ip"))
