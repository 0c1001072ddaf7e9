#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Network commands of neutron's agents, from a list of what is allowed."""

from __future__ import absolute_import, division

from dom0_lib import args
from dom0_lib.plugin import Arg, HostCall, dispatch

CALLS = {
    'run_command': HostCall(
        'dom0_lib.netwrap:run_command',
        Arg('cmd', args.COMMAND),
        Arg('cmd_input', args.PROGRAM_INPUT, default=None),
        Arg('cmd_input_deflated', args.DEFLATED_INPUT, into='cmd_input'),
    ),
}

if __name__ == '__main__':
    dispatch(CALLS)
