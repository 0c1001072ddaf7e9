# SPDX-License-Identifier: Apache-2.0
"""iptables_config with the real iptables-save and iptables-restore, in a network of its own."""

import base64
import json
import zlib

import pytest

from tests.calls import calls
from tests.calls.calls import refused

PLUGIN, FUNCTION = "xenhost.py", "iptables_config"
pytestmark = pytest.mark.needs("iptables-save")

RULES = """# nova
*filter
:INPUT ACCEPT [7:420]
:nova-compute-local - [0:0]
[1:60] -A INPUT -j nova-compute-local
[0:0] -A nova-compute-local -s 10.0.0.0/24 -p tcp -m tcp --dport 80 -m comment --comment "a \\"quoted\\" comment" -j ACCEPT
COMMIT
"""


@pytest.fixture
def pool(network_pool):
    return network_pool


def run(pool, *command, **arguments):
    """As nova calls it: with more arguments than the call takes."""
    return calls.call_json(pool, PLUGIN, FUNCTION, cmd_args=json.dumps(command), run_as_root="True", attempts="5", **arguments)


def deflate(text):
    return base64.b64encode(zlib.compress(text.encode("utf-8"))).decode("ascii")


@pytest.mark.parametrize("program", ["iptables", "ip6tables"])
def test_restore_and_save(pool, network, program):
    # Debian's ip6tables-restore drops the counters of rules.
    counters = "[1:60]" if program == "iptables" else "[0:0]"
    rules = RULES if program == "iptables" else RULES.replace("10.0.0.0/24", "fd00::/64")
    assert run(pool, program + "-restore", "-c", process_input=rules) == {"out": "", "err": ""}
    reply = run(pool, program + "-save", "-c", "-t", "filter")
    assert sorted(reply) == ["err", "out"] and reply["err"] == ""
    assert ":nova-compute-local - [0:0]" in reply["out"] and counters + " -A INPUT -j nova-compute-local" in reply["out"]
    assert '--comment "a \\"quoted\\" comment"' in reply["out"]
    assert strip_comments(network.run(program + "-save", "-c", "-t", "filter")) == strip_comments(reply["out"])
    # The saved rules can be restored.
    run(pool, program + "-restore", "-c", process_input=reply["out"])
    assert strip_comments(run(pool, program + "-save", "-c", "-t", "filter")["out"]) == strip_comments(reply["out"])


def strip_comments(text):
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_noflush_keeps_what_is_there(pool, network):
    run(pool, "iptables-restore", process_input=RULES)
    run(pool, "iptables-restore", "--noflush", process_input="*filter\n:other - [0:0]\nCOMMIT\n")
    saved = run(pool, "iptables-save")["out"]
    assert ":other" in saved and ":nova-compute-local" in saved


def test_more_than_an_argument_holds(pool, network):
    """6,000 rules, 370 KB: more than XAPI can hand to a plug-in as they are."""
    rules = "".join("-A INPUT -s 10.%d.%d.0/24 -p tcp -m tcp --dport %d -j ACCEPT\n" % (number >> 8, number & 255, number + 1)
                    for number in range(6000))
    text = "*filter\n:INPUT ACCEPT [0:0]\n%sCOMMIT\n" % rules
    assert len(text) > 350000
    assert run(pool, "iptables-restore", process_input_deflated=deflate(text)) == {"out": "", "err": ""}
    saved = run(pool, "iptables-save")["out"]
    assert saved.count("-A INPUT") == 6000 and rules.splitlines()[-1] in saved


def test_tables_that_are_wrong_change_nothing(pool, network):
    run(pool, "iptables-restore", process_input=RULES)
    before = strip_comments(network.run("iptables-save"))
    with refused(FUNCTION, "CommandFailed", "command 'iptables-restore' ended with status"):
        run(pool, "iptables-restore", process_input="*filter\n-A nowhere -j ACCEPT\nCOMMIT\n")
    assert strip_comments(network.run("iptables-save")) == before


