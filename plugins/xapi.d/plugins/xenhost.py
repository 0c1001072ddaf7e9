#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The host itself: data, power, pool, firewall, network, PCI devices."""

from __future__ import absolute_import, division

from dom0_lib import args
from dom0_lib import host_args
from dom0_lib import network_commands
from dom0_lib.plugin import Arg, Call, HostCall, dispatch

CALLS = {
    'host_data': Call('dom0_lib.host_data:describe', Arg('host_uuid', args.UUID, default=None)),
    'host_uptime': Call('dom0_lib.host_data:read_uptime'),
    'set_host_enabled': HostCall(
        'dom0_lib.host_power:set_enabled',
        Arg('enabled', args.TRUTH),
        Arg('host_uuid', args.UUID, default=None),
    ),
    'host_reboot': HostCall(
        'dom0_lib.host_power:act',
        Arg('action', host_args.REBOOT, default=u'reboot'),
        Arg('host_uuid', args.UUID, default=None),
    ),
    'host_shutdown': HostCall(
        'dom0_lib.host_power:act',
        Arg('action', host_args.SHUTDOWN, default=u'shutdown'),
        Arg('host_uuid', args.UUID, default=None),
    ),
    'host_start': HostCall(
        'dom0_lib.host_power:start',
        Arg('action', host_args.STARTUP, default=u'startup'),
        Arg('host_uuid', args.UUID, default=None),
    ),
    'host_join': HostCall(
        'dom0_lib.pool_join:join',
        Arg('compute_uuid', args.UUID), Arg('url', args.ENDPOINT), Arg('user', host_args.LINE),
        Arg('password', host_args.PASSWORD), Arg('force', args.TRUTH, default=False),
        Arg('master_addr', host_args.ADDRESS), Arg('master_user', host_args.LINE), Arg('master_pass', host_args.PASSWORD),
    ),
    'get_config': Call('dom0_lib.host_data:get_config', Arg('params', host_args.CONFIG_PARAMS)),
    'set_config': HostCall('dom0_lib.host_data:set_config', Arg('params', host_args.CONFIG_ENTRY)),
    'query_gc': Call('dom0_lib.collection_state:query', Arg('sr_uuid', args.UUID), Arg('vdi_uuid', args.UUID)),
    'get_pci_device_details': Call('dom0_lib.pci_devices:list_details'),
    'get_pci_type': Call('dom0_lib.pci_devices:find_type', Arg('pci_device', host_args.PCI_DEVICE)),
    'network_config': HostCall('dom0_lib.host_network:configure', Arg('args', network_commands.CALL)),
    'iptables_config': HostCall(
        'dom0_lib.firewall_tables:run',
        Arg('cmd_args', args.COMMAND),
        Arg('process_input', host_args.PROGRAM_TEXT, default=None),
        Arg('process_input_deflated', args.DEFLATED_INPUT, into='process_input'),
        ignores_unknown=True,
    ),
}

if __name__ == '__main__':
    dispatch(CALLS)
