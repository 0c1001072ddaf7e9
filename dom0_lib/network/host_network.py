# SPDX-License-Identifier: Apache-2.0
"""Configuration of dom0's bridges, ports, links and packet filter tables, by the programs that xenhost.py runs."""

from __future__ import absolute_import, division

from dom0_lib import errors
from dom0_lib.network import command_words
from dom0_lib.network import net_filters
from dom0_lib.system import proc

_SAVE = ('iptables-save', 'ip6tables-save')
_RESTORE = ('iptables-restore', 'ip6tables-restore')
# More than the 30 s that ovs-vsctl itself waits.
_CONFIGURE_DEADLINE_S = 40
# iptables-restore waits for the xtables lock.
_TABLES_DEADLINE_S = 60
_MAX_OUTPUT_BYTES = 8 << 20
_SHOWN_CHARACTERS = 60


def configure(_session_ref, args):
    """Run a command of network_commands and return its output.

    args: [name of the command, argument list of the program]
    Raises errors.CommandFailed, which for ip_link_get_dev means that there is no such device.
    """
    _, argv = args
    return proc.run(argv, _CONFIGURE_DEADLINE_S).output


def run_tables_command(_session_ref, cmd_args, process_input):
    """Run iptables-save or iptables-restore, as dom0_lib.network.net_filters allows them: {'out': output, 'err': ''}.

    cmd_args: list of printable texts; process_input: tables to restore, bytes, or None
    Raises errors.ArgumentError before anything is run, errors.CommandFailed.
    """
    if cmd_args[0] not in _SAVE + _RESTORE:
        raise errors.ArgumentError('cmd_args', 'needs one of %s as its program' % ', '.join(_SAVE + _RESTORE))
    _check('cmd_args', cmd_args, b'')
    if process_input:
        if cmd_args[0] not in _RESTORE:
            raise errors.ArgumentError('process_input', 'goes with %s alone' % ' and '.join(_RESTORE))
        _check('process_input', cmd_args, process_input)
    completed = proc.run(cmd_args, _TABLES_DEADLINE_S, input_data=process_input or b'', max_output_bytes=_MAX_OUTPUT_BYTES)
    return {'out': completed.output, 'err': ''}


def _check(argument, argv, data):
    try:
        net_filters.check(argv, data)
    except command_words.Refused as refused:
        shown = ''.join(c for c in str(refused) if ' ' <= c <= '~')[:_SHOWN_CHARACTERS]
        raise errors.ArgumentError(argument, 'has a word that is not allowed: %s' % shown)
