# SPDX-License-Identifier: Apache-2.0
"""The host that this process runs on, as XAPI knows it."""

from __future__ import absolute_import, division

from dom0_lib import errors
from dom0_lib import paths
from dom0_lib import text_checks
from dom0_lib.system import os_errors
from dom0_lib.toolstack import xapi

_UUID_KEY = 'INSTALLATION_UUID'
_CONTROL_DOMAIN_KEY = 'CONTROL_DOMAIN_UUID'


def read_uuid():
    """The uuid of this host, from the file in which XAPI finds it.  Raises errors.PluginError."""
    return _read(_UUID_KEY)


def find_control_domain(session_ref):
    """(XAPI, reference of the VM that is this dom0).  Raises errors.PluginError, and what xapi.Errors raises."""
    uuid = _read(_CONTROL_DOMAIN_KEY)
    with xapi.Errors('cannot find the control domain'):
        api = xapi.connect(session_ref).xenapi
        return api, api.VM.get_by_uuid(uuid)


def _read(key):
    with os_errors.Errors('cannot read %s' % paths.INVENTORY), open(paths.locate(paths.INVENTORY), 'rb') as source:
        lines = source.read().decode('utf-8', 'replace').splitlines()
    for line in lines:
        name, _, value = line.partition('=')
        uuid = value.strip().strip('\'"')
        if name.strip() == key and text_checks.is_uuid(uuid):
            return uuid
    raise errors.PluginError('%s has no %s' % (paths.INVENTORY, key))


def find(session_ref, host_uuid):
    """(XAPI, reference of this host); `host_uuid` is the host that the caller means, or None.

    Raises errors.ArgumentError if that is another host, and what xapi.Errors raises.
    """
    uuid = read_uuid()
    if host_uuid not in (None, uuid):
        # Acting on the wrong host is worse than not acting.
        raise errors.ArgumentError('host_uuid', 'is not this host, which is %s: call the plug-in on that one' % uuid)
    with xapi.Errors('cannot find this host'):
        api = xapi.connect(session_ref).xenapi
        return api, api.host.get_by_uuid(uuid)
