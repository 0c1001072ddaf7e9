# SPDX-License-Identifier: Apache-2.0
"""Coverage-guided fuzzing of all readers of foreign data. Run it as `make fuzz`.

    --time SECONDS      for each target (60)
    --total SECONDS     for all targets together instead, as many of them at once as --jobs says; always the same inputs, and
                        at most a number of them, so that a finding in CI belongs to the change that CI looks at
    --target NAME       this one alone; may be given several times
    --jobs N            how many at once (1)
    --merge             afterwards, what has reached new code is added to tests/security/corpus

New inputs are kept in .venvs/fuzz-corpus. A finding ends its target; its input is shown as Python, and kept there as crash-...:
fix it, then put the input into the corpus and a test of it beside the module's own.
"""

import argparse
import concurrent.futures
import glob
import os
import subprocess
import sys
import tempfile

from tests.security.fuzz.targets import CORPUS, TARGETS

_KEPT = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))),
                     ".venvs", "fuzz-corpus")
# Limit for one input: the worst message that a caller can send takes half a second on an idle machine.
_INPUT_S, _MEMORY_MIB = 20, 768
_GRACE_S = 60
_SCRIPT = """#!/bin/sh
exec %s -B -m tests.security.fuzz.worker %s "$0" "$@"
"""
_SHOWN_LINES, _SHOWN_CHARACTERS = 40, 300


def fuzz(name, seconds):
    """Run one target, and keep the inputs that reach new code; whether it found something."""
    kept = os.path.join(_KEPT, name)
    os.makedirs(kept, exist_ok=True)
    return _run(name, seconds, kept)


def smoke(name, seconds):
    """Try the same inputs as ever: they follow from the seed and the corpus, where sets have one order."""
    with tempfile.TemporaryDirectory() as directory:
        return _run(name, seconds, directory, "-seed=1", "-runs=%d" % TARGETS[name].smoke_inputs)


def _run(name, seconds, directory, *more):
    options = ["-max_total_time=%d" % seconds, "-timeout=%d" % _INPUT_S, "-rss_limit_mb=%d" % _MEMORY_MIB,
               "-artifact_prefix=%s/" % _KEPT, "-print_final_stats=1"]
    options += list(more) + [directory, os.path.join(CORPUS, name)]
    status, output = _work(name, options, seconds + _GRACE_S)
    statistics = dict(line.split()[:2] for line in output.splitlines() if line.startswith("stat::"))
    print("%-10s %8s inputs, %s new%s" % (name, statistics.get("stat::number_of_executed_units:", "?"),
                                         statistics.get("stat::new_units_added:", "?"), ", FOUND SOMETHING" if status else ""))
    if status:
        print("\n".join(line[:_SHOWN_CHARACTERS] for line in output[output.find("=== Uncaught"):].splitlines()[-_SHOWN_LINES:]))
    sys.stdout.flush()
    return status != 0


def merge(name):
    """Add to the committed inputs those kept ones that reach code which no committed input reaches."""
    before = set(os.listdir(os.path.join(CORPUS, name)))
    status, output = _work(name, ["-merge=1", os.path.join(CORPUS, name), os.path.join(_KEPT, name)], 1800)
    if status:
        print(output[-3000:])
        return False
    print("%-10s %d inputs added" % (name, len(set(os.listdir(os.path.join(CORPUS, name))) - before)))
    return True


def _write_programs(names):
    """Write the scripts that start the targets: before there are threads, for a process that one of them starts would hold what
    another writes open for writing, and nobody could start that: "Text file busy"."""
    os.makedirs(_KEPT, exist_ok=True)
    for name in names:
        with open(_locate_program(name) + ".new", "w") as script:
            script.write(_SCRIPT % (sys.executable, name))
        os.chmod(script.name, 0o755)
        # Another run's processes may have just started the old one.
        os.rename(script.name, _locate_program(name))


def _locate_program(name):
    return os.path.join(_KEPT, "run-" + name)


def _work(name, options, deadline_s):
    process = subprocess.run([_locate_program(name)] + options, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, timeout=deadline_s, env=dict(os.environ, PYTHONHASHSEED="0"))
    return process.returncode, process.stdout.decode("utf-8", "replace")


def main():
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time", type=int, default=60)
    parser.add_argument("--total", type=int)
    parser.add_argument("--target", action="append", choices=sorted(TARGETS))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--merge", action="store_true")
    options = parser.parse_args()
    names = options.target or sorted(TARGETS)
    seconds = max(1, options.total * options.jobs // len(names)) if options.total else options.time
    find = smoke if options.total else fuzz
    _write_programs(names)
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        found = [name for name, is_found in zip(names, pool.map(lambda name: find(name, seconds), names)) if is_found]
    if options.merge and not found and not all([merge(name) for name in names]):
        return 1
    print("found something: %s; inputs: %s" % (", ".join(found), " ".join(glob.glob(_KEPT + "/[!r]*-*"))) if found
          else "%d targets, %d s each: nothing found" % (len(names), seconds))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
