# SPDX-License-Identifier: Apache-2.0
"""vhd-util query: one line for each question, in a fixed order whatever the order of the options."""

import errno

from dom0_lib.disks import vhd
from tests.harness.vhd import vhd_image
from tests.harness.vhd_util import vhd_util

USAGE = {'query': (
    "options: <-n name> [-v print virtual size (in MB)] [-s print physical utilization (bytes)] [-p print parent] "
    "[-f print fields] [-m print marker] [-d print chain depth] [-S print max virtual size (MB) for fast resize] "
    "[-a print allocated block count] [-u don't resolve parent path] [-h help]\n")}


def run_query(arguments):
    options = vhd_util.parse_options('query', arguments, 'n:vspfmdSauh', help_code=0)
    if 'n' not in options:
        raise vhd_util.UsageError()
    name = options['n']
    try:
        image = vhd_image.Image.open(name)
    except OSError as error:
        vhd_util.write('error opening %s: %d\n' % (name, -error.errno))
        return error.errno
    result = 0
    for letter, print_answer in _QUESTIONS:
        if letter in options:
            # A failed question does not end the others, and its code is kept.
            result = print_answer(image, options) or result
    return result


def _print_virtual_size(image, options):
    vhd_util.write('%d\n' % (image.size_bytes >> 20))


def _print_physical_size(image, options):
    if image.header is not None:
        assert image.header.max_bat_entries * vhd.BLOCK_SIZE >= image.size_bytes
    try:
        vhd_util.write('%d\n' % (image.data_end + vhd.FOOTER_SIZE))
    except OSError as error:
        vhd_util.write('failed to get physical size: %d\n' % -error.errno)
        return error.errno


def _print_parent(image, options):
    if not image.is_differencing:
        vhd_util.write('%s has no parent\n' % options['n'])
        return 0
    try:
        vhd_util.write('%s\n' % (find_stored_parent(image) if 'u' in options else image.find_parent()))
    except OSError as error:
        vhd_util.write('query failed\n')
        return error.errno


def find_stored_parent(image):
    """The first locator that can be decoded, as it stands; EINVAL if none can."""
    for locator in image.locators:
        if locator.path is not None:
            return locator.path
    vhd_image.fail(errno.EINVAL)


def _print_fields(image, options):
    vhd_util.write('hidden: %d\n' % image.footer.hidden)


def _print_marker(image, options):
    try:
        vhd_util.write('marker: %d\n' % (image.batmap.marker if image.batmap else 0))
    except OSError:
        vhd_util.write('marker: 0\n')


def _print_depth(image, options):
    try:
        vhd_util.write('chain depth: %d\n' % measure_depth(image))
    except OSError as error:
        vhd_util.write('error checking chain depth: %d\n' % -error.errno)
        return error.errno


def measure_depth(image):
    """How many disks a chain has; never returns for a cycle."""
    depth, disk = 1, image
    while disk.is_differencing:
        depth += 1
        if disk.has_raw_parent:
            break
        parent = vhd_image.Image.open(disk.find_parent())
        if disk is not image:
            disk.close()
        disk = parent
    return depth


def _print_growable_size(image, options):
    entries = image.header.max_bat_entries if image.header is not None else 0
    vhd_util.write('%d\n' % (entries * vhd.BLOCK_SIZE >> 20))


def _print_allocated_blocks(image, options):
    try:
        vhd_util.write('%d\n' % sum(entry != vhd.UNUSED_ENTRY for entry in image.bat))
    except OSError as error:
        vhd_util.write('error reading bat: %d\n' % -error.errno)
        return error.errno


_QUESTIONS = (('v', _print_virtual_size), ('s', _print_physical_size), ('p', _print_parent), ('f', _print_fields),
              ('m', _print_marker), ('d', _print_depth), ('S', _print_growable_size), ('a', _print_allocated_blocks))
