#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The host itself: data, power, pool, firewall, network, PCI devices."""

from __future__ import absolute_import, division

from dom0_lib.call import kinds
from dom0_lib.call.dispatch import Arg, Call, HostCall, dispatch
from dom0_lib.host import host_kinds
from dom0_lib.network import network_commands
from dom0_lib.network import network_kinds

CALLS = {
    'host_data': Call('dom0_lib.host.host_data:describe', Arg('host_uuid', kinds.UUID, default=None)),
    'host_uptime': Call('dom0_lib.host.host_data:read_uptime'),
    'set_host_enabled': HostCall(
        'dom0_lib.host.host_power:set_enabled',
        Arg('enabled', kinds.TRUTH),
        Arg('host_uuid', kinds.UUID, default=None),
    ),
    'host_reboot': HostCall(
        'dom0_lib.host.host_power:act',
        Arg('action', host_kinds.REBOOT, default=u'reboot'),
        Arg('host_uuid', kinds.UUID, default=None),
    ),
    'host_shutdown': HostCall(
        'dom0_lib.host.host_power:act',
        Arg('action', host_kinds.SHUTDOWN, default=u'shutdown'),
        Arg('host_uuid', kinds.UUID, default=None),
    ),
    'host_start': HostCall(
        'dom0_lib.host.host_power:start',
        Arg('action', host_kinds.STARTUP, default=u'startup'),
        Arg('host_uuid', kinds.UUID, default=None),
    ),
    'host_join': HostCall(
        'dom0_lib.host.pool_join:join',
        Arg('compute_uuid', kinds.UUID), Arg('url', kinds.ENDPOINT), Arg('user', host_kinds.LINE),
        Arg('password', host_kinds.PASSWORD), Arg('force', kinds.TRUTH, default=False),
        Arg('master_addr', host_kinds.ADDRESS), Arg('master_user', host_kinds.LINE), Arg('master_pass', host_kinds.PASSWORD),
    ),
    'get_config': Call('dom0_lib.host.host_data:get_config', Arg('params', host_kinds.CONFIG_PARAMS)),
    'set_config': HostCall('dom0_lib.host.host_data:set_config', Arg('params', host_kinds.CONFIG_ENTRY)),
    'query_gc': Call('dom0_lib.storage.sr_calls:query', Arg('sr_uuid', kinds.UUID), Arg('vdi_uuid', kinds.UUID)),
    'get_pci_device_details': Call('dom0_lib.host.pci_devices:list_details'),
    'get_pci_type': Call('dom0_lib.host.pci_devices:find_type', Arg('pci_device', host_kinds.PCI_DEVICE)),
    'network_config': HostCall('dom0_lib.network.host_network:configure', Arg('args', network_commands.CALL)),
    'iptables_config': HostCall(
        'dom0_lib.network.host_network:run_tables_command',
        Arg('cmd_args', network_kinds.COMMAND),
        Arg('process_input', network_kinds.PROGRAM_TEXT, default=None),
        Arg('process_input_deflated', network_kinds.DEFLATED_INPUT, into='process_input'),
        ignores_unknown=True,
    ),
}

if __name__ == '__main__':
    dispatch(CALLS)
