# SPDX-License-Identifier: Apache-2.0
"""The cost of a command that neutron runs in dom0: whole processes, beside an interpreter that runs `pass` and then the command.
The command is `true`, so that its own time is next to nothing."""

import json
import os
import shutil

from tests.bench import hosts
from tests.bench.comparison import Comparison, DifferenceTarget, RatioTarget
from tests.harness.dom0 import plugin_reply
from tests.harness.pool import Pool
from tests.harness.xapi import xapi_xml

NAME = "commands"
ROUNDS = 40
PYTHONS = ("2.7", "3.6", "3.12")
WALL_LIMIT = 1.8
ROLE_LIMIT_MS = 5

BARE = "python -c pass, then the command"
ASKING = "netwrap.py"
TRUSTING = "netwrap.py that does not ask XAPI for the caller's role"


def run(options, report):
    for version in PYTHONS:
        if version in options.pythons:
            python = hosts.find_plain(version, options.pythons[version])
            with Pool(python=python) as pool:
                report.print_outcome(_compare(version, python, pool).measure(options.rounds or ROUNDS, with_memory=False))


def _compare(version, python, pool):
    dom0 = pool.hosts[0].dom0
    command = shutil.which("true")
    os.symlink(command, os.path.join(dom0.bin_dir, "ip"))
    with open(os.path.join(dom0.plugin_dir, "netwrap.py")) as plugin:
        dom0.add_plugin("trusting.py", plugin.read().replace("acts_on_host=True", "acts_on_host=False"))
    argument = xapi_xml.encode_call("run_command", pool.login().handle, {"cmd": '["ip", "link", "show"]', "cmd_input": "null"})

    def run_bare(watch):
        hosts.time_process(watch, "python -c pass", dom0, [python, "-c", "pass"])
        hosts.time_process(watch, BARE, dom0, [command], after="python -c pass")
    return Comparison(
        "%s through netwrap.py, Python %s" % (NAME, version),
        [run_bare, lambda watch: _call(watch, ASKING, dom0, "netwrap.py", argument),
         lambda watch: _call(watch, TRUSTING, dom0, "trusting.py", argument)],
        BARE, [RatioTarget(ASKING, BARE, WALL_LIMIT), DifferenceTarget(ASKING, TRUSTING, ROLE_LIMIT_MS)])


def _call(watch, row, dom0, plugin, argument):
    reply = plugin_reply.decode(hosts.time_process(watch, row, dom0, [os.path.join(dom0.plugin_dir, plugin), argument]))
    if json.loads(reply) != {"returncode": 0, "out": "", "err": ""}:
        raise RuntimeError("%s answered %.200r" % (row, reply))
