# SPDX-License-Identifier: Apache-2.0
"""The kinds of arguments for dom0's network: commands and their input; dom0_lib.call.binding explains kinds."""

from __future__ import absolute_import, division

from dom0_lib import compat
from dom0_lib import text_checks
from dom0_lib.call import binding

# XAPI lets 128 KiB arrive, which may inflate to this many bytes.
_MAX_INFLATED_BYTES = 8 << 20


def _check_command(value):
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError('needs a list of texts')
    for item in value:
        if not isinstance(item, compat.text_type):
            raise ValueError('needs a list of texts')
        if not all(u' ' <= c <= u'~' for c in item):
            raise ValueError('needs printable ASCII')
    return [str(item) for item in value]


def _check_program_input(value):
    if value is not None and not isinstance(value, compat.text_type):
        raise ValueError('needs text or null')
    try:
        return None if value is None else compat.bytes_of_text(value)
    except ValueError:
        raise ValueError('has half a character')


def _check_deflated_input(value):
    import binascii
    import zlib
    mark = b'.'  # stays unused if the stream before it is complete; Python 2 has no other sign of that
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(binascii.a2b_base64(text_checks.require(value).encode('ascii')) + mark, _MAX_INFLATED_BYTES + 1)
    except (zlib.error, binascii.Error, UnicodeError):
        raise ValueError('needs data that zlib has deflated, in base64')
    if len(data) > _MAX_INFLATED_BYTES:
        raise ValueError('inflates to more than %d bytes' % _MAX_INFLATED_BYTES)
    if inflater.unused_data != mark:
        raise ValueError('needs data that zlib has deflated, in base64')
    return data


COMMAND = binding.Kind(_check_command, structured=True)
PROGRAM_INPUT = binding.Kind(_check_program_input, structured=True)
DEFLATED_INPUT = binding.Kind(_check_deflated_input)
# Like PROGRAM_INPUT, but a plain call passes the text itself, not JSON: nova does so.
PROGRAM_TEXT = binding.Kind(PROGRAM_INPUT.check)
