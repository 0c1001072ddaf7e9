# SPDX-License-Identifier: Apache-2.0
"""The storage repository that a caller means, as a directory that may be written to."""

from __future__ import absolute_import, division

import os

from dom0_lib import errors
from dom0_lib import paths
from dom0_lib import text_checks
from dom0_lib.toolstack import xapi


class Repository(object):
    """A file based SR attached to this host: its `uuid`, and `path`, its real directory."""

    def __init__(self, uuid, path):
        self.uuid = uuid
        self.path = path

    def vhd_path(self, vdi_uuid):
        """Where the VHD of a VDI is, or will be."""
        return os.path.join(self.path, '%s.vhd' % vdi_uuid)

    def refuse_existing(self, vdi_uuids):
        """Raises errors.StorageError if one of these VDIs exists: nothing is ever overwritten."""
        for vdi_uuid in vdi_uuids:
            if os.path.lexists(self.vhd_path(vdi_uuid)):
                raise errors.StorageError('the storage repository already has a VDI %s' % vdi_uuid)


def locate(session_ref, sr_path):
    """The Repository at `sr_path`, a dom0 path that dom0_lib.call.kinds has checked.

    It must be `<SR mount>/<uuid>`, and lead, links followed, to a directory below the SR mount; any other path must be the
    `path` in the device_config of a PBD attached to this host.  Raises errors.StorageError, and what xapi.Errors raises.
    """
    mount, _, uuid = sr_path.rpartition('/')
    if mount in paths.SR_MOUNTS and text_checks.is_uuid(uuid):
        root = os.path.realpath(paths.locate(mount))
        path = os.path.realpath(os.path.join(root, uuid))
        if not path.startswith(root + os.sep):
            raise errors.StorageError("sr_path '%s' leads out of %s" % (sr_path, mount))
    else:
        uuid = _find_by_pbd_path(session_ref, sr_path)
        path = os.path.realpath(paths.locate(sr_path))
    if not os.path.isdir(path):
        raise errors.StorageError("sr_path '%s' is not there: is the SR file based, and its PBD plugged on this host?" % sr_path)
    return Repository(uuid, path)


def _find_by_pbd_path(session_ref, sr_path):
    with xapi.Errors('cannot list the PBDs'):
        api = xapi.connect(session_ref).xenapi
        this_host = api.session.get_this_host(session_ref)
        for record in api.PBD.get_all_records().values():
            if record['device_config'].get('path') == sr_path and record['host'] == this_host and record['currently_attached']:
                return api.SR.get_uuid(record['SR'])
    raise errors.StorageError("sr_path '%s' is neither %s/<uuid> nor the path of an attached PBD" % (sr_path, paths.SR_MOUNT))
