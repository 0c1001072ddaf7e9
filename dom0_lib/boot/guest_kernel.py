# SPDX-License-Identifier: Apache-2.0
"""Kernels and ramdisks of paravirtual guests, which XAPI starts from files in dom0."""

from __future__ import absolute_import, division

import errno
import os
import stat
import time

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib import faults
from dom0_lib import log
from dom0_lib import paths
from dom0_lib import settings
from dom0_lib import text_checks
from dom0_lib.boot import boot_directory
from dom0_lib.devices import block_device
from dom0_lib.devices import vbd
from dom0_lib.system import sparse_file
from dom0_lib.toolstack import task_watch
from dom0_lib.toolstack import xapi

_STAGED = 'kernel'
_PIECE_BYTES = 1 << 20
# A copy that cleans up after a dead call does not wait for a busy disk; a sweep does.
_NO_WAIT_S = 0


def copy_vdi(session_ref, vdi_ref, size_bytes, cached_image, task):
    """Copy the first `size_bytes` bytes of a VDI to /boot/guest/<VDI's uuid>, and return that path.

    cached_image: a second name for the same content, for create(); or None
    Raises errors.ArgumentError if the disk is smaller, errors.StorageError, and the errors of xapi.Errors.
    """
    host_settings = settings.load()
    directory = boot_directory.BootDirectory()
    with xapi.Errors('cannot look the VDI up'):
        vdi_uuid = xapi.connect(session_ref).xenapi.VDI.get_uuid(vdi_ref)
    _clean(session_ref, directory, _NO_WAIT_S)
    with task_watch.Watch(session_ref, task) as watch, directory.stage(host_settings.reserve_bytes) as area:
        with vbd.Plug(session_ref, vdi_ref, os.path.basename(area.path), host_settings.detach_wait_s) as device:
            _copy(device, area, size_bytes, watch)
        directory.publish(area, area.join(_STAGED), [name for name in (vdi_uuid, cached_image) if name])
    log.info('copied %s bytes of VDI %s to %s', size_bytes, vdi_uuid, paths.BOOT_GUEST)
    return _dom0_path(vdi_uuid)


def _copy(device, area, size_bytes, watch):
    with boot_directory.errors_here(), block_device.Disk(device) as disk:
        if size_bytes > disk.size_bytes:
            raise errors.ArgumentError('image-size', 'the disk has only %d bytes (got %d)' % (disk.size_bytes, size_bytes))
        target = area.create(_STAGED, size_bytes)
        # One buffer for all pieces: to allocate a megabyte for each would cost a third of the time.
        piece = memoryview(bytearray(min(_PIECE_BYTES, size_bytes)))
        position = 0
        while position < size_bytes:
            watch.check()
            view = piece[:size_bytes - position]
            disk.read_into(view, position)
            target.write(view)
            position += len(view)
            watch.fraction = position / size_bytes
        target.finish()
        sparse_file.sync(area.join(_STAGED), paths.BOOT_GUEST)
        faults.point('kernel.copied')


def _dom0_path(name):
    return u'%s/%s' % (paths.BOOT_GUEST, name)


def create(session_ref, cached_image, new_image_uuid):
    """Give a cached kernel or ramdisk one more name and return its path; '' if it is not in the cache.

    Raises errors.StorageError.
    """
    directory = boot_directory.BootDirectory()
    with boot_directory.errors_here():
        if not directory.has(cached_image):
            return u''
    directory.sweep()
    with directory.stage(settings.load().reserve_bytes) as area:
        directory.publish(area, directory.join(cached_image), [new_image_uuid])
    return _dom0_path(new_image_uuid)


def remove(session_ref, kernel_file, ramdisk_file):
    """Remove a kernel and a ramdisk, each a path from a VM's record, or None; it is no error if they do not exist.

    Raises errors.ArgumentError for a path that leads out of /boot/guest, errors.StorageError for a path of no plain file.
    """
    directory = boot_directory.BootDirectory()
    names = []
    for argument, path in (('kernel-file', kernel_file), ('ramdisk-file', ramdisk_file)):
        if path is None:
            continue
        name = directory.resolve(path)
        if name is None:
            raise errors.ArgumentError(argument, 'leads out of %s' % paths.BOOT_GUEST)
        names.append(name)
    with boot_directory.errors_here():
        found = [name for name in names if directory.has(name)]
        for name in found:
            _unlink(directory, name)
    if found:
        log.info('removed %s from %s', ', '.join(found), paths.BOOT_GUEST)
    return u'ok'


