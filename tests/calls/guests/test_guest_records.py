# SPDX-License-Identifier: Apache-2.0
"""xenstore.py on dom0 Pythons and with every xenstored: callers get a readable reply for anything that guests write."""

import json
import os
import subprocess
import sys
import threading

import pytest

from tests.calls import calls
from tests.calls.scene import Scene
from tests.conftest import DOM0_PYTHONS
from tests.harness import fixtures
from tests.harness.guests import xenstored
from tests.harness.guests.xenstore_client import Refused
from tests.harness.pool import Pool
from tests.harness.xapi import xapi_xml

PLUGIN = "xenstore.py"
# The whole table on the oldest ones and a recent one; test_every_python() is for all.
PYTHONS = {version: path for version, path in DOM0_PYTHONS if version in ("2.7", "3.6", "3.12")}
DEADLINE_S = 60
MEMORY_LIMIT_MIB = 64
FEW = 3

# A guest's text: the value that a caller reads in the JSON reply.
JSON_TEXTS = [
    b'{"returncode": "0", "message": "ok"}', b"4", b"-1.5e3", b'"text"', b"true", b"null", b"[]", b'{"a": [1, {"b": null}]}',
    b' \t{"a":\n 1} \n', b'"\\u0000\\u001b\\ud800"', '"caf\xe9 \u20ac \U0001f600"'.encode("utf-8"),
    '["\ufffe\uffff"]'.encode("utf-8"), b'"\x7f"', b"[" * 60 + b"]" * 60, b"9" * 400, b"1e999", b'"</string>&amp;]]>"',
]
OTHER_TEXTS = {
    b"": "", b"vm5": "vm5", b"None": "None", b"True": "True", b"a = b": "a = b", b'say "hi"': 'say "hi"', b"it's": "it's",
    b"\\n": "\\n", b"C:\\new\\x41": "C:\\new\\x41", b"two\nlines\r\n": "two\nlines\r\n", b" \n": " \n",
    b"\t": "\t", b"trail  ": "trail  ",
    b"\x00": "\0", b"\x1b[31m\x07\x08\x7f": "\x1b[31m\x07\x08\x7f", b"\xff\xfe": "\ufffd\ufffd", b"caf\xe9": "caf\ufffd",
    "caf\xe9 \U0001f600 \ufffe".encode("utf-8"): "caf\xe9 \U0001f600 \ufffe", b"NaN": "NaN", b"-Infinity": "-Infinity",
    b"[NaN]": "[NaN]", b"{": "{", b"{'a': 1}": "{'a': 1}", b"4 5": "4 5", b"01": "01", b"\xef\xbb\xbf{}": "\ufeff{}",
    b'"\x01"': '"\x01"', b"[" * 1000 + b"]" * 1000: "[" * 1000 + "]" * 1000, b'{"a":' * 300 + b"1" + b"}" * 300: None,
    b"</string></value>": "</string></value>", b"&lt;": "&lt;", b"x" * 1900: "x" * 1900, b"\x80" * 1900: "\ufffd" * 1900,
}
# How many U+FFFD stand for these differs from Python to Python.
SURROGATES = b"\xed\xa0\x80\xed\xb0\x80"


@pytest.fixture(scope="module", params=[(version, kind) for kind in ("stand-in",) + xenstored.REAL for version in PYTHONS],
                ids=lambda pair: "%s-%s" % pair)
def site(request):
    """(pool, its xenstored) of one host."""
    version, kind = request.param
    fixtures.require_xenstored(kind)
    with Pool(python=PYTHONS[version], xenstore=kind) as pool:
        yield pool, pool.hosts[0].xenstore


class Guest(Scene):
    """A running guest, as callers of the plug-in name it."""

    plugin = PLUGIN

    def __init__(self, pool, store):
        super().__init__(pool)
        self.store = store
        self.ref = pool.add_vm("guest")
        self.domid = pool.database.get("VM", self.ref, "domid")

    def text(self, function, **arguments):
        return super().call(function, dom_id=str(self.domid), host_uuid=self.host.uuid, **arguments)

    def call(self, function, **arguments):
        return json.loads(self.text(function, **arguments))

    def write(self, values):
        """Store {path: bytes} as the guest."""
        with self.store.guest(self.domid) as client:
            for path, value in values.items():
                client.write(path.encode("ascii"), value)

    def choose(self, cases):
        """All of them, or a few where only the daemon is another one."""
        return cases if self.store.kind == "stand-in" else cases[:FEW]

    def read(self, path):
        with self.store.client() as client:
            return client.read(b"/local/domain/%d/%s" % (self.domid, path.encode("ascii")))


@pytest.fixture
def guest(site):
    pool, store = site
    made = Guest(pool, store)
    yield made
    store.release(made.domid)


