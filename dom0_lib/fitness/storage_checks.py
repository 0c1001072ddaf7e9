# SPDX-License-Identifier: Apache-2.0
"""Checks of where disks and kernels are: each takes a checkup.Patient, returns what there is, and raises checkup.Unfit."""

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
# dom0's own file systems, and what they need to go on working.
_NEEDED_BYTES = (('/', 200 << 20), ('/var/log', 100 << 20))
_FORMAT = 'vhd'
# What has lain in /images for so long is of no migration that runs.
_ABANDONED_S = 24 * 3600


def check_sr(patient):
    chosen = patient.find_sr()
    if chosen.formats and chosen.formats[0] != _FORMAT:
        raise checkup.Unfit('new disks of SR %s are made in the format %s, which these plug-ins do not read' % (
            chosen.uuid, chosen.formats[0]), 'plug its PBD with preferred-image-formats=vhd in device_config, or take another SR')
    if not os.access(paths.locate(chosen.path), os.W_OK):
        raise checkup.Unfit('SR %s cannot be written to' % chosen.uuid,
                              'look into dmesg: a file system becomes read-only on errors')
    return '%s, its VDIs are files' % chosen.describe()


def check_space(patient):
    chosen, reserve_bytes = patient.find_sr(), patient.load_settings().reserve_bytes
    found, short = [], []
    for path, needed_bytes in ((chosen.path, reserve_bytes),) + _NEEDED_BYTES:
        status = os.statvfs(paths.locate(path))
        free_bytes = status.f_bavail * status.f_frsize
        found.append('%s %d MiB' % (path, free_bytes >> 20))
        if free_bytes < needed_bytes:
            short.append('%s has %d MiB free, and should have %d MiB' % (path, free_bytes >> 20, needed_bytes >> 20))
    if short:
        raise checkup.Unfit('; '.join(short), "remove what is not needed there; what must stay free in the SR is 'reserve' in"
                              ' [transfer] of %s' % paths.SETTINGS, ', '.join(found))
    return 'free: %s' % ', '.join(found)


def check_images(_patient):
    return _check_directory(dom0_directories.IMAGES, may_be_on_root=False)


def check_boot_guest(_patient):
    return _check_directory(dom0_directories.BOOT_GUEST, may_be_on_root=True)


def _check_directory(directory, may_be_on_root):
    state = directory.inspect()
    if state.kind == dom0_directories.MISSING:
        raise checkup.Unfit('there is no %s' % directory.path, _PREPARE)
    if state.kind == dom0_directories.DANGLING:
        raise checkup.Unfit('%s leads to %s, which is not there' % (directory.path, state.target),
                              'attach its SR (xe pbd-plug) if it is in one that is not; else %s' % _PREPARE)
    if state.kind == dom0_directories.OTHER:
        raise checkup.Unfit('%s is no directory' % directory.path, 'move it away, and %s' % _PREPARE)
    if state.is_on_root and not may_be_on_root:
        raise checkup.Unfit("%s is in dom0's own file system, which disks that arrive would fill" % directory.path,
                              'when no migration runs, move away what is in it, remove it, and %s' % _PREPARE)
    if state.kind == dom0_directories.LINK:
        return 'leads to %s' % state.target
    return "a directory in dom0's own file system" if state.is_on_root else 'a file system of its own'


def check_locks(_patient):
    path = paths.locate(paths.SM_LOCKS)
    if not os.path.lexists(path):
        return 'none yet'
    if not os.path.isdir(path) or not os.access(path, os.W_OK):
        raise checkup.Unfit('%s is no directory that root can write to' % paths.SM_LOCKS,
                              'move it away: the storage manager makes it when it needs it')
    return paths.SM_LOCKS


def check_leftovers(patient):
    """What sweeps remove, and what lies in /images for long; nothing is removed here."""
    found, fixes = [], []

    def look(names, path, fix):
        if names:
            found.append('%s/%s' % (path, ', '.join(names)))
            fixes.append(fix)
    for path in (paths.IMAGES, paths.BOOT_GUEST):
        attached_sr.probe(path)
    look(arrivals.list_abandoned(_ABANDONED_S), paths.IMAGES,
         'rm -r what is left in %s, if it is of no migration that runs' % paths.IMAGES)
    look(_list_dead(paths.BOOT_GUEST), paths.BOOT_GUEST, 'call sweep of kernel.py')
    try:
        chosen = patient.find_sr()
        look(_list_dead(chosen.path), chosen.path, 'call sweep of glance.py with sr_uuid=%s' % chosen.uuid)
    except errors.PluginError:
        if not found:
            raise
    if found:
        raise checkup.Unfit('calls that were killed have left %s' % '; '.join(found), '; '.join(fixes))
    return 'none'


def _list_dead(path):
    return staging.list_dead(os.path.realpath(paths.locate(path)))
