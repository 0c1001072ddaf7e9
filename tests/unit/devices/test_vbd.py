# SPDX-License-Identifier: Apache-2.0
"""VDIs plugged into dom0: the requests to a scripted XAPI, over a real socket."""

from __future__ import absolute_import, division

import pytest

from dom0_lib import errors
from dom0_lib.devices import vbd
from tests.unit.scripted_xapi import DOM0_UUID, SESSION, Refusal, scripted_xapi  # noqa: F401

DOM0 = 'OpaqueRef:dom0'
VDI = 'OpaqueRef:vdi'
OWNER = 'area-of-mine'
MARK = 'dom0-plugins-owner'
PLUG = ['VM.get_by_uuid', 'VBD.create', 'VBD.plug', 'VBD.get_device']
UNPLUG = ['VBD.unplug', 'VBD.destroy']


class Xapi(object):
    """A XAPI whose answers are a table {method: answer}; other methods answer ''.  A list is used up, except its last element."""

    def __init__(self, scripted):
        self.scripted = scripted
        self.table = {'VM.get_by_uuid': DOM0, 'VBD.create': 'OpaqueRef:vbd', 'VBD.get_device': 'xvdb'}
        scripted.answer = self._answer

    def _answer(self, method, _):
        answer = self.table.get(method, '')
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def list_methods(self):
        assert self.scripted.sessions == set([SESSION])
        return self.scripted.list_methods()


@pytest.fixture
def xapi(scripted_xapi):  # noqa: F811
    return Xapi(scripted_xapi)


def make_record(device='xvdb', is_attached=True, mode='RW', owner=None):
    return {'device': device, 'currently_attached': is_attached, 'mode': mode, 'VDI': VDI,
            'other_config': {} if owner is None else {MARK: owner}}


def test_a_plug_is_made_read_only_with_a_mark_and_goes(xapi):
    with vbd.Plug(SESSION, VDI, OWNER, 0) as name:
        assert name == 'xvdb' and xapi.list_methods() == PLUG
    assert xapi.list_methods() == PLUG + UNPLUG
    calls = dict(xapi.scripted.calls)
    assert calls['VM.get_by_uuid'] == (DOM0_UUID,)
    record = calls['VBD.create'][0]
    assert (record['VM'], record['VDI'], record['mode'], record['type'], record['other_config']) == (
        DOM0, VDI, 'RO', 'Disk', {MARK: OWNER})
    assert (record['userdevice'], record['bootable'], record['unpluggable'], record['empty']) == ('autodetect', False, True, False)
    for method in PLUG[2:] + UNPLUG:
        assert calls[method] == ('OpaqueRef:vbd',)


@pytest.mark.parametrize('method', ['VBD.plug', 'VBD.get_device'])
def test_a_disk_that_cannot_be_plugged_leaves_no_vbd(xapi, method):
    xapi.table[method] = Refusal('SR_BACKEND_FAILURE_1', 'secret')
    with pytest.raises(errors.PluginError) as caught:
        with vbd.Plug(SESSION, VDI, OWNER, 0):
            raise AssertionError('plugged')
    assert str(caught.value) == 'cannot plug the VDI into dom0: XAPI answered SR_BACKEND_FAILURE_1'
    assert xapi.list_methods() == PLUG[:PLUG.index(method) + 1] + UNPLUG


def test_a_vbd_that_cannot_be_made(xapi):
    xapi.table['VBD.create'] = Refusal('HANDLE_INVALID', 'VDI', VDI)
    with pytest.raises(errors.PluginError, match='XAPI answered HANDLE_INVALID'):
        with vbd.Plug(SESSION, VDI, OWNER, 0):
            raise AssertionError('plugged')
    assert xapi.list_methods() == PLUG[:2]


def test_a_disk_that_does_not_go_is_an_error_of_the_block_that_had_none(xapi):
    xapi.table['VBD.unplug'] = Refusal('DEVICE_DETACH_REJECTED', 'VBD', 'busy')
    with pytest.raises(errors.PluginError, match='cannot unplug the VDI from dom0: XAPI answered DEVICE_DETACH_REJECTED'):
        with vbd.Plug(SESSION, VDI, OWNER, 0):
            pass
    assert xapi.list_methods() == PLUG + ['VBD.unplug']


