# SPDX-License-Identifier: Apache-2.0
"""A guest's records with a real xenstored: whole processes, beside an interpreter that runs `pass` and os-xenapi's."""

import json
import os

from tests.bench import call_overhead
from tests.bench import cheap_calls
from tests.bench import hosts
from tests.bench import xenstored_hosts
from tests.bench.comparison import Comparison, DifferenceTarget, RatioTarget
from tests.bench.xenstored_hosts import DOMID
from tests.harness.dom0 import plugin_reply
from tests.harness.xapi import xapi_xml

NAME = "xenstore"
ROUNDS = 30
OS_XENAPI_ROUNDS = 3
READ_LIMIT = 1.8
KEYS = 1000
LIST_LIMIT_MS = 20
OS_XENAPI_LIMIT = 0.1

BARE = call_overhead.BARE
START = cheap_calls.SMALLEST
READ = "ours, read_record"
LIST = "ours, list_records of %d keys" % KEYS
OS_XENAPI = "os-xenapi 0.3.4, list_records of %d keys" % KEYS

_RECORD = {"returncode": "0", "message": "ok"}


def run(options, report):
    xenstored_hosts.run(NAME, options, report, _compare, _compare_os_xenapi, ROUNDS, OS_XENAPI_ROUNDS)


def _compare(kind, python, version, stack):
    dom0 = _make_dom0(kind, python, stack)
    dom0.install_plugins()
    return Comparison(
        "%s: a call with %s, Python %s" % (NAME, kind, version),
        [lambda watch: hosts.time_process(watch, BARE, dom0, [python, "-c", "pass"]),
         lambda watch: hosts.time_process(watch, START, dom0, [
             os.path.join(dom0.plugin_dir, "dom0_plugin_version.py"), xapi_xml.encode_call("get_version", "OpaqueRef:bench", {})]),
         lambda watch: _call(watch, READ, dom0, "read_record", "vm-data/record", _RECORD),
         lambda watch: _call(watch, LIST, dom0, "list_records", "vm-data/many", KEYS)],
        BARE, [RatioTarget(READ, BARE, READ_LIMIT), DifferenceTarget(LIST, START, LIST_LIMIT_MS)])


def _compare_os_xenapi(python, pythons, stack):
    """Its list_records reads every key with a process and then fails, as its reply is no text: the time until then is measured."""
    ours, theirs = (_make_dom0("xenstored", python, stack) for _ in range(2))
    ours.install_plugins()
    hosts.add_os_xenapi(theirs, pythons)
    return Comparison(
        "%s: %d keys, Python %s" % (NAME, KEYS, hosts.OS_XENAPI_PYTHON),
        [lambda watch: _call(watch, LIST, ours, "list_records", "vm-data/many", KEYS),
         lambda watch: _run(watch, OS_XENAPI, theirs, "list_records", "vm-data/many")],
        OS_XENAPI, [RatioTarget(LIST, OS_XENAPI, OS_XENAPI_LIMIT)])


def _make_dom0(kind, python, stack):
    """A Dom0 whose guest has one record and many."""
    dom0, store = xenstored_hosts.make_dom0(kind, python, stack)
    path = b"/local/domain/%d/vm-data/" % DOMID
    with store.client() as client:
        client.write(path + b"record", json.dumps(_RECORD).encode("ascii"))
        for number in range(KEYS):
            client.write(path + b"many/key-%d" % number, b"value %d" % number)
    return dom0


def _call(watch, row, dom0, function, path, expected):
    """expected: the reply's content, or its number of entries."""
    value = json.loads(plugin_reply.decode(_run(watch, row, dom0, function, path)))
    if expected not in (value, len(value)):
        raise RuntimeError("%s answered %r" % (row, value))


def _run(watch, row, dom0, function, path):
    argument = xapi_xml.encode_call(function, "OpaqueRef:bench", {"dom_id": str(DOMID), "path": path})
    return hosts.time_process(watch, row, dom0, [os.path.join(dom0.plugin_dir, "xenstore.py"), argument])
