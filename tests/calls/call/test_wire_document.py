# SPDX-License-Identifier: Apache-2.0
"""docs/WIRE.md agrees with the plug-ins' tables, and its examples answer as shown."""

import difflib
import inspect
import os
import re

import pytest

from dom0_lib import errors
from tests.calls.call import wire_document
from tests.contract import test_calls

LINES = wire_document.read_lines()
ENTRIES = wire_document.read_entries(LINES)
EXAMPLES = list(wire_document.find_examples(LINES))
ALL_CALLS = test_calls.ALL_CALLS
# Values of details[2] of a failure.
CLASSES = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, errors.PluginError)}


def test_every_call_has_an_entry_and_no_other_has():
    assert sorted(ENTRIES) == ALL_CALLS
    headings = [line for line in LINES if line.startswith("### ")]
    assert len(headings) == len(ENTRIES)


@pytest.mark.parametrize("name, function", ALL_CALLS)
def test_an_entry_says_what_the_table_says(name, function):
    call = test_calls.TABLES[name][function]
    entry = ENTRIES[name, function]
    assert sorted(wire_document.list_arguments(entry)) == sorted(row.name for row in call.rows)
    assert any("Host-level" in line for line in entry) == call.acts_on_host
    optional = {argument for line in wire_document.list_argument_rows(entry) if "optional" in line or "default" in line
                for argument in re.findall(r"`([^`]+)`", line.split("|")[1])}
    assert optional <= {row.name for row in call.rows if not row.required}


@pytest.mark.parametrize("name, function", ALL_CALLS)
def test_an_entry_lists_errors_that_there_are(name, function):
    text = "\n".join(ENTRIES[name, function])
    listed = re.findall(r"`([A-Z][a-z]\w+)`", re.split(r"\nErrors(?: besides)?: ", text, maxsplit=1)[1].partition("\n\n")[0])
    assert set(listed) - {"ImageNotFound"} <= CLASSES
    assert ("ArgumentError" in listed) == bool(test_calls.TABLES[name][function].rows)


def test_every_class_of_errors_is_explained():
    section = "\n".join(LINES).partition("## Errors")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`([A-Z][a-z]\w+)`", row)} == CLASSES


@pytest.mark.parametrize("name, function", ALL_CALLS)
def test_every_call_has_one_example(name, function):
    examples = [example for example in EXAMPLES if (example.plugin, example.function) == (name, function)]
    assert len(examples) == 1
    assert examples[0].words[:3] == ["host-uuid=HOST", "plugin=" + name, "fn=" + function]


@pytest.mark.needs("genisoimage", "mkfs.ext3", "rsync", "sfdisk")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for loop devices")
def test_the_examples_answer_what_is_written():
    recorded = wire_document.record(LINES)
    assert recorded == LINES, "`make docs` writes them anew:\n" + "\n".join(difflib.unified_diff(LINES, recorded, lineterm=""))
