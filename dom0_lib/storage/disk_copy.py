# SPDX-License-Identifier: Apache-2.0
"""Copies of disks within an SR."""

from __future__ import absolute_import, division

import os

from dom0_lib import faults
from dom0_lib import log
from dom0_lib import settings
from dom0_lib.storage import held_chain
from dom0_lib.storage import new_disk
from dom0_lib.storage import publication
from dom0_lib.storage import staging
from dom0_lib.toolstack import task_watch


def copy(session_ref, sr_path, vdi_uuids, uuid_stack, task):
    """Copy a chain of VDIs, leaf first, as a chain of new ones; the caller scans the SR afterwards.

    uuid_stack is consumed from its end, leaf first.  Returns {'root': {'uuid': the new leaf's uuid}}.
    Raises errors.RetryableError, errors.StorageError, errors.InvalidImage, errors.UnsafeImage.
    """
    host_settings = settings.load()
    os.nice(host_settings.nice)
    repository = publication.open_repository(session_ref, sr_path, uuid_stack)
    publication.take_uuids(uuid_stack, vdi_uuids)  # before the copying, not after it
    with task_watch.Watch(session_ref, task) as watch:
        with staging.Area(repository.path, host_settings.reserve_bytes) as area:
            disks = _copy_still(repository, vdi_uuids, area, host_settings, watch)
            uuid = publication.admit(area, repository, disks, uuid_stack, watch.check)
    log.info('copied VDI %s as VDI %s', vdi_uuids[0], uuid)
    return {'root': {'uuid': uuid}}


def _copy_still(repository, vdi_uuids, area, host_settings, watch):
    """Write the disks anew in `area` while nothing changes their VHDs; returns the new_disk.NewDisk, leaf first."""
    with held_chain.hold_still(repository, host_settings.collection_wait_s, watch.check) as stillness:
        with staging.Area(repository.path) as held_area:
            held = held_chain.hold(held_area, repository, vdi_uuids)
            done_bytes, disks = [0], []

            def report(size_bytes):
                stillness.check()
                done_bytes[0] += size_bytes
                watch.report(done_bytes[0] / sum(held.sizes))
            for name, vdi_uuid in zip(held.names, vdi_uuids):
                disks.append(new_disk.NewDisk(area, name, 'VDI %s' % vdi_uuid))
                with open(held_area.join(name), 'rb', 0) as source:
                    disks[-1].take_file(source.fileno(), report)
                faults.point('disk.copied')
            held.check_unchanged()
            return disks
