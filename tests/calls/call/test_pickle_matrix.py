# SPDX-License-Identifier: Apache-2.0
"""Every dom0 Python reads the legacy pickles that every other one writes, as a plug-in and as a client."""

import os
import subprocess

import pytest

from tests import conftest
from tests.calls import pythons

DEADLINE_S = 60


def run(python, *arguments):
    process = subprocess.run([python, "-B", "-m", "tests.calls.call.pickle_exchange"] + list(arguments), cwd=conftest.CHECKOUT,
                             env={"PATH": os.environ["PATH"]}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, timeout=DEADLINE_S)
    assert process.returncode == 0, process.stderr.decode("utf-8", "replace")
    return process.stdout.decode("ascii").split()


@pytest.mark.parametrize("way", ["ours", "theirs"])
def test_every_python_reads_what_this_one_writes(dom0_python, way, tmp_path):
    written = str(tmp_path / "pickles")
    run(dom0_python, "write", way, written)
    readers = pythons.ALL
    assert dom0_python in readers
    for reader in readers:
        arrived, _, all_values = run(reader, "read", way, written)
        assert int(arrived) == int(all_values) > 80
