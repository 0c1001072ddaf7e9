# SPDX-License-Identifier: Apache-2.0
"""The kinds of arguments of kernel.py and ipxe.py; dom0_lib.call.binding explains kinds."""

from __future__ import absolute_import, division

from dom0_lib import compat
from dom0_lib import net_addresses
from dom0_lib import paths
from dom0_lib import text_checks
from dom0_lib.call import binding
from dom0_lib.call import kinds

_MAX_COUNT_DIGITS = 15
_MAX_AGE_S = 10 * 365 * 24 * 3600
_MAX_URL = 1000
# iPXE can fetch by these protocols.
_BOOT_SCHEMES = ('http', 'https', 'ftp', 'tftp', 'nfs')
# nova's setting for this program holds a name, "and optionally path".
_ISO_MAKERS = ('mkisofs', 'genisoimage', 'xorrisofs')
_PROGRAM_DIRECTORIES = ('/usr/bin', '/bin', '/usr/sbin', '/sbin', '/usr/local/bin', '/usr/local/sbin')


def _check_byte_count(value):
    count = text_checks.to_number(value, _MAX_COUNT_DIGITS)
    if count is None or count < 1:
        raise ValueError('needs a number of bytes, at least 1')
    return count


def _check_age(value):
    seconds = text_checks.to_number(value, len(str(_MAX_AGE_S)))
    if seconds is None or not 1 <= seconds <= _MAX_AGE_S:
        raise ValueError('needs a number of seconds, from 1 to %d' % _MAX_AGE_S)
    return seconds


def _check_ref(value):
    try:
        return kinds.TASK.check(value)
    except ValueError:
        raise ValueError('needs the reference of a VDI: OpaqueRef:...')


def _check_boot_file(value):
    path = kinds.SR_PATH.check(value)
    try:
        kinds.IMAGE_ID.check(value.rpartition(u'/')[2])
    except ValueError:
        raise ValueError('needs the path of a kernel or ramdisk in %s' % paths.BOOT_GUEST)
    return path


def _check_names(value):
    if not isinstance(value, (list, tuple)):
        raise ValueError('needs a list of names')
    return [kinds.IMAGE_ID.check(item) for item in value]


def _check_ipv4(value):
    if _parse_ipv4(value) is None:
        raise ValueError('needs an IPv4 address')
    return value


def _check_netmask(value):
    bits = _parse_ipv4(value)
    if not bits or (bits | (bits - 1)) != 0xffffffff:
        raise ValueError('needs the mask of an IPv4 network')
    return value


def _parse_ipv4(value):
    return net_addresses.parse_ipv4(value) if isinstance(value, compat.text_type) else None


def _check_boot_url(value):
    """Require one word of an iPXE script: a space would begin another word, a newline another command."""
    if not isinstance(value, compat.text_type) or value.partition(u'://')[0] not in _BOOT_SCHEMES:
        raise ValueError('needs a URL that begins with one of %s' % ', '.join(scheme + '://' for scheme in _BOOT_SCHEMES))
    if len(value) > _MAX_URL or not all(u'!' <= c <= u'~' for c in value):
        raise ValueError('needs a URL of at most %d printable ASCII characters without spaces' % _MAX_URL)
    return value


def _check_iso_maker(value):
    if not isinstance(value, compat.text_type):
        raise ValueError('needs text')
    directory, slash, name = value.rpartition(u'/')
    if name not in _ISO_MAKERS or slash and directory not in _PROGRAM_DIRECTORIES:
        raise ValueError('needs one of %s, alone or in one of %s' % (', '.join(_ISO_MAKERS), ', '.join(_PROGRAM_DIRECTORIES)))
    return value


VDI_REF = binding.Kind(_check_ref)
BYTE_COUNT = binding.Kind(_check_byte_count)
AGE_S = binding.Kind(_check_age)
OPTIONAL_IMAGE_ID = binding.Kind(binding.or_absent(kinds.IMAGE_ID.check))
OPTIONAL_BOOT_FILE = binding.Kind(binding.or_absent(_check_boot_file))
IPV4 = binding.Kind(_check_ipv4)
NETMASK = binding.Kind(_check_netmask)
BOOT_URL = binding.Kind(_check_boot_url)
ISO_MAKER = binding.Kind(_check_iso_maker)
NAMES = binding.Kind(_check_names, structured=True)
