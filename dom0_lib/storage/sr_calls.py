# SPDX-License-Identifier: Apache-2.0
"""Whether the storage manager collects garbage in an SR."""

from __future__ import absolute_import, division

from dom0_lib.storage import sr_lock


def query(_session_ref, sr_uuid, vdi_uuid):
    """Whether a collection of this SR runs on this host; that of a shared SR runs on the pool's coordinator.

    vdi_uuid: what callers wait for; a collection is of a whole SR
    """
    return sr_lock.is_collecting(sr_uuid)
