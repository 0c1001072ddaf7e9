# SPDX-License-Identifier: Apache-2.0
"""Finds the Pythons of the dom0s on this machine, and proves each by running it."""

import collections
import os
import re
import subprocess
import sys

# The Pythons of supported hosts (docs/DESIGN.md), and the newest, so that the next host is no surprise.
DOM0_VERSIONS = ("2.7", "3.6", "3.11", "3.12", "3.13")

# The simulated host, the integration tests, the benchmarks and the demo.
HOST_MINIMUM = (3, 8)

# A build without zlib, ssl or expat cannot run pip or the plug-ins.
PROBE = "import sys, zlib, ssl, pyexpat; print('%d.%d.%d' % sys.version_info[:3]); print(sys.executable)"
PROBE_DEADLINE_S = 20

Interpreter = collections.namedtuple("Interpreter", "release path")


def find_dom0(version):
    """The interpreter for `version` ("3.6"), or None."""
    for path in _list_candidates(version):
        found = probe(path)
        if found and found.release.startswith(version + "."):
            return found
    return None


def find_host():
    """The interpreter that drives the tests: the one that runs this if it is new enough, else the newest there is."""
    if sys.version_info >= HOST_MINIMUM:
        return probe(_real_executable())
    for minor in range(20, HOST_MINIMUM[1] - 1, -1):
        found = find_dom0("3.%d" % minor)
        if found:
            return found
    return None


def probe(path):
    """Run `path`: its release and real executable, or None. A pyenv shim exists for versions that it then refuses."""
    try:
        process = subprocess.run([path, "-E", "-c", PROBE], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.DEVNULL, timeout=PROBE_DEADLINE_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = os.fsdecode(process.stdout).splitlines()
    if process.returncode != 0 or len(lines) != 2:
        return None
    return Interpreter(*lines)


def _real_executable():
    """The interpreter beneath a virtual environment: an environment made from another one depends on both."""
    name = "python%d.%d" % sys.version_info[:2]
    beneath = os.path.join(sys.base_prefix, "bin", name)
    return beneath if os.access(beneath, os.X_OK) else sys.executable


def _list_candidates(version):
    path_dirs = [entry for entry in os.environ.get("PATH", "").split(os.pathsep) if os.path.isabs(entry)]
    for directory in path_dirs:
        yield os.path.join(directory, "python" + version)
    for root in _list_pyenv_roots(path_dirs):
        for release in _list_releases(root, version):
            yield os.path.join(root, "versions", release, "bin", "python" + version)
    yield sys.executable


def _list_pyenv_roots(path_dirs):
    """Where pyenv keeps its versions. Its shims on PATH tell, too, when HOME and PYENV_ROOT do not."""
    roots = [os.environ.get("PYENV_ROOT", ""), os.path.expanduser("~/.pyenv")]
    roots += [os.path.dirname(entry) for entry in path_dirs if os.path.basename(entry) in ("shims", "bin")]
    return [root for root in collections.OrderedDict.fromkeys(roots) if os.path.isdir(os.path.join(root, "versions"))]


def _list_releases(root, version):
    """Installed releases of `version`, newest first."""
    wanted = re.compile(re.escape(version) + r"\.(\d+)")
    matches = [wanted.fullmatch(name) for name in os.listdir(os.path.join(root, "versions"))]
    matches = sorted((match for match in matches if match), key=lambda match: int(match.group(1)), reverse=True)
    return [match.group(0) for match in matches]
