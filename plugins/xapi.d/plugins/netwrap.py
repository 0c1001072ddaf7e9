#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Network commands of neutron's agents, each of which must be on a list."""

from __future__ import absolute_import, division

from dom0_lib.call.dispatch import Arg, Call, dispatch
from dom0_lib.network import network_kinds

CALLS = {
    'run_command': Call(
        'dom0_lib.network.netwrap:run_command',
        Arg('cmd', network_kinds.COMMAND),
        Arg('cmd_input', network_kinds.PROGRAM_INPUT, default=None),
        Arg('cmd_input_deflated', network_kinds.DEFLATED_INPUT, alias_of='cmd_input'),
        acts_on_host=True,
    ),
}

if __name__ == '__main__':
    dispatch(CALLS)
