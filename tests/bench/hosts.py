# SPDX-License-Identifier: Apache-2.0
"""Hosts for plug-ins that are measured: processes are started as xapi starts them, nothing else runs."""

import contextlib
import os
import secrets
import shutil
import subprocess

from tests.harness.dom0.control_domain import Dom0
from tests.harness.guests import xenstored
from tests.harness.vhd_util import vhd_util
from tests.run import environments

OS_XENAPI_PYTHON = "2.7"
OS_XENAPI_PLUGINS = os.path.join(environments.ENVIRONMENTS, "os-xenapi/os_xenapi/dom0/etc/xapi.d/plugins")
PROBE_DEADLINE_S = 20


@contextlib.contextmanager
def make_dom0(python, sr_mount=None):
    """A Dom0 with vhd-util and no plug-ins; its SRs are in the directory `sr_mount`."""
    # Short and without _, as sockets in it must be.
    root = "/tmp/bench-%s" % secrets.token_hex(4)
    os.makedirs(os.path.join(root, "run"), 0o700)
    try:
        if sr_mount:
            os.symlink(sr_mount, os.path.join(root, "run/sr-mount"))
        dom0 = Dom0(root, python)
        try:
            vhd_util.install_vhd_util(dom0.bin_dir)
            yield dom0
        finally:
            dom0.close()
    finally:
        shutil.rmtree(root)


def has_os_xenapi(pythons):
    return OS_XENAPI_PYTHON in pythons and os.path.isdir(OS_XENAPI_PLUGINS)


def add_os_xenapi(dom0, pythons):
    """Install os-xenapi's plug-ins, and beside them the modules of dom0 that they import."""
    dom0.add_plugins(OS_XENAPI_PLUGINS)
    site_dir = _ask(pythons[OS_XENAPI_PYTHON], "import six; print(six.__file__)").rpartition("/")[0]
    shutil.copytree(os.path.join(site_dir, "XenAPI"), os.path.join(dom0.plugin_dir, "XenAPI"))
    shutil.copy(os.path.join(site_dir, "six.py"), dom0.plugin_dir)


def add_xenstore_tools(dom0):
    """Install Debian's xenstore-read and its kind; xenstored.tool_environment() is their environment."""
    for name in os.listdir(xenstored.tools_dir()):
        os.symlink(os.path.join(xenstored.tools_dir(), name), os.path.join(dom0.bin_dir, name))


def find_plain(version, python):
    """The interpreter that starts as a dom0's does.

    The one of an environment does, but virtualenv's for Python 2.7 imports json and more at each start.
    """
    if version != "2.7":
        return python
    return os.path.join(_ask(python, "import sys; print(sys.base_prefix)"), "bin", "python2.7")


class Process(object):
    """A command with a plug-in's environment and no more, running.

    The harness forks, which takes the longer the more memory this process has; this start costs next to nothing.
    """

    def __init__(self, dom0, command):
        self._program = command[0]
        self._output_path = dom0.locate("/tmp/output")
        self._status = None
        actions = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_WRONLY, 0),
                   (os.POSIX_SPAWN_OPEN, 1, self._output_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
                   (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)]
        self._pid = os.posix_spawn(command[0], command, dom0.environment, file_actions=actions)

    def wait(self):
        _, self._status = os.waitpid(self._pid, 0)

    def read_output(self):
        """Its standard output, once it has ended."""
        if self._status != 0:
            raise RuntimeError("%s ended with status %#x" % (self._program, self._status))
        with open(self._output_path, "rb") as output:
            return output.read()


def time_process(watch, row, dom0, command, after=None):
    """Run a command from beginning to end, as a row of the watch; returns its output."""
    with watch(row, after):
        process = Process(dom0, command)
        process.wait()
    return process.read_output()


def has_openssl_hashes(python):
    """Whether hashlib is OpenSSL's, as in every dom0: Python's own is slower, and holds the interpreter's lock."""
    return _ask(python, "import hashlib; print(type(hashlib.md5()).__name__)") == "HASH"


def _ask(python, program):
    return subprocess.run([python, "-c", program], stdout=subprocess.PIPE, universal_newlines=True, check=True,
                          timeout=PROBE_DEADLINE_S).stdout.strip()
