# SPDX-License-Identifier: Apache-2.0
"""The small calls on an SR: whether garbage is collected there, and the sweep of what crashes left."""

from __future__ import absolute_import, division

from dom0_lib.storage import publication
from dom0_lib.storage import sr
from dom0_lib.storage import sr_lock


def query(_session_ref, sr_uuid, vdi_uuid):
    """Whether a collection of this SR runs on this host; that of a shared SR runs on the pool's coordinator.

    vdi_uuid: what callers wait for; a collection is of a whole SR
    """
    return sr_lock.is_collecting(sr_uuid)


def sweep(session_ref, sr_path):
    """Finish or undo what calls that were killed, or lost their power, left in an SR.

    Returns the names of the staging directories that were removed.  Every call for an SR begins with this.
    """
    return publication.sweep(sr.locate(session_ref, sr_path))
