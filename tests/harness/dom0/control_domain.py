# SPDX-License-Identifier: Apache-2.0
"""One host's control domain: a directory that stands for its /, plug-ins and programs in it, its syslog, its processes."""

import contextlib
import os
import shutil
import subprocess

from tests.harness.dom0 import compiled_plugins
from tests.harness.dom0.log_socket import LogSocket
from tests.harness.dom0.mount_namespace import MountNamespace
from tests.harness.dom0.plugin_process import PluginProcess
from tests.harness.system import programs
from tests.harness.xapi.failures import Failure

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
SOCKET_PATH_MAX_BYTES = 107

_PLUGIN_DIR = "/etc/xapi.d/plugins"
_DIRECTORIES = (
    "boot", "dev", "etc/cron.d", "etc/modprobe.d", "etc/ssh", "etc/systemd/system/multi-user.target.wants", "etc/xapi.d/plugins",
    "opt/harness/bin", "opt/harness/spool", "root/.ssh",
    "run/lock/sm", "run/sm/ipc", "run/sr-mount", "run/nonpersistent", "run/xenstored", "proc/net",
    "proc/sys/kernel/random", "sys/bus/pci", "tmp", "var/lib/xcp", "var/log/xen", "var/xapi",
)
# Made by an administrator, or by dom0_host.py.
_PREPARED_DIRECTORIES = ("boot/guest", "images", "var/log/xen/guest")
# As on XenServer 8 and XCP-ng 8.3; on older hosts /var/run is where things really are.
_LINKS = (("../run", "var/run"), ("../run/lock", "var/lock"), ("../lib/xcp/xapi", "var/xapi/xapi"),
          # This machine's, until a test puts a file there.
          ("/proc/net/dev", "proc/net/dev"), ("/proc/uptime", "proc/uptime"), ("/proc/loadavg", "proc/loadavg"),
          ("/proc/stat", "proc/stat"), ("/proc/sys/kernel/random/boot_id", "proc/sys/kernel/random/boot_id"),
          ("/sys/bus/pci/devices", "sys/bus/pci/devices"))


class Dom0(object):
    """A tree under `root`; missing directories are made.

    python              interpreter that the plug-ins are installed for (absolute path)
    python36_locale     give plug-ins on 3.7 and later the locale handling of 3.6: no coercion to UTF-8
    has_namespace       plug-ins find the tree at /, each in its place, and DOM0_ROOT is not set; needs root
    is_prepared         there are /images, /boot/guest and /var/log/xen/guest
    """

    def __init__(self, root, python, python36_locale=False, has_namespace=False, is_prepared=True):
        self.root = root
        self.python = python
        self.plugin_dir = self.locate(_PLUGIN_DIR)
        self.bin_dir = self.locate("/opt/harness/bin")
        self.socket_path = self.locate("/var/lib/xcp/xapi")
        _check_socket_path(self.socket_path)
        for name in _DIRECTORIES + (_PREPARED_DIRECTORIES if is_prepared else ()):
            os.makedirs(os.path.join(root, name), exist_ok=True)
        for target, name in _LINKS:
            if not os.path.lexists(os.path.join(root, name)):
                os.symlink(target, os.path.join(root, name))
        self.log = LogSocket(self.locate("/dev/log"), self.locate("/var/log/messages"))
        self.environment = {"PATH": _plugin_path(self.bin_dir), "DOM0_ROOT": root}
        self._has_namespace = has_namespace
        plugin_environment = {"PATH": _plugin_path("/opt/harness/bin")} if has_namespace else dict(self.environment)
        if python36_locale:
            plugin_environment.update(PYTHONCOERCECLOCALE="0", PYTHONUTF8="0")
        # The environment of plug-ins; a test may add to it between calls.
        self.plugin_environment = plugin_environment
        self.processes = PluginProcess(plugin_environment, self.locate("/opt/harness/spool"), self.log.write)

    def open_namespace(self):
        """Mount the tree anew for plug-ins. They then see files added to directories that this machine also has."""
        self._close_namespace()
        if self._has_namespace:
            self.processes.namespace = MountNamespace(self.root)

    def _close_namespace(self):
        if self.processes.namespace:
            self.processes.namespace.close()

    def locate(self, dom0_path):
        """The path on this machine of an absolute path of dom0."""
        return self.root + dom0_path

    def close(self):
        self.processes.close()
        self.log.close()
        self._close_namespace()

    def call_plugin(self, name, function, session_ref, arguments):
        """The plug-in's answer. Raises Failure."""
        # Any entry of the directory can be called and nothing else: no path is made from the name before that is known.
        if name not in os.listdir(self.plugin_dir):
            raise Failure("XENAPI_MISSING_PLUGIN", name)
        directory = _PLUGIN_DIR if self._has_namespace else self.plugin_dir
        return self.processes.call(os.path.join(directory, name), function, session_ref, arguments)

    def run_program(self, *command, check=True):
        """Run a program of this host, like vhd-util: its stdout as text, or subprocess.CalledProcessError."""
        return subprocess.run(command, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, check=check, universal_newlines=True, timeout=600)

    def add_program(self, name, text):
        """Write one program, by its absolute path or, found before this machine's, by its name alone; returns its path."""
        path = self.locate(name) if os.path.isabs(name) else os.path.join(self.bin_dir, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        programs.write(path, text)
        return path

    @contextlib.contextmanager
    def program(self, name, text):
        """Within, the host has such a program."""
        path = self.add_program(name, text)
        try:
            yield
        finally:
            os.unlink(path)

    def install_plugins(self):
        """Put this checkout's plug-ins there, for `python`."""
        compiled_plugins.install(self.root, self.python)

    def add_plugin(self, name, text):
        """Write one plug-in. A first line of `#!python` becomes this host's interpreter."""
        path = os.path.join(self.plugin_dir, name)
        first, newline, rest = text.partition("\n")
        if first.startswith("#!") and "python" in first:
            first = "#!" + self.python
        programs.write(path, first + newline + rest)
        return path

    def add_plugins(self, directory):
        """Copy somebody else's plug-ins; Python scripts among them get this host's interpreter.

        They may import XenAPIPlugin, which dom0 has and no package index: a stand-in goes beside them if they bring none.
        """
        for name in sorted(os.listdir(directory)):
            source = os.path.join(directory, name)
            if os.path.isdir(source):
                shutil.copytree(source, os.path.join(self.plugin_dir, name), symlinks=True)
                continue
            with open(source, encoding="utf-8", errors="surrogateescape") as plugin:
                self.add_plugin(name, plugin.read())
        stand_in = os.path.join(self.plugin_dir, "XenAPIPlugin.py")
        if not os.path.exists(stand_in):
            shutil.copy(os.path.join(CHECKOUT, "tests/harness/dom0/dom0_site/XenAPIPlugin.py"), stand_in)


def _plugin_path(bin_dir):
    return bin_dir + ":/sbin:/usr/sbin:/bin:/usr/bin"


def _check_socket_path(path):
    if len(os.fsencode(path)) > SOCKET_PATH_MAX_BYTES:
        raise ValueError("root: %s is longer than the %d bytes of a Unix socket's name; use a shorter root"
                         % (path, SOCKET_PATH_MAX_BYTES))
    if "_" in path:
        raise ValueError("root: XenAPI's Unix transport writes / as _, so %s cannot be reached; use a root without _" % path)
