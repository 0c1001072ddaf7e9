# SPDX-License-Identifier: Apache-2.0
"""The kinds of arguments of partition_utils.py; dom0_lib.call.binding explains kinds."""

from __future__ import absolute_import, division

from dom0_lib import compat
from dom0_lib import paths
from dom0_lib import text_checks
from dom0_lib.call import binding

_MAX_WAIT_S = 3600
_MAX_NAME = 255
_MAX_LABEL = 16
# The largest number that a DOS partition table can hold.
_MAX_SECTOR = (1 << 32) - 1
_DEVICE_CHARACTERS = frozenset(text_checks.LETTERS_AND_DIGITS + u'-_.:+/')


def _check_device(value):
    if not isinstance(value, compat.text_type) or not 0 < len(value) <= _MAX_NAME or not _DEVICE_CHARACTERS.issuperset(value):
        raise ValueError('needs the name of a device below /dev, such as xvdb')
    if any(not part.strip(u'.') for part in value.split(u'/')):
        raise ValueError('needs the name of a device without "..", and without / at its ends')
    return value


def _check_device_path(value):
    prefix = paths.DEVICES + u'/'
    if not isinstance(value, compat.text_type) or not value.startswith(prefix):
        raise ValueError('needs the path of a device: /dev/...')
    _check_device(value[len(prefix):])
    return value


def _check_wait(value):
    seconds = text_checks.to_number(value, len(str(_MAX_WAIT_S)))
    if seconds is None or seconds > _MAX_WAIT_S:
        raise ValueError('needs a number of seconds, at most %d' % _MAX_WAIT_S)
    return seconds


def _check_sector(value):
    sector = text_checks.to_number(value, len(str(_MAX_SECTOR)))
    if sector is None or not 1 <= sector <= _MAX_SECTOR:
        raise ValueError('needs the number of a sector, at least 1')
    return sector


def _check_partition_number(value):
    number = text_checks.to_number(value, 1)
    if number is None or not 1 <= number <= 4:
        raise ValueError('needs a number from 1 to 4')
    return number


def _check_end(value):
    if value != u'-':
        raise ValueError('needs "-": a partition ends where the disk ends')
    return value


def _check_file_system(value):
    if value not in (u'ext3', u'swap'):
        raise ValueError('needs ext3 or swap')
    return value


def _check_label(value):
    if not isinstance(value, compat.text_type) or len(value) > _MAX_LABEL or not all(u' ' <= c <= u'~' for c in value):
        raise ValueError('needs at most %d printable ASCII characters' % _MAX_LABEL)
    if value.startswith(u'-'):
        raise ValueError('must not begin with "-"')
    return value


DEVICE = binding.Kind(_check_device)
DEVICE_PATH = binding.Kind(_check_device_path)
WAIT_S = binding.Kind(_check_wait)
SECTOR = binding.Kind(_check_sector)
PARTITION_NUMBER = binding.Kind(_check_partition_number)
PARTITION_END = binding.Kind(_check_end)
FILE_SYSTEM = binding.Kind(_check_file_system)
OPTIONAL_LABEL = binding.Kind(binding.or_absent(_check_label))
