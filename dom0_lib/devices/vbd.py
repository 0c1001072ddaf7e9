# SPDX-License-Identifier: Apache-2.0
"""VDIs as disks of dom0, through XAPI.

    VBD.create    with a mark in other_config that names the staging directory of this process
    VBD.plug      the disk appears below /dev
    VBD.unplug    repeated while something, such as udev, still has the disk open
    VBD.destroy

A killed process leaves its VBD, and no VM can get the VDI for writing until the VBD is unplugged.  The next call sweeps the staging
directories of dead processes, and then unplugs each VBD whose mark names a directory that does not exist.
"""

from __future__ import absolute_import, division

import time

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib import faults
from dom0_lib import log
from dom0_lib import termination
from dom0_lib.toolstack import this_host
from dom0_lib.toolstack import xapi

_MARK = 'dom0-plugins-owner'
# When XAPI plugs a disk, it waits for the storage manager, which may wait for its lock.
_PLUG_TIMEOUT_S = 300
_BUSY = ('DEVICE_DETACH_REJECTED', 'DEVICE_DETACH_TIMEOUT', 'OTHER_OPERATION_IN_PROGRESS', 'VDI_IN_USE')
_GONE = ('DEVICE_ALREADY_DETACHED', 'HANDLE_INVALID')
_PAUSE_S = 0.1
_MAX_PAUSE_S = 1.0


class Plug(object):
    """`with Plug(session_ref, vdi_ref, owner, wait_s) as name:` plugs a VDI into this dom0, read-only.

    name: the device below /dev; owner: the name of this process's staging directory
    wait_s: how long to retry while the disk refuses to be unplugged; then errors.PluginError is raised, unless the block itself
    has failed: its error is kept.
    Raises the errors of xapi.Errors.
    """

    def __init__(self, session_ref, vdi_ref, owner, wait_s):
        self._session_ref = session_ref
        self._vdi_ref = vdi_ref
        self._owner = owner
        self._wait_s = wait_s
        self._ref = None

    def __enter__(self):
        _, dom0 = this_host.find_control_domain(self._session_ref)
        with xapi.Errors('cannot plug the VDI into dom0'):
            api = xapi.connect(self._session_ref, _PLUG_TIMEOUT_S).xenapi
            with termination.Shield():  # a signal must not come between the creation and the record of its reference
                self._ref = api.VBD.create(self._describe(dom0))
                termination.remember(self._release_after_error)
            try:
                faults.point('vbd.created')
                api.VBD.plug(self._ref)
                faults.point('vbd.plugged')
                return api.VBD.get_device(self._ref)
            except BaseException:
                self._release_after_error()
                raise

    def _describe(self, dom0):
        return {'VM': dom0, 'VDI': self._vdi_ref, 'userdevice': 'autodetect', 'bootable': False, 'mode': 'RO', 'type': 'Disk',
                'unpluggable': True, 'empty': False, 'other_config': {_MARK: self._owner}, 'qos_algorithm_type': '',
                'qos_algorithm_params': {}}

    def __exit__(self, kind, value, traceback):
        if value is None:
            self._release()
        else:
            self._release_after_error()

    def _release(self):
        with termination.Shield():
            if self._ref is None:
                return
            ref, self._ref = self._ref, None
            termination.forget(self._release_after_error)
            _remove(self._session_ref, ref, self._wait_s)

    def _release_after_error(self):
        try:
            self._release()
        except errors.PluginError as error:
            log.warning('%s; the next call for a kernel tries again', error)


def require_plugged(session_ref, name):
    """Raises errors.StorageError unless the device `name` belongs to a VDI that is plugged into this dom0 for writing.

    A disk that XAPI has plugged for a caller is neither dom0's own disk nor one that holds an SR.
    """
    records = _list(session_ref, ' and field "device"="%s"' % name)
    if not any(record['currently_attached'] and record['mode'] == 'RW' for record in records.values()):
        raise errors.StorageError('%s is not a VDI that is plugged into dom0 for writing: plug its VBD first' % name)


def sweep(session_ref, is_alive, wait_s):
    """Unplug the VDIs that dead processes left plugged into this dom0.  Returns ([VDIs unplugged], [VDIs still plugged]).

    is_alive(owner): whether the process is alive that made this staging directory
    The VDIs are returned as references.
    """
    records = _list(session_ref, '')
    removed, stuck = [], []
    for ref, record in sorted(records.items()):
        owner = record['other_config'].get(_MARK)
        if owner is None or is_alive(owner):
            continue
        try:
            _remove(session_ref, ref, wait_s)
            removed.append(record['VDI'])
            log.warning('unplugged %s, which a dead process had left in dom0', record['VDI'])
        except errors.PluginError as error:
            stuck.append(record['VDI'])
            log.warning('%s; a dead process had left it plugged', error)
    return removed, stuck


def _list(session_ref, condition):
    """{reference: record} of the VBDs of this dom0."""
    api, dom0 = this_host.find_control_domain(session_ref)
    with xapi.Errors('cannot list the VBDs of dom0'):
        return api.VBD.get_all_records_where('field "VM"="%s"%s' % (dom0, condition))


def _remove(session_ref, ref, wait_s):
    """Unplug and destroy a VBD; it is no error if that has been done already."""
    with xapi.Errors('cannot unplug the VDI from dom0'):
        # A new connection: a signal may have interrupted a request on the other one.
        api = xapi.connect(session_ref, _PLUG_TIMEOUT_S).xenapi
        faults.point('vbd.unplugging')
        _repeat(api.VBD.unplug, ref, compat.monotonic_s() + wait_s)
        faults.point('vbd.unplugged')
        _repeat(api.VBD.destroy, ref, compat.monotonic_s() + wait_s)
        faults.point('vbd.destroyed')


def _repeat(call, ref, ends_at):
    pause_s = _PAUSE_S
    while True:
        try:
            call(ref)
            return
        except Exception as error:
            code = xapi.failure_code(error)
            if code in _GONE:
                return
            if code not in _BUSY and not xapi.is_interrupted(error) or compat.monotonic_s() + pause_s > ends_at:
                raise
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _MAX_PAUSE_S)
