# SPDX-License-Identifier: Apache-2.0
"""vhd-util set, modify, repair and resize: silent when they succeed; modify accepts any parent, even the disk itself."""

import errno
import os

from dom0_lib.disks import vhd
from tests.harness.vhd import vhd_image
from tests.harness.vhd_util import vhd_util

USAGE = {
    'set': 'options: <-n name> <-f field> <-v value> [-h help]\n',
    'repair': 'options: <-n name> <-b use the back-up footer> [-h help]\n',
    'modify': ("*** Dangerous operations, use with care ***\n"
               "options: <-n name> [-p NEW_PARENT set parent [-m raw]] [-s NEW_SIZE set size] [-z zero (kill data)] "
               "[-h help]\n"),
    'resize': ("options: <-n name> <-s size (in MB)> (<-j journal>|<-f fast>) [-h help]\n\n"
               "The resize operation can only be performed offline and must be journaled because resizing the metadata "
               "might require moving data blocks. However, if a VHD was created with -S <msize> option (during vhd-util "
               "create/snapshot), which preallocates the metadata for growing the VHD up to size <msize>, then resizing "
               "such a VHD up to <msize> can be performed online without journaling (-f option).\n"),
}


def _open(name):
    """The writable image, or None and the exit code."""
    try:
        return vhd_image.Image.open(name, writable=True), 0
    except OSError as error:
        vhd_util.write('error opening %s: %d\n' % (name, -error.errno))
        return None, error.errno


def run_set(arguments):
    options = vhd_util.parse_options('set', arguments, 'n:f:v:h')
    if not {'n', 'f', 'v'} <= set(options):
        raise vhd_util.UsageError()
    value = vhd_util.parse_number(options['v'])
    if options['f'] not in ('hidden', 'marker'):
        vhd_util.write('invalid field %s\n' % options['f'])
        raise vhd_util.UsageError()
    if value > 255:
        vhd_util.write('invalid value %s\n' % options['v'])
        raise vhd_util.UsageError()
    image, code = _open(options['n'])
    if image is None:
        return code
    try:
        if options['f'] == 'marker':
            if not image.batmap:
                vhd_image.fail(errno.ENOSYS)
            image.batmap.marker = value
            image.write_batmap_header()
        else:
            image.footer.hidden = value
            image.write_footers()
    except OSError as error:
        return error.errno
    return 0


def run_repair(arguments):
    options = vhd_util.parse_options('repair', arguments, 'n:bh')
    if 'n' not in options:
        raise vhd_util.UsageError()
    image, code = _open(options['n'])
    if image is None:
        return code
    try:
        if 'b' in options:
            image.footer = image.read_backup_footer()
        if image.footer.uuid_bytes == vhd.NULL_UUID:
            image.footer.uuid_bytes = vhd_image.make_uuid()
        image.write_footers()
    except OSError as error:
        return error.errno
    return 0


def run_modify(arguments):
    options = vhd_util.parse_options('modify', arguments, 'n:p:ms:zh')
    if 'n' not in options:
        raise vhd_util.UsageError()
    image, code = _open(options['n'])
    if image is None:
        return code
    if 's' in options:
        size = vhd_util.parse_number(options['s'])
        if size < image.data_end + vhd.FOOTER_SIZE:
            vhd_util.write('failed to set physical size to %d: %d\n' % (size, -errno.EINVAL))
            return errno.EINVAL
        image.write_footers(size - vhd.FOOTER_SIZE)
    if 'p' in options:
        code = _change_parent(image, options['p'], 'm' in options)
    if 'z' in options and not code:
        image.discard()
    return code


def _change_parent(image, parent, raw):
    if 'VHD_UTIL_TEST_FAIL_REPARENT_BEGIN' in os.environ:
        vhd_util.write('Failing at VHD_UTIL_TEST_FAIL_REPARENT_BEGIN\n')
        return errno.EINVAL
    try:
        os.stat(parent)
        if os.path.isdir(parent) or not image.is_differencing:
            vhd_image.fail(errno.EINVAL)
        image.set_parent(parent, raw)
    except OSError as error:
        vhd_util.write("failed to set parent to '%s': %d\n" % (parent, -error.errno))
        return error.errno
    if 'VHD_UTIL_TEST_FAIL_REPARENT_LOCATOR' in os.environ:
        vhd_util.write('Failing at VHD_UTIL_TEST_FAIL_REPARENT_LOCATOR\n')
        return errno.EINVAL
    image.write_header()
    return 0


def run_resize(arguments):
    options = vhd_util.parse_options('resize', arguments, 'n:s:j:fh')
    if not {'n', 's'} <= set(options) or not ('j' in options or 'f' in options):
        raise vhd_util.UsageError()
    image, code = _open(options['n'])
    if image is None:
        return code
    size = vhd.round_up(vhd_util.parse_number(options['s']) << 20, vhd.BLOCK_SIZE)
    code = (_resize_journaled if 'j' in options else _resize_fast)(image, options['n'], size)
    if not code and size != image.size_bytes:
        image.footer.set_size(size)
        image.write_footers()
    return code


def _resize_fast(image, name, size):
    if size < image.size_bytes:
        vhd_util.write('%s: size (%d) < curr size (%d)\n' % (name, size, image.size_bytes))
        return errno.EINVAL
    return 0 if size <= _growable_size(image) else errno.EINVAL


def _growable_size(image):
    return image.header.max_bat_entries * vhd.BLOCK_SIZE if image.header is not None else 0


def _resize_journaled(image, name, size):
    if not vhd_image.is_of_blktap(image.footer):
        vhd_util.write('%s not created by xen; resize not supported\n' % name)
        return errno.EINVAL
    if image.header is None:
        vhd_util.write('creating journal failed: %d\n' % -errno.EINVAL)
        return errno.EINVAL
    if size < image.size_bytes:
        vhd_util.write('dynamic shrink not fully implemented\nresize failed: %d\n' % -errno.ENOSYS)
        return errno.ENOSYS
    if not image.extend_bat(size // vhd.BLOCK_SIZE):
        vhd_util.write('this stand-in for vhd-util moves no blocks\nresize failed: %d\n' % -errno.ENOSYS)
        return errno.ENOSYS
    return 0
