# SPDX-License-Identifier: Apache-2.0
"""The kinds of arguments of kernel.py, partition_utils.py and ipxe.py; see dom0_lib.args for what a kind is."""

from __future__ import absolute_import, division

from dom0_lib import args
from dom0_lib import compat
from dom0_lib import paths

_DIGITS = '0123456789'
_MAX_COUNT_DIGITS = 15
_TRUTHS = {True: True, False: False, u'true': True, u'false': False}
_MAX_AGE_S = 10 * 365 * 24 * 3600


def _or_absent(check):
    """A check for what callers leave empty when they mean that there is none."""
    return lambda value: None if value == u'' else check(value)


def _check_byte_count(value):
    count = _to_number(value, _MAX_COUNT_DIGITS)
    if count is None or count < 1:
        raise ValueError('needs a number of bytes, at least 1')
    return count


def _check_age(value):
    seconds = _to_number(value, len(str(_MAX_AGE_S)))
    if seconds is None or not 1 <= seconds <= _MAX_AGE_S:
        raise ValueError('needs a number of seconds, from 1 to %d' % _MAX_AGE_S)
    return seconds


def _to_number(value, max_digits):
    """The whole number that a text of decimal digits, or a number, says; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (compat.text_type,) + compat.integer_types):
        return None
    text = compat.to_text(value)
    # Not isdigit(): it takes superscripts, which int() does not.
    return int(text) if text and len(text) <= max_digits and not text.strip(_DIGITS) else None


def _check_truth(value):
    if not isinstance(value, (bool, compat.text_type)) or value not in _TRUTHS:
        raise ValueError('needs true or false')
    return _TRUTHS[value]


def _check_ref(value):
    try:
        return args.TASK.check(value)
    except ValueError:
        raise ValueError('needs the reference of a VDI: OpaqueRef:...')


def _check_boot_file(value):
    path = args.SR_PATH.check(value)
    try:
        args.IMAGE_ID.check(value.rpartition(u'/')[2])
    except ValueError:
        raise ValueError('needs the path of a kernel or ramdisk in %s' % paths.BOOT_GUEST)
    return path


def _check_names(value):
    if not isinstance(value, (list, tuple)):
        raise ValueError('needs a list of names')
    return [args.IMAGE_ID.check(item) for item in value]


UUID = args.Kind(lambda value: args.UUID_LIST.check([value])[0])
VDI_REF = args.Kind(_check_ref)
BYTE_COUNT = args.Kind(_check_byte_count)
AGE_S = args.Kind(_check_age)
TRUTH = args.Kind(_check_truth)
OPTIONAL_IMAGE_ID = args.Kind(_or_absent(args.IMAGE_ID.check))
OPTIONAL_BOOT_FILE = args.Kind(_or_absent(_check_boot_file))
NAMES = args.Kind(_check_names, structured=True)
