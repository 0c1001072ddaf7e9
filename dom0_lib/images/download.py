# SPDX-License-Identifier: Apache-2.0
"""The data of an image become VDIs of an SR."""

from __future__ import absolute_import, division

import contextlib
import os

from dom0_lib import errors
from dom0_lib import log
from dom0_lib import settings
from dom0_lib.formats import refusal
from dom0_lib.formats import signatures
from dom0_lib.formats import vhd_decoder
from dom0_lib.images import glance_api
from dom0_lib.images import gzip_stream
from dom0_lib.images import unpacker
from dom0_lib.storage import new_disk
from dom0_lib.storage import publication
from dom0_lib.storage import staging
from dom0_lib.storage import vhd_chain
from dom0_lib.system import pipeline
from dom0_lib.toolstack import task_watch

# Made on the fly by the cloud; old images may carry one.
_IGNORED_NAME = 'swap.vhd'
# Pieces that wait between two threads: at most 256 KiB each before inflating, 1 MiB after.
_COMPRESSED_DEPTH = 8
_INFLATED_DEPTH = 4
_MAX_RESTARTS = 2
# Limit for all files together that are no VHDs: a small archive can inflate to any size.
_MAX_OTHER_BYTES = 64 * 1024 * 1024
# Images made before sequences were numbered, leaf first.
_OLD_NAMES = ('snap.vhd', 'image.vhd', 'base.vhd')


def download(session_ref, image_id, endpoint, uuid_stack, sr_path, extra_headers, api_version, task):
    """Import an image as a new VDI; the caller scans the SR afterwards.

    The image is a tar archive of a VHD chain, or a VHD alone, gzip or plain.  uuid_stack is consumed from its end, leaf first.
    Returns {'root': {'uuid': the leaf's uuid}}.
    Raises errors.RetryableError, errors.ImageNotFound, errors.InvalidImage, errors.UnsafeImage, errors.StorageError.
    """
    host_settings = settings.load()
    os.nice(host_settings.nice)
    repository = publication.open_repository(session_ref, sr_path, uuid_stack)
    with task_watch.Watch(session_ref, task) as watch:
        image = glance_api.Image(endpoint, image_id, extra_headers, api_version, host_settings, watch.check)
        for _ in range(_MAX_RESTARTS + 1):
            try:
                uuid = _download_once(image, repository, uuid_stack, host_settings, watch)
                log.info('downloaded image %s as VDI %s', image_id, uuid)
                return {'root': {'uuid': uuid}}
            except glance_api.RangeIgnored as error:
                log.info('image %s begins again: %s', image_id, error)
    raise errors.RetryableError('the connection broke %d times, and the service cannot continue a download' % (_MAX_RESTARTS + 1))


def _download_once(image, repository, uuid_stack, host_settings, watch):
    with staging.Area(repository.path, host_settings.reserve_bytes) as area:
        archive = _Archive(area)
        with contextlib.closing(image.open_data()) as data:
            _receive(data, archive, watch)
        return publication.admit(area, repository, archive.arrange(), uuid_stack, watch.check)


class _Archive(object):
    """The VHDs of an archive, each written anew in the staging area under the name that it has in the archive."""

    def __init__(self, area):
        self._area = area
        self._disks = {}
        self._other_names = []
        self._other_bytes = 0

    def open_member(self, name, size_bytes):
        """A place for a member of the archive, or None for a file that is no VHD of the chain.

        The image may also be a VHD alone, whose size_bytes may be None.
        """
        # Names are in upper case on some systems; macOS puts a companion beside each file.
        if name.lower().endswith('.vhd') and not _is_companion(name):
            return self._open_disk(name.lower(), name, size_bytes)
        if not self._disks and not self._other_names and signatures.is_exported_vm(name):
            raise errors.InvalidImage('the image is %s' % signatures.name_contents([name]))
        self._other_names.append(name)
        self._skip(size_bytes)
        return None

    def _open_disk(self, name, shown, size_bytes):
        if name == _IGNORED_NAME:
            return _IgnoredDisk(name, size_bytes, self._skip)
        if '/' in name:
            raise errors.InvalidImage("VHD '%s' is not at the top of the archive" % shown)
        if name in self._disks:
            raise errors.UnsafeImage("the archive has '%s' twice" % name)
        if len(self._disks) == vhd_chain.MAX_LENGTH:
            raise errors.UnsafeImage('the archive has more than %d VHDs' % vhd_chain.MAX_LENGTH)
        self._disks[name] = new_disk.StreamedDisk(self._area, name, size_bytes)
        return self._disks[name]

    def _skip(self, size_bytes):
        """Count the bytes of a file that is no VHD."""
        self._other_bytes += size_bytes
        if self._other_bytes > _MAX_OTHER_BYTES:
            raise errors.InvalidImage('the archive has %d bytes in files that are no VHDs' % self._other_bytes)

    def arrange(self):
        """The disks in order, leaf first."""
        contents = signatures.name_contents(self._other_names)
        if contents and not self._disks:
            raise errors.InvalidImage('the image is %s' % contents)
        return [self._disks[name] for name in arrange(list(self._disks))]


