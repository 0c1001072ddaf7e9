# SPDX-License-Identifier: Apache-2.0
"""A public key of OpenSSH, as a line of text."""

from __future__ import absolute_import, division

import binascii
import struct

from dom0_lib import compat

# They share one line of authorized_keys, of which sshd reads at most 8 KiB.
MAX_ADDRESSES = 32
_MAX_BASE64 = 3000
_MAX_TEXT = _MAX_BASE64 + 1000
# The number of strings in a key of each type, the name of the type included.
_STRINGS = {u'ssh-ed25519': 2, u'ssh-rsa': 3, u'ecdsa-sha2-nistp256': 3, u'ecdsa-sha2-nistp384': 3, u'ecdsa-sha2-nistp521': 3}


def check_public_key(value):
    """'<type> <base64>' of a public key as OpenSSH writes it; the comment is dropped.  Raises ValueError."""
    if not isinstance(value, compat.text_type) or len(value) > _MAX_TEXT or any(c < u' ' for c in value):
        raise ValueError('has a key that is not a line of text')
    words = value.split(u' ', 2)
    if len(words) < 2 or words[0] not in _STRINGS:
        raise ValueError('has a key of an unknown type (known are: %s)' % u', '.join(sorted(_STRINGS)))
    if not _is_blob(words[0], words[1]):
        raise ValueError('has a key whose data do not fit its type')
    return u' '.join(words[:2])


def _is_blob(key_type, text):
    try:
        data = binascii.a2b_base64(text.encode('ascii'))
    except (ValueError, binascii.Error):
        return False
    # The decoder skips characters that are not base64.
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