def test_the_error_of_the_block_is_kept(xapi):
    xapi.table['VBD.unplug'] = Refusal('DEVICE_DETACH_REJECTED', 'VBD', 'busy')
    with pytest.raises(KeyError):
        with vbd.Plug(SESSION, VDI, OWNER, 0):
            raise KeyError
    assert xapi.list_methods() == PLUG + ['VBD.unplug']


@pytest.mark.parametrize('code', ['DEVICE_DETACH_REJECTED', 'DEVICE_DETACH_TIMEOUT', 'OTHER_OPERATION_IN_PROGRESS', 'VDI_IN_USE'])
def test_a_busy_disk_is_asked_again(xapi, code):
    xapi.table['VBD.unplug'] = [Refusal(code), Refusal(code), '']
    xapi.table['VBD.destroy'] = [Refusal(code), '']
    with vbd.Plug(SESSION, VDI, OWNER, 60):
        pass
    assert xapi.list_methods() == PLUG + ['VBD.unplug'] * 3 + ['VBD.destroy'] * 2


@pytest.mark.parametrize('code', ['DEVICE_ALREADY_DETACHED', 'HANDLE_INVALID'])
def test_it_is_no_error_if_somebody_else_has_unplugged_it(xapi, code):
    xapi.table['VBD.unplug'] = xapi.table['VBD.destroy'] = Refusal(code)
    with vbd.Plug(SESSION, VDI, OWNER, 0):
        pass
    assert xapi.list_methods() == PLUG + UNPLUG


def test_another_refusal_is_not_asked_again(xapi):
    xapi.table['VBD.unplug'] = Refusal('INTERNAL_ERROR')
    with pytest.raises(errors.PluginError, match='XAPI answered INTERNAL_ERROR'):
        with vbd.Plug(SESSION, VDI, OWNER, 60):
            pass
    assert xapi.list_methods() == PLUG + ['VBD.unplug']


@pytest.mark.parametrize('records, is_plugged', [
    ([make_record()], True), ([make_record(mode='RO')], False), ([make_record(is_attached=False)], False), ([], False),
    ([make_record(mode='RO'), make_record(is_attached=False)], False), ([make_record(mode='RO'), make_record()], True)])
def test_what_counts_as_plugged_for_writing(xapi, records, is_plugged):
    xapi.table['VBD.get_all_records_where'] = dict(('OpaqueRef:%d' % number, record) for number, record in enumerate(records))
    if is_plugged:
        vbd.require_plugged(SESSION, 'xvdb')
    else:
        with pytest.raises(errors.StorageError, match='xvdb is not a VDI that is plugged into dom0 for writing'):
            vbd.require_plugged(SESSION, 'xvdb')
    assert xapi.scripted.calls[-1] == ('VBD.get_all_records_where', ('field "VM"="%s" and field "device"="xvdb"' % DOM0,))


def test_a_sweep_takes_what_the_dead_have_left_and_nothing_else(xapi):
    xapi.table['VBD.get_all_records_where'] = {
        'OpaqueRef:1': make_record(), 'OpaqueRef:2': make_record(owner='alive'), 'OpaqueRef:3': make_record(owner='dead'),
        'OpaqueRef:4': make_record(owner='also dead'), 'OpaqueRef:5': make_record(owner='')}
    xapi.table['VBD.unplug'] = ['', Refusal('VDI_IN_USE'), '']
    assert vbd.sweep(SESSION, lambda owner: owner == 'alive', 0) == ([VDI, VDI], [VDI])
    assert xapi.scripted.calls[1] == ('VBD.get_all_records_where', ('field "VM"="%s"' % DOM0,))
    assert xapi.scripted.calls[2:] == [
        ('VBD.unplug', ('OpaqueRef:3',)), ('VBD.destroy', ('OpaqueRef:3',)), ('VBD.unplug', ('OpaqueRef:4',)),
        ('VBD.unplug', ('OpaqueRef:5',)), ('VBD.destroy', ('OpaqueRef:5',))]


def test_the_vbds_cannot_be_listed(xapi):
    xapi.table['VBD.get_all_records_where'] = Refusal('RBAC_PERMISSION_DENIED')
    with pytest.raises(errors.PluginError, match='cannot list the VBDs of dom0: XAPI answered RBAC_PERMISSION_DENIED'):
        vbd.sweep(SESSION, lambda owner: False, 0)
