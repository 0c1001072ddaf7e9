# SPDX-License-Identifier: Apache-2.0
"""Prepares environments and runs tests. Needs nothing but a Python 3 (>= 3.6) and its standard library.

    python3 -m tests.run test               everything, on every dom0 Python
    python3 -m tests.run compat             unmodified nova and os-xenapi's client, and os-xenapi's own plug-ins
    python3 -m tests.run check              lint and fast tests on one Python
    python3 -m tests.run lint               lint alone
    python3 -m tests.run harness MODULE ... a module of the simulated host, in an environment for it alone
    python3 -m tests.run docs               the examples in docs/WIRE.md, run and written anew
    python3 -m tests.run bench ...          the benchmarks, with tests.bench's options, on every dom0 Python
    python3 -m tests.run fuzz ...           fuzzing, with the options of tests.security.fuzz
    python3 -m tests.run mutate ...         mutants of a module, with the options of tests.run.mutate
"""

import concurrent.futures
import os
import sys

from tests.run import environments
from tests.run import interpreters
from tests.run import system_tools
from tests.run.steps import Step, run_alone, run_together, summarize

IN_CI = os.environ.get("CI") == "true"
WORKERS = 2
# Steps of fast tests: 45 s of computing and 13 s in the kernel for each Python, and half as much again of waiting.
FAST_STEPS = 4
# Of integration tests, which wait for each other's processes and for deadlines half of the time.
INTEGRATION_WORKERS = 4

# A test that hangs fails after this; a step that hangs in spite of it is ended. Ten times as much as they take on a machine that
# does nothing else: slow is no failure.
TEST_DEADLINE_S = 600
FAST_DEADLINE_S = 1800
INTEGRATION_DEADLINE_S = 9000
# All targets together: enough to find a defect near an input of the corpus.
FUZZ_S = 60
FUZZ_DEADLINE_S = 600

FAST_TESTS = ["tests/unit", "tests/contract"]
# The longest tests first, so that no worker is alone with one at the end.
HOST_TESTS = ["tests/security", "tests/calls", "tests/simulator", "tests/packages", "tests/demo", "tests/bench", "tests/run"]
COMPAT_TESTS = ["tests/compat"]


def run_tests():
    left_out = _prepare_tools()
    versions, missing = _prepare_environments()
    left_out += missing
    if environments.WANTS_GLANCE:
        left_out += _prepare_glance()
    if IN_CI:
        left_out += _prepare_nova()
    left_out += _prepare_fuzzer()
    if left_out and IN_CI:
        print("\nCI runs everything; these are missing:\n" + "\n".join(left_out))
        return 1

    results = [run_alone(_lint())]
    results += run_together([_byte_compile(version) for version in versions], WORKERS)
    results += run_together([_pytest(version, FAST_TESTS, FAST_DEADLINE_S) for version in versions], FAST_STEPS)
    host_tests = HOST_TESTS + (COMPAT_TESTS if IN_CI else [])
    results.append(run_alone(_pytest("host", host_tests, INTEGRATION_DEADLINE_S, workers=INTEGRATION_WORKERS)))
    if os.path.isdir(os.path.join(environments.ENVIRONMENTS, "fuzz")):
        results.append(run_alone(_fuzz(["--total", str(FUZZ_S), "--jobs", str(WORKERS)])))
    status = summarize(results)
    if left_out:
        print("LEFT OUT on this machine:\n" + "\n".join(left_out))
    return status


def compat():
    left_out = _prepare_tools() + _prepare_environments()[1] + _prepare_nova()
    if left_out:
        print("LEFT OUT on this machine:\n" + "\n".join(left_out), flush=True)
    return summarize([run_alone(_pytest("host", COMPAT_TESTS, INTEGRATION_DEADLINE_S, workers=INTEGRATION_WORKERS))])


def check():
    _prepare_host()
    return summarize([run_alone(_lint()), run_alone(_pytest("host", FAST_TESTS, FAST_DEADLINE_S, workers=WORKERS))])


def lint():
    _prepare_host()
    return summarize([run_alone(_lint())])


def write_docs():
    _prepare_host()
    tables = Step("tables of rooms", [environments.python_of("host"), "-B", "-m", "tests.unit.room_tables"], FAST_DEADLINE_S)
    if run_alone(tables).failure:
        return "tests.run: the tables of rooms are not written"
    _execute("host", ["tests.calls.call.wire_document"])


def run_harness_module(arguments):
    with environments.locked():
        environments.prepare_harness()
    _execute("harness", arguments)


def _execute(environment, arguments):
    python = environments.python_of(environment)
    os.execve(python, [python, "-m"] + arguments, environments.clean_environ())


def bench(arguments):
    left_out = _prepare_tools() + _prepare_environments()[1]
    if left_out:
        print("LEFT OUT on this machine:\n" + "\n".join(left_out), flush=True)
    _execute("host", ["tests.bench"] + arguments)


