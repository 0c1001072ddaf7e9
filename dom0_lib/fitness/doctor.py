# SPDX-License-Identifier: Apache-2.0
"""The examination whether this host is fit for the plug-ins.  It changes nothing and takes no lock."""

from __future__ import absolute_import, division

from dom0_lib.fitness import checkup
from dom0_lib.fitness import pool_checks
from dom0_lib.fitness import program_checks
from dom0_lib.fitness import storage_checks

# No check begins after this time, and the longest takes half a minute.
_LIMIT_S = 30

CHECKS = (
    ('xapi', program_checks.check_xapi),
    ('python', program_checks.check_python),
    ('settings', program_checks.check_settings),
    ('sr', storage_checks.check_sr),
    ('free space', storage_checks.check_space),
    ('images', storage_checks.check_images),
    ('boot guest', storage_checks.check_boot_guest),
    ('locks', storage_checks.check_locks),
    ('leftovers', storage_checks.check_leftovers),
    ('vhd-util', program_checks.check_vhd_util),
    ('xenstore', program_checks.check_xenstore),
    ('console logs', program_checks.check_console_logs),
    ('rsync', program_checks.check_rsync),
    ('ssh', program_checks.check_ssh),
    ('sshd', program_checks.check_sshd),
    ('trust', pool_checks.check_trust),
    ('clock', pool_checks.check_clock),
    ('versions', pool_checks.check_versions),
)


def examine(session_ref, sr_uuid):
    """The reports of all checks, in this order, as checkup.examine() returns them.

    sr_uuid: the SR that the cloud uses; None: the one that attached_sr.choose() finds
    """
    return checkup.examine(CHECKS, checkup.Host(session_ref, sr_uuid), _LIMIT_S)
