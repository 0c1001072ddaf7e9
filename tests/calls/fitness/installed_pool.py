# SPDX-License-Identifier: Apache-2.0
"""A pool of hosts as they are installed, each with a sshd, for tests of what makes them fit for the plug-ins."""

import contextlib
import subprocess

import pytest

from tests.calls import calls
from tests.calls import pythons
from tests.calls.migration import migrations
from tests.harness.dom0.ssh_daemon import SshDaemon
from tests.harness.pool import Pool

# One of each family of hosts, as while a pool is upgraded.
PYTHONS = (pythons.ROTATION * 3)[:3]
SETTINGS = migrations.SETTINGS + "[migration]\nhost_keys = strict\n"
# 127.0.0.1 would be every host's own.
_FIRST_IP = "127.0.0.61"


@contextlib.contextmanager
def open_pool(pythons, ip=_FIRST_IP):
    """(Pool, [SshDaemon]): hosts without /images and /boot/guest, whose root has no key.

    The sshd of each is at the standard port for the others. Needs root, ssh and sshd.
    """
    try:
        pool = Pool(hosts=len(pythons), python=pythons, has_namespace=True, is_prepared=False, ip=ip)
    except PermissionError as error:
        pytest.skip("not applicable: %s" % error)
    with pool, contextlib.ExitStack() as stack:
        for host in pool.hosts:
            calls.write_settings(host, SETTINGS)
            host.dom0.open_namespace()
            run_on(host, "echo install bridge /bin/true > /etc/modprobe.d/blacklist-bridge.conf")
        daemons = [stack.enter_context(SshDaemon(host)) for host in pool.hosts]
        for host, daemon in zip(pool.hosts, daemons):
            for other in pool.hosts:
                if other is not host:
                    daemon.pose_as_standard(other)
        yield pool, daemons


def run_on(host, command):
    """A command that an administrator gives on the host, with what programs it has; its output."""
    return subprocess.run(["sh", "-ec", command], check=True, preexec_fn=host.dom0.processes.namespace.enter,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, universal_newlines=True, timeout=60).stdout
