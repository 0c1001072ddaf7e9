# SPDX-License-Identifier: Apache-2.0
"""vhd-util create and snapshot: silent when they succeed, and they replace an existing file."""

import errno
import os

from dom0_lib.disks import vhd
from tests.harness.vhd import vhd_image
from tests.harness.vhd_util import vhd_util
from tests.harness.vhd_util import vhd_util_query

USAGE = {
    'create': ("options: <-n name> <-s size (MB)> [-r reserve] [-h help] "
               "[<-S size (MB) for metadata preallocation (see vhd-util resize)>]\n"),
    'snapshot': ("options: <-n name> <-p parent name> [-l snapshot depth limit] [-m parent_is_raw] "
                 "[-S size (MB) for metadata preallocation (see vhd-util resize)] "
                 "[-e link to supplied parent name even if it's empty] [-h help]\n"),
}


def run_create(arguments):
    options = vhd_util.parse_options('create', arguments, 'n:s:S:rh')
    if 'n' not in options or not ('s' in options or 'S' in options):
        raise vhd_util.UsageError()
    size, max_size = _parse_size(options, 's') or 0, _parse_size(options, 'S')
    if max_size is not None and max_size < size:
        vhd_util.write('Error: <-S size> must be greater than <-s size>\n')
        return errno.EINVAL
    disk_type = vhd.FIXED if 'r' in options else vhd.DYNAMIC
    try:
        vhd_image.Image.create(options['n'], size, disk_type, max_size_bytes=max_size).close()
    except OSError as error:
        vhd_util.write_error('%s: failed to create: %d\n' % (options['n'], -error.errno))
        return error.errno
    return 0


def _parse_size(options, letter):
    """Bytes of an option in MB, rounded up to blocks, or None; like the real one it wraps around silently."""
    if letter not in options:
        return None
    return vhd.round_up(vhd_util.parse_number(options[letter]) << 20, vhd.BLOCK_SIZE) % 2 ** 64


def run_snapshot(arguments):
    options = vhd_util.parse_options('snapshot', arguments, 'n:p:S:l:meh', help_code=0)
    if 'n' not in options or 'p' not in options:
        raise vhd_util.UsageError()
    parent, raw = options['p'], 'm' in options
    try:
        if raw:
            size = vhd.round_up(os.stat(parent).st_size, vhd.BLOCK_SIZE)
        else:
            parent = parent if 'e' in options else _skip_empty(parent)
            with vhd_image.Image.open(parent) as image:
                size = image.size_bytes
                depth = vhd_util_query.measure_depth(image) if 'l' in options else 0
            limit = vhd_util.parse_number(options.get('l', '1'))
            if depth >= limit:
                vhd_util.write('snapshot depth exceeded: current depth: %d, limit: %d\n' % (depth, limit))
                return errno.ENOSPC
        # The target is opened, and so emptied, before the rest is checked; an error then removes it.
        vhd_image.Image.create(options['n'], size, vhd.DIFFERENCING, parent=parent, parent_is_raw=raw,
                               max_size_bytes=_parse_size(options, 'S')).close()
    except OSError as error:
        return error.errno
    return 0


def _skip_empty(path):
    """The disk itself, or the nearest ancestor with data if it is a differencing disk without any."""
    while True:
        with vhd_image.Image.open(path) as image:
            if not image.is_differencing or any(entry != vhd.UNUSED_ENTRY for entry in image.bat):
                return path
            path = image.find_parent()
