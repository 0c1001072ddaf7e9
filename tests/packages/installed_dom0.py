# SPDX-License-Identifier: Apache-2.0
"""A dom0 for tests that install in it: programs run in its mount namespace, an sshd among them."""

import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time

from tests.harness.system import programs
from tests.packages import packages
from tests.packages.packages import PYTHONS, add_program, run

BASE = "/opt/dom0-xapi-plugins"
PLUGINS = "/etc/xapi.d/plugins"
START_DEADLINE_S = 30


class Dom0(object):
    """A simulated host in whose mount namespace programs run, sshd among them."""

    def __init__(self, stack, directory, version="3.6", interpreter="/usr/bin/python3"):
        self.pool = stack.enter_context(packages.open_dom0(PYTHONS[version], interpreter))
        self.dom0 = self.pool.hosts[0].dom0
        self.directory = directory
        self.temporary = os.path.join(directory, "tmp")
        os.makedirs(self.dom0.locate("/run/sshd"))
        # This machine's rpm, if it has one, knows of no dom0.
        add_program(self.pool.hosts[0], "/opt/harness/bin/rpm", "exit 1")
        self.open()

    def open(self):
        """See what has been added to the host's tree; forgets what was installed outside of /etc/xapi.d."""
        self.dom0.open_namespace()
        self._enter = self.dom0.processes.namespace.enter

    def run(self, *command, check=True, path="/opt/harness/bin:/usr/sbin:/usr/bin:/sbin:/bin"):
        def prepare():
            self._enter()
            programs.reset_interrupts()
        return run(*command, check=check, preexec_fn=prepare, env={"PATH": path})

    def install(self, tree, *arguments, check=True, shell="sh"):
        """install.sh on the host itself."""
        return self.run(shell, os.path.join(tree, "install.sh"), "--here", *arguments, check=check)

    def start_sshd(self, stack):
        """Returns the variable SSH for install.sh."""
        os.makedirs(self.temporary)
        key, host_key = os.path.join(self.directory, "key"), os.path.join(self.directory, "host_key")
        for path in (key, host_key):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        configuration = os.path.join(self.directory, "sshd_config")
        with open(configuration, "w") as target:
            target.write("Port %d\nListenAddress 127.0.0.1\nHostKey %s\nAuthorizedKeysFile %s.pub\nPidFile none\nUsePAM no\n"
                         "PermitRootLogin prohibit-password\nStrictModes no\nSetEnv PATH=%s TMPDIR=%s\n"
                         % (port, host_key, key, "/opt/harness/bin:/usr/sbin:/usr/bin:/sbin:/bin", self.temporary))
        command = [shutil.which("sshd", path="/usr/sbin:/sbin"), "-D", "-e", "-f", configuration]
        sshd = subprocess.Popen(command, preexec_fn=self._enter, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE)
        stack.callback(sshd.communicate, timeout=START_DEADLINE_S)
        stack.callback(sshd.terminate)
        # It says so once it listens, and may have said other things before.
        assert any(b"Server listening" in line for line in sshd.stderr)
        return ("ssh -p %d -i %s -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o BatchMode=yes"
                % (port, key))

    def links(self):
        """{plug-in: where its link leads} of those that are links."""
        directory = self.dom0.plugin_dir
        return {name: os.readlink(os.path.join(directory, name)) for name in os.listdir(directory)
                if os.path.islink(os.path.join(directory, name))}

    def release(self):
        """The one release that all links lead to."""
        (release,) = {os.path.dirname(target) for target in self.links().values()}
        return os.path.basename(release)

    def releases(self):
        return sorted(self.run("ls", "-A", BASE + "/releases").stdout.split())

    def listing(self):
        """Everything that an installation may touch, with contents of the plug-ins."""
        command = "find /etc/xapi.d /opt/dom0-xapi-plugins /etc/dom0-plugins.conf -not -name '*.pyc' -not -name __pycache__ | sort"
        return self.run("sh", "-c", command + "; cat /etc/xapi.d/plugins/*.py", check=False).stdout

    def version(self):
        return self.pool.call("dom0_plugin_version.py", "get_version")


def wait_for(path):
    deadline = time.monotonic() + START_DEADLINE_S
    while not os.path.exists(path):
        assert time.monotonic() < deadline, path
        time.sleep(0.02)


def call_slowly(host, plugin="slow.py"):
    """Start the call `wait` of a plug-in, which waits; returns a function that lets it go on and gives its reply."""
    for name in ("started", "go"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(host.dom0.locate("/images/" + name))
    replies = []
    thread = threading.Thread(target=lambda: replies.append(host.pool.call(plugin, "wait")), daemon=True)
    thread.start()
    wait_for(host.dom0.locate("/images/started"))

    def finish():
        open(host.dom0.locate("/images/go"), "w").close()
        thread.join(START_DEADLINE_S)
        return replies[0]
    return finish
