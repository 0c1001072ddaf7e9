# SPDX-License-Identifier: Apache-2.0
"""The examples in docs/WIRE.md: each is a command of xe and, below it, the reply that the simulated host gave.

    python3 -m tests.calls.call.wire_document          writes the replies anew (`make docs`)

A block that begins with `xe host-call-plugin` is an example; its lines after the command are the reply. Words in capitals stand
for what differs from host to host (wire_scene.py has them).
"""

import contextlib
import itertools
import os
import re
import shlex
import sys

from tests.calls.call.wire_scene import Scene
from tests.harness import xe
from tests.run import environments

DOCUMENT = os.path.join(environments.CHECKOUT, "docs", "WIRE.md")
_INDENT = "    "
_COMMAND = _INDENT + "xe host-call-plugin "


class Example(object):
    """
    plugin, function    whose entry it is in
    words               of the command
    first, last         numbers of the lines of its reply: lines[first:last]
    """

    def __init__(self, plugin, function, command, first, last):
        self.plugin = plugin
        self.function = function
        self.words = shlex.split(command)[2:]
        self.first = first
        self.last = last


def read_lines():
    with open(DOCUMENT, encoding="utf-8") as source:
        return source.read().splitlines()


def find_examples(lines):
    """Examples, in order; not those of the introduction, which are no calls."""
    plugin = function = None
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if line.startswith("## "):
            plugin, function = line[3:], None
        elif line.startswith("### "):
            function = line[4:]
        elif line.startswith(_COMMAND) and function:
            while line.endswith("\\"):
                line = line[:-1] + lines[number].strip()
                number += 1
            first = number
            while number < len(lines) and lines[number].startswith(_INDENT):
                number += 1
            yield Example(plugin, function, line, first, number)


def record(lines):
    """`lines` with the replies that the simulated host gives now."""
    recorded = list(lines)
    shift = 0
    with contextlib.closing(Scene()) as scene:
        for example in find_examples(lines):
            scene.prepare(example.plugin, example.function)
            reply = xe.run(scene.session, "host-call-plugin", [scene.fill_in(word) for word in example.words])
            reply = scene.take_out(reply)
            old = "\n".join(line[len(_INDENT):] for line in lines[example.first:example.last])
            new = [_INDENT + line for line in (old if scene.is_same(example.plugin, old, reply) else reply).splitlines()]
            recorded[example.first + shift:example.last + shift] = new
            shift += len(new) - (example.last - example.first)
    return recorded


def read_entries(lines):
    """{(plug-in, function): lines of the entry, after those that are for all calls of the plug-in}"""
    entries, plugin, entry, common = {}, None, [], []
    for line in lines:
        if line.startswith("## "):
            plugin, entry = line[3:], []
            common = entry
        elif line.startswith("### "):
            entry = entries.setdefault((plugin, line[4:]), list(common))
        else:
            entry.append(line)
    return entries


def list_arguments(entry):
    """Names in the first column of the entry's table of arguments."""
    return [name for line in list_argument_rows(entry) for name in re.findall(r"`([^`]+)`", line.split("|")[1])]


def list_argument_rows(entry):
    """The lines of the entry's tables of arguments."""
    found = []
    for start in (number for number, line in enumerate(entry) if line.startswith("| argument |")):
        found += itertools.takewhile(lambda line: line.startswith("|"), entry[start + 2:])
    return found


def main():
    recorded = record(read_lines())
    with open(DOCUMENT, "w", encoding="utf-8") as target:
        target.write("\n".join(recorded) + "\n")


if __name__ == "__main__":
    sys.exit(main())
