# SPDX-License-Identifier: Apache-2.0
"""The benchmark itself: every row does its job, on an image that is no measure of anything."""

import re
import subprocess
import sys

import pytest

from tests.bench.comparison import Comparison, DifferenceTarget, MemoryTarget, RatioTarget
from tests.harness import fixtures
from tests.harness.guests import xenstored
from tests.run import environments

DEADLINE_S = 600


@pytest.mark.needs("curl", "pigz", "rsync", "ssh", "sshd")
def test_every_row_is_measured(tmp_path):
    for kind in xenstored.REAL:
        fixtures.require_xenstored(kind)
    output = _bench("--data-mib", "4", "--rounds", "1", "--work-dir", str(tmp_path))
    rows = re.findall(r"^ (\S.*?) {2,}\d+\.\d", output, re.MULTILINE)
    counts = {"ours, Python 3.12 (syncs)": 1, "ours, Python 2.7 (syncs)": 1, "os-xenapi 0.3.4, Python 2.7, then sync": 1,
              "curl | tar -xz": 1, "curl | pigz -dc | tar -x": 1,
              "ours, Python 3.12": 2, "ours, Python 2.7": 2, "os-xenapi 0.3.4, Python 2.7": 3, "rsync -a -e ssh": 1,
              "dd bs=1M conv=fsync": 1, "ours, copy_vdi, Python 2.7": 1, "ours, copy_vdi, Python 3.6": 1,
              "ours, copy_vdi, Python 3.12": 1,
              "tar -cz | curl": 1, "tar -c | pigz | curl": 1,
              "os-xenapi 0.3.4, get_version": 1, "python -c pass": 10 + 6 + 3, "ours, get_version": 5,
              "only xmlrpc.client: loads, dumps": 5,
              "get_version, which does nothing": 5 + 6, "console log": 5, "uptime": 5, "bandwidth of 2,000 interfaces": 5,
              "python -c pass, then the command": 3, "netwrap.py": 3,
              "ours, read_record": 6, "ours, list_records of 1000 keys": 7, "os-xenapi 0.3.4, list_records of 1000 keys": 1,
              "xenstore-watch, ends at the answer": 6, "ours, version": 7, "os-xenapi 0.3.4, version": 1}
    assert {row: rows.count(row) for row in counts} == counts
    verdicts = re.findall(r"^  target <= \S+(?: MiB| ms)? +(met|MISSED) ", output, re.MULTILINE)
    assert len(verdicts) == 4 + 8 + 4 + 6 + 5 + 5 * 7 + 3 * 2 + 13 + 7
    assert output.splitlines()[-1] == "targets: %d met, %d MISSED" % (verdicts.count("met"), verdicts.count("MISSED"))


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
