# SPDX-License-Identifier: Apache-2.0
"""A pool of simulated hosts.

    with Pool(hosts=2, python="/usr/bin/python2.7") as pool:
        pool.call("glance.py", "download_vhd2", {...})
"""

import contextlib
import itertools
import os
import secrets
import shutil
import sys
import tempfile
import threading

import XenAPI

from tests.harness.dom0.control_domain import Dom0
from tests.harness.dom0.host import Host
from tests.harness.storage.block_devices import BlockDevices
from tests.harness.storage.disk_streams import DiskStreams
from tests.harness.storage.garbage_collector import GarbageCollector, GarbageCollectorBusy
from tests.harness.storage.storage_messages import Storage
from tests.harness.vhd_util import vhd_util
from tests.harness.vms.domains import Domains
from tests.harness.vms.life import VirtualMachines
from tests.harness.vms.networks import Networks
from tests.harness.xapi import pool_membership
from tests.harness.xapi.clock import Clock
from tests.harness.xapi.database import Database
from tests.harness.xapi.dispatcher import Xapi
from tests.harness.xapi.failures import Failure
from tests.harness.xapi.faults import Faults
from tests.harness.xapi.host_power import HostPower
from tests.harness.xapi.messages import collect_messages, generic_messages
from tests.harness.xapi.plugin_calls import PluginCalls
from tests.harness.xapi.sessions import Sessions, User
from tests.harness.xapi.tasks import Tasks

ORIGINATOR = "harness"
# How often xapi's db_gc looks at the tasks.
TASK_GC_INTERVAL_S = 30


class Pool(object):
    """Hosts with their plug-ins and a local SR each; hosts[0] is the coordinator.

    python              interpreter of the plug-ins, or one for each host
    plugins             install this checkout's plug-ins
    plugin_dirs         directories with other people's, copied besides
    root                directory for the hosts' trees, h0, h1...; a temporary one by default
    ip, port            of the coordinator; the next hosts have the next addresses, port 0 is any free one
    python36_locale     run plug-ins as if Python were 3.6: no UTF-8 mode, no coercion of the C locale
    has_namespace       run plug-ins that do not know DOM0_ROOT: the host's tree is mounted over this machine's for them,
                        and their environment is PATH alone; needs root
    is_prepared         false: hosts as they are installed, without /images and /boot/guest
    xenstore            which xenstored each host has: one of tests.harness.guests.xenstored.KINDS
    """

    username = "root"
    password = "harness"
    # A user who may call VM.call_host_plugin, but not host.call_plugin.
    operator_username = "operator"
    operator_password = "harness"

    def __init__(self, hosts=1, python=sys.executable, plugins=True, plugin_dirs=(), root=None, ip="127.0.0.1", port=0,
                 python36_locale=False, has_namespace=False, is_prepared=True, xenstore="stand-in"):
        self.clock = Clock()
        self.faults = Faults()
        self.database = Database()
        self.hosts = []
        self.srs = []
        self._port = port
        self._stopping = threading.Event()
        self._life_lock = threading.Lock()
        self._sessions = Sessions(self.database, self.clock, [
            User(self.username, self.password, "pool-admin", ""),
            User(self.operator_username, self.operator_password, "vm-operator", "S-1-5-21-1-2-3-1001")])
        self._tasks = Tasks(self.database, self.clock, self._sessions)
        self._storage = Storage(self.database, self.clock)
        self._disk_streams = DiskStreams(self.database, self._storage, self._sessions, self._tasks)
        self._block_devices = BlockDevices(self.database, self._storage, self._find_host)
        # By their references here: hosts that have come from another Pool by pool.join, and are served there.
        self.joined_hosts = {}
        self.domains = Domains(self.database, lambda ref: self.joined_hosts.get(ref) or self._find_host(ref))
        services = [self._sessions, self._tasks, self._storage, self._block_devices,
                    PluginCalls(self.database, self._sessions, self._find_host),
                    VirtualMachines(self.database, self.domains, self._find_host), Networks(self.database),
                    HostPower(self.database, self.clock, self._find_host), pool_membership.PoolMembership(self)]
        messages = itertools.chain(generic_messages(self.database), *(collect_messages(service) for service in services))
        self._xapi = Xapi(messages, self._sessions, self._tasks, self.faults, self.stop_xapi)
        self._is_temporary = root is None
        self.root = os.path.abspath(root or _choose_root())
        self._xenstore = xenstore
        pythons = [python] * hosts if isinstance(python, str) else list(python)
        for number in range(hosts):
            self._add_host("h%d" % number, pythons[number], _next_ip(ip, number), python36_locale, has_namespace, is_prepared,
                           plugins, plugin_dirs)
        self.database.create("pool", name_label="harness", master=self.hosts[0].ref, default_SR=self.srs[0].ref)
        threading.Thread(target=self._collect_tasks, name="db_gc", daemon=True).start()

    def __enter__(self):
        try:
            self.start_xapi()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc_info):
        self.stop()

    # For clients

    @property
    def url(self):
        return self.hosts[0].url

    def login(self, username=None, password=None):
        """A logged-in XenAPI.Session on the coordinator, as root if nobody else is named."""
        session = XenAPI.Session(self.url)
        session.login_with_password(username or self.username, password or self.password, "2.21", ORIGINATOR)
        return session

    def call(self, plugin, function, arguments=None, host=0):
        """host.call_plugin on hosts[host]. Raises XenAPI.Failure."""
        session = self.login()
        try:
            return session.xenapi.host.call_plugin(self.hosts[host].ref, plugin, function, arguments or {})
        finally:
            session.xenapi.session.logout()

    def method_names(self):
        return self._xapi.method_names()

    # For tests

    def add_vm(self, name, host=0, power_state="Running", **fields):
        """A guest, on hosts[host] if it runs, where xenstore knows it then. Returns its reference."""
        if power_state == "Running":
            fields = dict({"resident_on": self.hosts[host].ref, "domid": len(self.database.refs("VM"))}, **fields)
            self.hosts[host].xenstore.introduce(fields["domid"], name)
        return self.database.create("VM", name_label=name, power_state=power_state, **fields)

    def add_sr(self, name="Local storage", host=0):
        """One more local SR on hosts[host], also in self.srs."""
        ref = self._storage.add_repository(self.hosts[host], name)
        self.srs.append(StorageRepository(self, ref, self._storage.repository(ref), self._block_devices.is_attached))
        self._storage.scan_listeners[ref] = self.srs[-1].collect_after_scan
        return self.srs[-1]

    def add_iso_sr(self, host=0):
        """An SR of ISOs where nova looks for those of iPXE: in the host's local SR. Returns its reference."""
        return self._storage.add_iso_repository(self.hosts[host], os.path.join(self.srs[host].path, "iso"))

    def show_devices(self, vm_ref, directory):
        """From now on a guest's plugged disks are block devices in this directory; needs root."""
        self._block_devices.guest_directories[vm_ref] = directory

    def gc_now(self):
        """One pass of xapi's garbage collection of tasks. Returns the references of those destroyed."""
        return self._tasks.collect_garbage()

    def start_xapi(self):
        """Open every host's doors (again), at the addresses they had before."""
        with self._life_lock:
            for host in self.hosts:
                host.start_xapi(self._xapi.serve, self._port, self._disk_streams.handlers())
            pool_membership.announce(self)

    def stop_xapi(self):
        """xapi ends: connections are cut, sessions and tasks are gone, plug-ins go on without it."""
        with self._life_lock:
            for host in self.hosts:
                host.stop_xapi()
            self._tasks.destroy_all()
            self._sessions.close_all()

    def stop(self):
        """End everything, plug-ins that still run as well, and remove the temporary trees."""
        self._stopping.set()
        self.stop_xapi()
        for host in self.hosts:
            host.close()
        if self._is_temporary:
            shutil.rmtree(self.root)

    def _add_host(self, name, python, ip, python36_locale, has_namespace, is_prepared, plugins, plugin_dirs):
        dom0 = Dom0(os.path.join(self.root, name), python, python36_locale, has_namespace, is_prepared)
        vhd_util.install_vhd_util(dom0.bin_dir)
        if plugins:
            dom0.install_plugins()
        for directory in plugin_dirs:
            dom0.add_plugins(directory)
        self.hosts.append(Host(self.database, dom0, name, ip, self._xenstore, self.hosts[0] if self.hosts else None))
        self.add_sr(host=len(self.hosts) - 1)
        dom0.open_namespace()

    def _find_host(self, ref):
        for host in self.hosts:
            if host.ref == ref:
                return host
        raise Failure("HANDLE_INVALID", "host", ref)

    def _collect_tasks(self):
        while not self._stopping.wait(TASK_GC_INTERVAL_S):
            self._tasks.collect_garbage()


