# SPDX-License-Identifier: Apache-2.0
"""The report: the machine, a table per comparison, the targets."""

import os
import platform
import subprocess

import rich.box
import rich.console
import rich.table

WIDTH = 132
MIB = 1 << 20
# From here on wall time is shown in seconds.
SECONDS_FROM_S = 1.0


class Report(object):

    def __init__(self):
        self._console = rich.console.Console(width=WIDTH, highlight=False, markup=False)
        self._verdicts = []

    def print_machine(self, pythons, work_dir):
        """pythons: releases of the dom0 Pythons"""
        self._console.print("%s, %d cores, load %s, Linux %s, %s\nPython %s; driven by %s" % (
            _read_cpu_model(), len(os.sched_getaffinity(0)), describe_load(), platform.release(), _describe_file_system(work_dir),
            " ".join(pythons) or "for dom0: none", platform.python_version()))

    def print_line(self, text):
        self._console.print(text)

    def print_outcome(self, outcome):
        comparison = outcome.comparison
        rounds = len(outcome.samples[comparison.baseline])
        self._console.print("\n%s: %d run%s of each in turn, load then %s" % (
            comparison.title, rounds, "" if rounds == 1 else "s", describe_load()))
        self._console.print(_make_table(outcome))
        for note in comparison.notes:
            self._console.print("  " + note)
        for verdict in outcome.verdicts():
            self._verdicts.append(verdict)
            self._console.print("  target <= %-7s %-6s %s: %s" % (
                verdict.limit, "met" if verdict.is_met else "MISSED", verdict.row, verdict.text))

    def print_summary(self):
        missed = sum(1 for verdict in self._verdicts if not verdict.is_met)
        self._console.print("\ntargets: %d met, %d MISSED" % (len(self._verdicts) - missed, missed))


def describe_load():
    return "%.2f" % os.getloadavg()[0]


def _make_table(outcome):
    baseline = outcome.comparison.baseline
    in_seconds = outcome.walls_s(baseline).median >= SECONDS_FROM_S
    unit, factor, digits = ("s", 1, 2) if in_seconds else ("ms", 1000, 1)
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for heading in ["wall %s" % unit, "min - max", "times", "min - max", "CPU %s" % unit] + (
            ["peak MiB", "together"] if outcome.peaks else []) + (["size MB"] if outcome.sizes else []):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in outcome.samples:
        wall, ratio = outcome.walls_s(row), outcome.ratios(row, baseline)
        cells = [row, "%.*f" % (digits, factor * wall.median),
                 "%.*f - %.*f" % (digits, factor * wall.low, digits, factor * wall.high),
                 "%.2f" % ratio.median, "%.2f - %.2f" % (ratio.low, ratio.high),
                 "%.*f" % (digits, factor * outcome.cpu_s(row))]
        if row in outcome.peaks:
            peak = outcome.peaks[row]
            cells += ["%.1f" % (peak.largest_bytes / MIB), "%.1f" % (peak.together_bytes / MIB)]
        if row in outcome.sizes:
            cells.append("%.2f" % (outcome.sizes[row] / 1e6))
        table.add_row(*cells)
    return table


def _read_cpu_model():
    with open("/proc/cpuinfo") as source:
        for line in source:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _describe_file_system(path):
    df = subprocess.run(["df", "--output=fstype,source", path], stdout=subprocess.PIPE, universal_newlines=True, check=True,
                        timeout=60)
    return " on ".join(df.stdout.splitlines()[-1].split())
