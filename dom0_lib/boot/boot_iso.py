# SPDX-License-Identifier: Apache-2.0
"""The network settings of one guest, put into an iPXE boot ISO.

    read       iso9660 reads the files of the image; no file gets its own name in dom0, and no link in the image is followed
    stage      each file becomes a numbered file beside the image, and a list has its path in the image
    make       mkisofs writes a new image of these files, bootable by ISOLINUX
    check      iso9660 finds the expected files in the new image, and no others
    replace    by a rename: at every moment there is either the old image or the new one
"""

from __future__ import absolute_import, division

import os
import stat

from dom0_lib import errors
from dom0_lib import faults
from dom0_lib import log
from dom0_lib import settings
from dom0_lib import termination
from dom0_lib.boot import iso9660
from dom0_lib.storage import sr
from dom0_lib.storage import staging
from dom0_lib.system import durable_file
from dom0_lib.system import os_errors
from dom0_lib.system import proc
from dom0_lib.system import sparse_file
from dom0_lib.toolstack import task_watch

_DIRECTORY = 'iso'
# Files at the top of an ISOLINUX image that boots iPXE.
_LOADER, _KERNEL, _CATALOG = b'isolinux.bin', b'ipxe.krn', b'boot.cat'
_LOADER_SETTINGS, _NETWORK_SETTINGS = b'isolinux.cfg', b'netcfg.ipxe'
_PIECE_BYTES = 1 << 20
_MAKE_DEADLINE_S = 1800
# A new image may have this many bytes beside its files: directories, tables, padding.
_OVERHEAD_BYTES = 16 << 20
_LIST, _IMAGE = 'list', 'image'

_LOADER_SCRIPT = u"""\
SAY iPXE with the network settings of this guest
TIMEOUT 30
DEFAULT ipxe
LABEL ipxe
 KERNEL ipxe.krn
 INITRD netcfg.ipxe
"""
# chain returns when the user leaves the menu; without a menu the guest boots from its disk.
_NETWORK_SCRIPT = u"""\
#!ipxe
imgfree
ifclose net0
set net0/ip %s
set net0/netmask %s
set net0/gateway %s
set dns %s
ifopen net0
chain %s ||
sanboot --no-describe --drive 0x80
"""


def inject(session_ref, sr_path, vdi_uuid, boot_menu_url, ip_address, netmask, gateway, dns, mkisofs_cmd, task):
    """Put network settings and the address of a boot menu into the ISO <sr_path>/iso/<vdi_uuid>.img.

    Raises errors.StorageError, errors.InvalidImage, errors.UnsafeImage, errors.CommandNotFound, errors.CommandFailed.
    """
    proc.require(mkisofs_cmd)
    host_settings = settings.load()
    directory = _locate(sr.locate(session_ref, sr_path))
    staging.sweep(directory, recover=None)
    written = {_LOADER_SETTINGS: _LOADER_SCRIPT,
               _NETWORK_SETTINGS: _NETWORK_SCRIPT % (ip_address, netmask, gateway, dns, boot_menu_url)}
    path = os.path.join(directory, '%s.img' % vdi_uuid)
    with task_watch.Watch(session_ref, task) as watch, _open(path) as source:
        image = iso9660.Image(source)
        kept = _choose(image)
        faults.point('iso.read')
        with staging.Area(directory, host_settings.reserve_bytes) as area:
            _stage(area, image, kept, written, watch)
            _make(area, mkisofs_cmd, image.volume_id, _find(kept, _LOADER), watch.check)
            faults.point('iso.made')
            expected = dict([(entry.path, entry.size_bytes) for entry in kept] +
                            [(name, len(written[name])) for name in written])
            _check(area.join(_IMAGE), expected)
            faults.point('iso.checked')
            _replace(area.join(_IMAGE), path, source)
    if image.left_out:
        log.warning('ISO %s: %s links and devices are left out', vdi_uuid, len(image.left_out))
    log.info('put network settings into ISO %s', vdi_uuid)


def _locate(repository):
    directory = os.path.realpath(os.path.join(repository.path, _DIRECTORY))
    if not directory.startswith(repository.path + os.sep) or not os.path.isdir(directory):
        raise errors.StorageError("the storage repository has no directory '%s' of its own" % _DIRECTORY)
    return directory


def _open(path):
    name = os.path.basename(path)
    if not os.path.lexists(path):
        raise errors.StorageError('there is no ISO %s' % name)
    with os_errors.StorageErrors('cannot read ISO %s' % name):
        fd = durable_file.open_regular(path)
    if fd is None:
        raise errors.StorageError('ISO %s is no plain file' % name)
    return os.fdopen(fd, 'rb')


