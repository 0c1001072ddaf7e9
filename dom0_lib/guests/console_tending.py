# SPDX-License-Identifier: Apache-2.0
"""The tending of console logs, which cron starts every minute.  Usually it only reads a directory and xenstore.

XAPI is asked when a domain has started or ended, again until XAPI knows about it, and every ten minutes.
"""

from __future__ import absolute_import, division

import os
import time

from dom0_lib import errors
from dom0_lib import light_json
from dom0_lib import log
from dom0_lib import paths
from dom0_lib.guests import console_claims
from dom0_lib.guests import console_files
from dom0_lib.guests import console_logging
from dom0_lib.guests import xenstore
from dom0_lib.system import durable_file
from dom0_lib.system import os_errors

_TIMEOUT_S = 10
# A log that no VM claims is kept for this long, and XAPI is asked at least this often.
_GRACE_S = 600
_MAX_STATE_BYTES = 1 << 20


def cut(_session_ref):
    """Cut the logs that have become too long: {'cut': [domain ids]}.  This needs neither XAPI nor xenstored.

    Raises errors.PluginError, errors.RetryableError while another call has the lock.
    """
    _require_logging()
    console_files.make_directory()
    with console_files.locked():
        return {'cut': console_files.cut(console_files.list_logs())}


def tend(session_ref):
    """Cut long logs, keep the VMs' claims and xenstore's record, remove logs that no VM claims.

    Returns {'cut': [domain ids], 'removed': [domain ids], 'claims_set': number, 'claims_removed': number}.
    Raises errors.PluginError; errors.RetryableError while another call has the lock, and, after the logs have been cut, if XAPI
    or xenstored cannot be reached.
    """
    _require_logging()
    console_files.make_directory()
    with console_files.locked():
        # List the logs before the domains: then no log without a domain belongs to a domain that is just starting.
        logs = console_files.list_logs()
        reply = {'cut': console_files.cut(logs), 'removed': [], 'claims_set': 0, 'claims_removed': 0}
        if console_logging.is_on():
            _keep(session_ref, logs, reply)
        else:
            reply['removed'], reply['claims_removed'] = console_logging.finish(session_ref)
    return reply


def _require_logging():
    if not (console_logging.is_on() or console_logging.is_tended()):
        raise errors.PluginError('console logging is not on here: call prepare of dom0_host.py with console_log=true')


def _keep(session_ref, logs, reply):
    with xenstore.Connection(_TIMEOUT_S) as store:
        console_logging.keep_record(store)
        living = console_logging.list_living(store)
    state = _State()
    if not state.is_of_this_boot:
        # The unit has not run: each log may begin with the output of another guest before the boot.
        reply['removed'] = [dom_id for dom_id in sorted(logs) if console_files.forget(dom_id, dom_id in living)]
        logs = {}
        state.store(None)
    if state.is_settled_with(living):
        return
    outcome = console_claims.renew(session_ref, living)
    reply['claims_set'], reply['claims_removed'] = outcome.claims_set, outcome.claims_removed
    for dom_id, status in sorted(logs.items()):
        is_kept = dom_id in living or dom_id in outcome.claimed
        if not is_kept and not 0 <= time.time() - status.st_mtime < _GRACE_S and console_files.forget(dom_id, is_alive=False):
            reply['removed'].append(dom_id)
    if reply['removed']:
        log.info('removed the console logs of domains %s', ', '.join(str(dom_id) for dom_id in reply['removed']))
    state.store(living if living == set(outcome.here) else None)


class _State(object):
    """The domains of the last call that asked XAPI, kept in a file that a boot removes; the unit makes an empty one."""

    def __init__(self):
        self._path = paths.locate(paths.CONSOLE_STATE)
        self.is_of_this_boot = os.path.exists(self._path)
        self._seen = None
        try:
            if not 0 <= time.time() - os.stat(self._path).st_mtime < _GRACE_S:
                return
            with open(self._path, 'rb') as source:
                self._seen = light_json.loads(source.read(_MAX_STATE_BYTES).decode('ascii'))
        except (EnvironmentError, ValueError):
            pass  # the file is missing or broken: ask XAPI

    def is_settled_with(self, living):
        """Whether XAPI was asked lately, while exactly these domains lived, and knew all of them."""
        return self._seen == sorted(living)

    def store(self, living):
        """Write the file.  living: ids of the domains if XAPI knew exactly these, else None."""
        with os_errors.Errors('cannot write %s' % paths.CONSOLE_STATE):
            durable_file.replace(self._path, light_json.dumps(None if living is None else sorted(living)).encode('ascii'))
