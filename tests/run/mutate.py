# SPDX-License-Identifier: Apache-2.0
"""Do the tests bite? Changes one operator, condition, number or statement of a module at a time and runs the tests that can
see the module.

    make mutate MODULE=dom0_lib/storage/sr_lock.py ARGS="--sample 40 --seed 2"

Mutants are made in a copy of the tree under the temporary directory. A mutant that all tests pass has survived: write a test
that fails, or if the mutant behaves like the module in every case, a block in tests/run/equivalent_mutants.txt. Exit status: 0
no survivors, 1 survivors, 2 the run is not possible, for example because the tests fail without any mutation.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from tests.run import environments
from tests.run import mutants
from tests.run import related_tests

EQUIVALENTS = "tests/run/equivalent_mutants.txt"

PREFIX = "mut-"
NOT_COPIED = shutil.ignore_patterns(
    PREFIX + "*", ".git", ".venvs", "build", "dist", "__pycache__", "*.pyc", ".hypothesis", ".pytest_cache", ".ruff_cache")

# A mutant has this much more time than the module, as other work on the machine changes the speed of both.
DEADLINE_FACTOR = 3
DEADLINE_EXTRA_S = 20
BASELINE_DEADLINE_S = 900
# pytest ends the servers that tests have started when it is interrupted.
INTERRUPT_GRACE_S = 20
NO_TESTS = 5

Equivalent = collections.namedtuple("Equivalent", "module line_text change reason")
# `environment` runs the pytest arguments `arguments`.
Suite = collections.namedtuple("Suite", "environment arguments deadline_s")
Verdict = collections.namedtuple("Verdict", "mutant result by")

KILLED, TIMED_OUT, SURVIVED, NOT_COMPILED = "killed", "timed out", "survived", "not compiled"


class Unusable(Exception):
    """The run is not possible; the text names the reason."""


def main(arguments):
    options = _parse(arguments)
    # As an interrupt: the tests that run are ended, and the copies removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))
    try:
        return run(options)
    except Unusable as error:
        print("mutate: %s" % error, file=sys.stderr)
        return 2


def _parse(arguments):
    parser = argparse.ArgumentParser(prog="make mutate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", help="path of a module of dom0_lib")
    parser.add_argument("--sample", type=int, default=20, metavar="N", help="this many mutants, 0: all (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="chooses the sample (default: %(default)s)")
    parser.add_argument("--lines", metavar="A-B", help="mutants of these lines alone")
    parser.add_argument("--python", metavar="VERSION", help="a dom0 Python, such as 2.7 (default: the newest)")
    parser.add_argument("--tests", nargs="+", metavar="FILE", help="these test files in place of those that are found")
    parser.add_argument("--host-tests", type=int, default=2, metavar="N",
                        help="at most this many files of tests on the simulated host (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="mutants tried at a time (default: %(default)s)")
    parser.add_argument("--list", action="store_true", help="show the tests and the mutants, run nothing")
    parser.add_argument("--verbose", action="store_true", help="a line for each mutant, not for survivors alone")
    parser.add_argument("--tree", default=environments.CHECKOUT, metavar="DIRECTORY", help="a checkout (default: this one)")
    return parser.parse_args(arguments)


def run(options):
    tree = os.path.abspath(options.tree)
    module = os.path.relpath(os.path.join(tree, options.module), tree)
    if not module.startswith("dom0_lib" + os.sep) or not os.path.isfile(os.path.join(tree, module)):
        raise Unusable("MODULE=%s is no module of dom0_lib, such as dom0_lib/disks/vhd.py" % options.module)
    with open(os.path.join(tree, module), "rb") as source:
        every = mutants.list_mutants(source.read())
    equivalents, stale = _match(read_equivalents(tree), module, every)
    chosen = mutants.choose(_within(every, options.lines), options.sample, options.seed)
    tried = [mutant for mutant in chosen if _key(mutant) not in equivalents]
    python = options.python or _find_newest_python(tree)
    files = _list_suites(options, tree, module, python)
    if options.list:
        for suite in files:
            print("tests  Python %-5s %s" % (suite.environment, " ".join(suite.arguments)))
        for mutant in chosen:
            print("%s:%d  %s%s" % (module, mutant.line, mutant.change, "" if mutant in tried else "  (equivalent)"))
        return 0
    verdicts = _try_all(options, tree, module, python, files, tried)
    return _summarize(module, verdicts, len(chosen) - len(tried), stale)


def _summarize(module, verdicts, equivalent_count, stale):
    counts = collections.Counter(verdict.result for verdict in verdicts)
    print("%s: %d mutants: %d killed, %d survived, %d timed out (killed), %d not compiled, %d equivalent" % (
        module, len(verdicts) + equivalent_count, counts[KILLED], counts[SURVIVED], counts[TIMED_OUT], counts[NOT_COMPILED],
        equivalent_count))
    for equivalent in stale:
        print("%s: %s has no such mutant any more: %s in %s" % (EQUIVALENTS, module, equivalent.change, equivalent.line_text))
    return 1 if counts[SURVIVED] else 0


def read_equivalents(tree):
    """The blocks of equivalent_mutants.txt."""
    path = os.path.join(tree, EQUIVALENTS)
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as source:
        text = "\n".join(line.rstrip() for line in source if not line.startswith("#"))
    found = []
    for block in re.split(r"\n{2,}", text.strip("\n")):
        lines = [line.strip() for line in block.split("\n") if line.strip()]
        if lines and len(lines) < 4:
            raise Unusable("%s: a block is a module, a line, a change and a reason: %s" % (EQUIVALENTS, block))
        if lines:
            found.append(Equivalent(lines[0], lines[1], lines[2], " ".join(lines[3:])))
    return found


def _match(equivalents, module, every):
    """The keys of this module's equivalents, and those that match no mutant."""
    keys = {_key(mutant) for mutant in every}
    own = [equivalent for equivalent in equivalents if equivalent.module == module]
    return ({(equivalent.line_text, equivalent.change) for equivalent in own},
            [equivalent for equivalent in own if (equivalent.line_text, equivalent.change) not in keys])