def _choose(image):
    """The files that the new image takes over: all except those that are written anew."""
    for needed in (_LOADER, _KERNEL):
        if _find(image.files, needed) is None:
            raise errors.InvalidImage('the image has no %s at its top: it is no iPXE ISO for ISOLINUX' % needed.decode('ascii'))
    replaced = (_LOADER_SETTINGS, _NETWORK_SETTINGS, _CATALOG)
    kept = [entry for entry in image.files if entry.path.lower() not in replaced]
    if sum(entry.size_bytes for entry in kept) > 2 * image.size_bytes:
        raise errors.UnsafeImage('the files of the image are more than twice as large as the image')
    return kept


def _find(files, path):
    """The path of a file in the image's own spelling; like ISOLINUX, ignore case."""
    for entry in files:
        if entry.path.lower() == path:
            return entry.path
    return None


def _stage(area, image, kept, written, watch):
    """Write the content into numbered files, and a list with a line `<path in the image>=<path in dom0>` for each."""
    total_bytes = sum(entry.size_bytes for entry in kept) or 1
    lines, done_bytes = [], 0
    for number, entry in enumerate(kept):
        staged = area.create('f%d' % number, entry.size_bytes)
        for piece in image.read(entry, _PIECE_BYTES):
            watch.check()
            staged.write(memoryview(piece))
            done_bytes += len(piece)
            watch.fraction = done_bytes / total_bytes / 2
        staged.finish()
        lines.append(_graft(entry.path, area.join('f%d' % number)))
    for name in sorted(written):
        _write(area, name.decode('ascii'), written[name].encode('ascii'))
        lines.append(_graft(name, area.join(name.decode('ascii'))))
    _write(area, _LIST, b''.join(lines))


def _graft(path, staged):
    # A backslash quotes the next character.  With / at the beginning no name is read as an option.
    return b'/%s=%s\n' % (path.replace(b'\\', b'\\\\').replace(b'=', b'\\='), staged.encode('ascii'))


def _write(area, name, content):
    staged = area.create(name, len(content))
    staged.write(memoryview(content))
    staged.finish()


def _make(area, command, volume_id, loader, check):
    argv = [command, '-quiet', '-l', '-r', '-V', _printable(volume_id), '-graft-points', '-path-list', area.join(_LIST),
            '-b', _printable(loader), '-c', _CATALOG.decode('ascii'), '-no-emul-boot', '-boot-load-size', '4', '-boot-info-table',
            '-o', area.join(_IMAGE)]
    proc.run(argv, _MAKE_DEADLINE_S, check=check)
    sparse_file.sync(area.join(_IMAGE))


def _printable(data):
    return ''.join(chr(c) if 32 <= c < 127 else '_' for c in bytearray(data)).lstrip('-') or 'ISOIMAGE'


def _check(path, expected):
    """Raises errors.StorageError unless the new image has exactly these files, {path: size}."""
    with open(path, 'rb') as source:
        found = dict((entry.path, entry.size_bytes) for entry in iso9660.Image(source).files)
        size_bytes = os.fstat(source.fileno()).st_size
    found.pop(_CATALOG, None)
    if found != expected:
        wrong = sorted(set(found.items()) ^ set(expected.items()))
        raise errors.StorageError('mkisofs made an image with wrong files, for example %s' % _printable(wrong[0][0]))
    if size_bytes > sum(expected.values()) + _OVERHEAD_BYTES + len(expected) * iso9660.SECTOR_BYTES:
        raise errors.StorageError('mkisofs made an image of %d bytes, far more than its files have' % size_bytes)


def _replace(new_path, path, source):
    """Give the new image the name of the old one, which is open as `source`."""
    with os_errors.StorageErrors('cannot replace the ISO'), termination.Shield():
        old = os.fstat(source.fileno())
        if not os.path.samestat(old, os.lstat(path)):
            raise errors.StorageError('the ISO was replaced while its settings were changed')
        new = os.stat(new_path)
        # Only if they differ: an NFS server that squashes root refuses even a chown to the same owner.
        if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
            os.chown(new_path, old.st_uid, old.st_gid)
        os.chmod(new_path, stat.S_IMODE(old.st_mode))
        os.rename(new_path, path)
        faults.point('iso.replaced')
        sparse_file.sync(os.path.dirname(path))
