#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Is this host fit for the other plug-ins? Make it so, and undo that."""

from __future__ import absolute_import, division

from dom0_lib import args
from dom0_lib import trust_args
from dom0_lib.plugin import Arg, Call, HostCall, dispatch

CALLS = {
    'version': Call('dom0_lib.plugin_version:describe', is_plain=True),
    'doctor': HostCall('dom0_lib.host_doctor:examine', Arg('sr_uuid', args.UUID, default=None), is_plain=True,
                       needs_no_settings=True),
    'prepare': HostCall('dom0_lib.host_preparation:prepare', Arg('sr_uuid', args.UUID, default=None),
                        Arg('bridge', args.TRUTH, default=False), Arg('console_log', args.TRUTH, default=False),
                        Arg('dry_run', args.TRUTH, default=False), is_plain=True),
    'undo_prepare': HostCall('dom0_lib.host_preparation:undo', Arg('dry_run', args.TRUTH, default=False), is_plain=True),
    'ssh_key': HostCall('dom0_lib.host_trust:describe_key', Arg('dry_run', args.TRUTH, default=False), is_plain=True),
    'trust_keys': HostCall('dom0_lib.host_trust:trust', Arg('keys', trust_args.KEYS), Arg('dry_run', args.TRUTH, default=False),
                           is_plain=True),
    'distrust_keys': HostCall('dom0_lib.host_trust:distrust', Arg('host_uuids', args.UUID_LIST, default=None),
                              Arg('dry_run', args.TRUTH, default=False), is_plain=True),
    'tend_console_logs': HostCall('dom0_lib.console_tending:tend', is_plain=True),
    # No host-level call: it must do its work where nobody can tell the caller's role.
    'cut_console_logs': Call('dom0_lib.console_tending:cut', is_plain=True),
}

if __name__ == '__main__':
    dispatch(CALLS)
