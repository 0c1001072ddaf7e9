# SPDX-License-Identifier: Apache-2.0
"""neutron's root helper for dom0 and ceilometer's inspector (Train), in a process under Python 2.7; nothing of them is replaced.

Each line of stdin is a call in JSON, each line of stdout its answer, as client_driver.py writes them:

    {"open": "neutron" or "ceilometer", "session": [url, user, password]}
    {"execute": [word, ...], "stdin": text or null}     by neutron: [exit status, stdout, stderr]
    {"inspect": method, "name": of a VM}                by ceilometer: [fields of what was found]
"""

from __future__ import absolute_import, division

import client_driver
from oslo_config import cfg


class Driver(object):

    def __init__(self):
        self._tool = None

    def run(self, call):
        try:
            return {'value': client_driver.encode(self._call(call)), 'retries': []}
        except Exception as error:
            return {'error': type(error).__name__, 'text': str(error), 'details': getattr(error, 'details', None), 'retries': []}

    def _call(self, call):
        if 'open' in call:
            open_tool = {'neutron': open_neutron, 'ceilometer': open_ceilometer}[call['open']]
            self._tool = open_tool(*client_driver.native(call['session']))
            return None
        if 'execute' in call:
            return self._tool.execute(client_driver.native(call['execute']), client_driver.native(call['stdin']))
        found = getattr(self._tool, call['inspect'])(make_instance(call['name']), 10)
        return [vars(item) for item in ([found] if call['inspect'] == 'inspect_instance' else found)]


def open_neutron(*session):
    from neutron.agent.linux import xenapi_root_helper
    set_session(cfg.CONF, session)
    return xenapi_root_helper.XenAPIClient()


def open_ceilometer(*session):
    from ceilometer.compute.virt.xenapi import inspector
    conf = cfg.ConfigOpts()
    conf.register_opts(inspector.OPTS, inspector.opt_group)
    set_session(conf, session)
    return inspector.XenapiInspector(conf)


def set_session(conf, session):
    for name, value in zip(('url', 'username', 'password'), session):
        conf.set_override('connection_' + name, value, 'xenapi')


def make_instance(name):
    """As nova's API tells ceilometer of a server."""
    instance = type('Instance', (object,), {})()
    setattr(instance, 'OS-EXT-SRV-ATTR:instance_name', name)
    return instance


if __name__ == '__main__':
    client_driver.serve(Driver().run)
