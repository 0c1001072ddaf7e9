# SPDX-License-Identifier: Apache-2.0
"""The SRs of this host in which directories can be made.  They are chosen by XAPI's records, not by name: names depend on the
language of the installation, and administrators change them.
"""

from __future__ import absolute_import, division

import os

from dom0_lib import errors
from dom0_lib import paths
from dom0_lib.system import proc
from dom0_lib.toolstack import xapi

# The host's installer writes this into other_config of the SR that it makes, in every language.
_KEY, _LOCAL = 'i18n-key', 'local-storage'
# Drivers without directories for files: their disks are block devices or not XAPI's; GFS2 has files, but in QCOW2.
_NOT_OF_FILES = frozenset([
    'lvm', 'lvmoiscsi', 'lvmohba', 'lvmofcoe', 'hba', 'rawhba', 'iscsi', 'rawiscsi', 'equal', 'netapp', 'gfs2', 'linstor', 'udev',
    'iso', 'dummy', 'shm'])
_PROBE_TIMEOUT_S = 5
# Key in a PBD's device_config, on hosts whose storage manager supports QCOW2 as well as VHD.
_FORMATS_KEY = 'preferred-image-formats'


class AttachedSr(object):
    """An SR with a PBD that is plugged on this host.

    is_file_based   its content is a directory of files
    is_first        whether the host's installer has made it
    formats         image formats for new disks, best first, as an administrator has set them; empty for the driver's default
    """

    def __init__(self, record, pbd):
        self.uuid = record['uuid']
        self.name = record['name_label']
        self.type = record['type']
        self.is_shared = record['shared']
        self.is_first = record['other_config'].get(_KEY) == _LOCAL
        self.formats = [name for name in pbd['device_config'].get(_FORMATS_KEY, '').split(',') if name]
        self.path = '%s/%s' % (paths.SR_MOUNT, self.uuid)
        # From XAPI's record: a look at the directory would hang if the SR's file server is away.
        self.is_file_based = record['content_type'] != 'iso' and record['type'] not in _NOT_OF_FILES

    def describe(self):
        """For a message: `uuid (name, type)`."""
        return '%s (%s, %s)' % (self.uuid, self.name, self.type)


def list_attached(api, host_ref):
    """[AttachedSr] of the host `host_ref`, by uuid.  Raises what xapi.Errors raises."""
    with xapi.Errors('cannot list the SRs'):
        pbds = dict((pbd['SR'], pbd) for pbd in api.PBD.get_all_records().values()
                    if pbd['host'] == host_ref and pbd['currently_attached'])
        records = api.SR.get_all_records()
    return sorted((AttachedSr(records[ref], pbd) for ref, pbd in pbds.items() if ref in records), key=lambda found: found.uuid)


def choose(attached, sr_uuid):
    """The AttachedSr of the list `attached` for the host's own directories.

    sr_uuid: the SR that the caller has named; None: the installer's local SR, or the only local one, or the only one
    Raises errors.ArgumentError for an unsuitable sr_uuid; errors.StorageError if no SR or several SRs fit, or it has no directory.
    """
    chosen = _choose(attached) if sr_uuid is None else _require(attached, sr_uuid)
    probe(chosen.path)
    if not os.path.isdir(paths.locate(chosen.path)):
        raise errors.StorageError('SR %s has no directory %s: unplug and plug its PBD' % (chosen.describe(), chosen.path))
    return chosen


def probe(path):
    """Raises errors.StorageError if the file server behind a path of dom0 does not answer."""
    try:
        # In a child process, which can be killed while it waits.
        proc.run(['stat', '-L', paths.locate(path)], _PROBE_TIMEOUT_S, ok_statuses=None)
    except errors.CommandFailed as error:
        raise errors.StorageError('%s does not answer: is its file server running? (%s)' % (path, error))


def _choose(attached):
    usable = [found for found in attached if found.is_file_based]
    if not usable:
        raise errors.StorageError('this host has no file based SR (EXT, NFS): make one, for instance with xe sr-create'
                                  ' type=ext on a separate disk (attached are: %s)' % (_describe_all(attached) or 'none'))
    local = [found for found in usable if not found.is_shared]
    for candidates in ([found for found in local if found.is_first], local, usable):
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            raise errors.StorageError('several SRs are suitable, name one by sr_uuid: %s' % _describe_all(candidates))


def _require(attached, sr_uuid):
    for found in attached:
        if found.uuid == sr_uuid and found.is_file_based:
            return found
        if found.uuid == sr_uuid:
            raise errors.ArgumentError('sr_uuid', 'is not a file based SR (EXT, NFS), its type is %s' % found.type)
    raise errors.ArgumentError('sr_uuid', 'is not attached to this host (attached are: %s)' % (_describe_all(attached) or 'none'))


def _describe_all(found):
    return ', '.join(one.describe() for one in found)
