# SPDX-License-Identifier: Apache-2.0
"""vhd-util check: the first fault found, in vhd-util's words, and a dump of the metadata; `X is valid` if there is none."""

import errno
import os
import stat
import sys

from dom0_lib.disks import vhd
from tests.harness.vhd import vhd_image
from tests.harness.vhd_util import vhd_util
from tests.harness.vhd_util import vhd_util_dump

USAGE = {'check': (
    "options: -n <file> [-i ignore missing primary footers] [-I ignore parent uuids] [-t ignore timestamps] "
    "[-B do not check BAT for overlapping (precludes -s, -b)] [-p check parents] [-b check bitmaps] [-s stats] [-h help]\n")}
_CLOCK_SLACK_S = 1800


class _Fault(Exception):
    """The disk is invalid: the text to print, possibly empty, and the exit code."""

    def __init__(self, text='', code=errno.EINVAL):
        super().__init__(text)
        self.text = text
        self.code = code


def run_check(arguments):
    options = vhd_util.parse_options('check', arguments, 'n:iItBpbsh', help_code=0)
    if 'n' not in options or 'B' in options and ('b' in options or 's' in options):
        raise vhd_util.UsageError()
    path = options['n']
    result = _check_disk(path, options)
    while not result and 'p' in options:
        # No end in a cycle, as recorded.
        with vhd_image.Image.open(path) as image:
            if not image.is_differencing or image.has_raw_parent:
                break
            path = image.find_parent()
        result = _check_disk(path, options)
        if result:
            vhd_util.write('error checking parents: %d\n' % -result)
    return result


