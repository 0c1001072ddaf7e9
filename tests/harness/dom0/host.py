# SPDX-License-Identifier: Apache-2.0
"""One host of the pool: its control domain, its records, and xapi's doors to it."""

import functools
import uuid

from tests.harness.guests import xenstored
from tests.harness.storage.sm_locks import SmLocks
from tests.harness.xapi.rpc_server import RpcServer

MEMORY_TOTAL_BYTES = 16 << 30
_GIB = 1 << 30

_SOFTWARE_VERSION = {
    "product_brand": "XCP-ng", "product_version": "8.3.0", "product_version_text": "8.3", "platform_name": "XCP",
    "platform_version": "3.4.0", "xapi": "26.1", "xen": "4.17.5", "linux": "4.19.0+1", "build_number": "harness",
    "hostname": "localhost", "date": "2026-05-13",
}
_CPU_INFO = {
    "cpu_count": "2", "socket_count": "1", "vendor": "GenuineIntel", "modelname": "Simulated CPU @ 2.00GHz", "speed": "2000.000",
    "flags": "fpu de tsc msr pae cx8 apic cmov pat clflush mmx fxsr sse sse2 syscall nx lm constant_tsc pni cx16 hypervisor",
    "features": "", "threads_per_core": "1", "nr_nodes": "1",
}


class Host(object):

    def __init__(self, database, dom0, name, ip, xenstore_kind, coordinator=None):
        """coordinator: the Host that leads the pool; None for that one itself."""
        self.dom0 = dom0
        self.name = name
        self.ip = ip
        self.coordinator = coordinator or self
        self.uuid = str(uuid.uuid4())
        self.sm_locks = SmLocks(dom0.locate("/var/lock/sm"))
        self.xenstore = xenstored.make(xenstore_kind, dom0.locate("/var/run/xenstored/socket"))
        self.xenstore.start()
        # The power actions that this host was told to do, in order: reboot, shutdown, power_on.
        self.power_actions = []
        self._servers = []
        self._port = 0
        self._write_inventory()
        self.ref = self._create_records(database)
        self.control_domain_ref = database.get("host", self.ref, "control_domain")

    # For tests.

    @property
    def root(self):
        """DOM0_ROOT of this host's plug-ins."""
        return self.dom0.root

    @property
    def plugin_dir(self):
        return self.dom0.plugin_dir

    def syslog_lines(self):
        """Everything logged so far, by plug-ins and by the host."""
        return self.dom0.log.lines()

    @property
    def address(self):
        """The address of xapi, as HOST_IS_SLAVE names it: without a port where a real client would expect none."""
        return self.ip if self._port == 80 else "%s:%d" % (self.ip, self._port)

    @property
    def url(self):
        return "http://%s" % self.address

    @property
    def is_coordinator(self):
        return self.coordinator is self

    @property
    def coordinator_address(self):
        return self.coordinator.address

    # Life

    def start_xapi(self, serve, port, handlers):
        """Start the servers; a port once chosen is kept.

        serve: function(host, method, params) -> result; handlers: see RpcServer
        """
        def serve_socket(method, params):
            # A member passes on calls from its own dom0, but logs nobody in.
            is_login = method.startswith("session.") and "login" in method
            return serve(self if is_login else self.coordinator, method, params)

        http = RpcServer((self.ip, self._port or port), functools.partial(serve, self), handlers)
        self._port = http.address[1]
        self._servers = [http, RpcServer(self.dom0.socket_path, serve_socket, handlers)]

    def stop_xapi(self):
        servers, self._servers = self._servers, []
        for server in servers:
            server.stop()

    def close(self):
        self.stop_xapi()
        self.dom0.close()
        self.xenstore.stop()
        self.sm_locks.close()

    def _create_records(self, database):
        metrics = database.create("host_metrics", memory_total=MEMORY_TOTAL_BYTES, memory_free=MEMORY_TOTAL_BYTES // 2)
        ref = database.create("host", uuid=self.uuid, name_label=self.name, hostname=self.name, address=self.ip, metrics=metrics,
                              software_version=dict(_SOFTWARE_VERSION, hostname=self.name), cpu_info=_CPU_INFO,
                              memory_overhead=_GIB // 2, other_config={"iscsi_iqn": "iqn.2026-01.example:%s" % self.name},
                              capabilities=["xen-3.0-x86_64", "hvm-3.0-x86_32", "hvm-3.0-x86_32p", "hvm-3.0-x86_64", ""])
        vm = database.create("VM", uuid=self.control_domain_uuid, name_label="Control domain on host: %s" % self.name,
                             is_control_domain=True, power_state="Running", resident_on=ref, domid=0, VCPUs_max=2,
                             VCPUs_at_startup=2, memory_static_max=_GIB, memory_dynamic_max=_GIB)
        database.update("host", ref, control_domain=vm)
        network = (database.refs("network") or [database.create(
            "network", name_label="Pool-wide network associated with eth0", bridge="xenbr0")])[0]
        database.create("PIF", device="eth0", host=ref, network=network, management=True, IP=self.ip, netmask="255.0.0.0",
                        MAC="02:00:00:00:00:%02x" % len(database.refs("host")))
        return ref

    def _write_inventory(self):
        self.control_domain_uuid = str(uuid.uuid4())
        lines = [("PRODUCT_BRAND", "XCP-ng"), ("PRODUCT_VERSION", "8.3.0"), ("PLATFORM_NAME", "XCP"),
                 ("PLATFORM_VERSION", "3.4.0"), ("INSTALLATION_UUID", self.uuid),
                 ("CONTROL_DOMAIN_UUID", self.control_domain_uuid), ("MANAGEMENT_INTERFACE", "xenbr0")]
        with open(self.dom0.locate("/etc/xensource-inventory"), "w") as inventory:
            inventory.writelines("%s='%s'\n" % line for line in lines)
        with open(self.dom0.locate("/etc/xapi.conf"), "w") as configuration:
            configuration.write("# relax-xsm-sr-check = true\nlog = xapi\n")
