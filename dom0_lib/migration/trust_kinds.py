# SPDX-License-Identifier: Apache-2.0
"""The kinds of arguments that say which hosts' ssh keys are trusted; see dom0_lib.call.kinds for what a kind is."""

from __future__ import absolute_import, division

import binascii
import struct

from dom0_lib import compat
from dom0_lib import net_addresses
from dom0_lib.call import binding
from dom0_lib.call import kinds

_MAX_HOSTS = 256
# All of them go into one line of authorized_keys, which sshd reads up to 8 KiB of.
MAX_ADDRESSES = 32
_MAX_HOST_KEYS = 8
_MAX_BASE64 = 3000
_MAX_TEXT = _MAX_BASE64 + 1000
# How many strings the key of a type consists of, its type included.
_STRINGS = {u'ssh-ed25519': 2, u'ssh-rsa': 3, u'ecdsa-sha2-nistp256': 3, u'ecdsa-sha2-nistp384': 3, u'ecdsa-sha2-nistp521': 3}
_NEEDED = frozenset([u'public_key', u'addresses', u'host_keys'])
# What ssh_key tells besides, so that its answer can be passed on as it is.
_IGNORED = frozenset([u'host_uuid', u'name'])


def check_public_key(value):
    """'<type> <base64>' of a public key as OpenSSH writes it; the comment is dropped.  Raises ValueError."""
    if not isinstance(value, compat.text_type) or len(value) > _MAX_TEXT or any(c < u' ' for c in value):
        raise ValueError('has a key that is no line of text')
    words = value.split(u' ', 2)
    if len(words) < 2 or words[0] not in _STRINGS:
        raise ValueError('has a key of no known type: %s' % u', '.join(sorted(_STRINGS)))
    if not _is_blob(words[0], words[1]):
        raise ValueError('has a key that is not what its type says')
    return u' '.join(words[:2])


def _is_blob(key_type, text):
    try:
        data = binascii.a2b_base64(text.encode('ascii'))
    except (ValueError, binascii.Error):
        return False
    # The decoder skips what is not base64.
    if len(text) > _MAX_BASE64 or binascii.b2a_base64(data).rstrip(b'\n') != text.encode('ascii'):
        return False
    strings = []
    while data:
        if len(data) < 4:
            return False
        size_bytes = struct.unpack('>I', data[:4])[0]
        if not 0 < size_bytes <= len(data) - 4:
            return False
        strings.append(data[4:4 + size_bytes])
        data = data[4 + size_bytes:]
    return len(strings) == _STRINGS[key_type] and strings[0] == key_type.encode('ascii')


def _check_addresses(value):
    if not isinstance(value, list) or not 0 < len(value) <= MAX_ADDRESSES:
        raise ValueError("needs a list of at most %d 'addresses'" % MAX_ADDRESSES)
    for address in value:
        # A pattern would let others in, a name whoever answers for it.
        if not isinstance(address, compat.text_type) or (
                net_addresses.parse_ipv4(address) is None and not net_addresses.is_ipv6(address)):
            raise ValueError("has something in 'addresses' that is no address of IPv4 or IPv6")
    return [address.lower() for address in value]


def _check_entry(uuid, value):
    if not isinstance(value, dict) or not _NEEDED <= set(value) <= _NEEDED | _IGNORED:
        raise ValueError("needs %s and no more" % ', '.join("'%s'" % name for name in sorted(_NEEDED)))
    if value.get(u'host_uuid', uuid) != uuid:
        raise ValueError("is of another host by its 'host_uuid'")
    host_keys = value[u'host_keys']
    if not isinstance(host_keys, list) or len(host_keys) > _MAX_HOST_KEYS:
        raise ValueError("needs a list of at most %d 'host_keys'" % _MAX_HOST_KEYS)
    return {'public_key': check_public_key(value[u'public_key']), 'addresses': _check_addresses(value[u'addresses']),
            'host_keys': [check_public_key(key) for key in host_keys]}


def _check_keys(value):
    if not isinstance(value, dict) or not 0 < len(value) <= _MAX_HOSTS:
        raise ValueError("needs a JSON object that has, by the uuid of each host, what ssh_key answers there")
    checked = {}
    for uuid in sorted(value):
        kinds.UUID.check(uuid)
        try:
            checked[uuid] = _check_entry(uuid, value[uuid])
        except ValueError as error:
            raise ValueError('host %s %s' % (uuid, error))
    return checked


KEYS = binding.Kind(_check_keys, structured=True)
