# SPDX-License-Identifier: Apache-2.0
"""vhd-util coalesce: write a child's sectors into its parent, wherever that is; the child stays as it was."""

import errno
import os

from dom0_lib.disks import vhd
from tests.harness.vhd import vhd_image
from tests.harness.vhd import vhd_reader
from tests.harness.vhd_util import vhd_util

USAGE = {'coalesce': 'options: <-n name> [-s sparse] [-p progress] [-h help]\n'}


class _RawTarget(vhd_reader.Raw):
    """A raw parent, written in place."""

    def __init__(self, path):
        super().__init__(path)
        os.close(self.fd)
        self.fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def write(self, offset, data):
        os.pwrite(self.fd, data, offset)

    def flush(self):
        os.fsync(self.fd)


def run_coalesce(arguments):
    options = vhd_util.parse_options('coalesce', arguments, 'n:sph')
    if 'n' not in options:
        raise vhd_util.UsageError()
    try:
        count = _coalesce(options['n'], 's' in options, 'p' in options)
    except OSError as error:
        vhd_util.write('error coalescing: %d\n' % -error.errno)
        return error.errno
    vhd_util.write('Coalesced %d sectors' % count)
    return 0


def _coalesce(name, sparse, progress):
    child = _open(name, lambda: vhd_image.Image.open(name))
    if not child.is_differencing:
        vhd_util.write('coalescing of non-differencing disks is not supported\n')
        vhd_image.fail(errno.EINVAL)
    try:
        path = child.find_parent()
    except OSError as error:
        vhd_util.write('error finding %s parent: %d\n' % (name, -error.errno))
        raise
    if sparse:
        vhd_util.write('opening for sparse writes\n')
    parent = _open(path, lambda: (_RawTarget(path) if child.has_raw_parent
                                  else vhd_image.Image.open(path, writable=True)))
    count, blocks = 0, len(child.bat)
    for block in range(blocks):
        if progress:
            vhd_util.write('\r%6.2f%%' % (100.0 * block / blocks))
        count += _copy_block(child, block, parent)
    parent.flush()
    if progress:
        vhd_util.write('\r100.00%\n')
    return count


def _open(path, opener):
    try:
        return opener()
    except OSError as error:
        vhd_util.write('error opening %s: %d\n' % (path, -error.errno))
        raise


def _copy_block(child, block, parent):
    """Copy the child's sectors of one block."""
    count = 0
    start = block * child.header.block_size
    for run_start, run_end, offset in child.read_runs(start, start + child.header.block_size):
        if offset is not None:
            parent.write(run_start, child.read_at(offset, run_end - run_start))
            count += (run_end - run_start) // vhd.SECTOR_SIZE
    return count