class StorageRepository(object):
    """An SR as tests handle it."""

    def __init__(self, pool, ref, repository, is_attached):
        self.ref = ref
        self.uuid = repository.uuid
        self.path = repository.path
        self._pool = pool
        self._garbage_collector = GarbageCollector(repository, is_attached)
        self.collects_at_scans = False

    def scan(self):
        """SR.scan; then {VDI uuid: record}. Raises XenAPI.Failure."""
        session = self._pool.login()
        try:
            session.xenapi.SR.scan(self.ref)
        finally:
            session.xenapi.session.logout()
        return self.vdis()

    def vdis(self):
        """{VDI uuid: record} as the database has them now."""
        database = self._pool.database
        records = [database.record("VDI", ref) for ref in database.refs("VDI", SR=self.ref)]
        return {record["uuid"]: record for record in records}

    def collect_after_scan(self):
        """SM kicks the collection at each SR.scan; here it is done when the scan is, if `collects_at_scans`."""
        if self.collects_at_scans:
            with contextlib.suppress(GarbageCollectorBusy):
                self.collect_garbage()

    def collect_garbage(self):
        """SM's garbage collection, to its end: [("delete" | "coalesce" | "leaf-coalesce", uuid)]."""
        return self._garbage_collector.collect()


def _choose_root():
    # Short, for the socket's name; without _, which XenAPI's Unix transport reads as /.
    parent = tempfile.gettempdir()
    if "_" in parent or len(parent) > 40:
        parent = "/tmp"
    return os.path.join(parent, "dom0-%s" % secrets.token_hex(4))


def _next_ip(ip, number):
    parts = ip.split(".")
    return ".".join(parts[:-1] + [str(int(parts[-1]) + number)])
