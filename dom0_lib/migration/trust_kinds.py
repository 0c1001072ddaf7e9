# SPDX-License-Identifier: Apache-2.0
"""The kinds of arguments of ssh_key, trust_keys and distrust_keys; dom0_lib.call.binding explains kinds."""

from __future__ import absolute_import, division

from dom0_lib import compat
from dom0_lib import net_addresses
from dom0_lib.call import binding
from dom0_lib.call import kinds
from dom0_lib.migration import public_key

_MAX_HOSTS = 256
_MAX_HOST_KEYS = 8
_NEEDED = frozenset([u'public_key', u'addresses', u'host_keys'])
# ssh_key also answers these; they are allowed so that its answer can be passed on unchanged.
_IGNORED = frozenset([u'host_uuid', u'name'])


def _check_addresses(value):
    if not isinstance(value, list) or not 0 < len(value) <= public_key.MAX_ADDRESSES:
        raise ValueError("needs a list of at most %d 'addresses'" % public_key.MAX_ADDRESSES)
    for address in value:
        # A pattern would admit other hosts; a name would admit any host that DNS gives for it.
        if not isinstance(address, compat.text_type) or (
                net_addresses.parse_ipv4(address) is None and not net_addresses.is_ipv6(address)):
            raise ValueError("has an entry in 'addresses' that is not an IPv4 or IPv6 address")
    return [address.lower() for address in value]


def _check_entry(uuid, value):
    if not isinstance(value, dict) or not _NEEDED <= set(value) <= _NEEDED | _IGNORED:
        raise ValueError("needs %s and nothing else" % ', '.join("'%s'" % name for name in sorted(_NEEDED)))
    if value.get(u'host_uuid', uuid) != uuid:
        raise ValueError("has the 'host_uuid' of another host")
    host_keys = value[u'host_keys']
    if not isinstance(host_keys, list) or len(host_keys) > _MAX_HOST_KEYS:
        raise ValueError("needs a list of at most %d 'host_keys'" % _MAX_HOST_KEYS)
    return {'public_key': public_key.check_public_key(value[u'public_key']), 'addresses': _check_addresses(value[u'addresses']),
            'host_keys': [public_key.check_public_key(key) for key in host_keys]}


def _check_keys(value):
    if not isinstance(value, dict) or not 0 < len(value) <= _MAX_HOSTS:
        raise ValueError("needs a JSON object that maps the uuid of each host to the answer of its ssh_key")
    checked = {}
    for uuid in sorted(value):
        kinds.UUID.check(uuid)
        try:
            checked[uuid] = _check_entry(uuid, value[uuid])
        except ValueError as error:
            raise ValueError('host %s %s' % (uuid, error))
    return checked


KEYS = binding.Kind(_check_keys, structured=True)
