# SPDX-License-Identifier: Apache-2.0
"""The cost of a call that does nothing: whole processes, beside an interpreter that runs `pass`."""

import contextlib
import os

from tests.bench import hosts
from tests.bench.comparison import Comparison, RatioTarget
from tests.calls import calls
from tests.harness.dom0 import plugin_reply
from tests.harness.xapi import xapi_xml

NAME = "overhead"
ROUNDS = 40
WALL_LIMIT = 1.3

BARE = "python -c pass"
OURS = "ours, get_version"
OS_XENAPI = "os-xenapi 0.3.4, get_version"
XMLRPC = "only xmlrpc.client: loads, dumps"

_XMLRPC_PLUGIN = """#!python
import sys
try:
    import xmlrpc.client as xmlrpclib
except ImportError:
    import xmlrpclib
(session_ref, args), function = xmlrpclib.loads(sys.argv[1])
sys.stdout.write(xmlrpclib.dumps(({"Status": "Success", "Value": args["params"]},), "", True))
"""


def run(options, report):
    for version in sorted(options.pythons, key=lambda version: [int(number) for number in version.split(".")]):
        with contextlib.ExitStack() as stack:
            comparison = _compare(version, options.pythons, stack)
            report.print_outcome(comparison.measure(options.rounds or ROUNDS, with_memory=False))


def _compare(version, pythons, stack):
    python = hosts.find_plain(version, pythons[version])
    ours = stack.enter_context(hosts.make_dom0(python))
    ours.install_plugins()
    ours.add_plugin("xmlrpc-only", _XMLRPC_PLUGIN)
    ways = [
        lambda watch: hosts.time_process(watch, BARE, ours, [python, "-c", "pass"]),
        lambda watch: _call(watch, OURS, ours, "dom0_plugin_version.py"),
        lambda watch: _call(watch, XMLRPC, ours, "xmlrpc-only"),
    ]
    if version == hosts.OS_XENAPI_PYTHON and hosts.has_os_xenapi(pythons):
        theirs = stack.enter_context(hosts.make_dom0(python))
        hosts.add_os_xenapi(theirs, pythons)
        ways.append(lambda watch: _call(watch, OS_XENAPI, theirs, "dom0_plugin_version.py"))
    return Comparison("%s of a call, Python %s" % (NAME, version), ways, BARE, [RatioTarget(OURS, BARE, WALL_LIMIT)])


def _call(watch, row, dom0, plugin):
    argument = xapi_xml.encode_call("get_version", "OpaqueRef:bench", calls.encode_legacy({}))
    reply = plugin_reply.decode(hosts.time_process(watch, row, dom0, [os.path.join(dom0.plugin_dir, plugin), argument]))
    if plugin == "dom0_plugin_version.py" and calls.decode_legacy(reply) != "2.1":
        raise RuntimeError("%s: get_version answered %r" % (row, reply))
