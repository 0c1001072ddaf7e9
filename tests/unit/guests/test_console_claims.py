# SPDX-License-Identifier: Apache-2.0
"""Claims of VMs to console logs, in the database of a XAPI, over a real socket."""

from __future__ import absolute_import, division

import os

import pytest

from dom0_lib import errors
from dom0_lib.guests import console_claims
from tests.unit.scripted_xapi import HOST_UUID, SESSION, Refusal, scripted_xapi  # noqa: F401

HOST = 'OpaqueRef:host'
NOWHERE = 'OpaqueRef:NULL'
ANOTHER_HOST = '6a5d8e32-0000-4000-8000-000000000009'
BOOT, EARLIER_BOOT = 'boot-id-2', 'boot-id-1'
ID, MARK = 'last_dom_id', 'last_dom_of'


class Pool(object):
    """VMs by their references, which are their uuids; refusals: {(method, VM): code}"""

    def __init__(self, scripted):
        self.scripted = scripted
        self.vms = {}
        self.refusals = {}
        scripted.answer = self._answer

    def add(self, vm, host=NOWHERE, dom_id=-1, state='Halted', **other_config):
        self.vms[vm] = {'uuid': vm, 'resident_on': host, 'domid': str(dom_id), 'power_state': state, 'other_config': other_config}

    def add_running(self, vm, dom_id, state='Running', **other_config):
        self.add(vm, HOST, dom_id, state, **other_config)

    def find_claim(self, vm):
        found = self.vms[vm]['other_config']
        return found.get(ID), found.get(MARK)

    def _answer(self, method, parameters):
        if (method, parameters[0]) in self.refusals:
            raise Refusal(self.refusals[method, parameters[0]], 'VM', parameters[0])
        return getattr(self, '_' + method.partition('.')[2])(*parameters)

    def _get_by_uuid(self, uuid):
        assert uuid == HOST_UUID
        return HOST

    def _get_all_records_where(self, query):
        place = query.partition('"resident_on"="')[2].partition('"')[0]
        assert query == '(field "resident_on"="%s") and (field "is_control_domain"="false") and (field "is_a_template"="false")' % place
        return dict((vm, dict(record, other_config=dict(record['other_config']))) for vm, record in self.vms.items()
                    if record['resident_on'] == place)

    def _add_to_other_config(self, vm, key, value):
        if key in self.vms[vm]['other_config']:
            raise Refusal('MAP_DUPLICATE_KEY', 'VM', vm)
        self.vms[vm]['other_config'][key] = value
        return ''

    def _remove_from_other_config(self, vm, key):
        self.vms[vm]['other_config'].pop(key, None)
        return ''

    def list_changes(self):
        return [(method.partition('.')[2].partition('_')[0],) + parameters for method, parameters in self.scripted.calls
                if 'other_config' in method]


@pytest.fixture
def pool(scripted_xapi):  # noqa: F811
    directory = os.path.join(scripted_xapi.root, 'proc/sys/kernel/random')
    os.makedirs(directory)
    with open(os.path.join(directory, 'boot_id'), 'w') as target:
        target.write(BOOT + '\n')
    return Pool(scripted_xapi)


def mark(vm, host_uuid=HOST_UUID, boot=BOOT):
    return '%s/%s/%s' % (host_uuid, boot, vm)


def renew(living=()):
    outcome = console_claims.renew(SESSION, set(living))
    return outcome.claims_set, outcome.claims_removed, outcome.claimed, outcome.here


@pytest.mark.parametrize('state', ['Running', 'Paused'])
def test_a_vm_that_runs_here_gets_its_claim_once(pool, state):
    pool.add_running('a', 7, state)
    assert renew() == (1, 0, set([7]), {7: 'a'})
    assert pool.find_claim('a') == ('7', mark('a'))
    # In this order a killed call leaves no claim without its mark.
    assert pool.list_changes()[-2:] == [('add', 'a', MARK, mark('a')), ('add', 'a', ID, '7')]
    del pool.scripted.calls[:]
    assert renew() == (0, 0, set([7]), {7: 'a'}) and pool.list_changes() == []


@pytest.mark.parametrize('found', [
    {ID: '6', MARK: mark('a')}, {ID: '7'}, {MARK: mark('a')}, {ID: '7', MARK: mark('b')}, {ID: '7', MARK: mark('a', boot=EARLIER_BOOT)},
    {ID: '7', MARK: mark('a', ANOTHER_HOST)}, {ID: '3'}])
def test_a_wrong_claim_of_a_vm_that_runs_here_is_put_right(pool, found):
    pool.add_running('a', 7, **found)
    assert renew() == (1, 0, set([7]), {7: 'a'})
    assert pool.find_claim('a') == ('7', mark('a'))
    changes = pool.list_changes()
    assert changes[0] == ('remove', 'a', ID) and changes[-1] == ('add', 'a', ID, '7')


@pytest.mark.parametrize('dom_id, state', [(0, 'Running'), (-1, 'Running'), (7, 'Suspended'), (7, 'Halted')])
def test_what_has_no_domain_here_gets_no_claim(pool, dom_id, state):
    pool.add_running('a', dom_id, state)
    assert renew() == (0, 0, set(), {}) and pool.list_changes() == []


