# SPDX-License-Identifier: Apache-2.0
"""What the tests of migrations share: two hosts with a real sshd between them, guests that move, what is left afterwards."""

import contextlib
import glob
import os
import uuid

import pytest

from dom0_lib.migration import rsync
from tests.calls import calls
from tests.calls import sr_disks
from tests.harness.dom0.ssh_daemon import SshDaemon
from tests.harness.image_service.tcp_gate import Gate
from tests.harness.pool import Pool

PLUGIN = "migration.py"
SETTINGS = "[transfer]\nreserve = 1\ncollection_wait = 5\nnice = 0\n"


def make_label(ephemeral=None):
    label = str(uuid.uuid4())
    return label + "_ephemeral_%d" % ephemeral if ephemeral else label


class Pair(object):
    """Two hosts of a pool; disks go from one, `source`, to the other, `target`, or on a single host from it to itself.

    daemon: the target's SshDaemon, or None; places: those of the two in pool.hosts
    """

    def __init__(self, pool, daemon, places=(0, -1)):
        self.pool = pool
        self.daemon = daemon
        self._places = places
        self.source, self.target = (pool.hosts[place] for place in places)
        self.source_sr, self.target_sr = (pool.srs[place] for place in places)
        self.host = daemon.address if daemon else "localhost"

    def transfer(self, label, vdi_uuid, place, is_legacy=False, **changes):
        """transfer_vhd on the source."""
        arguments = dict({"instance_uuid": label, "host": self.host, "vdi_uuid": vdi_uuid,
                          "sr_path": calls.mount_path(self.source_sr), "seq_num": place}, **changes)
        return self._call("transfer_vhd", arguments, is_legacy, host=self._places[0])

    def transfer_chain(self, label, uuids, **changes):
        """In nova's order: parents, then the leaf."""
        for place in list(range(1, len(uuids))) + [0]:
            assert self.transfer(label, uuids[place], place, **changes) is None

    def receive(self, label, uuids, is_legacy=False, **changes):
        """move_vhds_into_sr on the target; `uuids` are leaf first."""
        arguments = dict({"instance_uuid": label, "sr_path": calls.mount_path(self.target_sr),
                          "uuid_stack": uuids[::-1]}, **changes)
        return self._call("move_vhds_into_sr", arguments, is_legacy, host=self._places[1])

    def _call(self, function, arguments, is_legacy, host):
        arguments = {name: value for name, value in arguments.items() if value is not None}
        return calls.call_form(self.pool, PLUGIN, function, arguments, is_legacy, host)

    def write_guest(self, depth=3, **options):
        """A guest's chain in the source's SR: (uuids leaf first, digest)."""
        uuids = sr_disks.write_chain(self.source_sr.path, depth, **options)
        return uuids, sr_disks.guest_digest(self.source_sr.path, uuids[0])

    def arrived(self, label):
        """{name: size} of what lies in /images/instance<label> of the target; the unfinished with their directory."""
        directory = self.target.dom0.locate("/images/instance" + label)
        found = {}
        for pattern in ("*", ".*", rsync.PARTIAL_DIR + "/*"):
            for path in glob.glob(os.path.join(directory, pattern)):
                if os.path.isfile(path):
                    found[os.path.relpath(path, directory)] = os.path.getsize(path)
        return found

    def arrived_path(self, label, name):
        return self.target.dom0.locate("/images/instance%s/%s" % (label, name))

    def find_programs(self, text="rsync"):
        """Process ids of the transfer's programs, here and there, with `text` in their command lines."""
        hosts = [self.source, self.target]
        return [pid for pid in calls.find_processes(text.replace(" ", "\0")) if _belongs_to(pid, hosts)]

    def expect_idle(self, limit_s=5.0):
        """No program of a transfer runs any more, and no lock or staging directory is left."""
        calls.wait_until(lambda: not self.find_programs(), limit_s)
        assert not glob.glob(self.source_sr.path + "/.dom0-plugins-*")
        with self.source.sm_locks.hold(self.source_sr.uuid, "gc_active", 0):
            pass


def _belongs_to(pid, hosts):
    """Whether a process runs in the mount namespace of one of the hosts, or has the host's root in its environment."""
    namespaces = [host.dom0.processes.namespace.inode for host in hosts if host.dom0.processes.namespace]
    try:
        if os.stat("/proc/%d/ns/mnt" % pid).st_ino in namespaces:
            return True
        with open("/proc/%d/environ" % pid, "rb") as environ:
            return any(host.root.encode() in environ.read() for host in hosts)
    except OSError:
        return False  # it has ended meanwhile


@contextlib.contextmanager
def open_pair(pythons, more="", is_trusted=True):
    """A Pair with ssh, by which the source may log in as root if is_trusted; pythons: one interpreter, or one for each host.

    Needs root and rsync, ssh and sshd.
    """
    try:
        pool = Pool(hosts=2, python=pythons, has_namespace=True)
    except PermissionError as error:
        pytest.skip("not applicable: %s" % error)
    with pool:
        for host in pool.hosts:
            calls.write_settings(host, SETTINGS)
            host.dom0.open_namespace()  # which shows what is in /etc by now
        with SshDaemon(pool.hosts[1], more) as daemon:
            if is_trusted:
                daemon.admit(pool.hosts[0])
            yield Pair(pool, daemon)


@contextlib.contextmanager
def gate_to(pair, limit_bytes=1 << 40):
    """Within, transfers of the pair go through a Gate."""
    direct = pair.host
    with Gate("tcp://" + direct, limit_bytes, ip="127.0.0.9") as gate:
        pair.host = gate.url[len("tcp://"):]
        try:
            yield gate
        finally:
            pair.host = direct
