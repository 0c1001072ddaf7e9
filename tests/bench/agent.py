# SPDX-License-Identifier: Apache-2.0
"""The delay between a guest's answer and the caller's: from the guest's write to the end of the process, with real daemons."""

import json
import os
import random
import time

from tests.bench import hosts
from tests.bench import xenstored_hosts
from tests.bench.comparison import Comparison, DifferenceTarget, RatioTarget
from tests.bench.xenstored_hosts import DOMID
from tests.harness.dom0 import plugin_reply
from tests.harness.guests import xenstore_client
from tests.harness.guests import xenstored
from tests.harness.xapi import xapi_xml

NAME = "agent"
ROUNDS = 30
OS_XENAPI_ROUNDS = 6
LIMIT_MS = 5
OS_XENAPI_LIMIT = 0.1
TIMEOUT_S = 20
# By then a process waits.
SETTLED_S = 0.1
# os-xenapi looks this often.
PERIOD_S = 0.5

# Ends at the same event, and does nothing with it.
YARDSTICK = "xenstore-watch, ends at the answer"
OURS = "ours, version"
OS_XENAPI = "os-xenapi 0.3.4, version"

_ID = b"bench"
_ANSWER = {"returncode": "0", "message": "1.39.1"}
_NOTE = "times begin when the guest writes its answer; CPU is that of the whole process"


def run(options, report):
    xenstored_hosts.run(NAME, options, report, _compare, _compare_os_xenapi, ROUNDS, OS_XENAPI_ROUNDS)


def _compare(kind, python, version, stack):
    ours = _Host(kind, python, stack)
    ours.dom0.install_plugins()
    return Comparison(
        "%s: an answer with %s, Python %s" % (NAME, kind, version),
        [ours.time_yardstick, lambda watch: ours.time_plugin(watch, OURS)], YARDSTICK,
        [DifferenceTarget(OURS, YARDSTICK, LIMIT_MS)], [_NOTE])


def _compare_os_xenapi(python, pythons, stack):
    ours, theirs = (_Host("xenstored", python, stack, PERIOD_S) for _ in range(2))
    ours.dom0.install_plugins()
    hosts.add_os_xenapi(theirs.dom0, pythons)
    return Comparison(
        "%s: an answer, Python %s" % (NAME, hosts.OS_XENAPI_PYTHON),
        [lambda watch: ours.time_plugin(watch, OURS), lambda watch: theirs.time_plugin(watch, OS_XENAPI)], OS_XENAPI,
        [RatioTarget(OURS, OS_XENAPI, OS_XENAPI_LIMIT)], [_NOTE])


class _Host(object):
    """A dom0 with its xenstored, the tools for it, and a guest that answers after SETTLED_S and anything up to spread_s."""

    def __init__(self, kind, python, stack, spread_s=0.0):
        self._spread_s = spread_s
        self.dom0, store = xenstored_hosts.make_dom0(kind, python, stack)
        self._guest = stack.enter_context(store.guest(DOMID))
        self._guest.watch(b"data/host", b"requests")

    def time_yardstick(self, watch):
        path = "/local/domain/%d/data/guest/yardstick" % DOMID
        # Of the two events that it waits for the first comes at once.
        process = hosts.Process(self.dom0, [os.path.join(xenstored.tools_dir(), "xenstore-watch"), "-n", "2", path])
        self._answer(watch, YARDSTICK, process, b"yardstick")
        process.read_output()

    def time_plugin(self, watch, row):
        argument = xapi_xml.encode_call("version", "OpaqueRef:bench", {
            "id": _ID.decode("ascii"), "dom_id": str(DOMID), "timeout": str(TIMEOUT_S)})
        process = hosts.Process(self.dom0, [os.path.join(self.dom0.plugin_dir, "agent.py"), argument])
        while not self._has_request():
            if not self._guest.event():
                raise RuntimeError("%s: no request has come" % row)
        self._guest.rm(b"data/host/" + _ID)
        self._answer(watch, row, process, _ID)
        reply = plugin_reply.decode(process.read_output())
        if json.loads(reply) != _ANSWER:
            raise RuntimeError("%s answered %s" % (row, reply))

    def _has_request(self):
        try:
            return _ID in self._guest.directory(b"data/host")
        except xenstore_client.Refused:  # nobody has ever asked
            return False

    def _answer(self, watch, row, process, record):
        time.sleep(SETTLED_S + random.uniform(0, self._spread_s))
        with watch(row):
            self._guest.write(b"data/guest/" + record, json.dumps(_ANSWER).encode("ascii"))
            process.wait()
        # os-xenapi leaves it there; a later call with this id would take it at once.
        try:
            self._guest.rm(b"data/guest/" + record)
        except xenstore_client.Refused:
            pass
