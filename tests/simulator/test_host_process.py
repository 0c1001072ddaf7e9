# SPDX-License-Identifier: Apache-2.0
"""A plug-in's process on the simulated host, and xapi's reading of its output: each fact of xapi's as one row or test.

The plug-ins are scripts written here, in shell where an interpreter would hide what the kernel was asked for.
"""

import base64
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import xml.parsers.expat
import xmlrpc.client

import pytest
import XenAPI

from tests import patience
from tests.harness.pool import Pool
from tests.harness.xapi import xapi_xml

ARGUMENT_MAX_BYTES = 131071
CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# Reports how it was started. Python 2.7 and 3.
PROBE = r'''#!python
import base64, errno, fcntl, json, os, resource, stat, sys

def read(path):
    with open(path, "rb") as source:
        return source.read()

def read_stdin():
    try:
        os.read(0, 1)
    except OSError as error:
        return errno.errorcode[error.errno]

facts = {
    "fds": sorted(int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + fd)),
    "argv": [base64.b64encode(part).decode("ascii") for part in read("/proc/self/cmdline").split(b"\0")[:-1]],
    "environ": sorted(part.decode("utf-8") for part in read("/proc/self/environ").split(b"\0")[:-1]),
    "cwd": os.getcwd(),
    "leads_session": os.getsid(0) == os.getpid() == os.getpgrp(),
    "uid": os.getuid(),
    "stdin": os.readlink("/proc/self/fd/0"),
    "stdin_mode": fcntl.fcntl(0, fcntl.F_GETFL) & 3,
    "stdin_error": read_stdin(),
    "stdout_is_file": stat.S_ISREG(os.fstat(1).st_mode),
    "stderr_is_file": stat.S_ISREG(os.fstat(2).st_mode),
    "open_files_soft": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    "version": list(sys.version_info[:2]),
    "encoding": sys.getfilesystemencoding().lower(),
}
text = json.dumps(facts).replace("&", "&amp;").replace("<", "&lt;")
sys.stderr.write("dropped on success")
sys.stdout.write("<methodResponse><params><param><value><struct><member><name>Status</name><value>Success</value></member>"
                 "<member><name>Value</name><value>" + text +
                 "</value></member></struct></value></param></params></methodResponse>")
'''

RESPONSE = ("<?xml version='1.0'?><methodResponse><params><param><value><struct><member><name>Status</name>"
            "<value><string>%s</string></value></member><member><name>%s</name>%s</member></struct></value></param></params>"
            "</methodResponse>")


def success(value):
    return RESPONSE % ("Success", "Value", value)


def text(value):
    return success("<value><string>%s</string></value>" % value)


def failure(*items):
    return RESPONSE % ("Failure", "ErrorDescription",
                       "<value><array><data>%s</data></array></value>" % "".join("<value>%s</value>" % item for item in items))


def shell(commands):
    return "#!/bin/sh\n%s\n" % commands


def printing(output):
    """A plug-in that prints these bytes."""
    data = output if isinstance(output, bytes) else output.encode("utf-8")
    return shell("echo %s | base64 -d" % base64.b64encode(data).decode("ascii"))


@pytest.fixture(scope="module")
def pool():
    with Pool(plugins=False) as pool:
        yield pool


def run(pool, script, arguments=None, name="plugin"):
    pool.hosts[0].dom0.add_plugin(name, script)
    return pool.call(name, "run", arguments)


def details_of(pool, script, arguments=None, name="plugin"):
    with pytest.raises(XenAPI.Failure) as caught:
        run(pool, script, arguments, name)
    return caught.value.details


@pytest.fixture
def dom0_pool(dom0_python):
    with Pool(python=dom0_python, plugins=False) as pool:
        yield pool


