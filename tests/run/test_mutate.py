# SPDX-License-Identifier: Apache-2.0
"""`make mutate`: mutants of a small module, tried by a real pytest."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.run import mutants
from tests.run import mutate

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DEADLINE_S = 120

MODULE = """\
def is_small(number, seen):
    seen.append(number)
    return number < 10


def wait(is_done):
    while not is_done:
        break
"""
TESTS = """\
from dom0_lib.room import size


def test_size():
    assert size.is_small(9, []) and not size.is_small(11, [])
    assert size.wait(True) is None
"""


@pytest.fixture
def tree(tmp_path):
    """A checkout of one module and its test; this Python is its dom0 Python 3.99."""
    for path, text in {
            "dom0_lib/__init__.py": "", "dom0_lib/room/__init__.py": "", "dom0_lib/room/size.py": MODULE, "tests/__init__.py": "",
            "tests/pytest.ini": "[pytest]\n", "tests/unit/room/test_size.py": TESTS}.items():
        write(tmp_path, path, text)
    (tmp_path / ".venvs").mkdir()
    (tmp_path / ".venvs" / "3.99").symlink_to(sys.prefix)
    return tmp_path


def write(tree, path, text):
    (tree / path).parent.mkdir(parents=True, exist_ok=True)
    (tree / path).write_text(text)


def make_command(tree, *arguments):
    return [sys.executable, "-B", "-m", "tests.run.mutate", "dom0_lib/room/size.py", "--tree", str(tree), "--sample",
            "0"] + list(arguments)


def run_mutate(tree, *arguments):
    """(exit status, output)"""
    completed = subprocess.run(make_command(tree, *arguments), cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, timeout=DEADLINE_S)
    return completed.returncode, completed.stdout.decode()


def test_survivors_are_shown_and_the_others_counted(tree):
    status, output = run_mutate(tree, "--lines", "2-3")
    lines = output.splitlines()
    assert [line for line in lines if line.startswith("dom0_lib/room/size.py:")][:-1] == [
        "dom0_lib/room/size.py:2  seen.append(number) -> pass",
        "dom0_lib/room/size.py:3  number < 10 -> number <= 10   in: return number < 10",
        "dom0_lib/room/size.py:3  10 -> 11   in: return number < 10"], output
    # return None; 10 -> 9
    assert lines[-1] == ("dom0_lib/room/size.py: 5 mutants: 2 killed, 3 survived, 0 timed out (killed), 0 not compiled, "
                         "0 equivalent"), output
    assert status == 1
    assert (tree / "dom0_lib/room/size.py").read_text() == MODULE


def test_an_equivalent_mutant_is_left_out_and_a_stale_one_told(tree):
    block = "dom0_lib/room/size.py\n    %s\n    %s\n    No caller reads it,\n    not even a test.\n"
    write(tree, mutate.EQUIVALENTS, "# a comment\n\n" + block % ("seen.append(number)", "seen.append(number) -> pass")
          + "\n" + block % ("gone()", "gone() -> pass"))
    status, output = run_mutate(tree, "--lines", "2")
    assert output.splitlines()[-2:] == [
        "dom0_lib/room/size.py: 1 mutants: 0 killed, 0 survived, 0 timed out (killed), 0 not compiled, 1 equivalent",
        "tests/run/equivalent_mutants.txt: dom0_lib/room/size.py has no such mutant any more: gone() -> pass in gone()"], output
    assert status == 0


def test_a_mutant_that_runs_for_ever_is_killed(tree):
    write(tree, "dom0_lib/room/size.py", MODULE.replace("        break", "        is_done = True"))
    write(tree, "tests/unit/room/test_size.py", TESTS.replace("wait(True)", "wait(False)"))
    found = [mutant for mutant in mutants.list_mutants((tree / "dom0_lib/room/size.py").read_bytes())
             if mutant.change == "True -> False"]
    with mutate._Copy(str(tree), "dom0_lib/room/size.py", "3.99") as copy:
        suite = mutate.Suite("3.99", ["tests/unit/room/test_size.py"], DEADLINE_S)
        assert copy.run_tests(suite)[0] == 0
        verdict = copy.try_mutant(found[0], [suite._replace(deadline_s=3)])
    assert verdict.result == mutate.TIMED_OUT


def test_tests_that_fail_without_a_mutation_are_refused(tree):
    write(tree, "tests/unit/room/test_size.py", TESTS.replace("9", "12"))
    status, output = run_mutate(tree)
    assert status == 2
    assert "mutate: tests/unit/room/test_size.py fails without any mutation (Python 3.99):" in output


@pytest.mark.parametrize("arguments, message", [
    (["--tests", "tests/unit/test_gone.py"], "mutate: --tests: there is no tests/unit/test_gone.py"),
    (["--lines", "x"], "mutate: --lines x: two line numbers, such as 10-20"),
])
def test_a_wrong_argument_is_one_line(tree, arguments, message):
    assert run_mutate(tree, *arguments) == (2, message + "\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_leaves_nothing(tree, number):
    """In the middle of a mutant whose test goes on for long."""
    write(tree, "tests/unit/room/test_size.py", TESTS + """\
    if size.is_small(10, []):
        import pathlib, time
        pathlib.Path(%r).write_text(str(__import__("os").getpid()))
        time.sleep(600)
""" % str(tree / "started"))
    (tree / "tmp").mkdir()
    process = subprocess.Popen(make_command(tree, "--lines", "3"), cwd=CHECKOUT, stdin=subprocess.DEVNULL,
                               env=dict(os.environ, TMPDIR=str(tree / "tmp")))
    try:
        ends_at = time.monotonic() + DEADLINE_S
        while not (tree / "started").exists() or not (tree / "started").read_text():
            assert time.monotonic() < ends_at and process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(DEADLINE_S) != 0
    finally:
        process.kill()
        process.wait()
    assert os.listdir(str(tree / "tmp")) == []
    assert not os.path.exists("/proc/" + (tree / "started").read_text())