def _check_disk(path, options):
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        vhd_util.write('cannot stat %s: %d\n' % (path, error.errno))
        return error.errno
    if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
        vhd_util.write('%s is not a regular file or block device\n' % path)
        return errno.EINVAL
    try:
        image = vhd_image.Image(path, os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        vhd_util.write('error opening %s\n' % path)
        return error.errno
    with image:
        try:
            _find_fault(image, options)
        except _Fault as fault:
            vhd_util.write((fault.text + '\n' if fault.text else '')
                           + '%s appears invalid; dumping metadata\n' % path + _format_dump(image))
            return fault.code
    if image.is_dynamic:
        vhd_util.write('%s is valid\n' % path)
    sys.stdout.flush()
    return 0


def _format_dump(raw):
    try:
        with vhd_image.Image.open(raw.path) as image:
            return vhd_util_dump.format_image(image)
    except OSError as error:
        footer = header = b''
        try:
            footer = raw.read_at(0, vhd.FOOTER_SIZE)
            header = raw.read_at(vhd.Footer.parse(footer).data_offset, vhd.HEADER_SIZE)
        except OSError:
            pass
        return 'Failed to open %s: %d\n\n%s appears invalid; dumping headers\n\n%s%s' % (
            raw.path, -error.errno, raw.path,
            vhd_util_dump.format_footer(vhd.Footer.parse(footer.ljust(vhd.FOOTER_SIZE, b'\0'))),
            vhd_util_dump.format_header(vhd.Header.parse(header.ljust(vhd.HEADER_SIZE, b'\0'))))


def _find_fault(raw, options):
    """Raise _Fault for the first fault, in vhd-util's order."""
    if raw.file_size < vhd.FOOTER_SIZE:
        raise _Fault('error calculating end of file: %d' % -errno.EINVAL)
    primary_good = _check_footers(raw, options)
    if not raw.is_dynamic:
        return
    try:
        raw.header = vhd.Header.parse(raw.read_at(raw.footer.data_offset, vhd.HEADER_SIZE))
    except OSError as error:
        # Here, unlike everywhere else, the end of the file is EIO too.
        code = errno.EIO if error.errno == errno.EPIPE else error.errno
        raise _Fault('error reading header: %d' % -code, code)
    _check_header(raw, options)
    try:
        image = vhd_image.Image.open(raw.path)
    except OSError as error:
        raise _Fault('', error.errno)
    with image:
        if image.is_differencing:
            _check_locators(image)
            _check_parent(image, options)
        _check_blocks(image, options, primary_good)


def _check_footers(raw, options):
    """Set the footer to go by; whether the primary is good."""
    try:
        raw.footer = primary = raw.read_primary_footer()
    except OSError as error:
        raise _Fault('error reading primary footer: %d' % -error.errno, error.errno)
    fault = find_footer_fault(primary, 't' in options)
    if fault and 'i' not in options:
        raise _Fault('primary footer invalid: %s' % fault)
    if not fault and not raw.is_dynamic:
        return True
    backup = raw.read_backup_footer()
    backup_fault = find_footer_fault(backup, 't' in options)
    if backup_fault:
        raise _Fault('backup footer invalid: %s' % backup_fault)
    if 'i' not in options and primary.pack() != backup.pack():
        raise _Fault('primary and backup footers do not match')
    if fault:
        raw.footer = backup
    return not fault


def find_footer_fault(footer, ignore_timestamps):
    """The defect that vhd-util finds in a footer, or None."""
    dynamic = footer.disk_type in (vhd.DYNAMIC, vhd.DIFFERENCING)
    faults = (
        (footer.cookie != vhd.FOOTER_COOKIE, 'invalid cookie'),
        (not footer.checksum_correct, 'invalid checksum'),
        (not footer.features & vhd.FEATURE_RESERVED, "invalid 'reserved' feature"),
        (footer.features & ~(vhd.FEATURE_RESERVED | vhd.FEATURE_TEMPORARY), 'invalid extra features'),
        (footer.version != vhd.VERSION_1_0, 'invalid file format version'),
        (footer.timestamp + vhd.EPOCH_UNIX_S > vhd_image.read_clock() + _CLOCK_SLACK_S and not ignore_timestamps,
         'creation time in future'),
        (vhd_image.is_of_blktap(footer) and footer.creator_version > vhd.BLKTAP_VERSION,
         'unsupported tap creator version'),
        (footer.geometry_size > footer.current_size, 'geometry too large'),
        (not dynamic and footer.data_offset != vhd.NO_OFFSET, 'invalid data offset'),
        (not dynamic and footer.disk_type != vhd.FIXED, 'invalid type'),
        (footer.uuid_bytes == vhd.NULL_UUID, 'invalid (NULL) uuid'),
        (footer.saved_state > 1, "invalid 'saved' state"),
        (footer.hidden > 1, "invalid 'hidden' state"))
    return next((text for wrong, text in faults if wrong), None)


def _check_header(raw, options):
    header = raw.header
    fault = vhd_image.find_header_fault(header)
    if not fault and (header.table_offset % vhd.SECTOR_SIZE or header.bat_end > raw.file_size):
        fault = 'invalid table offset'
    if not fault and (header.reserved1 or header.reserved2.strip(b'\0')):
        fault = 'invalid reserved bits'
    if fault:
        raise _Fault('header is invalid: %s' % fault)
    if raw.is_differencing:
        parent_created_at = header.parent_timestamp + vhd.EPOCH_UNIX_S
        if parent_created_at > vhd_image.read_clock() + _CLOCK_SLACK_S and 't' not in options:
            raise _Fault('differencing header is invalid: parent creation time in future')
    elif header.parent_uuid_bytes != vhd.NULL_UUID:
        raise _Fault('differencing header is invalid: invalid non-null parent uuid')


def _check_locators(image):
    """Every slot is checked, even those that resolving never comes to."""
    codes, name = set(), image.header.parent_name
    for locator in image.locators:
        if locator.code in codes:
            raise _Fault('duplicate platform code in locator %d: 0x%x'
                         % (locator.index, int.from_bytes(locator.code, 'big')))
        codes.add(locator.code)
        if locator.data_length == 0:
            raise _Fault('invalid parent locator %d: invalid data length' % locator.index)
        if locator.data_offset + locator.space_bytes > image.file_size:
            raise _Fault('invalid parent locator %d: invalid size' % locator.index)
        if locator.data is None:
            raise _Fault('error reading parent locator %d: %d' % (locator.index, -errno.EINVAL))
        if locator.path is not None and os.path.basename(locator.path) != name:
            raise _Fault('parent locator %d name (%s) does not match header name (%s)'
                         % (locator.index, os.path.basename(locator.path), name))


def _check_parent(image, options):
    location = next((locator.path for locator in image.locators if locator.path is not None), None)
    if location is None:
        raise _Fault('could not find parent %s' % image.header.parent_name)
    try:
        path = image.find_parent()
    except OSError as error:
        raise _Fault('error resolving %s: %d' % (location, -error.errno), error.errno)
    if image.has_raw_parent:
        return
    try:
        with vhd_image.Image.open(path) as parent:
            parent_uuid = parent.footer.uuid_bytes
    except OSError:
        raise _Fault('invalid parent %s: error opening parent' % path)
    if parent_uuid != image.header.parent_uuid_bytes and 'I' not in options:
        raise _Fault('invalid parent %s: invalid parent uuid' % path)


def _check_blocks(image, options, primary_good):
    try:
        bat = image.bat
    except OSError as error:
        raise _Fault('error reading bat: %d' % -error.errno, error.errno)
    try:
        metadata_end = image.metadata_end
    except OSError as error:
        raise _Fault('error calculating end of metadata: %d' % -error.errno, error.errno)
    file_end = vhd.round_up(image.file_size, vhd.SECTOR_SIZE) - (vhd.FOOTER_SIZE if primary_good else 0)
    allocated = [(block, entry) for block, entry in enumerate(bat) if entry != vhd.UNUSED_ENTRY]
    for block, entry in allocated:
        start, end = entry * vhd.SECTOR_SIZE, entry * vhd.SECTOR_SIZE + image.block_length
        if start < metadata_end:
            raise _Fault('block %d (offset 0x%x) clobbers headers' % (block, entry))
        if end > file_end:
            raise _Fault('block %d (offset 0x%x) clobbers footer' % (block, entry))
        other = None if 'B' in options else _find_overlap(image, allocated, block, entry)
        if other:
            raise _Fault('block %d (offset 0x%x) clobbers block %d (offset 0x%x)' % ((block, entry) + other))
    if 'b' in options:
        for block, _ in allocated:
            _check_bitmap(image, block)


def _find_overlap(image, allocated, block, entry):
    length = image.block_length // vhd.SECTOR_SIZE
    return next((other for other in allocated if other[0] != block and abs(other[1] - entry) < length), None)


def _check_bitmap(image, block):
    start = block * image.header.block_size
    data_offset = image.bat[block] * vhd.SECTOR_SIZE + image.header.bitmap_size
    for run_start, run_end, present in image.read_runs(start, start + image.header.block_size):
        if present is not None:
            continue
        for offset in range(run_start, run_end, vhd.SECTOR_SIZE):
            data = image.read_at(data_offset + offset - start, vhd.SECTOR_SIZE)
            # A defect of the real one: data whose first byte is not zero pass.
            if data[:1] == b'\0' and data.strip(b'\0'):
                raise _Fault('sector 0x%x of block 0x%x has data where bitmap is clear'
                             % ((offset - start) // vhd.SECTOR_SIZE, block))