def test_python_plugin_sees_what_xapi_gives(dom0_pool):
    facts = json.loads(run(dom0_pool, PROBE, {"key": "value"}))
    root = dom0_pool.hosts[0].root
    expected = {
        "fds": [0, 1, 2],
        "environ": ["DOM0_ROOT=" + root, "PATH=%s/opt/harness/bin:/sbin:/usr/sbin:/bin:/usr/bin" % root],
        "cwd": "/",
        "leads_session": True,
        "uid": os.getuid(),
        "stdin": "/dev/null",
        "stdin_mode": os.O_WRONLY,
        "stdin_error": "EBADF",
        "stdout_is_file": True,
        "stderr_is_file": True,
        "open_files_soft": 1024,
    }
    assert {name: facts[name] for name in expected} == expected


def test_argument_is_xapis_xml_to_the_byte(dom0_pool):
    arguments = {"b": "v", "a": "", "markup": "<&>\"'", "white": " \t\n", "wide": "\u00e9\u20ac\U0001f600"}
    facts = json.loads(run(dom0_pool, PROBE, arguments))
    argv = [base64.b64decode(part).decode("utf-8") for part in facts["argv"]]
    assert len(argv) == 3 and argv[1] == dom0_pool.hosts[0].plugin_dir + "/plugin"
    head, _, rest = argv[2].partition("OpaqueRef:")
    assert head == "<methodCall><methodName>run</methodName><params><param><value>"
    assert rest[36:] == ("</value></param><param><value><struct>"
                    "<member><name>b</name><value>v</value></member>"
                    "<member><name>a</name><value/></member>"
                    "<member><name>markup</name><value>&lt;&amp;&gt;&quot;'</value></member>"
                    "<member><name>white</name><value> \t\n</value></member>"
                    "<member><name>wide</name><value>\u00e9\u20ac\U0001f600</value></member>"
                    "</struct></value></param></params></methodCall>")


def test_call_without_arguments_has_an_empty_struct():
    assert xapi_xml.encode_call("f", "", {}) == (
        b"<methodCall><methodName>f</methodName><params><param><value/></param>"
        b"<param><value><struct/></value></param></params></methodCall>")


def test_control_characters_are_dropped_from_arguments():
    # No XML request can bring them to xapi, other clients can.
    assert b"<value>ab\t\n\rc\x7f</value>" in xapi_xml.encode_call("f", "s", {"k": "a\0\x01\x1bb\t\n\r\x1fc\x7f"})


def test_only_sigpipe_is_ignored_and_nothing_is_blocked(pool):
    # A harness under nohup ignores SIGHUP, Python ignores SIGXFSZ, and SIGPIPE unless told otherwise.
    before = {number: signal.signal(number, action)
              for number, action in ((signal.SIGHUP, signal.SIG_IGN), (signal.SIGPIPE, signal.SIG_DFL))}
    try:
        status = run(pool, shell("printf '%s' \"$(cat <<END\n" + text("$(grep -E '^Sig(Ign|Blk)' /proc/$$/status)") + "\nEND\n)\""))
    finally:
        for number, action in before.items():
            signal.signal(number, action)
    masks = {name: int(mask, 16) for name, mask in (line.split(":\t") for line in status.splitlines())}
    # 32 and 33 are the C library's own: its posix_spawn leaves them ignored, and it lets nobody change that.
    assert masks["SigIgn"] & ~(3 << 31) == 1 << (signal.SIGPIPE - 1)
    assert masks["SigBlk"] == 0


def locale_probe(expression):
    return ("#!python\n# -*- coding: utf-8 -*-\nfrom __future__ import print_function\nimport os, sys\n"
            "print(" + repr(text("VALUE")) + ".replace('VALUE', str(" + expression + ")))\n")


def test_python36_locale_makes_every_python_3_fail_on_wide_text(dom0_python):
    is_old = "/2.7/" in dom0_python
    with Pool(python=dom0_python, plugins=False, python36_locale=True) as pool:
        assert run(pool, locale_probe("sys.getfilesystemencoding().lower()")) in ("ascii", "ansi_x3.4-1968")
        if is_old:
            assert run(pool, locale_probe("b'\\xe2\\x82\\xac'")) == "\u20ac"
            return
        details = details_of(pool, locale_probe("u'\\u20ac'"))
        assert details[:3] == ["XENAPI_PLUGIN_FAILURE", "non-zero exit", ""]
        assert "UnicodeEncodeError" in details[3]


