# SPDX-License-Identifier: Apache-2.0
"""Bridges, ports and links of dom0, by the commands of network_commands."""

from __future__ import absolute_import, division

from dom0_lib.system import proc

# Beyond what ovs-vsctl itself waits.
_DEADLINE_S = 40


def configure(_session_ref, args):
    """Run a checked command: what it printed.  Raises errors.CommandFailed, which for ip_link_get_dev means no such device."""
    _, argv = args
    return proc.run(argv, _DEADLINE_S).output
