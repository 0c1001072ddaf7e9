# SPDX-License-Identifier: Apache-2.0
"""What commands consist of. A stage is one thing done on every host that can be reached, several hosts at a time.

What comes of it is a list of Row for each host, whatever the stage; a call that failed is a row, too.
"""

import collections
import json

from dom0_plugins import crew
from dom0_plugins import problems

# Outcomes; the first four are the plug-in's.
DONE, ALREADY, WOULD, PROBLEM = "done", "already", "would", "problem"
OK = "ok"
OUTCOMES = (OK, DONE, ALREADY, WOULD, PROBLEM)
_STEP_OUTCOMES = (DONE, ALREADY, WOULD, PROBLEM)

Row = collections.namedtuple("Row", "name outcome detail fix")


class Stages(object):
    """hosts: [pool.Host]; results: {stage: {host: [Row]}}; notes: lines about the whole."""

    def __init__(self, hosts, stopping, progress, is_dry_run=False):
        self.hosts = hosts
        self.is_dry_run = is_dry_run
        self.results = collections.OrderedDict()
        self.notes = []
        self._stopping = stopping
        self._progress = progress
        self._dry_run = {"dry_run": "true"} if is_dry_run else {}

    def prepare(self, arguments):
        self._run("prepare", lambda host: _read_steps(self._call(host, "prepare", dict(arguments, **self._dry_run))))

    def undo_prepare(self):
        self._run("undo prepare", lambda host: _read_steps(self._call(host, "undo_prepare", self._dry_run)))

    def trust(self):
        """Each host gets the keys of all others that have told theirs."""
        keys, failed = {}, {}

        def ask(host):
            try:
                keys[host] = _read_key(self._call(host, "ssh_key", self._dry_run))
            except problems.NotReached:
                raise
            except problems.Problem as problem:
                failed[host] = problem
        self._visit("ssh keys", ask)

        def admit(host):
            rows = [Row("ssh_key", PROBLEM, failed[host].text, failed[host].fix)] if host in failed else []
            others = {other.uuid: key for other, key in keys.items() if other is not host and key["public_key"]}
            if others:
                rows += _read_steps(self._call(host, "trust_keys", dict(self._dry_run, keys=json.dumps(others, sort_keys=True))))
            # Without its key, which is made only in earnest, a host cannot be asked about.
            rows += [Row(other.uuid, WOULD, "its key is not made yet", None)
                     for other, key in keys.items() if other is not host and not key["public_key"]]
            return rows
        self._run("trust", admit)
        missing = sorted(host.name for host in self.hosts if host not in keys)
        if missing:
            self.notes.append("No host was made to trust %s, whose key is not known: repeat this when that is mended."
                              % ", ".join(missing))

    def distrust(self, uuids):
        """uuids: of hosts that are to be trusted no more; None: of all that were ever trusted by this means."""
        arguments = dict(self._dry_run)
        if uuids is not None:
            arguments["host_uuids"] = json.dumps(uuids)
        self._run("distrust", lambda host: _read_steps(self._call(host, "distrust_keys", arguments)))

    def doctor(self, arguments):
        self._run("doctor", lambda host: _read_checks(self._call(host, "doctor", arguments)))

    def version(self):
        self._run("version", lambda host: _read_version(self._call(host, "version", {})))

    def _run(self, stage, function):
        """function(host) -> [Row] on each host, into the results."""
        found = self.results.setdefault(stage, {})

        def do(host):
            try:
                found[host] = function(host)
            except problems.NotReached:
                raise
            except problems.Problem as problem:
                found[host] = [Row(stage, PROBLEM, problem.text, problem.fix)]
        self._visit(stage, do)

    def _visit(self, title, function):
        hosts = [host for host in self.hosts if not host.problem]

        def do(host):
            try:
                function(host)
            except problems.NotReached as problem:
                host.problem = problem
        with self._progress.stage(title, len(hosts)) as advance:
            crew.do_all(do, hosts, self._stopping, advance)

    def _call(self, host, function, arguments):
        return host.pool.call(host, function, arguments)


def _read_steps(reply):
    rows = [Row(*row) for row in _read_rows(reply, ("step", "outcome", "detail", "fix"))]
    if not all(row.outcome in _STEP_OUTCOMES for row in rows):
        _refuse()
    return rows


def _read_checks(reply):
    return [Row(check, OK, found, None) if ok is True else Row(check, PROBLEM, problem or found, fix)
            for check, ok, found, problem, fix in _read_rows(reply, ("check", "ok", "found", "problem", "fix"))]


def _read_version(reply):
    if not isinstance(reply, dict):
        _refuse()
    return [Row(name, OK, str(reply.get(name)), None) for name in ("release", "interface", "python")]


def _read_key(reply):
    names = ("public_key", "addresses", "host_keys")
    if not isinstance(reply, dict) or not set(names) <= set(reply):
        _refuse()
    return {name: reply[name] for name in names}


def _read_rows(reply, names):
    """Tuples of the fields `names` of a list of maps; the first is a text."""
    if not isinstance(reply, list) or not all(isinstance(row, dict) and isinstance(row.get(names[0]), str) for row in reply):
        _refuse()
    return [tuple(row.get(name) for name in names) for row in reply]


def _refuse():
    raise problems.Problem("the plug-in's answer is not of the form that this program knows",
                           "have the same version of both: dom0-plugins --version, dom0-plugins version")
