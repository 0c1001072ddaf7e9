# SPDX-License-Identifier: Apache-2.0
"""Commands that run in dom0 for neutron's agents, which themselves run in a guest."""

from __future__ import absolute_import, division

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib import log
from dom0_lib import settings
from dom0_lib.call import policy
from dom0_lib.network import command_words
from dom0_lib.network import net_filters
from dom0_lib.system import proc

# neutron compares the whole message with these texts and turns them into exit codes of rootwrap (xenapi_root_helper.py).
_UNAUTHORIZED = 'Unauthorized command'
_NOT_FOUND = 'Executable not found'
_MAX_OUTPUT_BYTES = 4 << 20


def run_command(_session_ref, cmd, cmd_input):
    """Run a command if dom0_lib.network.net_filters and the settings of this host allow it.

    cmd: list of printable texts; cmd_input: bytes for its stdin, or None
    Returns {'returncode': int, 'out': text, 'err': text}, also for an exit status other than 0.  In the texts, a byte that is not
    valid UTF-8 becomes U+DC00 plus its value.
    Raises errors.Denied; errors.CommandNotFound; errors.CommandFailed after the deadline and for more than 4 MiB of output.
    """
    host_settings = settings.load()
    try:
        net_filters.check(cmd, cmd_input or b'')
        if not any(policy.matches(pattern, ' '.join(cmd)) for pattern in host_settings.commands):
            raise command_words.Refused('the settings of this host')
    except command_words.Refused as refused:
        log.warning('refused to run %s: %s', ' '.join(cmd), refused)
        raise errors.Denied(_UNAUTHORIZED)
    try:
        completed = proc.run(cmd, host_settings.command_timeout_s, ok_statuses=None, input_data=cmd_input or b'',
                             max_output_bytes=_MAX_OUTPUT_BYTES)
    except errors.CommandNotFound:
        raise errors.CommandNotFound(cmd[0], _NOT_FOUND)
    return {'returncode': completed.status, 'out': compat.text_of_bytes(completed.output_bytes),
            'err': compat.text_of_bytes(completed.error_bytes)}
