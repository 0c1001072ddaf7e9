#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The host itself: data, power, pool, firewall, network, PCI devices."""

from __future__ import absolute_import, division

from dom0_lib.call import kinds
from dom0_lib.call.dispatch import Arg, Call, dispatch
from dom0_lib.host import host_kinds
from dom0_lib.network import network_commands
from dom0_lib.network import network_kinds

HOST_UUID = Arg('host_uuid', kinds.UUID, default=None)

CALLS = {
    'host_data': Call('dom0_lib.host.host_data:describe', HOST_UUID),
    'host_uptime': Call('dom0_lib.host.host_data:read_uptime'),
    'set_host_enabled': Call(
        'dom0_lib.host.host_power:set_enabled',
        Arg('enabled', kinds.TRUTH),
        HOST_UUID, acts_on_host=True),
    'host_reboot': Call(
        'dom0_lib.host.host_power:act',
        Arg('action', host_kinds.REBOOT, default=u'reboot'),
        HOST_UUID, acts_on_host=True),
    'host_shutdown': Call(
        'dom0_lib.host.host_power:act',
        Arg('action', host_kinds.SHUTDOWN, default=u'shutdown'),
        HOST_UUID, acts_on_host=True),
    'host_start': Call(
        'dom0_lib.host.host_power:start',
        Arg('action', host_kinds.STARTUP, default=u'startup'),
        HOST_UUID, acts_on_host=True),
    'host_join': Call(
        'dom0_lib.host.pool_join:join',
        Arg('compute_uuid', kinds.UUID), Arg('url', kinds.ENDPOINT), Arg('user', host_kinds.LINE),
        Arg('password', host_kinds.PASSWORD), Arg('force', kinds.TRUTH, default=False),
        Arg('master_addr', host_kinds.ADDRESS), Arg('master_user', host_kinds.LINE), Arg('master_pass', host_kinds.PASSWORD),
        acts_on_host=True),
    'get_config': Call('dom0_lib.host.host_data:get_config', Arg('params', host_kinds.CONFIG_PARAMS)),
    'set_config': Call('dom0_lib.host.host_data:set_config', Arg('params', host_kinds.CONFIG_ENTRY), acts_on_host=True),
    'query_gc': Call('dom0_lib.storage.sr_calls:query', Arg('sr_uuid', kinds.UUID), Arg('vdi_uuid', kinds.UUID)),
    'get_pci_device_details': Call('dom0_lib.host.pci_devices:list_details'),
    'get_pci_type': Call('dom0_lib.host.pci_devices:find_type', Arg('pci_device', host_kinds.PCI_DEVICE)),
    'network_config': Call('dom0_lib.network.host_network:configure', Arg('args', network_commands.CALL), acts_on_host=True),
    'iptables_config': Call(
        'dom0_lib.network.host_network:run_tables_command',
        Arg('cmd_args', network_kinds.COMMAND),
        Arg('process_input', network_kinds.PROGRAM_TEXT, default=None),
        Arg('process_input_deflated', network_kinds.DEFLATED_INPUT, alias_of='process_input'),
        ignores_unknown=True, acts_on_host=True),
}

if __name__ == '__main__':
    dispatch(CALLS)
