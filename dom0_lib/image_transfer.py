# SPDX-License-Identifier: Apache-2.0
"""Disk images between an image service and an SR."""

from __future__ import absolute_import, division

import hashlib

from dom0_lib import errors
from dom0_lib import glance_api
from dom0_lib import gzip_stream
from dom0_lib import log
from dom0_lib import pipeline
from dom0_lib import sr
from dom0_lib import staging
from dom0_lib import tarball
from dom0_lib import vhd_chain

# Made on the fly by the cloud; old images may carry one.
_IGNORED_NAME = 'swap.vhd'
# Pieces that wait between two threads: at most 256 KiB each before inflating, 1 MiB after.
_COMPRESSED_DEPTH = 8
_INFLATED_DEPTH = 4


def download(session_ref, image_id, endpoint, uuid_stack, sr_path, extra_headers, api_version):
    """Import an image as a new VDI; the caller scans the SR afterwards.

    The image is a tar archive, gzip or plain, of a VHD chain.  uuid_stack is consumed from its end, leaf first.
    Returns {'root': {'uuid': the leaf's uuid}}.
    Raises errors.RetryableError, errors.ImageNotFound, errors.InvalidImage, errors.UnsafeImage, errors.StorageError.
    """
    repository = sr.locate(session_ref, sr_path)
    repository.refuse_existing(uuid_stack)
    image = glance_api.Image(endpoint, image_id, extra_headers, api_version)
    with staging.Area(repository.path) as area:
        response = image.open_data()
        try:
            archive = _Archive(area)
            _receive(response, archive)
        finally:
            response.close()
        names = archive.arrange()
        uuids = vhd_chain.take_uuids(uuid_stack, names)
        vhd_chain.check(area, names)
        vhd_chain.relink(area, names, uuids)
        vhd_chain.publish(area, repository, uuids)
    log.info('downloaded image %s as VDI %s', image_id, uuids[0])
    return {'root': {'uuid': uuids[0]}}


class _Archive(object):
    """The VHDs of an archive, staged under the names they have in it."""

    def __init__(self, area):
        self._area = area
        self._names = []

    def open_member(self, name, size_bytes):
        """A place for a member of the archive, or None for what is not a VHD of the chain."""
        if not name.endswith('.vhd') or name == _IGNORED_NAME:
            return None
        if '/' in name:
            raise errors.InvalidImage("VHD '%s' is not at the top of the archive" % name)
        if name in self._names:
            raise errors.UnsafeImage("the archive has '%s' twice" % name)
        if len(self._names) == vhd_chain.MAX_LENGTH:
            raise errors.UnsafeImage('the archive has more than %d VHDs' % vhd_chain.MAX_LENGTH)
        self._names.append(name)
        return self._area.create(name, size_bytes)

    def arrange(self):
        """The names in order, leaf first."""
        return vhd_chain.arrange(self._names)


def _receive(response, archive):
    """Stream the response's body into the archive's files, and compare its digest.

        this thread             thread               thread
        socket, MD5     ->      inflate      ->      tar, files
    """
    reader = tarball.Reader(archive.open_member)
    inflater = gzip_stream.Inflater()
    unpack = pipeline.Stage(reader.feed, _INFLATED_DEPTH)
    try:
        inflate = pipeline.Stage(lambda data: _put_all(unpack, inflater.feed(data)), _COMPRESSED_DEPTH)
        try:
            digest, damage = _pump(response, inflate)
            _compare(response, digest)
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


def _pump(response, stage):
    """Put the body into `stage`; returns its MD5 and the error, if the data turn out to be damaged.

    Damaged data are read to their end: their digest tells a broken transfer, worth a repetition, from a broken image.
    """
    digest, damage = hashlib.md5(), None
    while True:
        data = response.read()
        if not data:
            return digest.hexdigest(), damage
        digest.update(data)
        if not damage:
            try:
                stage.put(data)
            except errors.UnsafeImage:
                raise
            except errors.InvalidImage as error:
                damage = error


def _compare(response, digest):
    expected = glance_api.find_md5(response)
    if expected is None:
        log.info('the image service sent no digest to compare')
    elif expected != digest:
        raise errors.RetryableError('the data have MD5 %s, the image service announced %s' % (digest, expected))
