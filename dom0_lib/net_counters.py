# SPDX-License-Identifier: Apache-2.0
"""What has gone through the virtual interfaces of the guests, by the kernel's counters."""

from __future__ import absolute_import, division

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib import paths

# Columns after the interface's name: eight for what dom0 has received, eight for what it has sent; bytes come first.
_RECEIVED, _SENT = 0, 8


def fetch_bandwidth(_session_ref, dom_id):
    """{domain: {interface: {'bw_in': bytes, 'bw_out': bytes}}}, all keys text, of one domain or, with None, of all.

    In and out are the guest's: what dom0 sends on vif<domain>.<interface> comes in there.  A counter begins again at 0 when
    the guest does.  Raises errors.PluginError.
    """
    prefix = u'vif' if dom_id is None else u'vif%d.' % dom_id
    counters = {}
    for line in _read().split(u'\n'):
        name, _, columns = line.partition(u':')
        name = name.lstrip()
        # Other names that begin so are bridges' and tunnels': neutron makes a name of a port's uuid.
        if not name.startswith(prefix):
            continue
        domain, _, number = name[3:].partition(u'.')
        columns = columns.split(None, _SENT + 1)
        if not domain.isdigit() or not number.isdigit() or len(columns) <= _SENT:
            continue
        received, sent = columns[_RECEIVED], columns[_SENT]
        if received.isdigit() and sent.isdigit():
            counters.setdefault(domain, {})[number] = {'bw_in': int(sent), 'bw_out': int(received)}
    return counters


def _read():
    try:
        with open(paths.locate(paths.NETWORK_COUNTERS), 'rb') as source:
            return source.read().decode('ascii', 'replace')
    except EnvironmentError as error:
        raise errors.PluginError('cannot read %s: %s' % (paths.NETWORK_COUNTERS, compat.to_text(error)))