def read_with_python2(texts):
    """The values that Python 2's json reads in these texts, as JSON."""
    program = "import json, sys; print(json.dumps([json.loads(text) for text in json.load(sys.stdin)]))"
    done = subprocess.run([PYTHONS["2.7"], "-c", program], input=json.dumps(texts).encode("ascii"), stdout=subprocess.PIPE,
                          check=True, timeout=DEADLINE_S)
    return json.loads(done.stdout.decode("ascii"))


def make_expected():
    """[(value, the value in its reply)]."""
    expected = [(value, json.loads(value.decode("utf-8"))) for value in JSON_TEXTS]
    return expected + [(value, value.decode("utf-8") if text is None else text) for value, text in OTHER_TEXTS.items()]


def test_whatever_a_guest_writes_can_be_read(guest):
    """One by one and in a list, by Python 2 and Python 3."""
    expected = make_expected()
    guest.write({"data/%d" % number: value for number, (value, _) in enumerate(expected)})
    meanings = [meaning for _, meaning in expected]
    texts = [guest.text("read_record", path="data/%d" % number) for number in range(len(guest.choose(expected)))]
    assert [json.loads(text) for text in texts] == read_with_python2(texts) == meanings[:len(texts)]
    listed = guest.text("list_records", path="data")
    assert json.loads(listed) == {str(number): meaning for number, meaning in enumerate(meanings)}
    assert read_with_python2([listed]) == [json.loads(listed)]
    guest.write({"data/x": SURROGATES})
    assert set(guest.call("read_record", path="data/x")) <= {"\ufffd", "\U00010000"}


def test_json_stays_as_it_stands(guest):
    """Characters that XML cannot carry are escaped."""
    guest.write({"data/%d" % number: value for number, value in enumerate(JSON_TEXTS)})
    for number, value in enumerate(guest.choose(JSON_TEXTS)):
        text = value.decode("utf-8").replace("\ufffe", "\\ufffe").replace("\uffff", "\\uffff")
        assert guest.text("read_record", path="data/%d" % number) == text


def test_a_record_that_is_not_there(guest):
    assert guest.text("read_record", path="vm-data/nothing", ignore_missing_path="True") == '"None"'
    for flag in ({"ignore_missing_path": "False"}, {}):
        with calls.refused("read_record", "PluginError", "ENOENT", "/local/domain/%d/vm-data/nothing" % guest.domid):
            guest.text("read_record", path="vm-data/nothing", **flag)
    with calls.refused("list_records", "PluginError", "ENOENT"):
        guest.text("list_records", path="vm-data/nothing")


WRITTEN = ['{"a": "b"}', "plain", "caf\xe9 \U0001f600", "", "a = b", "C:\\new", "-x", "two\nlines", "\\x41", "x" * 2048, "4"]


def test_what_is_written_is_stored_to_the_byte(guest):
    for value in guest.choose(WRITTEN):
        reply = guest.text("write_record", path="vm-data/a/b", value=value)
        assert guest.read("vm-data/a/b") == value.encode("utf-8")
        assert reply == guest.text("read_record", path="vm-data/a/b")
        assert json.loads(reply) == {'{"a": "b"}': {"a": "b"}, "4": 4}.get(value, value)


def test_delete(guest):
    guest.write({"data/a/b": b"1"})
    for _ in range(2):
        assert guest.text("delete_record", path="data/a") == '""'
    assert guest.text("delete_record", path="no/such/record") == '""'
    assert guest.text("read_record", path="data/a/b", ignore_missing_path="True") == '"None"'
    assert guest.call("read_record", path="name") == "guest"


def test_a_list_goes_to_the_bottom(guest):
    guest.write({"data/a/b/c": b'{"x": 1}', "data/d": b"text"})
    assert guest.call("list_records", path="data") == {"a": "", "a/b": "", "a/b/c": {"x": 1}, "d": "text"}
    assert guest.call("list_records", path="data/d") == {}
    everything = guest.call("list_records")
    assert everything["name"] == "guest" and everything["data/d"] == "text" and everything["domid"] == guest.domid


def test_other_guests_are_out_of_reach(guest):
    other = Guest(guest.pool, guest.store)
    path = "../%d/name" % other.domid
    for arguments in ({"path": path}, {"path": "/local/domain/%d/name" % other.domid}, {"path": "data/../../%d" % other.domid},
                      {"path": "name", "dom_id": "%d/../%d" % (guest.domid, other.domid)}):
        for function, more in (("read_record", {}), ("write_record", {"value": "x"}), ("delete_record", {}), ("list_records", {})):
            with calls.refused(function, "ArgumentError"):
                guest.pool.call(PLUGIN, function, dict({"dom_id": str(guest.domid)}, **dict(arguments, **more)))
    assert other.read("name") == b"guest"
    guest.store.release(other.domid)