def test_python_37_and_later_coerce_the_c_locale(dom0_pool):
    facts = json.loads(run(dom0_pool, PROBE))
    assert facts["encoding"] in (["utf-8"] if facts["version"] >= [3, 7] else ["ascii", "ansi_x3.4-1968"])


def can_mount():
    program = "from tests.harness.dom0.mount_namespace import MountNamespace as n; n('%s').close()" % tempfile.gettempdir()
    return subprocess.run([sys.executable, "-c", program], cwd=CHECKOUT, stderr=subprocess.DEVNULL, timeout=60).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="not applicable: needs root and mount namespaces")
def test_namespace_leaves_nothing_of_the_harness_but_a_directory_in_path(dom0_python):
    with Pool(python=dom0_python, plugins=False, has_namespace=True) as pool:
        facts = json.loads(run(pool, PROBE, {"key": "value"}))
        assert base64.b64decode(facts["argv"][1]) == b"/etc/xapi.d/plugins/plugin"
        assert facts["environ"] == ["PATH=/opt/harness/bin:/sbin:/usr/sbin:/bin:/usr/bin"]
        assert [facts[name] for name in ("fds", "cwd", "stdin_error", "stdin_mode", "leads_session")] == [
            [0, 1, 2], "/", "EBADF", os.O_WRONLY, True]


@pytest.mark.skipif(not can_mount(), reason="not applicable: needs root and mount namespaces")
def test_namespace_shows_the_hosts_files_live_and_hides_the_machines_from_writes():
    with Pool(plugins=False, has_namespace=True) as pool:
        host = pool.hosts[0]
        script = shell("exec >&2; cat /etc/xensource-inventory; ls /var/run/sr-mount; readlink -f /var/run/sr-mount\n"
                       "echo from-dom0 > /boot/guest/kernel; echo from-dom0 > /images/0.vhd; echo x > /dev/null; ls /dev/sample\n"
                       "cat /boot/guest/later; exit 1")
        with open(host.dom0.locate("/boot/guest/later"), "w") as later:
            later.write("seen")
        with open(host.dom0.locate("/dev/sample"), "w"):
            pass
        lines = details_of(pool, script)[3].splitlines()
        assert "INSTALLATION_UUID='%s'" % host.uuid in lines
        assert lines[-4:] == [pool.srs[0].uuid, "/run/sr-mount", "/dev/sample", "seen"]
        for name in ("boot/guest/kernel", "images/0.vhd"):
            with open(os.path.join(host.root, name)) as written:
                assert written.read() == "from-dom0\n"
            assert not os.path.exists("/" + name)


SAME_FOR_EVERY_EXEC_ERROR = ["XENAPI_PLUGIN_FAILURE", "non-zero exit", "", ""]


@pytest.mark.parametrize("script, mode", [
    ("#!/no/such/interpreter\n", 0o755),
    ("exit 0\n", 0o755),
    ("#!/bin/sh\n", 0o644),
    ("", 0o755),
], ids=["no interpreter", "no #! line", "not executable", "empty"])
def test_what_cannot_be_executed_is_a_nonzero_exit_without_a_word(pool, script, mode):
    path = pool.hosts[0].dom0.add_plugin("unfit", script)
    os.chmod(path, mode)
    with pytest.raises(XenAPI.Failure) as caught:
        pool.call("unfit", "run")
    assert caught.value.details == SAME_FOR_EVERY_EXEC_ERROR


def test_directory_of_a_library_can_be_named_but_not_executed(pool):
    os.makedirs(os.path.join(pool.hosts[0].plugin_dir, "library"), exist_ok=True)
    with pytest.raises(XenAPI.Failure) as caught:
        pool.call("library", "run")
    assert caught.value.details == SAME_FOR_EVERY_EXEC_ERROR


@pytest.mark.parametrize("name", ["absent", "", ".", "..", "../plugins/plugin", "/bin/true", "plugin/", "plugin\n"])
def test_only_entries_of_the_plugin_directory_can_be_called(pool, name):
    pool.hosts[0].dom0.add_plugin("plugin", printing(text("reached")))
    with pytest.raises(XenAPI.Failure) as caught:
        pool.call(name, "run")
    assert caught.value.details == ["XENAPI_MISSING_PLUGIN", name]


