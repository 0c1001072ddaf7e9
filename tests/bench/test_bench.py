# SPDX-License-Identifier: Apache-2.0
"""The benchmark itself: every row does its job, on an image too small to measure anything."""

import collections
import re
import subprocess
import sys

import pytest

from tests.bench import __main__ as bench_main
from tests.bench.comparison import Comparison, DifferenceTarget, MemoryTarget, RatioTarget
from tests.harness import fixtures
from tests.harness.guests import xenstored
from tests.run import environments

DEADLINE_S = 600


OURS, OLD = "ours, Python 3.12", "ours, Python 2.7"
OS_XENAPI = "os-xenapi 0.3.4, Python 2.7"
# benchmark: (tools that it needs, {row: in how many of its tables}, number of its targets)
BENCHMARKS = {
    "download": (["curl", "pigz"], {
        OURS + " (syncs)": 1, OLD + " (syncs)": 1, OS_XENAPI: 1, OS_XENAPI + ", then sync": 1, "curl | tar -xz": 1,
        "curl | tar -xz, then sync": 1, "curl | pigz -dc | tar -x": 1, "curl | pigz -dc | tar -x, then sync": 1}, 4),
    "upload": (["curl", "pigz"], {OURS: 1, OLD: 1, OS_XENAPI: 1, "tar -cz | curl": 1, "tar -c | pigz | curl": 1}, 8),
    "migration": (["rsync", "ssh", "sshd"], {OURS: 1, OLD: 1, OS_XENAPI: 1, "rsync -a -e ssh": 1}, 4),
    "kernel": ([], {
        "dd bs=1M conv=fsync": 1, "ours, copy_vdi, Python 2.7": 1, "ours, copy_vdi, Python 3.6": 1,
        "ours, copy_vdi, Python 3.12": 1}, 6),
    "overhead": ([], {
        "python -c pass": 5, "ours, get_version": 5, "only xmlrpc.client: loads, dumps": 5,
        "os-xenapi 0.3.4, get_version": 1}, 5),
    "cheap": ([], {
        "python -c pass": 5, "get_version, which does nothing": 5, "bandwidth of one domain": 5, "console log": 5,
        "setting of xapi.conf": 5, "uptime": 5, "garbage collection": 5, "type of a PCI device": 5,
        "bandwidth of 2,000 interfaces": 5}, 5 * 7),
    "commands": ([], {
        "python -c pass": 3, "python -c pass, then the command": 3, "netwrap.py": 3,
        "netwrap.py that does not ask XAPI for the caller's role": 3}, 3 * 2),
    "xenstore": (["xenstored"], {
        "python -c pass": 6, "get_version, which does nothing": 6, "ours, read_record": 6, "ours, list_records of 1000 keys": 7,
        "os-xenapi 0.3.4, list_records of 1000 keys": 1}, 13),
    "agent": (["xenstored"], {"xenstore-watch, ends at the answer": 6, "ours, version": 7, "os-xenapi 0.3.4, version": 1}, 7),
}


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=pytest.mark.needs(*(tool for tool in tools if tool != "xenstored")))
    for name, (tools, _, _) in BENCHMARKS.items()])
def test_every_row_is_measured(tmp_path, name):
    tools, rows, target_count = BENCHMARKS[name]
    if "xenstored" in tools:
        for kind in xenstored.REAL:
            fixtures.require_xenstored(kind)
    output = _bench("--only", name, "--data-mib", "4", "--rounds", "1", "--work-dir", str(tmp_path))
    assert collections.Counter(re.findall(r"^ (\S.*?) {2,}\d+\.\d", output, re.MULTILINE)) == rows
    verdicts = re.findall(r"^  target <= \S+(?: MiB| ms)? +(met|MISSED) ", output, re.MULTILINE)
    assert len(verdicts) == target_count
    assert output.splitlines()[-1] == "targets: %d met, %d MISSED" % (verdicts.count("met"), verdicts.count("MISSED"))


def test_no_benchmark_is_left_out():
    assert list(BENCHMARKS) == [benchmark.NAME for benchmark in bench_main.BENCHMARKS]


def test_one_benchmark_can_be_chosen(tmp_path):
    output = _bench("--only", "overhead", "--rounds", "1", "--work-dir", str(tmp_path))
    assert "overhead of a call, Python 3.12" in output
    assert "download" not in output
    assert list(tmp_path.iterdir()) == []


def test_time_and_memory_are_those_of_the_processes():
    spin = "import time; start = time.process_time()\nwhile time.process_time() < start + 0.2: pass"
    hold = "import time; held = bytearray(60 << 20); time.sleep(1)"
    comparison = Comparison("test", [_python("spin", spin), _python("hold", hold)], "spin", [
        RatioTarget("spin", "hold", 10000), RatioTarget("hold", "spin", 0.0001), MemoryTarget("spin", 64), MemoryTarget("hold", 64),
        DifferenceTarget("spin and on", "spin", 60000), DifferenceTarget("spin and on", "spin", 150)])
    outcome = comparison.measure(rounds=2, with_memory=True)
    # It waits longer than any start of an interpreter computes.
    assert outcome.cpu_s("spin") >= 0.2 and outcome.cpu_s("hold") < 1 <= outcome.walls_s("hold").low
    assert outcome.walls_s("spin and on").median >= outcome.walls_s("spin").median + 0.2
    assert outcome.peaks["hold"].largest_bytes >= 60 << 20 > outcome.peaks["spin"].largest_bytes > 1 << 20
    assert [verdict.is_met for verdict in outcome.verdicts()] == [True, False, True, False, True, False]


def _python(row, program):
    def way(watch):
        with watch(row):
            subprocess.run([sys.executable, "-c", program], check=True, timeout=DEADLINE_S)
        with watch(row + " and on", after=row):
            subprocess.run([sys.executable, "-c", "import time; time.sleep(0.2)"], check=True, timeout=DEADLINE_S)
    return way


def _bench(*arguments):
    return subprocess.run([sys.executable, "-B", "-m", "tests.bench"] + list(arguments), cwd=environments.CHECKOUT,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True, universal_newlines=True,
                          timeout=DEADLINE_S).stdout
