#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Is this host fit for the other plug-ins? Make it so, and undo that."""

from __future__ import absolute_import, division

from dom0_lib.call import kinds
from dom0_lib.call.dispatch import Arg, Call, HostCall, dispatch
from dom0_lib.migration import trust_kinds

CALLS = {
    'version': Call('dom0_lib.host.plugin_version:describe', is_plain=True),
    'doctor': HostCall('dom0_lib.fitness.doctor:examine', Arg('sr_uuid', kinds.UUID, default=None), is_plain=True,
                       needs_no_settings=True),
    'prepare': HostCall('dom0_lib.fitness.preparation:prepare', Arg('sr_uuid', kinds.UUID, default=None),
                        Arg('bridge', kinds.TRUTH, default=False), Arg('console_log', kinds.TRUTH, default=False),
                        Arg('dry_run', kinds.TRUTH, default=False), is_plain=True),
    'undo_prepare': HostCall('dom0_lib.fitness.preparation:undo', Arg('dry_run', kinds.TRUTH, default=False), is_plain=True),
    'ssh_key': HostCall('dom0_lib.migration.host_trust:describe_key', Arg('dry_run', kinds.TRUTH, default=False), is_plain=True),
    'trust_keys': HostCall('dom0_lib.migration.host_trust:trust', Arg('keys', trust_kinds.KEYS),
                           Arg('dry_run', kinds.TRUTH, default=False), is_plain=True),
    'distrust_keys': HostCall('dom0_lib.migration.host_trust:distrust', Arg('host_uuids', kinds.UUID_LIST, default=None),
                              Arg('dry_run', kinds.TRUTH, default=False), is_plain=True),
    'tend_console_logs': HostCall('dom0_lib.guests.console_tending:tend', is_plain=True),
    # No host-level call: it must do its work where nobody can tell the caller's role.
    'cut_console_logs': Call('dom0_lib.guests.console_tending:cut', is_plain=True),
}

if __name__ == '__main__':
    dispatch(CALLS)