@pytest.mark.parametrize("command", [
    ["iptables", "-F"], ["ip", "link"], ["iptables-restore", "--modprobe=/tmp/x"], ["iptables-restore", "-M", "/tmp/x"],
    ["iptables-restore", "-cM/tmp/x"], ["iptables-restore", "--mod=/tmp/x"], ["iptables-save", "-M", "/tmp/x"],
    ["iptables-save", "-f", "/etc/shadow"], ["iptables-save", "--file=/etc/shadow"], ["iptables-restore", "/etc/shadow"],
    ["/usr/sbin/iptables-save"], ["iptables-save", ""], ["sh", "-c", "iptables-save"], ["iptables-save;reboot"],
    ["iptables-save", "-t", "../x"], ["iptables-save", "-T", "filter"], ["iptables-restore", "--wait=-1"], ["ebtables-save"],
    ["iptables-restore-translate"], ["iptables-save\n"], [], "iptables-save", {"cmd": "iptables-save"}, [["iptables-save"]]])
def test_commands_that_are_refused(pool, command):
    with refused(FUNCTION, "ArgumentError", "'cmd_args'"):
        calls.call_json(pool, PLUGIN, FUNCTION, cmd_args=json.dumps(command))


@pytest.mark.parametrize("text", [
    "-A INPUT -M {0}", "-A INPUT --modprobe {0}", "-A INPUT --modprobe={0}", "-A INPUT --modp={0}", "-A INPUT -nM{0}",
    '-A INPUT "-M" {0}', '-A INPUT --mod"probe"={0}', "-A INPUT\t-M\t{0}", "-A INPUT\r-M {0}"])
def test_rules_that_name_a_program(pool, network, text, tmp_path):
    """The program would run as root: none of these gets as far as the tool. The tool itself takes some of them."""
    trap = tmp_path / "trap"
    trap.write_text("#!/bin/sh\ntouch %s/sprung\n" % tmp_path)
    trap.chmod(0o755)
    rules = "*filter\n%s -m no_such_match -j ACCEPT\nCOMMIT\n" % text.format(trap)
    with refused(FUNCTION, "ArgumentError", "'process_input'", "not allowed"):
        run(pool, "iptables-restore", process_input=rules)
    with refused(FUNCTION, "ArgumentError", "'process_input'", "not allowed"):
        run(pool, "iptables-restore", process_input_deflated=deflate(rules))
    assert not (tmp_path / "sprung").exists()


def test_the_tool_takes_such_rules(network, tmp_path):
    """Why rules are looked at: iptables-restore sees nothing wrong in the program that a rule names. (It runs it when it finds a
    module of the kernel missing, which a kernel that has them all does not show.)"""
    rules = tmp_path / "rules"
    for text in ("-A INPUT -M /tmp/x", '-A INPUT --mod"probe"=/tmp/x', "-A INPUT --modp=/tmp/x"):
        rules.write_text("*filter\n%s -p tcp -j ACCEPT\nCOMMIT\n" % text)
        network.run("iptables-restore", str(rules))
        assert "-A INPUT -p tcp -j ACCEPT" in network.run("iptables-save")


@pytest.mark.parametrize("text, reason", [
    ("%%%", "deflated"), ("", "deflated"), ("caf\xe9", "deflated"), (deflate(RULES)[:40], "deflated"),
    (base64.b64encode(zlib.compress(b"x") + b"more").decode("ascii"), "deflated"),
    (base64.b64encode(b"no deflated").decode("ascii"), "deflated"),
    (base64.b64encode(zlib.compress(bytes(64 << 20))).decode("ascii"), "inflates to more than")])
def test_deflated_input_that_is_refused(pool, text, reason):
    with refused(FUNCTION, "ArgumentError", "'process_input_deflated'", reason):
        run(pool, "iptables-restore", process_input_deflated=text)


def test_input_for_a_command_that_takes_none(pool):
    with refused(FUNCTION, "ArgumentError", "'process_input'", "iptables-restore"):
        run(pool, "iptables-save", process_input=RULES)
    with refused(FUNCTION, "ArgumentError", "cannot be combined"):
        run(pool, "iptables-restore", process_input=RULES, process_input_deflated=deflate(RULES))
