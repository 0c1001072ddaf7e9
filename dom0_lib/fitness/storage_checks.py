# SPDX-License-Identifier: Apache-2.0
"""Checks of the SR, directories and locks of a host: each takes a checkup.Host, returns a text, and raises checkup.Unfit."""

from __future__ import absolute_import, division

import os

from dom0_lib import errors
from dom0_lib import paths
from dom0_lib.fitness import attached_sr
from dom0_lib.fitness import checkup
from dom0_lib.fitness import dom0_directories
from dom0_lib.migration import arrivals
from dom0_lib.storage import staging

_PREPARE = 'call prepare of dom0_host.py'
# dom0's own file systems, and the free space without which dom0 stops working.
_NEEDED_BYTES = (('/', 200 << 20), ('/var/log', 100 << 20))
_FORMAT = 'vhd'
# No migration takes this long: an older file in /images belongs to none that is running.
_ABANDONED_S = 24 * 3600


def check_sr(host):
    chosen = host.find_sr()
    if chosen.formats and chosen.formats[0] != _FORMAT:
        raise checkup.Unfit('new disks in SR %s get the format %s, which these plug-ins cannot read' % (
            chosen.uuid, chosen.formats[0]), 'plug its PBD with preferred-image-formats=vhd in device_config, or use another SR')
    if not os.access(paths.locate(chosen.path), os.W_OK):
        raise checkup.Unfit('SR %s cannot be written to' % chosen.uuid,
                            'read dmesg: a file system becomes read-only on errors')
    return '%s, its VDIs are files' % chosen.describe()


def check_space(host):
    chosen, reserve_bytes = host.find_sr(), host.load_settings().reserve_bytes
    found, short = [], []
    for path, needed_bytes in ((chosen.path, reserve_bytes),) + _NEEDED_BYTES:
        status = os.statvfs(paths.locate(path))
        free_bytes = status.f_bavail * status.f_frsize
        found.append('%s %d MiB' % (path, free_bytes >> 20))
        if free_bytes < needed_bytes:
            short.append('%s has %d MiB free, and should have %d MiB' % (path, free_bytes >> 20, needed_bytes >> 20))
    if short:
        raise checkup.Unfit('; '.join(short), "remove files there; for the SR, the limit is 'reserve' in [transfer] of %s" %
                            paths.SETTINGS, ', '.join(found))
    return 'free: %s' % ', '.join(found)


def check_images(_host):
    return _check_directory(dom0_directories.IMAGES)


def check_boot_guest(_host):
    return _check_directory(dom0_directories.BOOT_GUEST)


def _check_directory(directory):
    state = directory.inspect()
    found = directory.find_problem(state, _PREPARE)
    if found:
        raise checkup.Unfit(*found)
    return directory.describe(state)


def check_locks(_host):
    path = paths.locate(paths.SM_LOCKS)
    if not os.path.lexists(path):
        return 'none yet'
    if not os.path.isdir(path) or not os.access(path, os.W_OK):
        raise checkup.Unfit('%s is no directory that root can write to' % paths.SM_LOCKS,
                            'move it away: the storage manager makes it when it needs it')
    return paths.SM_LOCKS


def check_leftovers(host):
    """Files that a sweep would remove, and old ones in /images.  Nothing is removed here."""
    found, fixes = [], []

    def look(names, path, fix):
        if names:
            found.append('%s/%s' % (path, ', '.join(names)))
            fixes.append(fix)
    for path in (paths.IMAGES, paths.BOOT_GUEST):
        attached_sr.probe(path)
    look(arrivals.list_abandoned(_ABANDONED_S), paths.IMAGES,
         'rm -r them in %s, if no running migration uses them' % paths.IMAGES)
    look(_list_dead(paths.BOOT_GUEST), paths.BOOT_GUEST, 'call sweep of kernel.py')
    try:
        chosen = host.find_sr()
        look(_list_dead(chosen.path), chosen.path, 'call sweep of glance.py with sr_uuid=%s' % chosen.uuid)
    except errors.PluginError:
        if not found:
            raise
    if found:
        raise checkup.Unfit('killed calls have left %s' % '; '.join(found), '; '.join(fixes))
    return 'none'


def _list_dead(path):
    return staging.list_dead(os.path.realpath(paths.locate(path)))
