# SPDX-License-Identifier: Apache-2.0
"""Have another host join this pool, while the VM that runs nova-compute is on that host.

    that host              this pool
    log in
    shut down the VM
    pool.join     -------> XAPI of that host takes its VMs into this pool, and restarts as a member
    start the VM           the VM is now one of this pool's: it is started as soon as its host is back

The VM is started again in one pool or the other, whatever fails.  A host with other running VMs, with shared storage, or with
another licence cannot join: XAPI checks that.
"""

from __future__ import absolute_import, division

import time

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib import log
from dom0_lib import settings
from dom0_lib import termination
from dom0_lib.toolstack import xapi
from dom0_lib.web import connection
from dom0_lib.web import http_client

# XAPI gives a guest twenty minutes to shut down.
_CALL_TIMEOUT_S = 25 * 60
_CONNECT_TIMEOUT_S = 30
# os-xenapi waited 23 times 10 s for the toolstack to come back.
_RESTART_TIMEOUT_S = 240
_RETRY_S = 2.0
_MAX_ANSWER_BYTES = 16 << 20
_XML = {'Content-Type': 'text/xml'}


def join(session_ref, compute_uuid, url, user, password, force, master_addr, master_user, master_pass):
    """Have the host at `url` join this pool: pool.join or, with `force`, pool.join_force.  Returns None.

    compute_uuid: the VM that runs nova-compute there; master_*: address and login of this pool's coordinator
    Raises errors.PluginError that names the failed step.
    """
    with _Step('log in to %s' % url):
        session = xapi.log_in(_make_exchange(url), user, password)
    remote = session.xenapi
    places = [('its host', remote), ('this pool', xapi.connect(session_ref).xenapi)]
    problems = []

    def start_again():
        try:
            with _Step('start VM %s again' % compute_uuid):
                _restart(places, compute_uuid)
        except errors.PluginError as error:
            problems.append(compat.to_text(error))

    try:
        with _Step('find VM %s there' % compute_uuid):
            compute_ref = remote.VM.get_by_uuid(compute_uuid)
        # A signal may come while the VM is started at the end: then it is started once more.
        termination.remember(start_again)
        try:
            with _Step('shut down VM %s' % compute_uuid):
                remote.VM.clean_shutdown(compute_ref)
            with _Step('join the pool of %s' % master_addr):
                (remote.pool.join_force if force else remote.pool.join)(master_addr, master_user, master_pass)
            # The XAPI there still answers for a moment, but would forget anything that it begins now.
            del places[0]
        finally:
            start_again()
            termination.forget(start_again)
    except errors.PluginError as error:
        problems.insert(0, compat.to_text(error))
    # Not in a finally: after a signal the VM is started once more, in this session.
    _log_out(session)
    if problems:
        raise errors.PluginError('; '.join(problems))


class _Step(object):
    """Within, one step of the join: its end is logged, and its failure becomes errors.PluginError.

    action: the step, such as 'log in to <URL>'
    """

    def __init__(self, action):
        self._action = action

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        if value is None:
            log.info('host_join: done: %s', self._action)
        elif isinstance(value, Exception):
            reason = _describe(value)
            log.warning('host_join: failed: %s: %s', self._action, reason)
            raise errors.PluginError('host_join cannot %s: %s' % (self._action, reason))


def _describe(error):
    """The reason of an error, without the details after a code of XAPI: they may be secrets."""
    code = None if isinstance(error, errors.PluginError) else xapi.failure_code(error)
    return 'XAPI answered %s' % code if code else compat.to_text(error) or type(error).__name__


def _restart(places, compute_uuid):
    """Start the VM where it is: on its host before the join, in this pool after it, where the VM appears after a while.

    places: [(name, XAPI)]
    """
    ends_at = compat.monotonic_s() + _RESTART_TIMEOUT_S
    while True:
        failures = []
        for place, api in places:
            try:
                api.VM.start(api.VM.get_by_uuid(compute_uuid), False, True)
                return
            except Exception as error:
                # The VM did not shut down, or somebody else has started it.
                if xapi.failure_code(error) == 'VM_BAD_POWER_STATE' and error.details[3].lower() == 'running':
                    return
                failures.append('%s: %s' % (place, _describe(error)))
        if compat.monotonic_s() >= ends_at:
            raise errors.PluginError('it did not start within %d s (%s)' % (_RESTART_TIMEOUT_S, '; '.join(failures)))
        time.sleep(_RETRY_S)


def _log_out(session):
    try:
        session.xenapi.session.logout()
    except Exception as error:
        # A join ends the XAPI of that host, and with it the session.
        log.info('host_join: the session at the host has ended: %s', _describe(error))


def _make_exchange(url):
    """A function that sends a request to XAPI at `url`.  verify_hosts in the settings tells whether its certificate is verified."""
    host_settings = settings.load()

    def exchange(request):
        options = connection.Options(_CONNECT_TIMEOUT_S, _CALL_TIMEOUT_S, _CALL_TIMEOUT_S,
                                     verify=host_settings.verify_hosts, ca_file=host_settings.ca_file)
        response = http_client.request('POST', url + '/', _XML, request, options)
        try:
            if response.status != 200:
                raise errors.RetryableError('%s answered with HTTP status %d' % (url, response.status))
            return response.read_all(_MAX_ANSWER_BYTES)
        finally:
            response.close()
    return exchange
