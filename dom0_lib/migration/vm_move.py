# SPDX-License-Identifier: Apache-2.0
"""A guest's disks from the SR of one host into that of another.

    this host                                        the other
    transfer: <SR>/<uuid>.vhd, held still  --rsync-->  /images/instance<label>/<n>.vhd
              1.vhd and on while the guest runs,
              0.vhd, the leaf, when it is down
                                                     receive: written anew, published; the directory goes
"""

from __future__ import absolute_import, division

import os

from dom0_lib import errors
from dom0_lib import faults
from dom0_lib import log
from dom0_lib import settings
from dom0_lib.migration import arrivals
from dom0_lib.migration import rsync
from dom0_lib.storage import arrival_files
from dom0_lib.storage import held_chain
from dom0_lib.storage import publication
from dom0_lib.storage import staging
from dom0_lib.storage import vhd_chain
from dom0_lib.toolstack import task_watch
from dom0_lib.toolstack import this_host
from dom0_lib.toolstack import xapi

_LOCAL_NAMES = ('localhost', '127.0.0.1', '::1')


def transfer(session_ref, instance_uuid, host, vdi_uuid, sr_path, seq_num, task):
    """Send the VHD of one VDI to another host, to become the `seq_num`-th of the chain that arrives there; the leaf has 0.

    host: (name or address, ssh's port or None)
    A transfer that was interrupted continues where it stopped when it is repeated.
    Raises errors.RetryableError, errors.StorageError, errors.PluginError.
    """
    host_settings = settings.load()
    os.nice(host_settings.nice)
    repository = publication.open_repository(session_ref, sr_path)
    target = None if _is_this_host(session_ref, host[0]) else host
    name = arrival_files.name_file(seq_num)
    with task_watch.Watch(session_ref, task) as watch:
        with held_chain.hold_still(repository, host_settings.collection_wait_s, watch.check) as stillness:
            with staging.Area(repository.path) as area:
                held = held_chain.hold_one(area, repository, vdi_uuid, name)
                faults.point('transfer.held')
                directory = arrival_files.locate(instance_uuid, target is None)
                sending = rsync.Transfer(directory, target, host_settings, stillness.check)
                sending.send(area.join(name), watch.report, () if seq_num else _list_stale(repository, vdi_uuid))
                faults.point('transfer.sent')
                held.check_unchanged()
    log.info('sent VDI %s to %s as %s of %s', vdi_uuid, host[0], name, instance_uuid)


def _list_stale(repository, leaf_uuid):
    """What a longer chain of an earlier attempt may have left beside this one."""
    length = len(held_chain.follow(repository, leaf_uuid))
    return [arrival_files.name_file(number) for number in range(length, vhd_chain.MAX_LENGTH)]


def _is_this_host(session_ref, name):
    if name in _LOCAL_NAMES:
        return True
    api, host_ref = this_host.find(session_ref, None)
    with xapi.Errors('cannot ask for the addresses of this host'):
        names = [api.host.get_address(host_ref), api.host.get_hostname(host_ref)]
        for record in api.PIF.get_all_records().values():
            if record['host'] == host_ref:
                names += [record['IP']] + [address.partition('/')[0] for address in record['IPv6']]
    return name.lower() in [own.lower() for own in names]


def receive(session_ref, instance_uuid, sr_path, uuid_stack, task):
    """Make VDIs of the disks that have arrived for a label; the caller scans the SR afterwards.

    uuid_stack is consumed from its end, leaf first.  Returns {'root': {'uuid': the leaf's uuid}}.
    Files that are damaged, or that contradict one another, are removed: the call would refuse them again.  After any other
    error they stay as they are, and the call can be repeated.
    Raises errors.InvalidImage, errors.UnsafeImage, errors.StorageError, errors.RetryableError.
    """
    host_settings = settings.load()
    os.nice(host_settings.nice)
    repository = publication.open_repository(session_ref, sr_path, uuid_stack)
    with task_watch.Watch(session_ref, task) as watch:
        with arrivals.Arrival(instance_uuid) as arrival:
            try:
                uuid = _admit(arrival, repository, uuid_stack, host_settings, watch)
            except errors.InvalidImage as error:
                is_removed = _is_hopeless(error)
                if is_removed:
                    faults.point('arrival.refused')
                    arrival.discard()
                raise type(error)('the files in %s were refused%s: %s' % (
                    arrival_files.directory(instance_uuid), ' and removed' if is_removed else '', error))
            arrival.clear()
    log.info('received %s as VDI %s', instance_uuid, uuid)
    return {'root': {'uuid': uuid}}


def _is_hopeless(error):
    """Whether files of /images will be refused again, whatever else arrives and wherever they go.

    An unfinished transfer, a missing file or a foreign one can be put right; a disk beyond a limit of ours is still a disk.
    """
    rule = getattr(error, 'rule', None)
    is_limit = rule == 'disk_size' and isinstance(error, errors.UnsafeImage)
    return rule is not None and rule != 'incomplete_chain' and not is_limit


def _admit(arrival, repository, uuid_stack, host_settings, watch):
    with staging.Area(repository.path, host_settings.reserve_bytes) as area:
        names = arrival.list()
        publication.take_uuids(uuid_stack, names)  # before a long copy, not after it
        disks, origins = arrival.take(area, names, watch.report)
        return publication.admit(area, repository, disks, uuid_stack, watch.check, origins)
