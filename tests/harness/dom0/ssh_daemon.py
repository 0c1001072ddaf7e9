# SPDX-License-Identifier: Apache-2.0
"""A real sshd for a simulated host whose plug-ins run in a mount namespace; its sessions find the host's files at /, too.

    with SshDaemon(pool.hosts[1]) as daemon:
        daemon.admit(pool.hosts[0])                  # root there has a key and may log in here
        ... host=daemon.address ...
"""

import os
import shutil
import socket
import subprocess
import time

_DIRECTORY = "/opt/harness/ssh"
_KEY = "/root/.ssh/id_ed25519"
_CONFIG_PATH = "/etc/ssh/sshd_config"
_HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"
_TIMEOUT_S = 60

# StrictModes: the harness's directories belong to the user who runs it.
_CONFIG = """
Port {port}
ListenAddress {ip}
HostKey {key}
StrictModes no
UsePAM no
PasswordAuthentication no
PidFile none
{more}
"""

# By its alias a host is looked up in known_hosts without the port.
_CLIENT_CONFIG = """
Host {ip}
Port {port}
HostKeyAlias {ip}
BindAddress {other_ip}
"""


class SshDaemon(object):
    """more: lines for sshd_config; port: as for bind()."""

    def __init__(self, host, more="", port=0):
        self._host = host
        self.port = port or _find_port(host.ip)
        directory = host.dom0.locate(_DIRECTORY)
        os.makedirs(directory, exist_ok=True)
        self.renew_key()
        with open(host.dom0.locate(_CONFIG_PATH), "w") as config:
            config.write(_CONFIG.format(port=self.port, ip=host.ip, key=_HOST_KEY, more=more))
        self._process = None

    @property
    def address(self):
        return "%s:%d" % (self._host.ip, self.port)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exc_info):
        self.stop()

    def start(self):
        # sshd wants a directory of its own there, and its full path.
        command = "mkdir -p /run/sshd && exec %s -D -e -f %s" % (_find_sshd(), _CONFIG_PATH)
        with open(self._host.dom0.locate(_DIRECTORY + "/log"), "ab") as log:
            self._process = subprocess.Popen(["sh", "-c", command], env={"PATH": self._host.dom0.environment["PATH"]},
                                             stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                                             preexec_fn=self._host.dom0.processes.namespace.enter)
        deadline = time.monotonic() + _TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("sshd did not start: %s" % self.read_log())
            time.sleep(0.02)

    def stop(self):
        """The daemon ends; sessions that are open go on."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def renew_key(self):
        """As after a new installation of the host; heeded at the next start."""
        _make_key(self._host.dom0.locate(_HOST_KEY))

    def admit(self, other):
        """Let root of another host in, by a key that is made if it has none."""
        key = other.dom0.locate(_KEY)
        if not os.path.exists(key):
            _make_key(key)
        with open(key + ".pub") as public, open(self._host.dom0.locate("/root/.ssh/authorized_keys"), "a") as admitted:
            admitted.write(public.read())

    def pose_as_standard(self, other):
        """For ssh on another host this daemon has the standard port, and connections come from that host's own address."""
        with open(other.dom0.locate("/etc/ssh/ssh_config"), "a") as config:
            config.write(_CLIENT_CONFIG.format(ip=self._host.ip, port=self.port, other_ip=other.ip))

    def read_log(self):
        with open(self._host.dom0.locate(_DIRECTORY + "/log"), errors="replace") as log:
            return log.read()

    def _answers(self):
        try:
            socket.create_connection((self._host.ip, self.port), _TIMEOUT_S).close()
        except OSError:
            return False
        return True


def _find_sshd():
    return shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def _find_port(ip):
    with socket.socket() as listener:
        listener.bind((ip, 0))
        return listener.getsockname()[1]


def _make_key(path):
    for name in (path, path + ".pub"):
        if os.path.exists(name):
            os.unlink(name)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], stdin=subprocess.DEVNULL, check=True,
                   timeout=_TIMEOUT_S)