def test_the_first_domain_id_is_one(pool):
    pool.add_running('a', 1)
    assert renew() == (1, 0, set([1]), {1: 'a'})


def test_a_stopped_vm_keeps_its_claim_of_this_boot(pool):
    pool.add('a', **{ID: '7', MARK: mark('a')})
    assert renew(living=[7]) == (0, 0, set([7]), {}) and pool.list_changes() == []


@pytest.mark.parametrize('found', [
    {ID: '7', MARK: mark('b')}, {ID: '7', MARK: mark('a', boot=EARLIER_BOOT)}, {MARK: mark('a')}, {ID: '', MARK: mark('a')},
    {ID: '-7', MARK: mark('a')}, {ID: 'x', MARK: mark('a')}, {ID: '1' * 19, MARK: mark('a')}])
def test_a_stopped_vm_loses_a_claim_that_is_not_its_own(pool, found):
    pool.add('a', **found)
    assert renew() == (0, 1, set(), {})
    assert pool.find_claim('a') == (None, None)
    # In this order a killed call leaves no claim without its mark.
    assert pool.list_changes() == [('remove', 'a', ID), ('remove', 'a', MARK)]


def test_a_stopped_vm_loses_its_claim_to_a_vm_that_runs_with_the_same_id(pool):
    pool.add('a', **{ID: '7', MARK: mark('a')})
    pool.add_running('b', 7)
    pool.add('c', **{ID: '1' * 18, MARK: mark('c')})
    assert renew() == (1, 1, set([7, int('1' * 18)]), {7: 'b'})
    assert pool.find_claim('a') == (None, None) and pool.find_claim('b') == ('7', mark('b'))


def test_another_hosts_claims_are_its_own_to_look_after(pool):
    pool.add('a', **{ID: '7', MARK: mark('a', ANOTHER_HOST)})
    pool.add('b', **{ID: '8', MARK: HOST_UUID})
    pool.add('c', host='OpaqueRef:other', dom_id=9, state='Running', **{ID: '3'})
    assert renew(living=[3, 7, 8]) == (0, 0, set(), {}) and pool.list_changes() == []


@pytest.mark.parametrize('dom_id, is_kept', [('7', True), ('5', False), ('6', False), ('4', False), ('', False), ('x', False)])
def test_a_claim_that_a_client_has_made_stays_if_no_other_may_have_the_id(pool, dom_id, is_kept):
    """5 is the domain of a VM that runs here, 6 a living domain of no VM that XAPI knows, and a marked VM claims 4."""
    pool.add_running('r', 5, **{ID: '5', MARK: mark('r')})
    pool.add('m', **{ID: '4', MARK: mark('m')})
    pool.add('a', **{ID: dom_id})
    removed, claimed = (0, set([4, 5, 7])) if is_kept else (1, set([4, 5]))
    assert renew(living=[5, 6]) == (0, removed, claimed, {5: 'r'})
    assert pool.find_claim('a') == (dom_id if is_kept else None, None)


def test_a_vm_without_a_claim_is_left_alone(pool):
    pool.add('a', other='x')
    assert renew(living=[1]) == (0, 0, set(), {}) and pool.list_changes() == []


@pytest.mark.parametrize('code', ['HANDLE_INVALID', 'MAP_DUPLICATE_KEY'])
def test_a_vm_that_changes_meanwhile_is_left_to_the_next_call(pool, code):
    pool.add_running('a', 7)
    pool.add_running('b', 8)
    pool.refusals['VM.add_to_other_config', 'a'] = code
    assert renew() == (1, 0, set([7, 8]), {7: 'a', 8: 'b'})
    assert pool.find_claim('a') == (None, None) and pool.find_claim('b') == ('8', mark('b'))


def test_another_refusal_is_an_error(pool):
    pool.add_running('a', 7)
    pool.refusals['VM.add_to_other_config', 'a'] = 'RBAC_PERMISSION_DENIED'
    with pytest.raises(errors.PluginError, match="cannot keep the VMs' last_dom_id: XAPI answered RBAC_PERMISSION_DENIED"):
        renew()


def test_dropping_takes_what_this_host_has_given_and_nothing_else(pool):
    pool.add_running('a', 7, **{ID: '7', MARK: mark('a')})
    pool.add_running('b', 8, **{ID: '8'})
    pool.add('c', **{ID: '6', MARK: mark('c', boot=EARLIER_BOOT)})
    pool.add('d', **{ID: '5', MARK: mark('d', ANOTHER_HOST)})
    pool.add('e', **{ID: '4'})
    pool.add('f', **{ID: '3', MARK: HOST_UUID})
    assert console_claims.drop(SESSION) == 2
    assert [pool.find_claim(vm) for vm in 'abcdef'] == [
        (None, None), ('8', None), (None, None), ('5', mark('d', ANOTHER_HOST)), ('4', None), ('3', HOST_UUID)]


def test_a_host_without_a_boot_id(pool):
    os.unlink(os.path.join(pool.scripted.root, 'proc/sys/kernel/random/boot_id'))
    with pytest.raises(errors.PluginError, match='cannot read /proc/sys/kernel/random/boot_id: '):
        renew()
