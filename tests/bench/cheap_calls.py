# SPDX-License-Identifier: Apache-2.0
"""The cost of calls that read a file or two of the host: whole processes, beside an interpreter that runs `pass`."""

import base64
import functools
import json
import os
import zlib

from tests.bench import hosts
from tests.bench.comparison import Comparison, DifferenceTarget, RatioTarget
from tests.calls import calls
from tests.harness.dom0 import plugin_reply
from tests.harness.xapi import xapi_xml

NAME = "cheap"
ROUNDS = 40
WALL_LIMIT = 1.8

BARE = "python -c pass"
SMALLEST = "get_version, which does nothing"
ALL_BANDWIDTH = "bandwidth of 2,000 interfaces"
INTERFACES = 2000
INTERFACES_LIMIT_MS = 10
LOG_BYTES = 300000
_SR, _DEVICE = "0f6c5b7e-2a43-4f0f-9d0c-6a1f2b3c4d5e", "0000:04:10.1"


class Row(object):
    """A call and the check of its reply, a text; `is_legacy`: the arguments are pickled, and so is the reply."""

    def __init__(self, name, plugin, function, arguments, check, is_legacy=False):
        self.name = name
        self._plugin = plugin
        self._check = check
        self._is_legacy = is_legacy
        if is_legacy:
            arguments = calls.encode_legacy(arguments)
        self._argument = xapi_xml.encode_call(function, "OpaqueRef:bench", arguments)

    def run(self, watch, dom0):
        reply = plugin_reply.decode(hosts.time_process(
            watch, self.name, dom0, [os.path.join(dom0.plugin_dir, self._plugin), self._argument]))
        value = calls.decode_legacy(reply) if self._is_legacy else reply
        if not self._check(value):
            raise RuntimeError("%s answered %.200r" % (self.name, value))


ROWS = [
    Row(SMALLEST, "dom0_plugin_version.py", "get_version", {}, lambda value: value == "2.1", is_legacy=True),
    Row("bandwidth of one domain", "bandwidth.py", "fetch_all_bandwidth", {"dom_id": "7"},
        lambda text: list(json.loads(text)) == ["7"]),
    Row("console log", "console.py", "get_console_log", {"dom_id": "7"},
        lambda text: len(zlib.decompress(base64.b64decode(text))) == 102400),
    Row("setting of xapi.conf", "config_file.py", "get_val", {"key": "log"}, lambda text: text == "xapi"),
    Row("uptime", "xenhost.py", "host_uptime", {}, lambda text: " up " in json.loads(text)["uptime"]),
    Row("garbage collection", "xenhost.py", "query_gc", {"sr_uuid": _SR, "vdi_uuid": _SR}, lambda value: value is False,
        is_legacy=True),
    Row("type of a PCI device", "xenhost.py", "get_pci_type", {"pci_device": _DEVICE}, lambda value: value == "type-VF",
        is_legacy=True),
]
MANY = Row(ALL_BANDWIDTH, "bandwidth.py", "fetch_all_bandwidth", {},
           lambda value: sum(map(len, value.values())) == INTERFACES, is_legacy=True)


def run(options, report):
    for version in sorted(options.pythons, key=lambda version: [int(number) for number in version.split(".")]):
        python = hosts.find_plain(version, options.pythons[version])
        with hosts.make_dom0(python) as few, hosts.make_dom0(python) as many:
            for dom0, interfaces in ((few, 10), (many, INTERFACES)):
                dom0.install_plugins()
                _write_files(dom0, interfaces)
            report.print_outcome(_compare(version, python, few, many).measure(options.rounds or ROUNDS, with_memory=False))


def _compare(version, python, few, many):
    """few, many: hosts with few and many interfaces"""
    def run_bare(watch):
        hosts.time_process(watch, BARE, few, [python, "-c", "pass"])
    ways = [run_bare] + [functools.partial(_run_row, row, few) for row in ROWS] + [functools.partial(_run_row, MANY, many)]
    targets = [RatioTarget(row.name, BARE, WALL_LIMIT) for row in ROWS[1:]]
    targets.append(DifferenceTarget(ALL_BANDWIDTH, SMALLEST, INTERFACES_LIMIT_MS))
    return Comparison("%s calls, Python %s" % (NAME, version), ways, BARE, targets)


def _run_row(row, dom0, watch):
    row.run(watch, dom0)


def _write_files(dom0, interfaces):
    counters = "".join("vif%d.%d: %d 1 0 0 0 0 0 0 %d 1 0 0 0 0 0 0\n" % (number // 2 + 3, number % 2, 1 << 40, number)
                       for number in range(interfaces))
    lines = "".join("[%9d.%06d] console of a guest\n" % (number, number * 7919 % 1000000) for number in range(10000))
    for path, text in (("/proc/net/dev", counters), ("/var/log/xen/guest/console.7", lines[:LOG_BYTES]),
                       ("/etc/xapi.conf", "log = xapi\n")):
        if os.path.lexists(dom0.locate(path)):
            os.unlink(dom0.locate(path))
        with open(dom0.locate(path), "w") as target:
            target.write(text)
    os.unlink(dom0.locate("/sys/bus/pci/devices"))
    os.makedirs(dom0.locate("/sys/bus/pci/devices/%s/physfn" % _DEVICE))
