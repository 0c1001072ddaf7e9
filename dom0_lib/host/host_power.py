# SPDX-License-Identifier: Apache-2.0
"""The power of this host, and whether it takes guests.

XAPI reboots a host that is disabled and has no running guests.  os-xenapi disabled it and shut down every guest, of any tenant;
here a host that has guests is left alone.
"""

from __future__ import absolute_import, division

import time

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib import log
from dom0_lib.toolstack import this_host
from dom0_lib.toolstack import xapi

_LOST_STATES = ('Running', 'Paused')
_SHOWN_GUESTS = 5
# XAPI waits twenty minutes for a host to come up; most errors come much earlier.
_START_WATCH_S = 30
_POLL_S = 0.5


def set_enabled(session_ref, enabled, host_uuid):
    """Let guests be started here, or not: {'status': 'enabled' or 'disabled'}.  Raises the errors of xapi.Errors."""
    api, ref = this_host.find(session_ref, host_uuid)
    with xapi.Errors('cannot %s this host' % ('enable' if enabled else 'disable')):
        (api.host.enable if enabled else api.host.disable)(ref)
        return {'status': 'enabled' if api.host.get_enabled(ref) else 'disabled'}


def act(session_ref, action, host_uuid):
    """Reboot this host or shut it down: `action` is 'reboot' or 'shutdown'.  {'power_action': action}; XAPI begins 10 s later.

    Raises errors.PluginError, and leaves the host as it was, while guests run or are paused here.
    """
    api, ref = this_host.find(session_ref, host_uuid)
    failure = 'cannot %s this host' % action
    with xapi.Errors(failure):
        _refuse_guests(api, ref, failure)
        was_enabled = api.host.get_enabled(ref)
    is_asked = False
    try:
        with xapi.Errors(failure):
            if was_enabled:
                api.host.disable(ref)
                # A guest may have been started before the host was disabled.
                _refuse_guests(api, ref, failure)
            is_asked = True
            getattr(api.host, action)(ref)
    except BaseException as error:
        # Without a refusal XAPI may still carry out the action: then no guest may be started here.
        if was_enabled and not (is_asked and isinstance(error, errors.RetryableError)):
            _enable_again(api, ref)
        raise
    log.info('XAPI will %s this host', action)
    return {'power_action': action}


def _refuse_guests(api, ref, failure):
    records = api.VM.get_all_records_where('field "resident_on"="%s"' % ref).values()
    guests = sorted(record['uuid'] for record in records
                    if not record['is_control_domain'] and record['power_state'] in _LOST_STATES)
    if guests:
        shown = ', '.join(guests[:_SHOWN_GUESTS]) + (', ...' if len(guests) > _SHOWN_GUESTS else '')
        raise errors.PluginError('%s: %d guest%s would be lost (%s): move them to another host or shut them down first' % (
            failure, len(guests), '' if len(guests) == 1 else 's', shown))


def _enable_again(api, ref):
    try:
        api.host.enable(ref)
    except Exception as error:
        log.warning('this host stays disabled: %s', xapi.failure_code(error) or compat.to_text(error))


def start(session_ref, action, host_uuid):
    """Have XAPI power on a host of this pool; one that runs, such as this one, is left alone.  {'power_action': action}.

    Raises the errors of xapi.Errors, if they come within half a minute.
    """
    if host_uuid in (None, this_host.read_uuid()):
        return {'power_action': action}
    with xapi.Errors('cannot start host %s' % host_uuid):
        api = xapi.connect(session_ref).xenapi
        ref = api.host.get_by_uuid(host_uuid)
        if not api.host_metrics.get_live(api.host.get_metrics(ref)):
            _watch(api, api.Async.host.power_on(ref), host_uuid)
    return {'power_action': action}


def _watch(api, task, host_uuid):
    ends_at = compat.monotonic_s() + _START_WATCH_S
    while compat.monotonic_s() < ends_at:
        status = api.task.get_status(task)
        if status == 'failure':
            raise errors.PluginError('cannot start host %s: XAPI answered %s' % (host_uuid, api.task.get_error_info(task)[0]))
        if status != 'pending':
            return
        time.sleep(_POLL_S)
