# SPDX-License-Identifier: Apache-2.0
"""agent.py against guests' agents, on every xenstored: the requests that a guest gets, and its answers as nova reads them."""

import base64
import contextlib
import json
import os
import secrets
import subprocess
import uuid

import pytest

from tests import patience
from tests.calls import calls
from tests.calls import pythons
from tests.calls.guests import agent_cases as cases
from tests.calls.guests.agent_cases import Site
from tests.harness.guests import guests
from tests.harness.guests.guest_agent import Agent
from tests.harness.pool import Pool

PASSWORD = "correct horse \u20ac battery"
OPENSSL_DEADLINE_S = 30
RECORD_MAX_BYTES = 2048


@pytest.fixture(scope="module")
def find_site():
    """Function(python, kind of xenstored) -> a Site; each is made once."""
    sites = {}
    with contextlib.ExitStack() as stack:
        def find(python, kind):
            if (python, kind) not in sites:
                sites[python, kind] = Site(stack.enter_context(Pool(python=python, xenstore=kind)))
            return sites[python, kind]
        yield find


@pytest.fixture
def every_site(find_site, dom0_python, xenstored_kind):
    """On every Python."""
    return find_site(dom0_python, xenstored_kind)


@pytest.fixture(params=pythons.EDGES, ids=pythons.version_of)
def site(find_site, request, xenstored_kind):
    """On the oldest and the newest Python."""
    return find_site(request.param, xenstored_kind)


@pytest.fixture(params=pythons.EDGES, ids=pythons.version_of)
def stand_in_site(find_site, request):
    """The same, where xenstored does not matter."""
    return find_site(request.param, "stand-in")


# The password, with the test as nova

PRIME = 162259276829213363391578010288127