@pytest.mark.parametrize("commands, details", [
    ("echo out; echo err >&2; exit 3", ["XENAPI_PLUGIN_FAILURE", "non-zero exit", "out\n", "err\n"]),
    ("echo '%s'; exit 1" % text("ignored").replace("'", '"'),
     ["XENAPI_PLUGIN_FAILURE", "non-zero exit", text("ignored").replace("'", '"') + "\n", ""]),
    ("kill -KILL $$", ["XENAPI_PLUGIN_FAILURE", "signal: SIGKILL", "", ""]),
    ("echo part; kill -TERM $$", ["XENAPI_PLUGIN_FAILURE", "signal: SIGTERM", "part\n", ""]),
    ("kill -SEGV $$", ["XENAPI_PLUGIN_FAILURE", "signal: SIGSEGV", "", ""]),
    ("kill -PIPE $$; exit 7", ["XENAPI_PLUGIN_FAILURE", "non-zero exit", "", ""]),
], ids=["exit 3", "answer and exit 1", "SIGKILL", "SIGTERM", "SIGSEGV", "SIGPIPE does nothing"])
def test_exit_status_and_signals(pool, commands, details):
    assert details_of(pool, shell(commands)) == details


@pytest.mark.parametrize("output, value", [
    (text("plain"), "plain"),
    (success("<value>bare</value>"), "bare"),
    (success("<value/>"), ""),
    (success("<value><string/></value>"), ""),
    (text(" \n\t "), ""),
    (text(" kept "), " kept "),
    (text("a\r\nb\rc"), "a\nb\nc"),
    # The character reference brings a CR into xapi; on the way to the client it is written raw, and read as LF.
    (text("a&#13;b"), "a\nb"),
    (text("<![CDATA[<&]]>"), "<&"),
    (text("x<!-- comment -->y"), "xy"),
    (text("\u20ac\U0001f600\x7f\x85"), "\u20ac\U0001f600\x7f\x85"),
    ("\n \n" + text("after white space").partition("?>")[2], "after white space"),
    (text("first") + "\n" + text("second"), "first"),
    (text("first") + "\x1b junk < & \0", "first"),
    (text("first").replace("</methodResponse>", "</methodResponse >trailing"), "first"),
    ("\ufeff" + text("after a byte order mark"), "after a byte order mark"),
    (text("\xe9").replace("'1.0'", "'1.0' encoding='ISO-8859-1'").encode("latin-1"), "\xe9"),
    (success("<value>\n <string>indented</string>\n</value>"), "indented"),
    (RESPONSE % ("Success", "Value", "<value>first wins</value></member><member><name>Value</name><value>not this</value>"),
     "first wins"),
], ids=lambda value: repr(value)[-40:])
def test_value_as_the_client_gets_it(pool, output, value):
    assert run(pool, printing(output)) == value


@pytest.mark.parametrize("output, why", [
    (b"", "unexpected end of input line 1"),
    (b" \n", "unexpected end of input line"),
    (b"junk", "expected root element line 1"),
    (b'{"json": true}', "expected root element line 1"),
    (b"Warning: x\n" + text("v").encode("utf-8"), "expected root element line"),
    (b"\n" + text("v").encode("utf-8"), "line 2"),
    (text("\x1b[0m").encode("utf-8"), "malformed character stream line 1"),
    (text("\n\n\0").encode("utf-8"), "malformed character stream line 3"),
    (text("&#27;").encode("utf-8"), "line 1"),
    (text("a & b").encode("utf-8"), "line 1"),
    (text("&e;").replace("<method", "<!DOCTYPE m [<!ENTITY e 'x'>]><method", 1).encode("utf-8"), "unknown entity reference (e)"),
    (text("v").encode("utf-8")[:-3], "unexpected end of input line 1"),
    (b"<methodResponse></params>", 'expected one of these character sequence: "methodResponse", found "params" line 1'),
    (b"<x:methodResponse/>", "line 1"),
    (b"<?xml version='1.0' encoding='latin-1'?><methodResponse/>", "unknown encoding (latin-1) line 1"),
], ids=lambda value: repr(value)[-40:])
def test_output_that_is_no_xml(pool, output, why):
    details = details_of(pool, printing(output))
    assert details[:2] == ["XENAPI_PLUGIN_FAILURE", "failed to parse plugin output"] and len(details) == 4
    assert why in details[3]
    assert "\n".join(details[2].splitlines()) == "\n".join(_as_client_sees(output).splitlines())


