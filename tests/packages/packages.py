# SPDX-License-Identifier: Apache-2.0
"""What the tests of packages share: artefacts built once for all of them, and dom0s to install them in."""

import fcntl
import os
import subprocess

import pytest

import dom0_lib
from tests import conftest
from tests.harness.pool import Pool

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DEADLINE_S = 200
VERSION = dom0_lib.__version__

PYTHONS = dict(conftest.DOM0_PYTHONS)
# (family of hosts, the Python of its oldest ones, that Python's path on a host)
FAMILIES = [("python2", "2.7", "/usr/bin/python2.7"), ("python3", "3.6", "/usr/bin/python3")]


def run(*command, check=True, **options):
    """The finished process, its output as text."""
    process = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             universal_newlines=True, timeout=DEADLINE_S, **options)
    assert not check or process.returncode == 0, process.stdout
    return process


def make(target, output, *arguments, environment=(), checkout=CHECKOUT):
    """Run make in a checkout; returns what it said."""
    environ = {name: value for name, value in os.environ.items() if name not in ("KEY", "GNUPGHOME", "SOURCE_DATE_EPOCH")}
    environ.update(environment)
    return run("make", target, "ARGS=" + " ".join(("--output", str(output)) + arguments), cwd=checkout, env=environ).stdout


@pytest.fixture(scope="session")
def artefacts(tmp_path_factory):
    """Function(target of make) -> directory that it was built in, once for all tests of all workers."""
    # Each worker of pytest-xdist has a directory of its own in one that they share.
    shared = tmp_path_factory.getbasetemp().parent if "PYTEST_XDIST_WORKER" in os.environ else tmp_path_factory.getbasetemp()

    def build(target, *arguments, checkout=CHECKOUT, **environment):
        directory = os.path.join(str(shared), "made-%s-%s" % (target, os.path.basename(checkout)))
        with open(directory + ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not os.path.exists(directory):
                make(target, directory + ".part", *arguments, environment=environment, checkout=checkout)
                os.rename(directory + ".part", directory)
        return directory
    return build


def open_dom0(python, interpreter):
    """A Pool of one host that has no plug-ins, sees its tree at / and its Python at the path `interpreter`."""
    try:
        pool = Pool(python=python, plugins=False, has_namespace=True)
    except PermissionError as error:
        pytest.skip("not applicable: %s" % error)
    add_program(pool.hosts[0], interpreter, 'exec %s "$@"' % python)
    return pool


def add_program(host, path, script):
    """Put a shell script at the absolute path `path` of a host."""
    host.dom0.add_program(path, "#!/bin/sh\n%s\n" % script)


def list_tree(directory):
    """Relative paths of everything below `directory`."""
    return sorted(os.path.relpath(os.path.join(parent, name), directory)
                  for parent, directories, files in os.walk(directory) for name in directories + files)


def list_modules(directory):
    """{name: text} of the modules below a directory."""
    modules = {}
    for parent, _, names in os.walk(directory):
        for name in names:
            if name.endswith(".py"):
                with open(os.path.join(parent, name)) as source:
                    modules[os.path.relpath(os.path.join(parent, name), directory)] = source.read()
    return modules
