# SPDX-License-Identifier: Apache-2.0
"""The SRs of this host in which directories can be made, by what XAPI says of them: their names depend on the language and on who
has renamed them.
"""

from __future__ import absolute_import, division

import os

from dom0_lib import errors
from dom0_lib import paths
from dom0_lib.system import proc
from dom0_lib.toolstack import xapi

# What the host's installer writes into other_config of the SR that it makes, in every language.
_KEY, _LOCAL = 'i18n-key', 'local-storage'
# Drivers whose disks are block devices, or nobody's; GFS2 has files, which are QCOW2.
_NOT_OF_FILES = frozenset([
    'lvm', 'lvmoiscsi', 'lvmohba', 'lvmofcoe', 'hba', 'rawhba', 'iscsi', 'rawiscsi', 'equal', 'netapp', 'gfs2', 'linstor', 'udev',
    'iso', 'dummy', 'shm'])
_PROBE_TIMEOUT_S = 5
# Of device_config, where SM knows QCOW2 beside VHD.
_FORMATS_KEY = 'preferred-image-formats'


class AttachedSr(object):
    """An SR with a PBD that is plugged on this host.

    is_file_based   its content is a directory of files
    is_first        the installer has made it
    formats         image formats that an administrator prefers for it, best first; empty: the driver's
    """

    def __init__(self, record, pbd):
        self.uuid = record['uuid']
        self.name = record['name_label']
        self.type = record['type']
        self.is_shared = record['shared']
        self.is_first = record['other_config'].get(_KEY) == _LOCAL
        self.formats = [name for name in pbd['device_config'].get(_FORMATS_KEY, '').split(',') if name]
        self.path = '%s/%s' % (paths.SR_MOUNT, self.uuid)
        # By what XAPI says: to look at the directory of an SR whose server is away may take for ever.
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
    """The one of these in which a host's own directories belong.

    sr_uuid: what the caller wants, or None: the local one that the installer has made, or the only local one, or the only one.
    Raises errors.ArgumentError for an SR that cannot be it; errors.StorageError if none or several can, or it has no directory.
    """
    chosen = _choose(attached) if sr_uuid is None else _require(attached, sr_uuid)
    probe(chosen.path)
    if not os.path.isdir(paths.locate(chosen.path)):
        raise errors.StorageError('SR %s has no directory %s: unplug and plug its PBD' % (chosen.describe(), chosen.path))
    return chosen


def probe(path):
    """Raises errors.StorageError if what a path of dom0 leads to does not answer: a file server that is away."""
    try:
        # A child, as it can be killed while it waits.
        proc.run(['stat', '-L', paths.locate(path)], _PROBE_TIMEOUT_S, ok_statuses=None)
    except errors.CommandFailed as error:
        raise errors.StorageError('%s does not answer: is its file server there? (%s)' % (path, error))


def _choose(attached):
    usable = [found for found in attached if found.is_file_based]
    if not usable:
        raise errors.StorageError('this host has no file based SR (EXT, NFS) attached, but %s: make one, as xe sr-create type=ext'
                                  ' does on a disk of its own' % (_describe_all(attached) or 'none at all'))
    local = [found for found in usable if not found.is_shared]
    for candidates in ([found for found in local if found.is_first], local, usable):
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            raise errors.StorageError('several SRs would do, name one by sr_uuid: %s' % _describe_all(candidates))


def _require(attached, sr_uuid):
    for found in attached:
        if found.uuid == sr_uuid and found.is_file_based:
            return found
        if found.uuid == sr_uuid:
            raise errors.ArgumentError('sr_uuid', 'is not a file based SR (EXT, NFS), its type is %s' % found.type)
    raise errors.ArgumentError('sr_uuid', 'is not attached to this host; these are: %s' % (_describe_all(attached) or 'none'))


def _describe_all(found):
    return ', '.join(one.describe() for one in found)
