# SPDX-License-Identifier: Apache-2.0
"""The result of a command: a table with the problems below it, or JSON."""

import collections
import json
import sys

import rich.box
import rich.console
import rich.table
import rich.text

from dom0_plugins import stages

# No table is as wide: output to a file or a pipe is neither cut nor wrapped.
_UNLIMITED = 100000

# Stages whose rows are the same on every host: a column for each. Of the others a column has the counts.
_WITH_COLUMNS = ("prepare", "undo prepare", "version")
_STYLES = {stages.DONE: "green", stages.OK: "green", stages.WOULD: "yellow", stages.PROBLEM: "bold red", "not reached": "bold red",
           "problems": "bold red"}

_Finding = collections.namedtuple("_Finding", "what text fix")


class Report(object):
    """pools: [pool.Pool], the unreachable ones as well; work: stages.Stages."""

    def __init__(self, command, pools, work):
        self._command = command
        self._pools = pools
        self._work = work
        # Trust has a row for each other host, named by its uuid.
        self._host_names = {host.uuid: host.name for host in work.hosts}
        self._findings = self._find()

    @property
    def is_well(self):
        """Every pool and host was reached and nothing is amiss."""
        return not self._findings

    def print_json(self):
        json.dump(self._to_data(), sys.stdout, indent=1)
        sys.stdout.write("\n")

    def print_table(self):
        """On a terminal in colours and at most as wide as that; elsewhere as wide as need be."""
        width = None if sys.stdout.isatty() else _UNLIMITED
        console = rich.console.Console(width=width, highlight=False, markup=False, emoji=False)
        with console.capture() as capture:
            console.print(self._make_table())
        # rich fills up with spaces, the empty line above the table as well.
        lines = [line.rstrip() for line in capture.get().splitlines()] + self._list_lines()
        sys.stdout.write("\n".join(lines).strip("\n") + "\n")

    def _find(self):
        """{_Finding: [who has it]}: thirty hosts with one fault are one thing to read."""
        found = collections.OrderedDict()

        def add(where, what, text, fix):
            found.setdefault(_Finding(what, text, fix), []).append(where)
        for one in self._pools + self._work.hosts:
            if one.problem:
                add(one.name, None, one.problem.text, one.problem.fix)
        for rows_of in self._work.results.values():
            for host in self._work.hosts:
                for row in rows_of.get(host, ()):
                    if row.outcome == stages.PROBLEM:
                        add(host.name, self._host_names.get(row.name, row.name), row.detail or "no reason given", row.fix)
        return found

    # The table

    def _make_table(self):
        has_pools = len(self._pools) > 1
        table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
        for title in ["pool"] * has_pools + ["host", "state"]:
            table.add_column(title)
        columns = [(stage, name) for stage in self._work.results for name in self._name_columns(stage)]
        for stage, name in columns:
            table.add_column(_clean(name or stage))
        for pool in self._pools:
            if pool.problem:
                table.add_row(*_cells(["-"] * has_pools + [pool.name, "not reached"] + ["-"] * len(columns)))
        for host in self._work.hosts:
            cells = [host.pool.name] * has_pools + [host.name, self._describe_state(host)]
            table.add_row(*_cells(cells + [self._describe(stage, name, host) for stage, name in columns]))
        return table

    def _name_columns(self, stage):
        if stage not in _WITH_COLUMNS:
            return [None]
        names = collections.OrderedDict()
        for host in self._work.hosts:
            # The row of a call that failed has the name of the stage.
            names.update((row.name, None) for row in self._work.results[stage].get(host, ()) if row.name != stage)
        return list(names) or [None]

    def _describe_state(self, host):
        if host.problem:
            return "not reached"
        outcomes = [row.outcome for found in self._work.results.values() for row in found.get(host, ())]
        return "problems" if stages.PROBLEM in outcomes else "ok"

    def _describe(self, stage, name, host):
        rows = self._work.results[stage].get(host)
        if rows is None:
            return "-"
        if name is not None:
            outcomes = [row.detail if stage == "version" else row.outcome for row in rows if row.name == name]
            return outcomes[0] if outcomes else "-"
        counts = collections.Counter(row.outcome for row in rows)
        return ", ".join("%d %s" % (counts[outcome], outcome) for outcome in stages.OUTCOMES if counts[outcome]) or "nothing to do"

    def _list_lines(self):
        lines = []
        for finding, names in self._findings.items():
            lines.append(_clean(": ".join([", ".join(names)] + [part for part in (finding.what, finding.text) if part])))
            if finding.fix:
                lines.append("    fix: " + _clean(finding.fix))
        return lines + [_clean(note) for note in self._work.notes]

    # JSON

    def _to_data(self):
        return {
            "command": self._command, "dry_run": self._work.is_dry_run, "ok": self.is_well,
            "pools": [dict(_describe_problem(pool.problem), url=pool.url, uuid=pool.uuid, name=pool.name) for pool in self._pools],
            "hosts": [dict(_describe_problem(host.problem), uuid=host.uuid, name=host.name, address=host.address,
                           pool=host.pool.uuid, stages=self._list_stages(host)) for host in self._work.hosts],
            "notes": self._work.notes,
        }

    def _list_stages(self, host):
        return {stage.replace(" ", "_"): [row._asdict() for row in found[host]]
                for stage, found in self._work.results.items() if host in found}


def _describe_problem(problem):
    return {"problem": problem and problem.text, "fix": problem and problem.fix}


def _cells(texts):
    return [rich.text.Text(_clean(text), style=_STYLES.get(text, "")) for text in texts]


def _clean(text):
    """What hosts say, without what a terminal would obey."""
    return "".join(character if character.isprintable() else "?" for character in str(text))
