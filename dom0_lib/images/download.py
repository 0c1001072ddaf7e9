# SPDX-License-Identifier: Apache-2.0
"""The data of an image become VDIs of an SR."""

from __future__ import absolute_import, division

import contextlib
import os

from dom0_lib import errors
from dom0_lib import log
from dom0_lib import settings
from dom0_lib.disks import vhd
from dom0_lib.disks import vhd_chain
from dom0_lib.disks import vhd_check
from dom0_lib.images import glance_api
from dom0_lib.images import gzip_stream
from dom0_lib.images import tarball
from dom0_lib.storage import publication
from dom0_lib.storage import staging
from dom0_lib.system import pipeline
from dom0_lib.toolstack import task_watch

# Made on the fly by the cloud; old images may carry one.
_IGNORED_NAME = 'swap.vhd'
# Pieces that wait between two threads: at most 256 KiB each before inflating, 1 MiB after.
_COMPRESSED_DEPTH = 8
_INFLATED_DEPTH = 4
_MAX_RESTARTS = 2
# Bytes of what does not show at its beginning how large it may be: a few of them inflate to any number.
_MAX_UNJUDGED_BYTES = 64 * 1024 * 1024
# The backup footer, and the header, which every known writer puts behind it.
_BEGINNING_BYTES = vhd.FOOTER_SIZE + vhd.HEADER_SIZE
# Images made before sequences were numbered, leaf first.
_OLD_NAMES = ('snap.vhd', 'image.vhd', 'base.vhd')


def download(session_ref, image_id, endpoint, uuid_stack, sr_path, extra_headers, api_version, task):
    """Import an image as a new VDI; the caller scans the SR afterwards.

    The image is a tar archive, gzip or plain, of a VHD chain.  uuid_stack is consumed from its end, leaf first.
    Returns {'root': {'uuid': the leaf's uuid}}.
    Raises errors.RetryableError, errors.ImageNotFound, errors.InvalidImage, errors.UnsafeImage, errors.StorageError.
    """
    chosen = settings.load()
    os.nice(chosen.nice)
    repository = publication.open_repository(session_ref, sr_path, uuid_stack)
    with task_watch.Watch(session_ref, task) as watch:
        image = glance_api.Image(endpoint, image_id, extra_headers, api_version, chosen, watch.check)
        for _ in range(_MAX_RESTARTS + 1):
            try:
                uuid = _download_once(image, repository, uuid_stack, chosen, watch)
                log.info('downloaded image %s as VDI %s', image_id, uuid)
                return {'root': {'uuid': uuid}}
            except glance_api.RangeIgnored as error:
                log.info('image %s begins again: %s', image_id, error)
    raise errors.RetryableError('the connection broke %d times, and the service cannot continue a download' % (_MAX_RESTARTS + 1))


def _download_once(image, repository, uuid_stack, chosen, watch):
    with staging.Area(repository.path, chosen.reserve_bytes) as area:
        archive = _Archive(area)
        with contextlib.closing(image.open_data()) as data:
            _receive(data, archive, watch)
        return publication.admit(area, repository, archive.arrange(), uuid_stack, watch.check)


class _Archive(object):
    """The VHDs of an archive, staged under the names they have in it."""

    def __init__(self, area):
        self._area = area
        self._names = []
        self._ignored_bytes = 0

    def open_member(self, name, size_bytes):
        """A place for a member of the archive, or None for what is not a VHD of the chain."""
        if name == _IGNORED_NAME:
            return _Member(name, size_bytes, _Ignored())
        if not name.endswith('.vhd'):
            self._ignored_bytes += size_bytes
            if self._ignored_bytes > _MAX_UNJUDGED_BYTES:
                raise errors.InvalidImage('the archive has %d bytes in files that are no VHDs' % self._ignored_bytes)
            return None
        if '/' in name:
            raise errors.InvalidImage("VHD '%s' is not at the top of the archive" % name)
        if name in self._names:
            raise errors.UnsafeImage("the archive has '%s' twice" % name)
        if len(self._names) == vhd_chain.MAX_LENGTH:
            raise errors.UnsafeImage('the archive has more than %d VHDs' % vhd_chain.MAX_LENGTH)
        self._names.append(name)
        return _Member(name, size_bytes, self._area.create(name, size_bytes))

    def arrange(self):
        """The names in order, leaf first."""
        return arrange(self._names)


class _Member(object):
    """A VHD as it arrives: refused as soon as its beginning shows that it claims less than the archive has for it."""

    def __init__(self, name, size_bytes, staged):
        self._name = name
        self._size_bytes = size_bytes
        self._staged = staged
        self._beginning = b''

    def write(self, view):
        if len(self._beginning) < _BEGINNING_BYTES:
            self._beginning += view[:_BEGINNING_BYTES - len(self._beginning)].tobytes()
            if len(self._beginning) == _BEGINNING_BYTES:
                self._judge()
        self._staged.write(view)

    def _judge(self):
        footer = vhd.Footer.parse(self._beginning)
        header = vhd.Header.parse(self._beginning[vhd.FOOTER_SIZE:])
        if footer.intact:
            disk_bytes = footer.current_size
        elif header.cookie == vhd.HEADER_COOKIE and header.checksum_correct:
            # A damaged copy claims nothing; the one at the end may repair it.
            disk_bytes = header.max_bat_entries * vhd.BLOCK_SIZE
        elif self._size_bytes > _MAX_UNJUDGED_BYTES:
            raise errors.InvalidImage("VHD '%s' does not begin as a dynamic disk; convert it to one" % self._name)
        else:
            return
        if self._size_bytes > vhd_check.largest_file(disk_bytes):
            raise errors.UnsafeImage("VHD '%s' has %d bytes, more than a disk of %d bytes needs" % (
                self._name, self._size_bytes, disk_bytes))

    def finish(self):
        self._staged.finish()


class _Ignored(object):
    """Takes the data of a member that is not kept."""

    def write(self, view):
        pass

    def finish(self):
        pass


def _receive(data, archive, watch):
    """Stream the image's data into the archive's files, and compare their digest.

        this thread             thread               thread
        socket, digest  ->      inflate      ->      tar, files
    """
    reader = tarball.Reader(archive.open_member)
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
        reader.finish()
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