def _unlink(directory, name):
    try:
        os.unlink(directory.join(name))
    except EnvironmentError as error:
        if error.errno != errno.ENOENT:
            raise


def sweep(session_ref, remove, grace_s, keep):
    """Find the files in /boot/guest that no VM's record names, and remove them if `remove` is true.

    grace_s: younger files stay; the age counts from the last change or the last new name
    keep: names of images that stay in the cache
    Only files whose names are uuids are examined.  A file keeps all its names if one of them is in use.  Staging directories of
    killed calls are removed, and disks that they left plugged are unplugged, in any case.
    Returns {'unused': [{'name', 'size_bytes', 'age_s', 'why'}], 'removed': [name], 'kept': [{'name', 'why'}],
    'staging_removed': [name], 'unplugged': [VDI reference], 'still_plugged': [VDI reference]}.
    """
    directory = boot_directory.BootDirectory()
    staged, unplugged, stuck = _clean(session_ref, directory, settings.load().detach_wait_s)
    with boot_directory.errors_here():
        files = _list_files(directory)
    # List the VMs after the files: a file that a VM's record got meanwhile then counts as used.
    used = _list_used(session_ref)
    unused, kept, removed = [], [], []
    for name, status in sorted(files.items()):
        why = _why_kept(name, status, files, used, keep, grace_s)
        if why:
            kept.append({'name': name, 'why': why})
            continue
        unused.append({'name': name, 'size_bytes': status.st_size, 'age_s': _age_s(status), 'why': "no VM's record names it"})
        if remove:
            with boot_directory.errors_here():
                _unlink(directory, name)
            removed.append(name)
            log.info("removed %s/%s: no VM's record names it", paths.BOOT_GUEST, name)
    return {'unused': unused, 'removed': removed, 'kept': kept, 'staging_removed': staged, 'unplugged': unplugged,
            'still_plugged': stuck}


def _why_kept(name, status, files, used, keep, grace_s):
    others = [other for other in files if files[other].st_ino == status.st_ino]
    if name in used:
        return "a VM's record names it"
    if name in keep:
        return 'the caller keeps it'
    if used.intersection(others):
        return "a VM's record names it as %s" % ', '.join(sorted(used.intersection(others)))
    if status.st_nlink > len(others):
        return 'it has a name elsewhere'
    if _age_s(status) < grace_s:
        return 'it is %d s old' % _age_s(status)
    return None


def _age_s(status):
    # A new name changes st_ctime alone.
    return int(time.time() - max(status.st_mtime, status.st_ctime))


def _list_files(directory):
    """{name: os.lstat result} of the files whose names are uuids."""
    files = {}
    for name in os.listdir(directory.path):
        if text_checks.is_uuid(compat.to_text(name)):
            try:
                status = os.lstat(directory.join(name))
            except EnvironmentError as error:
                if error.errno != errno.ENOENT:
                    raise
                continue
            if stat.S_ISREG(status.st_mode):
                files[name] = status
    return files


def _list_used(session_ref):
    """The names of all files that a VM, template or snapshot of the pool has in its record, in whatever directory."""
    with xapi.Errors("cannot list the VMs' kernels"):
        # All records, without a query: if a query left one out by mistake, a guest would lose its kernel.
        records = xapi.connect(session_ref).xenapi.VM.get_all_records()
    return set(record[field].rpartition('/')[2] for record in records.values() for field in ('PV_kernel', 'PV_ramdisk'))


def _clean(session_ref, directory, wait_s):
    """Clean up after dead calls.  Returns (staging directories removed, VDIs unplugged, VDIs that stay plugged)."""
    staged = directory.sweep()
    return (staged,) + vbd.sweep(session_ref, directory.is_staging, wait_s)