def mutate(arguments):
    left_out = _prepare_tools() + _prepare_environments()[1]
    if left_out:
        print("LEFT OUT on this machine:\n" + "\n".join(left_out), flush=True)
    _execute("host", ["tests.run.mutate"] + arguments)


def _prepare_tools():
    needed = system_tools.list_missing()
    host = interpreters.find_host()
    if host and not environments.has_venv(host):
        needed.append(system_tools.Tool("venv", "python3-venv", "the environments"))
    system_tools.install(needed)
    return ["  %s: %s (Debian package %s)" % (tool.name, tool.purpose, tool.package)
            for tool in system_tools.list_missing()]


def _prepare_host():
    with environments.locked():
        return environments.prepare_host()


def _prepare_environments():
    """Make all environments; returns the versions that can be tested and a line for each that cannot."""
    found = [(version, interpreters.find_dom0(version)) for version in interpreters.DOM0_VERSIONS]
    available = [(version, python) for version, python in found if python]
    missing = ["  Python %s: plug-ins on the dom0s that have it" % version for version, python in found if not python]
    with environments.locked():
        host = environments.prepare_host()
        print("Pythons\n  %-5s %-8s %s" % ("host", host.release, host.path))
        for version, python in found:
            print("  %-5s %-8s %s" % (version, python.release if python else "-", python.path if python else "not found"))
        sys.stdout.flush()
        with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(lambda pair: environments.prepare_dom0(*pair), available))
        environments.prepare_os_xenapi()
        reason = environments.prepare_xenstored()
        if reason:
            missing.append("  xenstored and oxenstored of Debian 12, to be tested against: %s" % reason)
    return [version for version, _ in available], missing


def _prepare_nova():
    with environments.locked():
        return [] if environments.prepare_nova() else ["  Python %s: nova and os-xenapi's client" % environments.NOVA_PYTHON]


def _prepare_glance():
    with environments.locked():
        return [] if environments.prepare_glance() else ["  Python %s: the real Glance" % " or ".join(environments.GLANCE_PYTHONS)]


def _prepare_fuzzer():
    with environments.locked():
        return [] if environments.prepare_fuzzer() else ["  Python %s: fuzzing" % " or ".join(environments.FUZZER_PYTHONS)]


def fuzz(arguments):
    left_out = _prepare_fuzzer()
    if left_out:
        return "tests.run: nothing to fuzz with: needs\n" + "\n".join(left_out)
    _execute("fuzz", ["tests.security.fuzz"] + arguments)


def _fuzz(arguments):
    return Step("fuzzing, %d s" % FUZZ_S, [environments.python_of("fuzz"), "-B", "-m", "tests.security.fuzz"] + arguments,
                FUZZ_DEADLINE_S)


def _lint():
    command = [environments.python_of("host"), "-m", "ruff", "check", "--no-cache", "--output-format", "concise", "."]
    return Step("lint", command, FAST_DEADLINE_S)


def _byte_compile(version):
    return Step("byte-compile, Python %s" % version,
                [environments.python_of(version), "-B", "tests/run/byte_compile.py", "dom0_lib", "plugins"],
                FAST_DEADLINE_S)


def _pytest(environment, directories, deadline_s, workers=0):
    directories = [directory for directory in directories if os.path.isdir(os.path.join(environments.CHECKOUT, directory))]
    # -B: Python 2 would import the .pyc of a module that is gone, so it must not leave any in the checkout.
    command = [environments.python_of(environment), "-B", "-m", "pytest", "-c", "tests/pytest.ini",
               "-o", "cache_dir=%s/%s/pytest_cache" % (environments.ENVIRONMENTS, environment)]
    if workers:
        # Neighbours stay together, as they share hosts; an idle worker takes half of another worker's tests.
        command += ["-n", str(workers), "--dist", "worksteal", "--timeout", str(TEST_DEADLINE_S)]
    names = " + ".join(os.path.basename(directory) for directory in directories)
    return Step("%s tests, Python %s" % (names, environment), command + directories, deadline_s)


COMMANDS = {"test": run_tests, "docs": write_docs, "compat": compat, "check": check, "lint": lint}


def main(arguments):
    try:
        if arguments[:1] == ["harness"] and len(arguments) > 1:
            return run_harness_module(arguments[1:])
        if arguments[:1] == ["bench"]:
            return bench(arguments[1:])
        if arguments[:1] == ["fuzz"]:
            return fuzz(arguments[1:])
        if arguments[:1] == ["mutate"]:
            return mutate(arguments[1:])
        if len(arguments) == 1 and arguments[0] in COMMANDS:
            return COMMANDS[arguments[0]]()
    except environments.EnvironmentFailed as error:
        return "tests.run: %s" % error
    return __doc__


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
