# SPDX-License-Identifier: Apache-2.0
"""Shared by downloads and uploads: plug-ins to call, ours and os-xenapi's, and programs in a row."""

import os
import shlex
import shutil
import subprocess
import uuid

from tests.bench import hosts
from tests.calls import calls

PYTHONS = ("3.12", "2.7")
TOOLS = ("curl", "gzip", "pigz", "tar", "sync")
OURS = "ours, Python %s"
OS_XENAPI = "os-xenapi 0.3.4, Python 2.7"
MEMORY_LIMIT_MIB = 64
NOTES = (
    "times: wall time in units of os-xenapi's, run by run. CPU: user and system, all processes but the image service.",
    "peak MiB: of the largest process; together: of all at one moment, the vhd-util stand-in, a Python, among them.",
)

_DEADLINE_S = 900


def list_missing(options):
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if not hosts.has_os_xenapi(options.pythons):
        missing.append("os-xenapi and its Python %s" % hosts.OS_XENAPI_PYTHON)
    return missing


class Repository(object):
    """The directory that stands for one SR, shared by all hosts; empty at first."""

    def __init__(self, work_dir):
        self.mount = os.path.join(work_dir, "sr-mount")
        self.uuid = str(uuid.uuid4())
        self.path = os.path.join(self.mount, self.uuid)
        shutil.rmtree(self.mount, ignore_errors=True)
        os.makedirs(self.path)

    def list_files(self):
        return [os.path.join(self.path, name) for name in sorted(os.listdir(self.path))]

    def empty(self):
        shutil.rmtree(self.path)
        os.mkdir(self.path)


class Plugin(object):
    """glance.py of one host, as callers reach it."""

    def __init__(self, row, dom0, sr_path):
        self.row = row
        self._dom0 = dom0
        self._sr_path = sr_path

    def call(self, function, **arguments):
        """Call it in the form that os-xenapi's client uses, which both know.  Raises failures.Failure."""
        kwargs = dict(arguments, sr_path=self._sr_path, api_version=2)
        self._dom0.call_plugin("glance.py", function, "OpaqueRef:bench", calls.encode_legacy(kwargs))


def install_plugins(options, repository, stack):
    """[Plugin]: ours on each of PYTHONS that there is, and the last one is os-xenapi's.  They end with `stack`."""
    plugins = []
    for version in PYTHONS:
        if version in options.pythons:
            dom0 = stack.enter_context(hosts.make_dom0(options.pythons[version], repository.mount))
            dom0.install_plugins()
            plugins.append(Plugin(OURS % version, dom0, "/var/run/sr-mount/" + repository.uuid))
    dom0 = stack.enter_context(hosts.make_dom0(options.pythons[hosts.OS_XENAPI_PYTHON], repository.mount))
    hosts.add_os_xenapi(dom0, options.pythons)
    return plugins + [Plugin(OS_XENAPI, dom0, repository.path)]


def list_digest_notes(pythons):
    return ["Python %s computes digests without OpenSSL here, which takes longer and holds other threads up; a dom0's has it."
            % version for version in PYTHONS if version in pythons and not hosts.has_openssl_hashes(pythons[version])]


def curl(token, *arguments):
    return ["curl", "-sSf", "--noproxy", "*", "-H", "X-Auth-Token: %s" % token] + list(arguments)


def run_pipeline(directory, *commands):
    """commands[0] | commands[1] | ... in `directory`; whether it did its job is for the caller to see."""
    # A session of their own, as plug-ins have: the kernel shares processors out by session.
    subprocess.run(["sh", "-c", " | ".join(shlex.join(command) for command in commands)], cwd=directory, check=True,
                   start_new_session=True, stdin=subprocess.DEVNULL, timeout=_DEADLINE_S)


def sync(paths):
    subprocess.run(["sync"] + paths, check=True, timeout=_DEADLINE_S)
