# SPDX-License-Identifier: Apache-2.0
"""Data of this host for a cloud's scheduler, and the settings that clients keep here."""

from __future__ import absolute_import, division

import struct
import time

from dom0_lib import errors
from dom0_lib import log
from dom0_lib import paths
from dom0_lib.host import kept_settings
from dom0_lib.system import os_errors
from dom0_lib.toolstack import this_host
from dom0_lib.toolstack import xapi

# The items of XAPI's cpu_info that clients get as numbers; they have always had socket_count as text.
_CPU_NUMBERS = ('cpu_count', 'family', 'model', 'stepping')
# struct utmp of glibc on x86-64: of 384 bytes the first two are the kind of a record, 7 a login.
_LOGIN_RECORD_BYTES = 384
_LOGIN = 7
# os-xenapi's answer for a key without a value.
_NO_NOTE = u'None'


def describe(session_ref, host_uuid):
    """The map that nova's HostState reads; names are those that `xe host-param-list` once gave, sizes are bytes.

    Values stored by set_config are in it as well, but never replace those of XAPI.
    """
    api, ref = this_host.find(session_ref, host_uuid)
    with xapi.Errors("cannot read this host's records"):
        host = api.host.get_record(ref)
        metrics = api.host_metrics.get_record(host['metrics'])
        free_computed = api.host.compute_free_memory(ref)
    data = _load_notes()
    data.update({
        'enabled': 'true' if host['enabled'] else 'false',
        'host_uuid': host['uuid'],
        'host_name-label': host['name_label'],
        'host_name-description': host['name_description'],
        'host_hostname': host['hostname'],
        'host_ip_address': host['address'],
        'host_other-config': host['other_config'],
        'host_memory': {'total': int(metrics['memory_total']), 'overhead': int(host['memory_overhead']),
                        'free': int(metrics['memory_free']), 'free-computed': int(free_computed)},
        # Xen's list ends with an empty capability.
        'host_capabilities': [capability for capability in host['capabilities'] if capability],
        'host_cpu_info': dict((name, _number(value) if name in _CPU_NUMBERS else value)
                              for name, value in host['cpu_info'].items()),
    })
    return data


def _load_notes():
    try:
        return kept_settings.load()
    except errors.PluginError as error:
        log.warning('host_data leaves out the stored settings: %s', error)
        return {}


def _number(text):
    try:
        return int(text)
    except ValueError:
        return None


def get_config(_session_ref, params):
    """The value that set_config stored under params['key'], or the text None.  Raises errors.PluginError."""
    value = kept_settings.load().get(params['key'])
    return _NO_NOTE if value is None else value


def set_config(_session_ref, params):
    """Store params['value'] under params['key']; None removes it.  Raises the errors of kept_settings.store()."""
    kept_settings.store(params['key'], params['value'])


def read_uptime(_session_ref):
    """{'uptime': the line that uptime(1) prints}, without the cost of running it.  Raises errors.PluginError."""
    seconds = int(float(_read(paths.UPTIME).split()[0]))
    load = b', '.join(_read(paths.LOAD).split()[:3]).decode('ascii')
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    up = '%d day%s, ' % (days, '' if days == 1 else 's') if days else ''
    up += '%2d:%02d' % (hours, minutes) if hours else '%d min' % minutes
    users = _count_logins()
    return {'uptime': '%s up %s,  %d user%s,  load average: %s' % (
        time.strftime('%H:%M:%S'), up, users, '' if users == 1 else 's', load)}


def _count_logins():
    try:
        records = _read(paths.LOGINS)
    except errors.PluginError:  # nobody has ever logged in
        return 0
    return sum(1 for start in range(0, len(records) - _LOGIN_RECORD_BYTES + 1, _LOGIN_RECORD_BYTES)
               if struct.unpack_from('<h', records, start)[0] == _LOGIN)


def _read(dom0_path):
    with os_errors.Errors('cannot read %s' % dom0_path), open(paths.locate(dom0_path), 'rb') as source:
        return source.read()