def _key(mutant):
    return mutant.line_text, mutant.change


def _within(every, lines):
    if not lines:
        return every
    first, _, last = lines.partition("-")
    if not first.isdigit() or not (last or first).isdigit():
        raise Unusable("--lines %s: two line numbers, such as 10-20" % lines)
    return [mutant for mutant in every if int(first) <= mutant.line <= int(last or first)]


def _find_newest_python(tree):
    directory = os.path.join(tree, environments.ENVIRONMENTS_NAME)
    versions = [name for name in _list(directory) if _is_version(name) and os.path.exists(os.path.join(directory, name, "bin"))]
    if not versions:
        raise Unusable("no environment of a dom0 Python in %s: make test makes them" % directory)
    return max(versions, key=lambda version: [int(number) for number in version.split(".")])


def _is_version(name):
    return re.match(r"\d+\.\d+\Z", name) is not None


def _list(directory):
    return os.listdir(directory) if os.path.isdir(directory) else []


def _list_suites(options, tree, module, python):
    """A suite for each test file, without deadlines yet."""
    if options.tests:
        missing = [path for path in options.tests if not os.path.isfile(os.path.join(tree, path))]
        if missing:
            raise Unusable("--tests: there is no %s" % ", ".join(missing))
        host_rooms = tuple(room + "/" for room in related_tests.list_host_rooms(tree))
        return [Suite("host" if path.startswith(host_rooms) else python, [path], None) for path in options.tests]
    related = related_tests.find(tree, module)
    paths, expression = related.contract
    suites = [Suite(python, [path], None) for path in related.fast]
    suites += [Suite(python, [path] + (["-k", expression] if expression else []), None) for path in paths]
    suites += [Suite("host", [path], None) for path in related.host[:options.host_tests]]
    if not suites:
        raise Unusable("no test imports %s or calls it: name some with --tests" % module)
    return suites


def _try_all(options, tree, module, python, files, tried):
    with contextlib.ExitStack() as stack:
        copies = [stack.enter_context(_Copy(tree, module, python)) for _ in range(max(1, options.jobs))]
        suites = _measure(copies[0], files)
        free = queue.Queue()
        for copy in copies:
            free.put(copy)

        def try_one(mutant):
            copy = free.get()
            try:
                return copy.try_mutant(mutant, suites)
            finally:
                free.put(copy)
        verdicts = []
        with concurrent.futures.ThreadPoolExecutor(len(copies)) as pool:
            try:
                for verdict in pool.map(try_one, tried):
                    verdicts.append(verdict)
                    _show(module, verdict, options.verbose)
            except BaseException:
                for copy in copies:
                    copy.stop()
                raise
        return verdicts


