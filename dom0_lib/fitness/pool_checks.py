# SPDX-License-Identifier: Apache-2.0
"""Checks of this host against the rest of its pool: each takes a checkup.Host, returns a text, and raises checkup.Unfit."""

from __future__ import absolute_import, division

import time

import dom0_lib
from dom0_lib import compat
from dom0_lib import light_json
from dom0_lib.fitness import checkup
from dom0_lib.migration import authorized_keys
from dom0_lib.migration import ssh_directory
from dom0_lib.toolstack import xapi

_CLOCK_LIMIT_S = 5
# For all hosts together; each is asked for its version in a fraction of a second.
_VERSIONS_LIMIT_S = 20
_TRUST = 'dom0-plugins trust, or ssh_key there and trust_keys here'


def check_trust(host):
    """Whether the other hosts may send disks to this host, and this host to them."""
    others = host.list_others()
    if not others:
        return 'no other host'
    if not ssh_directory.find_public_key(host.load_settings().identity_file):
        raise checkup.Unfit('root has no ssh key to send disks with', _TRUST)
    admitted = authorized_keys.LineFile(authorized_keys.AUTHORIZED_KEYS)
    known = authorized_keys.LineFile(authorized_keys.KNOWN_HOSTS)
    missing = [text % record['name_label'] for lines, text in (
        (admitted, '%s may not send disks here'), (known, '%s is not known by its host keys'))
        for _, record in others if record['uuid'] not in lines.list_hosts()]
    if missing:
        raise checkup.Unfit(', '.join(missing), _TRUST)
    numbers = authorized_keys.find_bypasses(admitted)
    if numbers:
        text = ', '.join(str(number) for number in numbers)
        raise checkup.Unfit('line %s of %s admits a trusted key without limits' % (text, admitted.dom0_path),
                            'remove it, unless the key has another purpose, too')
    return '%d other hosts' % len(others)


def check_clock(host):
    """Whether the clock is close to the coordinator's; XAPI tells that in whole seconds."""
    api, host_ref = host.find_host()
    with xapi.Errors("cannot ask for the coordinator's time"):
        coordinator = api.pool.get_master(api.pool.get_all()[0])
        if coordinator == host_ref:
            return 'this host is the coordinator'
        before_s = time.time()
        answer = str(api.host.get_servertime(coordinator))
        after_s = time.time()
    ahead_s = (before_s + after_s) / 2 - _to_seconds(answer) - 0.5
    found = '%d s %s the coordinator' % (abs(ahead_s), 'ahead of' if ahead_s > 0 else 'behind')
    if abs(ahead_s) > _CLOCK_LIMIT_S:
        raise checkup.Unfit('the clock is %s' % found, 'use one time server for both hosts: see chronyc sources, or ntpq -p', found)
    return 'within a second or two of the coordinator' if abs(ahead_s) < 2 else found


def _to_seconds(text):
    import calendar
    return calendar.timegm(time.strptime(text, '%Y%m%dT%H:%M:%SZ'))


def check_versions(host):
    """Whether all hosts of the pool have the same release of the plug-ins."""
    own = dom0_lib.__version__
    different, unasked = [], []
    ends_at = compat.monotonic_s() + _VERSIONS_LIMIT_S
    for ref, record in host.list_others():
        if compat.monotonic_s() >= ends_at:
            unasked.append(record['name_label'])
            continue
        found = _ask_for_release(host, ref)
        if found != own:
            different.append('%s %s' % (record['name_label'], found))
    if different:
        raise checkup.Unfit('%s; this host has %s' % (', '.join(different), own), 'install the same release everywhere', own)
    if unasked:
        return '%s on all hosts that were asked in time, not on %s' % (own, ', '.join(unasked))
    return '%s on all hosts' % own


def _ask_for_release(host, host_ref):
    """The release of the plug-ins on a host, or the reason why it is unknown."""
    try:
        reply = host.find_host()[0].host.call_plugin(host_ref, 'dom0_host.py', 'version', {})
        return light_json.loads(reply)['release']
    except Exception as error:
        code = xapi.failure_code(error)
        return 'has no such plug-in' if code == 'XENAPI_MISSING_PLUGIN' else 'does not tell: %s' % (code or type(error).__name__)
