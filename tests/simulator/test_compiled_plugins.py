# SPDX-License-Identifier: Apache-2.0
"""The byte-code that a simulated host has of the plug-ins: Python finds it valid, in every room."""

import os
import struct
import subprocess

import pytest

from tests import conftest
from tests.harness.dom0 import compiled_plugins
from tests.run import environments

# Of a .pyc: magic number, from Python 3.7 on flags, then the source's time and, but for Python 2, size.
_TIME_AT = {"2.7": 4, "3.6": 4}
_TIME_AT_NOW = 8
_DEADLINE_S = 60

IMPORT_ALL = """
import sys
for name in sys.argv[1:]:
    __import__(name)
"""


def list_sources(library):
    return sorted(os.path.join(parent, name) for parent, _, names in os.walk(library) for name in names if name.endswith(".py"))


def read_compiled(library):
    """{path: (time, content)} of all byte-code."""
    found = {}
    for parent, _, names in os.walk(library):
        for path in (os.path.join(parent, name) for name in names if name.endswith(".pyc")):
            with open(path, "rb") as source:
                found[path] = os.stat(path).st_mtime_ns, source.read()
    return found


@pytest.fixture(params=conftest.DOM0_PYTHONS, ids=lambda python: python[0])
def installed(request, tmp_path):
    """(version, interpreter, directory of dom0_lib)"""
    version, python = request.param
    compiled_plugins.install(str(tmp_path), python)
    return version, python, os.path.join(str(tmp_path), "etc/xapi.d/plugins/dom0_lib")


def test_each_module_has_byte_code_of_its_time(installed):
    version, _, library = installed
    times = {os.stat(path).st_mtime for path in list_sources(library)}
    assert len(times) == 1
    compiled = read_compiled(library)
    assert len(compiled) == len(list_sources(library)) == len(list_sources(os.path.join(environments.CHECKOUT, "dom0_lib")))
    at = _TIME_AT.get(version, _TIME_AT_NOW)
    assert {struct.unpack_from("<I", content, at)[0] for _, content in compiled.values()} == times


def test_no_call_compiles_a_module(installed):
    """A module whose byte-code is not valid is compiled anew, and its byte-code written."""
    _, python, library = installed
    before = read_compiled(library)
    names = [os.path.relpath(path, os.path.dirname(library))[:-len(".py")].replace(os.sep, ".") for path in list_sources(library)]
    subprocess.run([python, "-c", IMPORT_ALL] + names, cwd=os.path.dirname(library), check=True, timeout=_DEADLINE_S,
                   env={"PATH": os.defpath}, stdin=subprocess.DEVNULL)
    assert read_compiled(library) == before


def test_a_changed_module_is_compiled_anew(installed):
    """Tests that change a module of the plug-ins must see their change, even one that keeps the size."""
    _, python, library = installed
    path = os.path.join(library, "storage", "sr_lock.py")
    size_bytes = os.path.getsize(path)
    with open(path, "wb") as module:
        module.write(b"raise SystemExit(7)\n".ljust(size_bytes))
    assert subprocess.run([python, "-c", "import dom0_lib.storage.sr_lock"], cwd=os.path.dirname(library), timeout=_DEADLINE_S,
                          env={"PATH": os.defpath}, stdin=subprocess.DEVNULL).returncode == 7