def _as_client_sees(output):
    """The output as it comes back in the error: characters that XML cannot hold are dropped on the way up."""
    return "".join(character for character in output.decode("utf-8") if character >= " " or character in "\t\n\r")


@pytest.mark.parametrize("output", [
    success("<value><int>5</int></value>"),
    success("<value><boolean>1</boolean></value>"),
    success("<value><nil/></value>"),
    success("<value><base64>aGk=</base64></value>"),
    success("<value><struct/></value>"),
    success("<value>text<string>and more</string></value>"),
    success("<value><string>a</string><string>b</string></value>"),
    success("<value type='string'>v</value>"),
    RESPONSE % ("Success", "Result", "<value>v</value>"),
    RESPONSE % ("Maybe", "Value", "<value>v</value>"),
    failure(),
    "<methodResponse/>",
    "<methodResponse><params/></methodResponse>",
    "<methodResponse><params><param><value>v</value></param></params></methodResponse>",
    text("v").replace("methodResponse", "methodCall"),
], ids=lambda value: value[-70:])
def test_response_of_the_wrong_shape_is_an_internal_error(pool, output):
    details = details_of(pool, printing(output))
    assert details[0] == "INTERNAL_ERROR" and len(details) == 2
    assert details[1].startswith("XMLRPC.RunTimeTypeError(")


@pytest.mark.parametrize("output, details", [
    (failure("VDI_IN_USE", "OpaqueRef:1"), ["VDI_IN_USE", "OpaqueRef:1"]),
    (failure("MY_OWN_CODE"), ["MY_OWN_CODE"]),
    (failure("CODE", "", " ", "last"), ["CODE", "", "", "last"]),
    ("<methodResponse><fault><value><struct><member><name>faultCode</name><value><int>5</int></value></member>"
     "<member><name>faultString</name><value>why</value></member></struct></value></fault></methodResponse>",
     ["XENAPI_PLUGIN_FAILURE", "fault", "5", "why"]),
], ids=["its own error", "code alone", "empty and blank items", "fault"])
def test_failure_reaches_the_client_verbatim(pool, output, details):
    assert details_of(pool, printing(output)) == details


@pytest.mark.parametrize("script", [
    shell(r"printf '\377' >&2; exit 1"),
    shell(r"printf '\377'; exit 1"),
    printing(b"\xff"),
    printing(text("\ufffe")),
], ids=["stderr", "stdout", "junk", "no character"])
def test_error_with_bytes_that_are_no_text_breaks_the_clients_parser(pool, script):
    # xapi passes a plug-in's bytes on; the client cannot even tell that the call failed.
    with pytest.raises(xml.parsers.expat.ExpatError):
        run(pool, script)


def argument_of_size(pool, size_bytes):
    """A map whose whole call is one argument of so many bytes."""
    session_ref = "OpaqueRef:" + 36 * "-"
    return {"k": "v" * (size_bytes - len(xapi_xml.encode_call("run", session_ref, {"k": ""})) + len("<value/>")
                        - len("<value></value>"))}


def test_argument_may_have_131071_bytes(pool):
    length = shell("printf '%s' \"" + text("${#1}").replace('"', '\\"') + '"')
    assert run(pool, length, argument_of_size(pool, ARGUMENT_MAX_BYTES)) == str(ARGUMENT_MAX_BYTES)
    assert details_of(pool, length, argument_of_size(pool, ARGUMENT_MAX_BYTES + 1)) == SAME_FOR_EVERY_EXEC_ERROR


