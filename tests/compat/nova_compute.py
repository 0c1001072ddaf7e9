# SPDX-License-Identifier: Apache-2.0
"""nova-compute as a test sees it: nova's xenapi driver in a process (nova_driver.py), which manages one simulated host."""

import contextlib
import http.server
import os
import threading

from tests.compat import client as compat_client
from tests.harness.system import programs

CONTEXT, SESSION, CALLBACK = {"context": None}, {"session": None}, {"callback": None}
NO_DISKS = {"root_device_name": None, "block_device_mapping": [], "ephemerals": [], "swap": None}
INTEGRATION_BRIDGE = "xapi9"

# openstack's own defaults where nothing is said; the waits are short, as there is nobody to wait for.
_CONFIGURATION = """
[DEFAULT]
compute_driver = xenapi.XenAPIDriver
transport_url = fake://
host = {name}
my_ip = 127.0.0.1
state_path = {directory}/state
debug = True
log_file = {directory}/{name}.log
use_stderr = False
default_ephemeral_format = ext3
vif_plugging_timeout = 5
[database]
connection = sqlite:///{directory}/nova.sqlite
[api_database]
connection = sqlite:///{directory}/nova_api.sqlite
[glance]
api_servers = {image_service}
num_retries = 1
[neutron]
auth_type = none
endpoint = {network_service}
endpoint_override = {network_service}
[oslo_concurrency]
lock_path = {directory}/locks
[vnc]
server_proxyclient_address = 127.0.0.1
[xenserver]
connection_url = {url}
connection_username = {username}
connection_password = {password}
agent_version_timeout = 3
agent_timeout = 5
agent_resetnetwork_timeout = 5
vhd_coalesce_poll_interval = 0.05
ovs_integration_bridge = {bridge}
sr_matching_filter = other-config:i18n-key=local-storage
{more}
"""

# nova-compute runs in a guest, whose xenstore knows its uuid.
_XENSTORE_READ = '#!/bin/sh\ncase "$1" in domid) echo {domid};; *) echo /vm/{uuid};; esac\n'
# nova's openssl was 1.0, whose default digest is the one that agents use.
_OPENSSL = '#!/bin/sh\nexec /usr/bin/openssl "$@" -md md5\n'


class NetworkService(http.server.ThreadingHTTPServer):
    """neutron, as far as nova asks it for a configuration drive: there are no ports, and so no security groups."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _NetworkHandler)
        self.url = "http://127.0.0.1:%d" % self.server_address[1]
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *exc_info):
        self.shutdown()
        super().__exit__(*exc_info)


class _NetworkHandler(http.server.BaseHTTPRequestHandler):

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(b'{"ports": [], "security_groups": []}')


class Compute(object):
    """One process of nova's for a host. Every method raises compat_client.ClientFailed.

    vm      the record of the guest in which nova-compute runs
    """

    def __init__(self, host, vm, services, directory, name="compute", more="", devices=None):
        """
        services    the image service and the network service
        directory   for nova's database, which all that have the same directory share
        more        lines of the section xenserver
        devices     the /dev of the guest in which nova-compute runs, or None: it sees no disks
        """
        self.host, self.vm, self.services, self.directory, self.devices = host, vm, services, directory, devices
        self.log_path = os.path.join(directory, name + ".log")
        bin_dir = os.path.join(directory, name, "bin")
        os.makedirs(bin_dir)
        programs.write(os.path.join(bin_dir, "xenstore-read"), _XENSTORE_READ.format(domid=vm["domid"], uuid=vm["uuid"]))
        programs.write(os.path.join(bin_dir, "openssl"), _OPENSSL)
        path = os.path.join(directory, name + ".conf")
        with open(path, "w") as configuration:
            configuration.write(_CONFIGURATION.format(
                name=name, directory=directory, image_service=services[0].url, network_service=services[1].url, url=host.url,
                username="root", password="harness", bridge=INTEGRATION_BRIDGE, more=more))
        self._process = compat_client.DriverProcess(compat_client.PYTHON, "nova_driver.py",
                                                    "%s:/usr/sbin:/usr/bin:/sbin:/bin" % bin_dir, devices)
        try:
            self._ask({"open": path, "token": services[0].token})
        except BaseException:
            self.close()
            raise

    def close(self):
        self._process.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

    def call(self, method, *args, **kwargs):
        """A method of nova's driver."""
        return self._ask({"method": method, "args": args, "kwargs": kwargs})

    def run(self, function, *args):
        """A function of nova's, "module.function"."""
        return self._ask({"function": function, "args": args})

    @contextlib.contextmanager
    def mended(self, name):
        """Within, os-xenapi's client is without one of its errors (nova_driver.Repairs)."""
        self._ask({"mend": name})
        try:
            yield
        finally:
            self._ask({"mend": None})

    @contextlib.contextmanager
    def option(self, name, value):
        """Within, an option of nova.conf, "group.option", has this value."""
        self._ask({"set": name, "value": value})
        try:
            yield
        finally:
            self._ask({"clear": name})

    def make_server(self, image, **options):
        """A server that is not there yet."""
        return Server(self, self._ask({"make": dict(options, image_ref=image.id)}), image)

    def adopt(self, server, flavor):
        """A server that another Compute has made."""
        self._ask({"adopt": {"uuid": server.uuid, "network": server.network, "flavor": flavor}})
        return Server(self, {"uuid": server.uuid, "name": server.name, "network": server.network}, server.image)

    def spawn(self, image, meta=None, files=(), password="secret", block_devices=None, **options):
        server = self.make_server(image, **options)
        server.call("spawn", dict({"image": dict({"id": image.id}, **(meta or {}))}), list(files), password, {},
                    network_info=server.interfaces, block_device_info=block_devices)
        return server

    def _ask(self, call):
        answer = self._process.ask(call)
        if "error" in answer:
            raise compat_client.ClientFailed(answer)
        return compat_client.decode(answer["value"])


class Server(object):
    """An instance of nova's."""

    def __init__(self, compute, made, image):
        self.compute = compute
        self.image = image
        self.uuid, self.name, self.network = made["uuid"], made["name"], made["network"]
        self.instance, self.interfaces = {"instance": self.uuid}, {"network": self.uuid}

    def call(self, method, *args, **kwargs):
        """A method that takes the context and the instance first."""
        return self.compute.call(method, CONTEXT, self.instance, *args, **kwargs)

    def do(self, method, *args, **kwargs):
        """A method that takes the instance first."""
        return self.compute.call(method, self.instance, *args, **kwargs)

    def snapshot(self, image):
        self.call("snapshot", image.id, CALLBACK)

    def destroy(self):
        self.call("destroy", self.interfaces, NO_DISKS)
