# SPDX-License-Identifier: Apache-2.0
"""Power of a host, by what XAPI is asked and what it answers: over a real socket."""

from __future__ import absolute_import, division

import pytest

from dom0_lib import errors
from dom0_lib.host import host_power
from tests.unit.scripted_xapi import HOST_UUID, SESSION, Refusal, scripted_xapi  # noqa: F401

HOST = 'OpaqueRef:host'
ANOTHER_HOST = '6a5d8e32-0000-4000-8000-000000000009'


class Xapi(object):
    """guests: lists of records, one for each time that they are asked for; failures: {method: Refusal}"""

    def __init__(self, scripted):
        self.scripted = scripted
        self.is_enabled = True
        self.is_live = False
        self.guests = []
        self.failures = {}
        self.statuses = ['success']
        scripted.answer = self._answer

    def _answer(self, method, parameters):
        if method in self.failures:
            raise self.failures[method]
        if method == 'VM.get_all_records_where':
            assert parameters == ('field "resident_on"="%s"' % HOST,)
            records = self.guests.pop(0) if self.guests else []
            return dict(('OpaqueRef:%d' % number, record) for number, record in enumerate(records))
        if method in ('host.enable', 'host.disable'):
            self.is_enabled = method == 'host.enable'
        if method == 'task.get_status':
            return self.statuses.pop(0)
        return {'host.get_by_uuid': HOST, 'host.get_enabled': self.is_enabled, 'host.get_metrics': 'OpaqueRef:metrics',
                'host_metrics.get_live': self.is_live, 'Async.host.power_on': 'OpaqueRef:task',
                'task.get_error_info': ['HOST_OFFLINE', 'secret']}.get(method, '')

    def list_changes(self):
        return [method for method in self.scripted.list_methods() if '.get_' not in method]


@pytest.fixture
def xapi(scripted_xapi):  # noqa: F811
    return Xapi(scripted_xapi)


def make_guests(count, state='Running', is_control_domain=False):
    return [{'uuid': 'guest-%d' % number, 'is_control_domain': is_control_domain, 'power_state': state} for number in range(count)]


@pytest.mark.parametrize('is_enabled, status', [(True, 'enabled'), (False, 'disabled')])
def test_a_host_is_enabled_or_not(xapi, is_enabled, status):
    xapi.is_enabled = not is_enabled
    assert host_power.set_enabled(SESSION, is_enabled, None) == {'status': status}
    assert xapi.list_changes() == ['host.enable' if is_enabled else 'host.disable']


@pytest.mark.parametrize('is_enabled, verb', [(True, 'enable'), (False, 'disable')])
def test_a_host_that_is_not_enabled(xapi, is_enabled, verb):
    xapi.failures['host.' + verb] = Refusal('HOST_IN_USE')
    with pytest.raises(errors.PluginError, match='cannot %s this host: XAPI answered HOST_IN_USE' % verb):
        host_power.set_enabled(SESSION, is_enabled, None)


@pytest.mark.parametrize('action', ['reboot', 'shutdown'])
def test_a_host_without_guests_is_disabled_first(xapi, action):
    xapi.guests = [make_guests(3, 'Halted') + make_guests(1, is_control_domain=True)] * 2
    assert host_power.act(SESSION, action, HOST_UUID) == {'power_action': action}
    assert xapi.list_changes() == ['host.disable', 'host.' + action] and xapi.guests == []


def test_a_host_that_was_disabled_is_not_disabled_again(xapi):
    xapi.is_enabled = False
    host_power.act(SESSION, 'reboot', None)
    assert xapi.list_changes() == ['host.reboot']


@pytest.mark.parametrize('count, text', [
    (1, '1 guest would be lost (guest-0): '), (5, '5 guests would be lost (guest-0, guest-1, guest-2, guest-3, guest-4): '),
    (6, '6 guests would be lost (guest-0, guest-1, guest-2, guest-3, guest-4, ...): ')])
