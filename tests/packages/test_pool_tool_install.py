# SPDX-License-Identifier: Apache-2.0
"""`pip install` of the source gives an administrator's machine dom0-plugins."""

import os
import shutil
import subprocess
import sys

import pytest

import dom0_lib
from tests.calls import pythons
from tests.harness.pool import Pool
from tests.packages import packages
from tests.packages import pool_tool as tool

SOURCES = ("setup.py", "dom0_lib", "dom0_plugins")


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """The installed script, in an environment that has what pip brought and nothing else."""
    directory = tmp_path_factory.mktemp("tool")
    source = directory / "source"
    source.mkdir()
    for name in SOURCES:
        path = os.path.join(tool.CHECKOUT, name)
        if os.path.isdir(path):
            shutil.copytree(path, str(source / name), ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, str(source))
    packages.run(sys.executable, "-m", "venv", str(directory / "env"))
    pip = packages.run(str(directory / "env/bin/pip"), "install", "--quiet", str(source), check=False)
    if pip.returncode != 0 and "No matching distribution" in pip.stdout:
        pytest.skip("needs a package index: " + pip.stdout)
    assert pip.returncode == 0, pip.stdout
    return str(directory / "env/bin/dom0-plugins")


def test_the_installed_script_works(script):
    with Pool(python=pythons.NEWEST) as pool:
        environ = {"PATH": os.environ["PATH"], "DOM0_PLUGINS_PASSWORD": pool.password}
        process = packages.run(script, "--url", pool.url, "version", cwd="/", env=environ)
    assert [line.split()[:3] for line in process.stdout.splitlines()[2:]] == [["h0", "ok", dom0_lib.__version__]]
    assert packages.run(script, "--version").stdout.split()[-1] == dom0_lib.__version__


@pytest.mark.parametrize("version", [version for version in ("2.7", "3.6") if version in packages.PYTHONS])
def test_an_older_python_says_what_it_needs(version):
    process = subprocess.run([packages.PYTHONS[version], "-B", "-m", "dom0_plugins"], cwd=tool.CHECKOUT, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, universal_newlines=True, timeout=tool.DEADLINE_S)
    assert process.returncode == 1 and "dom0-plugins needs Python 3.8 or newer, this is " + version in process.stdout
