# SPDX-License-Identifier: Apache-2.0
"""Ways to do one job, measured in turn, so that other work on the machine slows all of them alike."""

import collections
import statistics

from rich import console
from rich import progress

from tests.bench import watches

# median: the middle one of the ratios or differences of runs that followed each other, not a ratio of medians
Spread = collections.namedtuple("Spread", "low median high")
Verdict = collections.namedtuple("Verdict", "row text limit is_met")


class RatioTarget(object):
    """The wall time of `row` is at most `limit` times that of `against`."""

    def __init__(self, row, against, limit):
        self.row, self.against, self.limit = row, against, limit

    def judge(self, outcome):
        spread = outcome.ratios(self.row, self.against)
        return Verdict(self.row, "%.2f times the wall time of '%s' (%.2f - %.2f)" % (
            spread.median, self.against, spread.low, spread.high), "%.2f" % self.limit, spread.median <= self.limit)


class DifferenceTarget(object):
    """The wall time of `row` is at most `limit_ms` more than that of `against`, turn by turn."""

    def __init__(self, row, against, limit_ms):
        self.row, self.against, self.limit_ms = row, against, limit_ms

    def judge(self, outcome):
        spread = outcome.differences_s(self.row, self.against)
        return Verdict(self.row, "%.1f ms more than '%s' (%.1f - %.1f)" % (
            1000 * spread.median, self.against, 1000 * spread.low, 1000 * spread.high), "%d ms" % self.limit_ms,
            1000 * spread.median <= self.limit_ms)


class SizeTarget(object):
    """The result of `row` is at most `limit` times as large as that of `against`."""

    def __init__(self, row, against, limit):
        self.row, self.against, self.limit = row, against, limit

    def judge(self, outcome):
        ratio = outcome.sizes[self.row] / outcome.sizes[self.against]
        return Verdict(self.row, "%.3f times the size of '%s'" % (ratio, self.against), "%.2f" % self.limit, ratio <= self.limit)


class MemoryTarget(object):
    """All processes of `row` together never have more than `limit_mib` resident."""

    def __init__(self, row, limit_mib):
        self.row, self.limit_mib = row, limit_mib

    def judge(self, outcome):
        peak_mib = outcome.peaks[self.row].together_bytes / 2**20
        return Verdict(self.row, "%.0f MiB resident" % peak_mib, "%d MiB" % self.limit_mib, peak_mib <= self.limit_mib)


class Comparison(object):
    """
    ways        functions that take a watch (see watches), do the job inside `with watch(row):`, check that it is done
                and clean up
    baseline    the row that others are compared with
    targets     of RatioTarget, SizeTarget, MemoryTarget
    notes       lines to print below the table
    """

    def __init__(self, title, ways, baseline, targets=(), notes=()):
        self.title = title
        self.baseline = baseline
        self.targets = targets
        self.notes = notes
        self._ways = ways

    def measure(self, rounds, with_memory):
        """The Outcome of `rounds` turns.  The first turn is not timed: it warms caches and, with_memory, shows memory."""
        samples, peaks, sizes = collections.defaultdict(list), {}, {}
        for number in progress.track(range(rounds + 1), self.title, transient=True, console=console.Console(stderr=True)):
            for way in self._ways:
                watch = watches.MemoryWatch() if number == 0 and with_memory else watches.Stopwatch()
                way(watch)
                sizes.update(watch.sizes)
                if number > 0:
                    for row, reading in watch.readings.items():
                        samples[row].append(reading)
                elif with_memory:
                    peaks.update(watch.readings)
        return Outcome(self, dict(samples), peaks, sizes)


class Outcome(object):
    """
    samples     {row: [watches.Reading]}
    peaks       {row: watches.Peak}, empty if memory was not looked at
    sizes       {row: bytes}, of rows that make something
    """

    def __init__(self, comparison, samples, peaks, sizes):
        self.comparison = comparison
        self.samples = samples
        self.peaks = peaks
        self.sizes = sizes

    def walls_s(self, row):
        return _spread([reading.wall_s for reading in self.samples[row]])

    def cpu_s(self, row):
        return statistics.median(reading.cpu_s for reading in self.samples[row])

    def ratios(self, row, against):
        """Spread of wall time in units of another row's, turn by turn."""
        return _spread([one.wall_s / other.wall_s for one, other in zip(self.samples[row], self.samples[against])])

    def differences_s(self, row, against):
        """Spread of wall time beyond another row's, turn by turn."""
        return _spread([one.wall_s - other.wall_s for one, other in zip(self.samples[row], self.samples[against])])

    def verdicts(self):
        return [target.judge(self) for target in self.comparison.targets]


def _spread(values):
    return Spread(min(values), statistics.median(values), max(values))
