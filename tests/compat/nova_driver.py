# SPDX-License-Identifier: Apache-2.0
"""nova's xenapi driver (Train) in a process of its own, under Python 2.7 as nova-compute runs it; nothing of it is replaced.

Each line of stdin is a call in JSON, each line of stdout how it ended, as client_driver.py writes it:

    {"open": path of nova.conf, "token": of the image service}
    {"make": {"image_ref": id, "flavor": {...}, "networks": 1, ...}}        a server to be: {"uuid", "name", "network"}
    {"adopt": {"uuid": ..., "network": ..., "flavor": {...}}}               a server that another process has made
    {"method": "spawn", "args": [...], "kwargs": {...}}                     of the driver
    {"function": "nova.virt.xenapi.vm_utils.scan_default_sr", "args": [...]}
    {"set": "group.option", "value": ...}, {"clear": "group.option"}        of nova.conf
    {"mend": "kernel" or "agent"}                                           what os-xenapi's client does wrong; null: no more

Arguments that only nova can make are objects with one name: {"context": null}, {"instance": uuid}, {"network": uuid},
{"interface": uuid}, {"image": {...}}, {"flavor": {...}}, {"session": null}, {"callback": null}.

What stands for the rest of a cloud: sqlite, a queue that leads nowhere, nova.virt.fake.FakeVirtAPI.
"""

from __future__ import absolute_import, division

import eventlet
eventlet.monkey_patch()

import importlib  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
import traceback  # noqa: E402

import client_driver  # noqa: E402

NETWORK = '11111111-2222-3333-4444-%012d'


class Cloud(object):
    """Everything of nova that a method of the driver is given."""

    def __init__(self, path, token):
        from nova import config
        config.parse_args(['nova-compute', '--config-file', path])
        import nova.privsep
        from nova import context, objects, rpc
        from nova.db.sqlalchemy import api, models
        from oslo_log import log
        self.conf = config.CONF
        self.objects = objects
        # Commands of root are run by this process.
        nova.privsep.sys_admin_pctxt.set_client_mode(False)
        objects.register_all()
        log.setup(self.conf, 'nova')
        rpc.init(self.conf)
        models.BASE.metadata.create_all(api.get_engine())
        self.context = context.RequestContext('alice', 'project-a', is_admin=True, roles=['member', 'reader'], auth_token=token)
        # nova notes there that its host is disabled.
        objects.Service(self.context, host=self.conf.host, binary='nova-compute', topic='compute', report_count=0).create()
        self.instances = {}
        self.networks = {}
        self._count = 100 * os.getpid()

    def make_flavor(self, values):
        self._count += 1
        return self.objects.Flavor(self.context, **dict(dict(
            id=self._count, flavorid=str(self._count), name='f%d' % self._count, memory_mb=64, vcpus=1, root_gb=1, ephemeral_gb=0,
            swap=0, rxtx_factor=1.0, vcpu_weight=None, disabled=False, is_public=True, extra_specs={}), **values))

    def make_server(self, flavor=None, networks=1, **values):
        from oslo_utils import uuidutils
        flavor = self.make_flavor(flavor or {})
        instance = self.objects.Instance(self.context, **dict(dict(
            uuid=uuidutils.generate_uuid(), user_id='alice', project_id='project-a', host=self.conf.host, node=self.conf.host,
            flavor=flavor, old_flavor=None, new_flavor=None, instance_type_id=flavor.id, memory_mb=flavor.memory_mb,
            vcpus=flavor.vcpus, root_gb=flavor.root_gb, ephemeral_gb=flavor.ephemeral_gb, os_type='linux', vm_mode=None,
            architecture='x86_64', key_data=None, hostname='vm-one', display_name='vm one', display_description='',
            auto_disk_config=False, kernel_id='', ramdisk_id='', root_device_name='/dev/xvda', vm_state='building',
            task_state='spawning', metadata={'role': 'web', 'a b': 'c'}, system_metadata={}, launch_index=0, reservation_id='r-1',
            availability_zone='nova', config_drive='', locked=False, power_state=0, progress=0), **values))
        instance.create()
        network = self._make_interfaces(networks)
        self._keep(instance, network)
        return {'uuid': instance.uuid, 'name': instance.name, 'network': network.json()}

    def adopt_server(self, uuid, network, flavor):
        """As nova-compute of the host to which a server is resized has it."""
        from nova.network import model
        instance = self.objects.Instance.get_by_uuid(self.context, uuid, expected_attrs=[
            'flavor', 'system_metadata', 'metadata', 'info_cache'])
        instance.host, instance.old_flavor, instance.flavor = self.conf.host, instance.flavor, self.make_flavor(flavor)
        self._keep(instance, model.NetworkInfo.hydrate(network))

    def _keep(self, instance, network):
        instance.pci_devices = self.objects.PciDeviceList(objects=[])
        instance.info_cache = self.objects.InstanceInfoCache(self.context, instance_uuid=instance.uuid, network_info=network)
        self.instances[instance.uuid], self.networks[instance.uuid] = instance, network

    def _make_interfaces(self, count):
        from nova.network import model
        found = model.NetworkInfo()
        for _ in range(count):
            self._count += 1
            number = self._count % 0xffff
            subnet = model.Subnet(
                cidr='10.1.0.0/16', dns=[model.IP('10.1.0.2', 'dns')], gateway=model.IP('10.1.0.1', 'gateway'),
                ips=[model.FixedIP(address='10.1.%d.%d' % divmod(number, 256))], routes=[], version=4)
            network = model.Network(id=NETWORK % number, bridge='br-int', label='private', subnets=[subnet], mtu=1500)
            found.append(model.VIF(
                id='%08x-aaaa-bbbb-cccc-000000000000' % (0xabc00000 + number), network=network,
                address='fa:16:3e:%02x:%02x:00' % divmod(number, 256), type='ovs', active=True, ovs_interfaceid='x',
                details={'ovs_hybrid_plug': True}))
        return found

    def make_image(self, values):
        return self.objects.ImageMeta.from_dict(dict({
            'name': 'image', 'status': 'active', 'disk_format': 'vhd', 'container_format': 'ovf', 'size': 1, 'min_ram': 0,
            'min_disk': 0, 'properties': {}}, **values))


