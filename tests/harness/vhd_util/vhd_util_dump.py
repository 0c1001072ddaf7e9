# SPDX-License-Identifier: Apache-2.0
"""The metadata of a disk as text, as `vhd-util read -p` and a failing `check` print it."""

import os
import time

from dom0_lib.disks import vhd

_TYPES = {0: 'None', vhd.FIXED: 'Fixed hard disk', vhd.DYNAMIC: 'Dynamic hard disk',
          vhd.DIFFERENCING: 'Differencing hard disk'}
_CODES = {vhd.MACX: 'PLAT_CODE_MACX', vhd.W2KU: 'PLAT_CODE_W2KU', vhd.W2RU: 'PLAT_CODE_W2RU'}


def format_image(image):
    """All of an open image."""
    parts = [format_footer(image.footer)]
    if image.header is not None:
        parts.append(format_header(image.header))
        if image.is_differencing:
            parts.append(_format_locators(image.locators))
        try:
            if image.batmap:
                parts.append(_format_batmap(image.batmap))
        except OSError:
            pass
    return ''.join(parts)


def format_footer(footer):
    features = []
    if footer.features & vhd.FEATURE_TEMPORARY:
        features.append('<TEMP>')
    if footer.features & vhd.FEATURE_RESERVED:
        features.append('<RESV>')
    return _format_summary('VHD Footer Summary:', (
        ('Cookie', _decode(footer.cookie)),
        ('Features', '(0x%08x) %s' % (footer.features, ' '.join(features))),
        ('File format version', _format_version(footer.version)),
        ('Data offset', footer.data_offset),
        ('Timestamp', _format_time(footer.timestamp)),
        ('Creator Application', "'%s'" % _decode(footer.creator)),
        ('Creator version', _format_version(footer.creator_version)),
        ('Creator OS', {b'Wi2k': 'Windows', b'Mac ': 'Macintosh'}.get(footer.creator_host, 'Unknown!')),
        ('Original disk size', _format_size(footer.original_size)),
        ('Current disk size', _format_size(footer.current_size)),
        ('Geometry', 'Cyl: %d, Hds: %d, Sctrs: %d' % (footer.cylinders, footer.heads, footer.sectors_per_track)),
        ('', '= ' + _format_size(footer.geometry_size)),
        ('Disk type', _TYPES.get(footer.disk_type, 'Unknown type!\n')),
        ('Checksum', _format_checksum(footer.checksum, footer.compute_checksum())),
        ('UUID', vhd.format_uuid(footer.uuid_bytes)),
        ('Saved state', 'Yes' if footer.saved_state else 'No'),
        ('Hidden', footer.hidden)))


def format_header(header):
    return _format_summary('VHD Header Summary:', (
        ('Cookie', _decode(header.cookie)),
        ('Data offset (unusd)', header.data_offset),
        ('Table offset', header.table_offset),
        ('Header version', '0x%08x' % header.version),
        ('Max BAT size', header.max_bat_entries),
        ('Block size', '%d (%d MB)' % (header.block_size, header.block_size >> 20)),
        ('Parent name', header.parent_name),
        ('Parent UUID', vhd.format_uuid(header.parent_uuid_bytes)),
        ('Parent timestamp', _format_time(header.parent_timestamp)),
        ('Checksum', _format_checksum(header.checksum, header.compute_checksum()))))


def _format_locators(locators):
    lines = ['VHD Parent Locators:\n--------------------\n']
    for locator in locators:
        lines.append('locator:            : %d\n' % locator.index)
        for name, value in (('code', _CODES.get(locator.code, 'UNKNOWN')), ('data_space', locator.data_space),
                            ('data_length', locator.data_length), ('data_offset', locator.data_offset),
                            ('decoded name', locator.path or '')):
            lines.append('       %-13s: %s\n' % (name, value))
        lines.append('\n')
    return ''.join(lines)


def _format_batmap(batmap):
    return _format_summary('VHD Batmap Summary:', (
        ('Batmap offset', batmap.offset),
        ('Batmap size (secs)', batmap.size_sectors),
        ('Batmap version', '0x%08x' % batmap.version),
        # A wrong one is never shown: it would have kept the batmap from being read.
        ('Checksum', _format_checksum(batmap.checksum, batmap.checksum))))


def _format_summary(title, rows):
    return '%s\n%s\n%s\n' % (title, '-' * len(title), ''.join('%-20s: %s\n' % row for row in rows))


def _decode(raw):
    return os.fsdecode(raw.split(b'\0', 1)[0])


def _format_version(version):
    return 'Major: %d, Minor: %d' % (version >> 16, version & 0xffff)


def _format_time(timestamp):
    return time.ctime(timestamp + vhd.EPOCH_UNIX_S)


def _format_size(size):
    return '%d MB (%d Bytes)' % (size >> 20, size)


def _format_checksum(stated, found):
    return '0x%x|0x%x (%s!)' % (stated, found, 'Good' if stated == found else 'Bad')