@pytest.mark.parametrize('state', ['Running', 'Paused'])
def test_a_host_with_guests_is_left_as_it_is(xapi, count, text, state):
    xapi.guests = [make_guests(count, state)]
    with pytest.raises(errors.PluginError) as caught:
        host_power.act(SESSION, 'reboot', None)
    assert text in str(caught.value) and xapi.list_changes() == []


def test_a_guest_that_starts_meanwhile_is_not_lost(xapi):
    xapi.guests = [[], make_guests(1)]
    with pytest.raises(errors.PluginError, match='1 guest would be lost'):
        host_power.act(SESSION, 'reboot', None)
    assert xapi.list_changes() == ['host.disable', 'host.enable'] and xapi.is_enabled


@pytest.mark.parametrize('was_enabled', [True, False])
def test_a_reboot_that_xapi_refuses_leaves_the_host_as_it_was(xapi, was_enabled):
    xapi.is_enabled = was_enabled
    xapi.failures['host.reboot'] = Refusal('HOST_IN_USE')
    with pytest.raises(errors.PluginError, match='cannot reboot this host: XAPI answered HOST_IN_USE'):
        host_power.act(SESSION, 'reboot', None)
    assert xapi.is_enabled == was_enabled
    assert xapi.list_changes() == (['host.disable', 'host.reboot', 'host.enable'] if was_enabled else ['host.reboot'])


def test_the_first_error_is_told_if_the_host_stays_disabled(xapi):
    xapi.failures = {'host.reboot': Refusal('HOST_IN_USE'), 'host.enable': Refusal('INTERNAL_ERROR')}
    with pytest.raises(errors.PluginError, match='XAPI answered HOST_IN_USE'):
        host_power.act(SESSION, 'reboot', None)


def test_a_host_that_may_reboot_stays_disabled(xapi):
    """XAPI goes in the middle of its answer."""
    def answer(method, parameters):
        if method == 'host.reboot':
            raise EnvironmentError
        return xapi._answer(method, parameters)
    xapi.scripted.answer = answer
    with pytest.raises(errors.RetryableError):
        host_power.act(SESSION, 'reboot', None)
    assert not xapi.is_enabled and 'host.enable' not in xapi.list_changes()


def test_another_host_than_this_is_not_touched(xapi):
    for call in (lambda: host_power.act(SESSION, 'reboot', ANOTHER_HOST), lambda: host_power.set_enabled(SESSION, False, ANOTHER_HOST)):
        with pytest.raises(errors.ArgumentError, match='host_uuid'):
            call()
    assert xapi.scripted.calls == []


@pytest.mark.parametrize('host_uuid', [None, HOST_UUID])
def test_this_host_need_not_be_started(xapi, host_uuid):
    assert host_power.start(SESSION, 'startup', host_uuid) == {'power_action': 'startup'}
    assert xapi.scripted.calls == []


def test_a_host_that_runs_need_not_be_started(xapi):
    xapi.is_live = True
    assert host_power.start(SESSION, 'startup', ANOTHER_HOST) == {'power_action': 'startup'}
    assert xapi.list_changes() == []


def test_a_host_is_started(xapi):
    xapi.statuses = ['pending', 'success']
    assert host_power.start(SESSION, 'startup', ANOTHER_HOST) == {'power_action': 'startup'}
    assert xapi.list_changes() == ['Async.host.power_on'] and xapi.statuses == []
    assert xapi.scripted.calls[0] == ('host.get_by_uuid', (ANOTHER_HOST,))


def test_a_host_that_does_not_start(xapi):
    xapi.statuses = ['pending', 'failure']
    with pytest.raises(errors.PluginError) as caught:
        host_power.start(SESSION, 'startup', ANOTHER_HOST)
    assert str(caught.value) == 'cannot start host %s: XAPI answered HOST_OFFLINE' % ANOTHER_HOST