class Driver(object):

    def __init__(self):
        self._cloud = None
        self._driver = None
        self._repairs = Repairs()

    def run(self, call):
        try:
            return {'value': encode(self._call(client_driver.native(call)))}
        except Exception as error:
            places = ['%s:%d' % (os.path.basename(path), line) for path, line, _, _ in traceback.extract_tb(sys.exc_info()[2])[-4:]]
            return {'error': type(error).__name__, 'text': '%s (%s)' % (error, ' '.join(places)),
                    'details': encode(getattr(error, 'details', None)), 'retries': []}

    def _call(self, call):
        if 'open' in call:
            self._cloud = Cloud(call['open'], call['token'])
            from nova.virt import fake
            from nova.virt.xenapi import driver
            self._driver = driver.XenAPIDriver(fake.FakeVirtAPI())
            return None
        if 'make' in call:
            return self._cloud.make_server(**call['make'])
        if 'adopt' in call:
            return self._cloud.adopt_server(**call['adopt'])
        if 'set' in call:
            group, _, option = call['set'].rpartition('.')
            return self._cloud.conf.set_override(option, call['value'], group or None)
        if 'clear' in call:
            group, _, option = call['clear'].rpartition('.')
            return self._cloud.conf.clear_override(option, group or None)
        if 'mend' in call:
            return self._repairs.mend(call['mend']) if call['mend'] else self._repairs.undo()
        args = [self._replace(value) for value in call['args']]
        kwargs = dict((name, self._replace(value)) for name, value in call.get('kwargs', {}).items())
        if 'function' in call:
            module, _, name = call['function'].rpartition('.')
            return getattr(importlib.import_module(module), name)(*args, **kwargs)
        return getattr(self._driver, call['method'])(*args, **kwargs)

    def _replace(self, value):
        makers = {
            'context': lambda _: self._cloud.context, 'session': lambda _: self._driver._session,
            'instance': lambda uuid: self._cloud.instances[uuid], 'network': lambda uuid: self._cloud.networks[uuid],
            'interface': lambda uuid: self._cloud.networks[uuid][0], 'image': self._cloud.make_image,
            'flavor': self._cloud.make_flavor,
            'callback': lambda _: lambda *args, **kwargs: None}
        if isinstance(value, dict) and len(value) == 1 and list(value)[0] in makers:
            (name, argument), = value.items()
            return makers[name](argument)
        return value


class Repairs(object):
    """Errors of os-xenapi 0.3.4's client, each mended as long as it is asked for."""

    def __init__(self):
        self._originals = []

    def mend(self, name):
        """kernel: copy_vdi and create_kernel_ramdisk return the answers of kernel.py.  agent: a time limit is a text."""
        from os_xenapi.client import disk_management, host_agent
        if name == 'kernel':
            for function in ('copy_vdi', 'create_kernel_ramdisk'):
                self._replace(disk_management, function, return_answer)
        elif name == 'agent':
            for function in ('version', 'key_init', 'agent_update', 'password', 'inject_file', 'reset_network'):
                self._replace(host_agent, function, send_text)
        else:
            raise ValueError(name)

    def undo(self):
        while self._originals:
            setattr(*self._originals.pop())

    def _replace(self, module, name, wrap):
        self._originals.append((module, name, getattr(module, name)))
        setattr(module, name, wrap(getattr(module, name)))


def return_answer(function):
    def call(session, *args, **kwargs):
        answers = []

        class Session(object):
            def call_plugin(self, *args, **kwargs):
                answers.append(session.call_plugin(*args, **kwargs))
        function(Session(), *args, **kwargs)
        return answers[-1]
    return call


def send_text(function):
    def call(session, uuid, dom_id, timeout, *args, **kwargs):
        return function(session, uuid, dom_id, str(timeout), *args, **kwargs)
    return call


def encode(value):
    """As client_driver.encode(), and objects of nova by their attributes."""
    if isinstance(value, (list, tuple, set)):
        return [encode(item) for item in value]
    if isinstance(value, dict):
        return {'items': [[encode(key), encode(value[key])] for key in sorted(value)]}
    if value is None or isinstance(value, (bool, int, float, type(u''))):
        return value
    if isinstance(value, bytes):
        return value.decode('latin-1')
    if hasattr(value, 'obj_to_primitive'):
        return encode(value.obj_to_primitive())
    return encode(vars(value)) if hasattr(value, '__dict__') else repr(value)


if __name__ == '__main__':
    client_driver.serve(Driver().run)
    # Green threads of nova's would go on.
    os._exit(0)
