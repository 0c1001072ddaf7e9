# SPDX-License-Identifier: Apache-2.0
"""VDIs of an SR become the data of an image."""

from __future__ import absolute_import, division

import contextlib
import hashlib
import os

from dom0_lib import errors
from dom0_lib import log
from dom0_lib import settings
from dom0_lib.images import glance_api
from dom0_lib.images import gzip_stream
from dom0_lib.images import tarball
from dom0_lib.storage import held_chain
from dom0_lib.storage import publication
from dom0_lib.storage import staging
from dom0_lib.system import pipeline
from dom0_lib.toolstack import task_watch


def upload(session_ref, vdi_uuids, image_id, endpoint, sr_path, extra_headers, properties, api_version, task):
    """Store a chain of VDIs, leaf first, as the data of an image that waits for them.

    properties become the image's; xenapi_image_compression_level among them (1 to 9) is gzip's.
    Raises errors.RetryableError, errors.ImageNotFound, errors.StorageError, errors.InvalidImage, errors.PluginError.
    """
    level = _compression_level(properties)
    host_settings = settings.load()
    os.nice(host_settings.nice)
    repository = publication.open_repository(session_ref, sr_path)
    with task_watch.Watch(session_ref, task) as watch:
        with held_chain.hold_still(repository, host_settings.collection_wait_s, watch.check) as stillness:
            with staging.Area(repository.path) as area:
                chain = held_chain.hold(area, repository, vdi_uuids)
                image = glance_api.Image(endpoint, image_id, extra_headers, api_version, host_settings, stillness.check)
                image.prepare_upload(properties)
                threads = host_settings.threads or os.sysconf('SC_NPROCESSORS_ONLN')
                with contextlib.closing(image.open_upload(properties)) as request:
                    size_bytes, md5 = _send(image, request, chain, gzip_stream.Deflater(level), threads, watch)
        image.verify_upload(size_bytes, md5)
    log.info('uploaded VDI %s as image %s: %s bytes', vdi_uuids[0], image_id, size_bytes)


def _compression_level(properties):
    level = properties.get('xenapi_image_compression_level', '6')
    if level not in tuple('123456789'):
        raise errors.ArgumentError('properties', 'xenapi_image_compression_level needs a number from 1 to 9')
    return int(level)


def _pack(chain, watch):
    """Yield the tar archive of a held chain in pieces."""
    packed_bytes = 0
    for name, size_bytes in zip(chain.names, chain.sizes):
        yield tarball.pack_header(name, size_bytes)
        for piece in chain.read(name, size_bytes, gzip_stream.BLOCK_BYTES):
            yield piece
            packed_bytes += len(piece)
            watch.fraction = packed_bytes / sum(chain.sizes)
        yield tarball.padding(size_bytes)
    yield tarball.END


def _send(image, request, chain, deflater, threads, watch):
    """Send the archive; returns the size and the MD5 of what was sent, when the service has accepted it.

        thread               threads, one per processor       this thread
        files, tar, CRC  ->  deflate blocks              ->   MD5, socket
    """
    digest, size_bytes = hashlib.md5(), 0
    blocks = pipeline.map_in_order(deflater.deflate, deflater.split(_pack(chain, watch)), threads)
    with contextlib.closing(blocks):
        for piece in _frame(deflater, blocks):
            if not request.send(piece):
                image.judge_upload(request.read_answer().status)
                raise errors.PluginError('the service took a part of image %s for all of it; delete the image' % image.image_id)
            digest.update(piece)
            size_bytes += len(piece)
    chain.check_unchanged()
    try:
        image.judge_upload(request.finish().status)
    except errors.RetryableError as error:
        image.recover_upload(error)
    return size_bytes, digest.hexdigest()


def _frame(deflater, blocks):
    yield deflater.header
    for block in blocks:
        yield block
    yield deflater.trailer()
