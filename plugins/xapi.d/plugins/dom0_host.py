#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The fitness of this host for the other plug-ins: checks, preparation, and its undoing."""

from __future__ import absolute_import, division

from dom0_lib.call import kinds
from dom0_lib.call.dispatch import Arg, Call, dispatch
from dom0_lib.migration import trust_kinds

DRY_RUN = Arg('dry_run', kinds.TRUTH, default=False)

CALLS = {
    'version': Call('dom0_lib.host.plugin_version:describe', is_plain=True),
    'doctor': Call(
        'dom0_lib.fitness.doctor:examine',
        Arg('sr_uuid', kinds.UUID, default=None),
        is_plain=True, acts_on_host=True, needs_no_settings=True),
    'prepare': Call(
        'dom0_lib.fitness.preparation:prepare',
        Arg('sr_uuid', kinds.UUID, default=None),
        Arg('bridge', kinds.TRUTH, default=False),
        Arg('console_log', kinds.TRUTH, default=False),
        DRY_RUN, is_plain=True, acts_on_host=True),
    'undo_prepare': Call('dom0_lib.fitness.preparation:undo', DRY_RUN, is_plain=True, acts_on_host=True),
    'ssh_key': Call('dom0_lib.migration.host_trust:describe_key', DRY_RUN, is_plain=True, acts_on_host=True),
    'trust_keys': Call(
        'dom0_lib.migration.host_trust:trust',
        Arg('keys', trust_kinds.KEYS),
        DRY_RUN, is_plain=True, acts_on_host=True),
    'distrust_keys': Call(
        'dom0_lib.migration.host_trust:distrust',
        Arg('host_uuids', kinds.UUID_LIST, default=None),
        DRY_RUN, is_plain=True, acts_on_host=True),
    'tend_console_logs': Call('dom0_lib.guests.console_tending:tend', is_plain=True, acts_on_host=True),
    # Without acts_on_host: this must work where nobody can tell the caller's role.
    'cut_console_logs': Call('dom0_lib.guests.console_tending:cut', is_plain=True),
}

if __name__ == '__main__':
    dispatch(CALLS)
