# SPDX-License-Identifier: Apache-2.0
"""Settings of XAPI in /etc/xapi.conf, read as XAPI reads them."""

from __future__ import absolute_import, division

from dom0_lib import paths
from dom0_lib.system import durable_file
from dom0_lib.system import os_errors

_QUOTES = (u'"', u"'")


def get_xapi_setting(_session_ref, key):
    """The text of a setting, '' if the file does not have it.  Raises errors.PluginError.

    A line is `key = value`.  A # anywhere begins a comment, the first = ends the key, quotes around the whole value are not part
    of it, and of several lines with a key the last one counts (ocaml/xapi-idl/lib/xcp_service.ml in xapi-project/xen-api).  Only a
    newline ends a line.
    """
    setting = u''
    for line in _read().split(u'\n'):
        name, equals, value = line.partition(u'#')[0].partition(u'=')
        if equals and name.strip() == key:
            setting = _unquote(value.strip())
    return setting


def _unquote(value):
    return value[1:-1] if len(value) >= 2 and value[0] == value[-1] and value[0] in _QUOTES else value


def _read():
    with os_errors.Errors('cannot read %s' % paths.XAPI_CONF):
        data = durable_file.read(paths.locate(paths.XAPI_CONF))
    return u'' if data is None else data.decode('utf-8', 'replace')  # without the file all settings have their defaults
