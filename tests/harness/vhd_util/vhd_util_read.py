# SPDX-License-Identifier: Apache-2.0
"""vhd-util read: sectors of the guest's view to stdout (-r, -c), or the metadata as text (-p)."""

import errno
import sys

from dom0_lib.disks import vhd
from tests.harness.vhd import vhd_image
from tests.harness.vhd import vhd_reader
from tests.harness.vhd_util import vhd_util
from tests.harness.vhd_util import vhd_util_dump

USAGE = {'read': """options:
-h          help
-n          name
-p          print VHD headers
-t sec      translate logical sector to VHD location
-b blk      print bat entry
-B          print entire bat as a bitmap
-m blk      print bitmap
-i sec      test bitmap for logical sector
-e sec      output extent list of allocated logical sectors
-a          print batmap
-j blk      test batmap for block
-d blk      print data
-c num      num units
-r sec      read num sectors at sec
-R byte     read num bytes at byte
-x          print in hex
"""}


def run_read(arguments):
    options = vhd_util.parse_options('read', arguments, 'n:pt:b:Bm:i:e:aj:d:c:r:R:xh')
    if 'n' not in options or not ('p' in options or 'r' in options):
        raise vhd_util.UsageError()
    try:
        image = vhd_image.Image.open(options['n'])
    except OSError as error:
        vhd_util.write('Failed to open %s: %d\n' % (options['n'], -error.errno))
        return error.errno
    if 'p' in options:
        vhd_util.write(vhd_util_dump.format_image(image))
    if 'r' not in options:
        return 0
    if not image.is_dynamic:
        # Recorded as 22 with an error text that was not kept.
        vhd_util.write('%s is not a dynamic disk\n' % options['n'])
        return errno.EINVAL
    first, count = vhd_util.parse_number(options['r']), vhd_util.parse_number(options.get('c', '1'))
    try:
        _print_sectors(options['n'], first * vhd.SECTOR_SIZE, count * vhd.SECTOR_SIZE, image.size_bytes)
    except OSError as error:
        return error.errno
    return 0


def _print_sectors(name, offset, size, disk_size):
    if offset + size > disk_size:
        vhd_image.fail(errno.ERANGE)
    while size:
        piece = min(size, vhd.BLOCK_SIZE)
        data = vhd_reader.read_layers(vhd_reader.open_layers(name), offset, piece)
        sys.stdout.buffer.write(bytes(piece) if data is None else data)
        offset, size = offset + piece, size - piece
