#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Network commands of neutron's agents, from a list of what is allowed."""

from __future__ import absolute_import, division

from dom0_lib.call.dispatch import Arg, HostCall, dispatch
from dom0_lib.network import network_kinds

CALLS = {
    'run_command': HostCall(
        'dom0_lib.network.netwrap:run_command',
        Arg('cmd', network_kinds.COMMAND),
        Arg('cmd_input', network_kinds.PROGRAM_INPUT, default=None),
        Arg('cmd_input_deflated', network_kinds.DEFLATED_INPUT, into='cmd_input'),
    ),
}

if __name__ == '__main__':
    dispatch(CALLS)
