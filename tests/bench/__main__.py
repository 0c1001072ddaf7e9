# SPDX-License-Identifier: Apache-2.0
"""Measure and judge: python -m tests.bench. The exit status tells nothing about targets; the last line does."""

import argparse
import os
import signal
import sys

from tests.bench import agent
from tests.bench import call_overhead
from tests.bench import cheap_calls
from tests.bench import commands
from tests.bench import download
from tests.bench import image
from tests.bench import migration
from tests.bench import kernel
from tests.bench import upload
from tests.bench import xenstore
from tests.bench.report import Report
from tests.run import environments
from tests.run import interpreters

# Each has a NAME and a function run(options, report).
BENCHMARKS = (download, upload, migration, kernel, call_overhead, cheap_calls, commands, xenstore, agent)


def main(arguments=None):
    options = _parse(arguments)
    # Servers and trees that were made for this go with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("tests.bench: told to end"))
    os.makedirs(options.work_dir, exist_ok=True)
    options.work_dir = os.path.realpath(options.work_dir)
    options.pythons = _find_pythons()
    report = Report()
    report.print_machine([interpreters.probe(python).release for python in options.pythons.values()], options.work_dir)
    try:
        for benchmark in BENCHMARKS:
            if not options.only or benchmark.NAME in options.only:
                benchmark.run(options, report)
    except image.ImageFailed as error:
        return "tests.bench: %s" % error
    report.print_summary()
    return 0


def _parse(arguments):
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=[benchmark.NAME for benchmark in BENCHMARKS],
                        help="this benchmark; may be given more than once")
    parser.add_argument("--rounds", type=int, metavar="N", help="timed runs of each row, in place of each benchmark's own number")
    parser.add_argument("--data-mib", type=int, default=800, metavar="N", help="data on the disk that is moved (default: 800)")
    parser.add_argument("--work-dir", default=os.path.join(environments.CHECKOUT, "build", "bench"), metavar="DIR",
                        help="where images are kept and SRs are made, so the file system that is measured (default: build/bench)")
    return parser.parse_args(arguments)


def _find_pythons():
    """{version: path} of the dom0 environments that there are."""
    paths = {version: environments.python_of(version) for version in interpreters.DOM0_VERSIONS}
    return {version: path for version, path in paths.items() if os.path.exists(path)}


if __name__ == "__main__":
    sys.exit(main())
