# SPDX-License-Identifier: Apache-2.0
"""Bytes sent and received by the guests' virtual interfaces, from /proc/net/dev."""

from __future__ import absolute_import, division

from dom0_lib import compat
from dom0_lib import paths
from dom0_lib import text_checks
from dom0_lib.system import os_errors

# The interface's name is followed by eight columns for data that dom0 received and eight for data that it sent, bytes first.
_RECEIVED, _SENT = 1, 9


def fetch_bandwidth(_session_ref, dom_id):
    """{domain: {interface: {'bw_in': bytes, 'bw_out': bytes}}}, all keys text, of one domain or, if dom_id is None, of all.

    In and out are the guest's view: bytes that dom0 sends on vif<domain>.<interface> count as bw_in.  Counters start at 0 when
    the guest starts.  Raises errors.PluginError.
    """
    prefix = 'vif' if dom_id is None else 'vif%d.' % dom_id
    counters = {}
    # Old kernels write no space after the colon.
    for line in _read().replace(':', ' ').split('\n'):
        fields = line.split(None, _SENT + 1)
        # Bridges and tunnels may have names with the same beginning: neutron makes names from uuids of ports.
        if len(fields) <= _SENT or not fields[0].startswith(prefix):
            continue
        domain, _, number = fields[0][3:].partition('.')
        if not text_checks.is_number(domain) or not text_checks.is_number(number):
            continue
        try:
            received, sent = int(fields[_RECEIVED]), int(fields[_SENT])
        except ValueError:
            continue
        if received >= 0 <= sent:
            counters.setdefault(domain, {})[number] = {'bw_in': sent, 'bw_out': received}
    return counters


def _read():
    with os_errors.Errors('cannot read %s' % paths.NETWORK_COUNTERS), open(paths.locate(paths.NETWORK_COUNTERS), 'rb') as source:
        return compat.native_ascii(source.read())