def test_the_domain_itself_cannot_be_removed(guest):
    with calls.refused("delete_record", "ArgumentError", "path"):
        guest.text("delete_record", path="")
    assert guest.read("name") == b"guest"


def test_a_domain_that_is_not_there(guest):
    missing = {"dom_id": "4711", "path": "vm-data/x"}
    with calls.refused("write_record", "PluginError", "there is no domain 4711"):
        guest.pool.call(PLUGIN, "write_record", dict(missing, value="x"))
    with guest.store.client() as client, pytest.raises(Refused):
        client.read(b"/local/domain/4711")
    assert guest.pool.call(PLUGIN, "read_record", dict(missing, ignore_missing_path="True")) == '"None"'
    assert guest.pool.call(PLUGIN, "delete_record", missing) == '""'


def test_what_is_too_long(guest):
    with calls.refused("write_record", "ArgumentError", "2048"):
        guest.text("write_record", path="vm-data/x", value="\xe9" * 1025)
    with calls.refused("write_record", "PluginError", "4096"):
        guest.text("write_record", path="/".join(["vm-data"] + ["x" * 202] * 10), value="x" * 2048)
    with pytest.raises(Refused):
        guest.read("vm-data/x")


def test_a_guest_that_has_used_its_quota(guest):
    """A guest that fills its quota can still be listed, read, written to and cleaned up."""
    count = 0
    with guest.store.guest(guest.domid) as client, pytest.raises(Refused):
        while count < 2000:
            client.write(b"data/%d/flood-%d" % (count % 20, count), b"x" * 500)
            count += 1
    records = guest.call("list_records", path="data")
    assert len([path for path in records if "/" in path]) == count and set(map(len, records.values())) == {0, 500}
    assert guest.call("write_record", path="data/host/1", value="x") == "x"
    assert guest.text("delete_record", path="data") == '""'


def test_too_much_to_list(guest):
    path = b"/local/domain/%d/vm-data" % guest.domid
    with guest.store.client() as client:
        for number in range(100):
            client.write(path + b"/%d" % number, b"\x01" * 2000)
        with calls.refused("list_records", "PluginError", "1 MiB", "vm-data"):
            guest.text("list_records", path="vm-data")


# Prints the length of the output of a program and its peak of memory.
MEASURE = """
import resource, subprocess, sys
output = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, check=True).stdout
print(len(output), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
"""


def test_memory_for_the_longest_list(pool):
    guest = Guest(pool, pool.hosts[0].xenstore)
    path = b"/local/domain/%d/vm-data" % guest.domid
    with guest.store.client() as client:
        for number in range(500):
            client.write(path + b"/%d" % number, b"x" * 2048)
    dom0 = pool.hosts[0].dom0
    argument = xapi_xml.encode_call("list_records", "OpaqueRef:x", {"dom_id": str(guest.domid), "path": "vm-data"})
    command = [sys.executable, "-c", MEASURE, os.path.join(dom0.plugin_dir, PLUGIN), argument]
    done = subprocess.run(command, env=dom0.environment, stdout=subprocess.PIPE, check=True, timeout=DEADLINE_S)
    reply_bytes, peak_mib = map(int, done.stdout.split())
    assert reply_bytes > 1000000 and peak_mib <= MEMORY_LIMIT_MIB


def test_a_list_is_of_one_moment(guest):
    """The guest writes two records in one transaction, always with the same value."""
    ended = threading.Event()
    guest.write({"data/%d" % number: b"x" for number in range(100)})

    def write():
        with guest.store.guest(guest.domid) as client:
            number = 0
            while not ended.wait(0.02):
                number += 1
                transaction = client.begin()
                for path in (b"data/0", b"data/99"):
                    client.write(path, b"%d" % number, transaction)
                client.end(transaction)
    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(5):
            records = guest.call("list_records", path="data")
            assert len(records) == 100 and records["0"] == records["99"]
    finally:
        ended.set()
        thread.join(DEADLINE_S)


def test_the_daemon_is_not_there(site):
    pool, store = site
    store.stop()
    try:
        with calls.refused("read_record", "RetryableError", "xenstored"):
            pool.call(PLUGIN, "read_record", {"dom_id": "1", "path": "name"})
    finally:
        store.start()


def test_every_python(pool):
    guest = Guest(pool, pool.hosts[0].xenstore)
    for value, meaning in list(zip(JSON_TEXTS, map(json.loads, JSON_TEXTS)))[:4] + list(OTHER_TEXTS.items())[:8]:
        guest.write({"data/v": value})
        assert guest.call("read_record", path="data/v") == meaning
    assert guest.text("write_record", path="data/v", value='{"a": "b"}') == '{"a": "b"}'
    assert guest.call("list_records", path="data") == {"v": {"a": "b"}}
    assert guest.text("delete_record", path="data/v") == '""'
    assert guest.text("read_record", path="data/v", ignore_missing_path="True") == '"None"'
