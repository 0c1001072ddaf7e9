# SPDX-License-Identifier: Apache-2.0
"""What the linter cannot see: rules that keep the code runnable on Python 2.7 and 3.6, and its licence clear."""

import ast
import os
import sys

import pytest

# tests/conftest.py leaves this file out where it is found, pytest runs it all the same where it is named.
if sys.version_info < (3,):
    pytest.skip("not applicable: Python 2 cannot read Python 3", allow_module_level=True)

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LICENCE_LINE = "# SPDX-License-Identifier: Apache-2.0"
FUTURE_NAMES = ["absolute_import", "division"]


def list_sources(*tops):
    paths = [os.path.join(parent, name) for top in tops for parent, _, names in os.walk(os.path.join(CHECKOUT, top))
             for name in names if name.endswith(".py")]
    return sorted(os.path.relpath(path, CHECKOUT) for path in paths)


EVERYTHING = list_sources("dom0_lib", "dom0_plugins", "plugins", "packaging", "tests") + ["setup.py"]
DOM0_CODE = list_sources("dom0_lib", "plugins")


def read(path):
    with open(os.path.join(CHECKOUT, path), encoding="utf-8") as source:
        return source.read()


def list_strings_with_code(tree):
    return ["line %d" % node.lineno for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]


def list_annotations(tree):
    annotated = [node for node in ast.walk(tree) if isinstance(node, ast.AnnAssign)
                 or isinstance(node, ast.arg) and node.annotation
                 or isinstance(node, ast.FunctionDef) and node.returns]
    return ["line %d" % node.lineno for node in annotated]


def list_digit_methods(tree):
    return ["line %d" % node.lineno for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and node.attr in ("isdigit", "isdecimal", "isnumeric")]


@pytest.mark.parametrize("path", EVERYTHING)
def test_a_file_names_its_licence(path):
    lines = read(path).splitlines()
    assert lines[1 if lines[0].startswith("#!") else 0] == LICENCE_LINE


@pytest.mark.parametrize("path", EVERYTHING)
def test_no_f_strings(path):
    assert not list_strings_with_code(ast.parse(read(path)))


@pytest.mark.parametrize("path", DOM0_CODE)
def test_dom0_code_has_no_annotations(path):
    assert not list_annotations(ast.parse(read(path)))


@pytest.mark.parametrize("path", DOM0_CODE)
def test_dom0_code_means_the_same_on_both_pythons(path):
    statements = ast.parse(read(path)).body[1:]
    if statements:
        assert isinstance(statements[0], ast.ImportFrom) and statements[0].module == "__future__"
        assert [alias.name for alias in statements[0].names][:2] == FUTURE_NAMES


@pytest.mark.parametrize("path", DOM0_CODE)
def test_dom0_code_asks_one_module_whether_a_text_is_a_number(path):
    assert not list_digit_methods(ast.parse(read(path))), "use text_checks: isdigit() takes superscripts, which int() does not"


def test_the_rules_see_what_they_forbid():
    assert list_strings_with_code(ast.parse("name = f'{1}'")) == ["line 1"]
    assert list_annotations(ast.parse("def send(data: bytes): pass\ndef stop() -> None: pass\nsize: int = 1")) == [
        "line 2", "line 3", "line 1"]
    assert list_digit_methods(ast.parse("a.isdigit()\nfilter(str.isdecimal, b)")) == ["line 1", "line 2"]