def _show(module, verdict, is_verbose):
    where = "%s:%d  %s" % (module, verdict.mutant.line, verdict.mutant.change)
    context = "" if verdict.mutant.line_text in verdict.mutant.change else "   in: " + verdict.mutant.line_text
    if verdict.result == SURVIVED:
        print("%s%s%s" % ("SURVIVED  " if is_verbose else "", where, context), flush=True)
    elif is_verbose:
        print("%-8s  %s%s%s" % (verdict.result, where, context, "   by: " + verdict.by if verdict.by else ""), flush=True)


def _measure(copy, files):
    """Run each file on the module as it is; the files with deadlines, fast ones first."""
    measured = []
    for suite in files:
        started = time.monotonic()
        status, text = copy.run_tests(suite._replace(deadline_s=BASELINE_DEADLINE_S))
        seconds = time.monotonic() - started
        if status == NO_TESTS:
            continue
        if status != 0:
            raise Unusable("%s fails without any mutation (Python %s):\n%s" % (suite.arguments[0], suite.environment, text))
        print("%6.1f s  Python %-5s %s" % (seconds, suite.environment, suite.arguments[0]), flush=True)
        measured.append((seconds, suite._replace(deadline_s=DEADLINE_FACTOR * seconds + DEADLINE_EXTRA_S)))
    if not measured:
        raise Unusable("none of the files has a test for this Python")
    return [suite for _, suite in sorted(measured, key=lambda pair: pair[0])]


class _Copy(object):
    """A copy of the tree, in which one module changes; `python` is its only dom0 Python."""

    def __init__(self, tree, module, python):
        self._directory = tempfile.mkdtemp(prefix=PREFIX)
        # Sockets in the directories of tests have short paths.
        self._tree = os.path.join(self._directory, "t")
        self._module = os.path.join(self._tree, module)
        self._writes = 0
        self._process = None
        self._is_stopped = False
        try:
            shutil.copytree(tree, self._tree, symlinks=True, ignore=NOT_COPIED)
            self._link_environments(os.path.join(tree, environments.ENVIRONMENTS_NAME), python)
            with open(self._module, "rb") as source:
                self._source = source.read()
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self._directory, ignore_errors=True)

    def stop(self):
        """End the tests that run, and start no more.  For another thread than theirs."""
        self._is_stopped = True
        if self._process:
            _end(self._process)

    def _link_environments(self, source, python):
        own = os.path.join(self._tree, environments.ENVIRONMENTS_NAME)
        os.mkdir(own)
        for name in _list(source):
            if name == python or not (_is_version(name) or name.startswith(".")):
                os.symlink(os.path.join(os.path.realpath(source), name), os.path.join(own, name))

    def try_mutant(self, mutant, suites):
        if not mutants.is_compilable(mutant):
            return Verdict(mutant, NOT_COMPILED, None)
        self._write(mutant.new_source)
        try:
            for suite in suites:
                status, text = self.run_tests(suite)
                if status is None:
                    return Verdict(mutant, TIMED_OUT, suite.arguments[0])
                if status != 0:
                    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", text, re.M)
                    return Verdict(mutant, KILLED, failed.group(1) if failed else suite.arguments[0])
            return Verdict(mutant, SURVIVED, None)
        finally:
            self._write(self._source)

    def _write(self, source):
        with open(self._module, "wb") as target:
            target.write(source)
        # Cached byte-code is taken as the module's if size and second are the same.
        self._writes += 1
        os.utime(self._module, (self._writes * 10, self._writes * 10))

    def run_tests(self, suite):
        """(exit status or None if it was not done in time, output)"""
        if self._is_stopped:
            return None, ""
        python = os.path.join(self._tree, environments.ENVIRONMENTS_NAME, suite.environment, "bin", "python")
        command = [python, "-B", "-m", "pytest", "-c", "tests/pytest.ini", "-p", "no:cacheprovider", "-x", "-q", "--tb=line",
                   "--basetemp", os.path.join(self._directory, "b")] + suite.arguments
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(command, cwd=self._tree, env=environments.clean_environ(), stdin=subprocess.DEVNULL,
                                       stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
            self._process = process
            try:
                status = process.wait(suite.deadline_s)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                _end(process)
            output.seek(0)
            return status, output.read().decode("utf-8", "replace")


def _end(process):
    """End pytest, and the rest of its process group."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(INTERRUPT_GRACE_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