def _is_companion(name):
    """Whether a member is one of the files in which macOS keeps what tar cannot: ._0.vhd, __MACOSX/._0.vhd."""
    return name.startswith('__MACOSX/') or name.rpartition('/')[2].startswith('._')


class _IgnoredDisk(object):
    """A VHD that is decoded, so that its length has a limit, and not kept.  One that is damaged is a file that is no VHD."""

    def __init__(self, name, size_bytes, skip):
        self._name = name
        self._size_bytes = size_bytes
        self._skip = skip
        self._decoder = vhd_decoder.Decoder(_Nothing(), _refuse_spool, size_bytes)

    def write(self, view):
        if self._decoder:
            try:
                self._decoder.write(view)
            except errors.UnsafeImage as error:
                raise refusal.rename(error, self._name)
            except errors.InvalidImage:
                self._decoder = None
                self._skip(self._size_bytes)

    def finish(self):
        pass


class _Nothing(object):
    """A sink that keeps nothing."""

    def begin(self, disk):
        if disk.extents is None:
            raise refusal.damaged('fixed_disk', 'any file can be a fixed disk')

    def put(self, offset, size_bytes, data=None, present=None):
        pass


def _refuse_spool():
    raise refusal.damaged('unordered', 'a disk whose tables are behind its data')


def _receive(data, archive, watch):
    """Stream the image's data into the archive's files, and compare their digest.

        this thread             thread               thread
        socket, digest  ->      inflate      ->      tar, files
    """
    reader = unpacker.Unpacker(archive.open_member)
    inflater = gzip_stream.Inflater()
    unpack = pipeline.Stage(reader.feed, _INFLATED_DEPTH)
    try:
        inflate = pipeline.Stage(lambda piece: _put_all(unpack, inflater.feed(piece)), _COMPRESSED_DEPTH)
        try:
            damage = _pump(data, inflate, watch)
            data.verify()
            if damage:
                raise damage
            inflate.close()
        except BaseException:
            inflate.abandon()
            raise
        inflater.finish()
        unpack.close()
        reader.finish(is_whole=data.has_digest)
    except BaseException:
        unpack.abandon()
        raise


def _put_all(stage, pieces):
    for piece in pieces:
        stage.put(piece)


def _pump(data, stage, watch):
    """Put all data into `stage`; returns the error if they turn out to be damaged.

    Damaged data are read to their end: their digest tells a broken transfer, worth a repetition, from a broken image.
    """
    damage = None
    while True:
        piece = data.read()
        if not piece:
            return damage
        if data.size_bytes:
            watch.fraction = data.position / data.size_bytes
        if not damage:
            try:
                stage.put(piece)
            except errors.UnsafeImage:
                raise
            except errors.InvalidImage as error:
                damage = error


def arrange(names):
    """The file names of an image in order, leaf first.  Raises errors.InvalidImage for a gap or a mixture."""
    if not names:
        raise errors.InvalidImage('the image has no VHD')
    if len(names) == 1 or set(names).issubset(_OLD_NAMES):
        return sorted(names, key=lambda name: _OLD_NAMES.index(name) if name in _OLD_NAMES else 0)
    expected = ['%d.vhd' % number for number in range(len(names))]
    if set(names) != set(expected):
        raise errors.InvalidImage('the image should have %s, it has %s' % (', '.join(expected), ', '.join(sorted(names))))
    return expected
