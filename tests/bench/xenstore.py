# SPDX-License-Identifier: Apache-2.0
"""A guest's records with a real xenstored: whole processes, beside an interpreter that runs `pass` and os-xenapi's."""

import contextlib
import json
import os

from tests.bench import call_overhead
from tests.bench import hosts
from tests.bench.comparison import Comparison, DifferenceTarget, RatioTarget
from tests.harness import plugin_reply
from tests.harness import xapi_xml
from tests.harness import xenstored

NAME = "xenstore"
ROUNDS = 30
OS_XENAPI_ROUNDS = 3
READ_PYTHONS = ("2.7", "3.6", "3.12")
READ_LIMIT = 1.8
KEYS = 1000
LIST_LIMIT_MS = 20
DOMID = 5

READ = "ours, read_record"
LIST = "ours, list_records of %d keys" % KEYS
OS_XENAPI = "os-xenapi 0.3.4, list_records of %d keys" % KEYS

_RECORD = {"returncode": "0", "message": "ok"}


def run(options, report):
    missing = xenstored.list_missing()
    if missing:
        report.print_line("\n%s: LEFT OUT, needs %s" % (NAME, ", ".join(missing)))
        return
    for kind in xenstored.REAL:
        for version in READ_PYTHONS:
            if version in options.pythons:
                with contextlib.ExitStack() as stack:
                    report.print_outcome(_compare(kind, version, options.pythons, stack).measure(
                        options.rounds or ROUNDS, with_memory=False))
    if hosts.has_os_xenapi(options.pythons):
        with contextlib.ExitStack() as stack:
            report.print_outcome(_compare_os_xenapi(options.pythons, stack).measure(
                min(options.rounds or OS_XENAPI_ROUNDS, OS_XENAPI_ROUNDS), with_memory=False))


def _compare(kind, version, pythons, stack):
    python = hosts.find_plain(version, pythons[version])
    dom0 = stack.enter_context(hosts.make_dom0(python))
    dom0.install_plugins()
    _start(kind, dom0, stack)
    bare = call_overhead.BARE
    return Comparison(
        "%s: a call with %s, Python %s" % (NAME, kind, version),
        [lambda watch: hosts.time_process(watch, bare, dom0, [python, "-c", "pass"]),
         lambda watch: _call(watch, READ, dom0, "read_record", "vm-data/record", _RECORD),
         lambda watch: _call(watch, LIST, dom0, "list_records", "vm-data/many", KEYS)],
        bare, [RatioTarget(READ, bare, READ_LIMIT), DifferenceTarget(LIST, bare, LIST_LIMIT_MS)])


def _compare_os_xenapi(pythons, stack):
    """Its list_records reads every key with a process and then fails, as its reply is no text: what it took is measured."""
    python = hosts.find_plain(hosts.OS_XENAPI_PYTHON, pythons[hosts.OS_XENAPI_PYTHON])
    ours, theirs = (stack.enter_context(hosts.make_dom0(python)) for _ in range(2))
    ours.install_plugins()
    hosts.add_os_xenapi(theirs, pythons)
    for dom0 in (ours, theirs):
        store = _start("xenstored", dom0, stack)
        dom0.environment.update(xenstored.tool_environment(store.socket))
        hosts.add_xenstore_tools(dom0)
    return Comparison(
        "%s: %d keys, Python %s" % (NAME, KEYS, hosts.OS_XENAPI_PYTHON),
        [lambda watch: _call(watch, LIST, ours, "list_records", "vm-data/many", KEYS),
         lambda watch: _run(watch, OS_XENAPI, theirs, "list_records", "vm-data/many")],
        OS_XENAPI, [RatioTarget(LIST, OS_XENAPI, 0.1)])


def _start(kind, dom0, stack):
    """Its xenstored, with a guest that has one record and many."""
    store = xenstored.make(kind, dom0.locate("/var/run/xenstored/socket"))
    stack.callback(store.stop)
    store.start()
    store.introduce(DOMID)
    path = b"/local/domain/%d/vm-data/" % DOMID
    with store.client() as client:
        client.write(path + b"record", json.dumps(_RECORD).encode("ascii"))
        for number in range(KEYS):
            client.write(path + b"many/key-%d" % number, b"value %d" % number)
    return store


def _call(watch, row, dom0, function, path, expected):
    """expected: what the reply holds, or how many entries."""
    value = json.loads(plugin_reply.decode(_run(watch, row, dom0, function, path)))
    if expected not in (value, len(value)):
        raise RuntimeError("%s answered %r" % (row, value))


def _run(watch, row, dom0, function, path):
    argument = xapi_xml.encode_call(function, "OpaqueRef:bench", {"dom_id": str(DOMID), "path": path})
    return hosts.time_process(watch, row, dom0, [os.path.join(dom0.plugin_dir, "xenstore.py"), argument])
