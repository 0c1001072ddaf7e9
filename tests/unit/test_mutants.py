# SPDX-License-Identifier: Apache-2.0
"""The mutants that `make mutate` tries, the tests that it finds, and the list of mutants that no test can see."""

import os
import sys

import pytest

# tests/conftest.py leaves this file out where it is found, pytest runs it all the same where it is named.
if sys.version_info < (3, 8):
    pytest.skip("not applicable: the syntax tree has no ends of statements", allow_module_level=True)

from tests.run import mutants  # noqa: E402
from tests.run import mutate  # noqa: E402
from tests.run import related_tests  # noqa: E402

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

PLUGIN = """\
CALLS = {'measure': Call('dom0_lib.room.gauge:measure', Arg('size', SIZE)), 'weigh': Call('dom0_lib.scales:weigh')}
"""


def write(tree, path, text):
    (tree / path).parent.mkdir(parents=True, exist_ok=True)
    (tree / path).write_text(text)


def list_changes(source):
    found = mutants.list_mutants(source.encode())
    assert all(mutants.is_compilable(mutant) for mutant in found)
    return [mutant.change for mutant in found]


@pytest.mark.parametrize("source, changes", [
    ("a < b", ["a < b -> a <= b"]),
    ("a is  not b", ["a is not b -> a is b"]),
    ("a not in b", ["a not in b -> a in b"]),
    ("0 < a <= 9", ["0 < a <= 9 -> 0 < a < 9", "0 < a <= 9 -> 0 <= a <= 9", "0 -> -1", "0 -> 1", "9 -> 10", "9 -> 8"]),
    ("a and b", ["a -> True", "a and b -> a or b", "b -> True"]),
    ("not a", ["not a -> (a)"]),
    ("x = a if b else c", ["b -> False", "b -> True"]),
    ("if a: raise b", ["a -> False", "a -> True", "raise b -> pass"]),
    ("while a: pass", ["a -> False"]),
    ("while True: break", ["True -> False", "break -> pass"]),
    ("x = [a for a in b if c]", ["c -> True"]),
    ("x = 0o600", ["0o600 -> 0o577", "0o600 -> 0o601"]),
    ("a.b = c", ["a.b = c -> pass"]),
    ("a = b", []),
    ("a += b", ["a += b -> pass"]),
    ("a - b", ["a - b -> a + b"]),
    ("'a' + b", []),
    ("f(\n  a)", ["f( a) -> pass"]),
    ("def f(): return a", ["a -> None"]),
    ("def f(): return None", []),
    ("def f(): return False", ["False -> True"]),
    ("log.info('x', 1)", []),
    ("faults.point('x')", []),
    ("_LIMIT_S = 5", []),
    ("_LIMIT_BYTES = 5", ["5 -> 4", "5 -> 6"]),
    ("def f():\n  'text'\n  return", []),
    ("1 + 1", ["1 + 1 -> 1 - 1", "1 -> 0", "1 -> 2", "1 -> 0 #2", "1 -> 2 #2"]),
    ("if a:\n  f()\nelse:\n  f()", ["a -> False", "a -> True", "f() -> pass", "f() -> pass #2"]),
    ("if __name__ == '__main__': f()", []),
    ("'\u20ac'; f(a)", ["f(a) -> pass"]),
])
def test_changes(source, changes):
    assert sorted(list_changes(source)) == sorted(changes)


def test_a_sample_is_the_same_for_the_same_seed():
    found = mutants.list_mutants(b"f(%s)" % b", ".join(b"%d" % number for number in range(50)))
    sample = mutants.choose(found, 10, seed=3)
    assert len(sample) == 10
    assert sample == mutants.choose(found, 10, seed=3) != mutants.choose(found, 10, seed=4)
    assert mutants.choose(found, 0, seed=3) == mutants.choose(found, len(found), seed=3) == found


def test_related_tests_are_found_by_imports_and_calls(tmp_path):
    for path, text in {
            "dom0_lib/__init__.py": "", "dom0_lib/room/__init__.py": "", "dom0_lib/room/size.py": "", "tests/__init__.py": "",
            "tests/unit/room/test_size.py": "", "dom0_lib/room/gauge.py": "from dom0_lib.room import size\n", "dom0_lib/scales.py": "", "dom0_lib/room/alone.py": "",
            "plugins/xapi.d/plugins/room.py": PLUGIN,
            "tests/unit/ruler.py": "import dom0_lib.room.size\n", "tests/unit/__init__.py": "",
            "tests/unit/test_ruler.py": "from tests.unit import ruler\n", "tests/unit/test_scales.py": "from dom0_lib import scales\n",
            "tests/contract/test_calls.py": "",
            "tests/calls/__init__.py": "", "tests/calls/measuring.py": "CALL = 'room.py', 'measure'\n",
            "tests/calls/room/test_other.py": "'room.py', 'weigh'",
            "tests/calls/room/test_all.py": "'room.py', 'measure', 'weigh'",
            "tests/calls/room/test_gauge.py": "from tests.calls import measuring\n",
            "tests/calls/test_another_plugin.py": "'house.py', 'measure'",
            "tests/bench/test_bench.py": "'room.py', 'measure'"}.items():
        write(tmp_path, path, text)
    found = related_tests.find(str(tmp_path), "dom0_lib/room/size.py")
    assert found.fast == ["tests/unit/room/test_size.py", "tests/unit/test_ruler.py"]
    assert found.contract == (["tests/contract/test_calls.py"], "measure")
    assert found.host == ["tests/calls/room/test_gauge.py", "tests/calls/room/test_all.py"]
    assert related_tests.find(str(tmp_path), "dom0_lib/room/alone.py") == ([], ([], ""), [])


def test_the_list_of_equivalent_mutants_is_up_to_date():
    for equivalent in mutate.read_equivalents(CHECKOUT):
        with open(os.path.join(CHECKOUT, equivalent.module), "rb") as source:
            found = {(mutant.line_text, mutant.change) for mutant in mutants.list_mutants(source.read())}
        assert (equivalent.line_text, equivalent.change) in found, "delete this block, or write it as make mutate prints it"
        assert equivalent.reason
