# SPDX-License-Identifier: Apache-2.0
"""The names of the fault points in dom0_lib, collected from its calls of faults.point()."""

import ast
import os

_LIBRARY = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "dom0_lib")


def _collect():
    names = set()
    for parent, _, files in os.walk(_LIBRARY):
        for name in files:
            if name.endswith(".py"):
                with open(os.path.join(parent, name), "rb") as source:
                    names.update(_list_names(ast.parse(source.read(), os.path.join(parent, name))))
    return sorted(names)


def _list_names(tree):
    for node in ast.walk(tree):
        if _is_point(node):
            yield ast.literal_eval(node.args[0])  # a name that is not written out would be missed


def _is_point(node):
    return (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "point"
            and isinstance(node.func.value, ast.Name) and node.func.value.id == "faults")


NAMES = _collect()