def test_limit_counts_bytes_after_escaping(pool):
    answer = printing(text("started"))
    assert run(pool, answer, {"k": '"' * 21000}) == "started"
    assert details_of(pool, answer, {"k": '"' * 22000}) == SAME_FOR_EVERY_EXEC_ERROR


def test_request_over_300_kib_is_refused_before_any_plugin_starts(pool):
    marker = os.path.join(pool.root, "started")
    with pytest.raises(xmlrpc.client.ProtocolError) as caught:
        run(pool, shell("touch '%s'" % marker), {"k": "v" * (300 * 1024)})
    assert caught.value.errcode == 500
    assert not os.path.exists(marker)


def test_failed_call_puts_its_arguments_into_the_hosts_log(pool):
    run(pool, printing(text("fine")), {"token": "secret-of-a-success"})
    details_of(pool, shell("exit 4"), {"token": "secret-of-a-failure"})
    details_of(pool, shell("kill -9 $$"), {"token": "secret-of-a-kill"})
    details_of(pool, printing(failure("CODE")), {"token": "secret-of-an-answer"})
    lines = [line for line in pool.hosts[0].syslog_lines() if "secret-of-" in line]
    assert len(lines) == 2
    assert "<name>token</name><value>secret-of-a-failure</value>" in lines[0] and lines[0].endswith("exited with code 4")
    assert "secret-of-a-kill" in lines[1] and lines[1].endswith("exited with signal: SIGKILL")


def test_grandchild_that_keeps_stdout_open_holds_nobody_up(pool):
    started = time.monotonic()
    assert run(pool, printing(text("done")).replace("echo", "sleep %d &\necho" % patience.ENDLESS_S, 1)) == "done"
    assert time.monotonic() - started < patience.LIMIT_S


def test_megabytes_of_output(pool):
    script = shell("printf '%s' '" + success("<value>") .partition("</member></struct>")[0].replace("'", '"') + "'\n"
                   "head -c 20000000 /dev/zero | tr '\\0' x\n"
                   "printf '%s' '</value></member></struct></value></param></params></methodResponse>'")
    assert run(pool, script) == "x" * 20000000


def test_calls_run_at_the_same_time(pool):
    pool.hosts[0].dom0.add_plugin("meeting", shell(
        "touch '%s/'$$.here\nwhile [ $(ls '%s' | grep -c here) -lt 4 ]; do sleep 0.05; done\n" % (pool.root, pool.root))
        + printing(text("met")).partition("\n")[2])
    results = []
    threads = [threading.Thread(target=lambda: results.append(pool.call("meeting", "run"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == ["met"] * 4


def test_stop_ends_plugins_that_still_run():
    with Pool(plugins=False) as pool:
        pool.hosts[0].dom0.add_plugin("stuck", shell("echo $$ > '%s/pid'; exec sleep 1000" % pool.root))
        session = pool.login()
        session.xenapi.Async.host.call_plugin(pool.hosts[0].ref, "stuck", "run", {})
        pid_file = os.path.join(pool.root, "pid")
        _wait_for(lambda: os.path.exists(pid_file) and os.path.getsize(pid_file))
        pid, = pool.hosts[0].dom0.processes.running_pids()
        assert os.path.exists("/proc/%d" % pid)
    _wait_for(lambda: not os.path.exists("/proc/%d" % pid))


def _wait_for(condition, timeout_s=10):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "nothing after %d s" % timeout_s
        time.sleep(0.02)


def test_json_request_with_control_characters_is_refused(pool):
    pool.hosts[0].dom0.add_plugin("plugin", printing(text("reached")))
    session = pool.login()
    request = {"jsonrpc": "2.0", "id": 1, "method": "host.call_plugin",
               "params": [session.handle, pool.hosts[0].ref, "plugin", "run", {"k": "a\x1bb"}]}
    with urllib.request.urlopen(pool.url + "/jsonrpc", json.dumps(request).encode("ascii")) as response:
        answer = json.load(response)
    assert answer["error"]["message"] == "INVALID_VALUE"