def encrypt_as_nova(text, shared):
    """Text as nova's SimpleDH.encrypt encrypts it; openssl's default digest was MD5 at that time."""
    command = ["openssl", "aes-128-cbc", "-A", "-a", "-pass", "pass:%d" % shared, "-nosalt", "-md", "md5"]
    done = subprocess.run(command, input=text.encode("utf-8"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True,
                          timeout=OPENSSL_DEADLINE_S)
    return done.stdout.decode("ascii").strip("\n")


@pytest.mark.needs("openssl")
def test_a_password_is_set(every_site):
    site = every_site
    private = secrets.randbits(80)
    with site.new_guest() as guest:
        answer = json.loads(site.call("key_init", guest.domid, pub=str(pow(5, private, PRIME))))
        assert answer["returncode"] == "D0"
        shared = pow(int(answer["message"].replace("\\r\\n", "")), private, PRIME)
        encrypted = encrypt_as_nova(PASSWORD + "\n", shared)
        assert json.loads(site.call("password", guest.domid, enc_pass=encrypted)) == {"returncode": "0", "message": ""}
        assert guest.agent.password == PASSWORD + "\n"
        assert site.list_records(guest.domid) == []
        assert [json.loads(request.data) for request in guest.requests] == [
            {"name": "keyinit", "value": str(pow(5, private, PRIME))}, {"name": "password", "value": encrypted}]
    assert not [line for line in site.host.syslog_lines() if encrypted in line or str(shared) in line]


# Requests, answers

@pytest.mark.parametrize("function, arguments, request_data, answer", [
    ("version", {}, b'{"name": "version", "value": "agent"}', b'{"message": "1.39.1",  "returncode":"0"}'),
    ("resetnetwork", {}, b'{"name": "resetnetwork", "value": ""}', b' {"returncode": "500", "message": "rebooting\\\\r\\\\n"}\n'),
    ("key_init", {"pub": "0012345"}, b'{"name": "keyinit", "value": "0012345"}', b'{"returncode": "D0", "message": "\\u00317"}'),
    ("password", {"enc_pass": "YWJj\nZGVm"}, b'{"name": "password", "value": "YWJjZGVm"}', b'{"returncode": 0, "message": null}'),
    ("agentupdate", {"url": "http://10.0.0.5/agent.zip?a=b", "md5sum": "D41d8cd98f00b204e9800998ecf8427e"},
     b'{"name": "agentupdate", "value": "http://10.0.0.5/agent.zip?a=b,D41d8cd98f00b204e9800998ecf8427e"}',
     b'{"returncode": "0", "message": "", "more": [1.5, true, {"x": {}}]}'),
], ids=lambda value: value if isinstance(value, str) else "")
def test_the_request_and_the_answer(site, function, arguments, request_data, answer):
    with site.new_guest(guests.answer_bytes(answer)) as guest:
        request_id = str(uuid.uuid4())
        assert site.call(function, guest.domid, request_id=request_id, **arguments) == answer.decode("ascii")
        assert guest.requests == [(request_id, request_data)]
        assert site.list_records(guest.domid) == []


def test_without_a_timeout(stand_in_site):
    site = stand_in_site
    with site.new_guest() as guest:
        arguments = {"id": "some-name", "dom_id": str(guest.domid)}
        assert json.loads(site.pool.call(cases.PLUGIN, "version", arguments))["message"] == "1.39.1"


@pytest.mark.parametrize("text", [
    "<value>&amp;]]>\"'", "\u00e9 \u20ac \U0001f600 \u2028", "\\u0000\\u001b\\ud800 \\ufffe", "\x7f\x80\x9f",
])
def test_an_answer_with_characters_that_xml_has_no_place_for(site, text):
    answer = ('{"returncode": "0", "message": "%s"}' % text.replace('"', '\\"')).encode("utf-8")
    with site.new_guest(guests.answer_bytes(answer)) as guest:
        reply = site.call("version", guest.domid)
        assert json.loads(reply) == json.loads(answer.decode("utf-8"))


@pytest.mark.parametrize("answer", [
    b"1.39.1", b'"1.39.1"', b"[]", b"null", b"{}", b'{"returncode": "0"}', b'{"message": ""}',
    b"{'returncode': '0', 'message': ''}",
    b'{"returncode": "0", "message": ""} x', b'{"returncode": "0", "message": "', b'{"returncode": "0", "message": "\xff"}',
    b'{"returncode": "0", "message": "\x1b[2J"}', b'{"returncode": "0", "message": "\n"}', b'{"returncode": "0", "message": ""}\0',
    b"\0", b" ", b"[" * 1900, b'{"returncode": NaN, "message": ""}', bytes(range(256)) * 4,
], ids=range(19))
def test_an_answer_that_is_none(stand_in_site, answer):
    site = stand_in_site
    with site.new_guest(guests.answer_bytes(answer)) as guest:
        with site.refused("version", "PluginError", "'version'", "%d bytes that are no answer" % len(answer)) as messages:
            site.call("version", guest.domid)
        assert messages[0].isprintable() and messages[0].isascii() and len(messages[0]) < 200
        assert site.list_records(guest.domid) == []


def test_a_record_without_a_value_is_no_answer_yet(site):
    """The tools for Windows make a record first and fill it then."""
    def make_then_fill(guest, request_id, data):
        guest.write_answer(request_id, b"")
        guests.answer_after(0.3)(guest, request_id, data)
    with site.new_guest(make_then_fill) as guest:
        assert json.loads(site.call("version", guest.domid))["message"] == "1.39.1"


def test_a_request_that_has_gone_is_no_answer_yet(site):
    with site.new_guest(guests.hesitate(0.5)) as guest:
        assert json.loads(site.call("version", guest.domid))["message"] == "1.39.1"
        assert site.list_records(guest.domid) == []


def test_an_answer_to_an_earlier_call_is_not_taken(site):
    with site.new_guest(guests.answer_after(0.3)) as guest:
        with site.store.client() as dom0:
            dom0.write(b"/local/domain/%d/data/guest/twice" % guest.domid, b'{"returncode": "0", "message": "old"}')
        assert json.loads(site.call("version", guest.domid, request_id="twice"))["message"] == "1.39.1"
        assert site.list_records(guest.domid) == []


@pytest.mark.parametrize("command, code", [("version", "404"), ("features", "0")])
def test_what_the_agent_refuses_is_the_reply(stand_in_site, command, code):
    """It is nova that judges the code."""
    agent = Agent()
    del agent.commands["version"]
    with stand_in_site.new_guest(agent=agent) as guest:
        assert json.loads(stand_in_site.call("version", guest.domid))["returncode"] == "404"
        reply = json.loads(stand_in_site.call("password", guest.domid, enc_pass="YWJj"))
        assert reply == {"returncode": "500", "message": "a password without an exchange of keys"}


# Files

def encode(data):
    return base64.b64encode(data).decode("ascii")


@pytest.mark.parametrize("content", [b"ssh-rsa AAAA\n", b"", b"a,b,c", bytes(range(256)), b"\0"], ids=range(5))
@pytest.mark.parametrize("injection", ["injectfile", "file_inject"])
def test_a_file_is_written(site, injection, content):
    with site.new_guest(agent=Agent(injection=injection)) as guest:
        reply = site.call("inject_file", guest.domid, b64_path=encode(b"/root/.ssh/authorized_keys"), b64_contents=encode(content))
        assert json.loads(reply) == {"returncode": "0", "message": ""}
        assert guest.agent.files == {b"/root/.ssh/authorized_keys": content}
        names = [json.loads(request.data)["name"] for request in guest.requests]
        assert names == ["features", injection]
        assert len({request.id for request in guest.requests}) == 2
        assert site.list_records(guest.domid) == []


def test_an_agent_that_knows_both_ways_gets_the_newer(stand_in_site):
    agent = Agent(injection="injectfile")
    agent.commands["file_inject"] = agent._file_inject
    agent.commands["features"] = lambda value: ("0", "version, file_inject ,injectfile")
    with stand_in_site.new_guest(agent=agent) as guest:
        stand_in_site.call("inject_file", guest.domid, b64_path=encode(b"/a,b"), b64_contents=encode(b"x"))
        assert guest.agent.files == {b"/a,b": b"x"}


@pytest.mark.parametrize("features", [
    lambda value: ("0", "version,features"), lambda value: ("0", ""), lambda value: ("0", "file_injector,reinjectfile"),
    lambda value: ("1", "injectfile"), None,
], ids=["others", "none", "similar names", "a failure that names it", "no such command"])
def test_an_agent_that_writes_no_files(site, features):
    agent = Agent()
    if features:
        agent.commands["features"] = features
    else:
        del agent.commands["features"]
    with site.new_guest(agent=agent) as guest:
        with site.refused("inject_file", "NotImplementedError", "NOT IMPLEMENTED:") as messages:
            site.call("inject_file", guest.domid, b64_path=encode(b"/secret-path"), b64_contents=encode(b"secret-content"))
        assert "TIMEOUT:" not in messages[0] and "REBOOT:" not in messages[0]
        assert len(guest.requests) == 1 and guest.agent.files == {}
        assert site.list_records(guest.domid) == []


@pytest.mark.parametrize("answer", [(0, "injectfile"), ("0", "version,injectfile\\r\\n")], ids=["a number", "the end of a line"])
def test_what_some_agents_write_otherwise(stand_in_site, answer):
    """A code that is no text; an escaped end of the line after a message, as old agents for Windows have it."""
    agent = Agent()
    agent.commands["features"] = lambda value: answer
    with stand_in_site.new_guest(agent=agent) as guest:
        stand_in_site.call("inject_file", guest.domid, b64_path=encode(b"/a"), b64_contents=encode(b"x"))
        assert guest.agent.files == {b"/a": b"x"}


def test_a_path_with_a_comma_does_not_become_another(stand_in_site):
    with stand_in_site.new_guest() as guest:
        with stand_in_site.refused("inject_file", "ArgumentError", "argument 'b64_path': ", "comma"):
            stand_in_site.call("inject_file", guest.domid, b64_path=encode(b"/etc/a,b"), b64_contents=encode(b"x"))
        assert guest.agent.files == {} and len(guest.requests) == 1


def count_largest(injection, path):
    """Bytes of the largest file that one record can carry to this path."""
    def measure(size):
        content = encode(b"x" * size)
        value = encode(path + b"," + b"x" * size) if injection == "injectfile" else {"b64_path": encode(path), "b64_file": content}
        return len(json.dumps({"name": injection, "value": value}))
    return max(size for size in range(RECORD_MAX_BYTES) if measure(size) <= RECORD_MAX_BYTES)


@pytest.mark.parametrize("injection", ["injectfile", "file_inject"])
def test_the_largest_file_and_one_that_is_too_large(site, injection):
    path = b"/etc/issue"
    size = count_largest(injection, path)
    with site.new_guest(agent=Agent(injection=injection)) as guest:
        site.call("inject_file", guest.domid, b64_path=encode(path), b64_contents=encode(b"x" * size))
        assert guest.agent.files == {path: b"x" * size}
        del guest.requests[:]
        with site.refused("inject_file", "ArgumentError", "argument 'b64_contents': ", "2048"):
            site.call("inject_file", guest.domid, b64_path=encode(path), b64_contents=encode(b"y" * (size + 1)))
        assert guest.agent.files == {path: b"x" * size}
        assert [json.loads(request.data)["name"] for request in guest.requests] in ([], ["features"])
        assert site.list_records(guest.domid) == []


@pytest.mark.parametrize("size", [2000, 4096, 80000])
def test_a_file_that_no_agent_could_be_given_is_refused_before_anything_is_written(site, size):
    with site.new_guest() as guest:
        with site.refused("inject_file", "ArgumentError", "argument 'b64_contents': ", "2048"):
            site.call("inject_file", guest.domid, b64_path=encode(b"/etc/issue"), b64_contents=encode(b"secret" * (size // 6)))
        assert guest.requests == []


# No answer

def test_silence(site):
    with site.new_guest(guests.keep_silent) as guest:
        call = site.start("password", guest.domid, timeout_s=1, enc_pass="c2VjcmV0LXNlY3JldA==").join()
        assert call.failure[2] == "PluginError" and "TIMEOUT:" in call.failure[-1].splitlines()[-1]
        assert "REBOOT:" not in call.failure[-1] and "NOT IMPLEMENTED:" not in call.failure[-1]
        assert 1 <= call.took_s < 1 + cases.SLACK_S
        assert guest.requests and site.list_records(guest.domid) == []
        assert "c2VjcmV0" not in repr(call.failure)
    assert not [line for line in site.host.syslog_lines() if "c2VjcmV0" in line]


def test_the_timeout_is_for_the_whole_call(stand_in_site):
    def answer_features_only(guest, request_id, data):
        if b"features" in data:
            guests.answer_after(0.7)(guest, request_id, data)
    with stand_in_site.new_guest(answer_features_only) as guest:
        call = stand_in_site.start("inject_file", guest.domid, timeout_s=1, b64_path="L2E=", b64_contents="").join()
        assert "TIMEOUT:" in call.failure[-1]
        assert 1 <= call.took_s < 1 + cases.SLACK_S


def test_a_slow_answer_is_waited_for(site):
    with site.new_guest(guests.answer_after(1.5)) as guest:
        assert json.loads(site.call("version", guest.domid))["returncode"] == "0"


@pytest.mark.parametrize("domid", [-1, 31999])
def test_a_domain_that_is_not_there(site, domid):
    with site.refused("version", "RebootDetectedError", "REBOOT:"):
        site.call("version", domid)
    assert not site.has_domain(domid)


@pytest.mark.parametrize("keeps_records", [False, True], ids=["at once", "records later"])
def test_a_guest_that_reboots(site, keeps_records):
    """Both daemons tell that a domain ended; its name goes when the toolstack removes it, now or later."""
    def end(guest, request_id, data):
        guest.end(keeps_records)
    with site.new_guest(end) as guest:
        call = site.start("resetnetwork", guest.domid, timeout_s=patience.ENDLESS_S)
        calls.wait_until(lambda: guest.requests)
        if keeps_records:
            calls.wait_until(lambda: site.list_records(guest.domid) == [])
            with site.store.client() as dom0:
                dom0.rm(b"/local/domain/%d" % guest.domid)
        call.join()
        assert call.failure[2] == "RebootDetectedError" and "REBOOT:" in call.failure[-1].splitlines()[-1]
        assert call.took_s < cases.SLACK_S
    assert not site.has_domain(guest.domid)
    # nova goes on with the new domain.
    with site.new_guest() as guest:
        assert json.loads(site.call("resetnetwork", guest.domid))["returncode"] == "0"


def test_no_xenstored(stand_in_site):
    site = stand_in_site
    socket_path = site.host.dom0.locate("/var/run/xenstored/socket")
    os.rename(socket_path, socket_path + ".away")
    try:
        with site.refused("version", "RetryableError", "xenstored cannot be reached"):
            site.call("version", 1)
    finally:
        os.rename(socket_path + ".away", socket_path)
