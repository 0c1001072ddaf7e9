# SPDX-License-Identifier: Apache-2.0
"""The arguments of network_config's commands; programs can read each name only as a name."""

from __future__ import absolute_import, division

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dom0_lib import errors
from dom0_lib.call import binding
from dom0_lib.network import network_commands

# The arguments that os-xenapi's client sends with each command (host_network.py of 0.3.4).
ARGUMENTS = {
    'ovs_create_port': ['bridge', 'iface-id', 'mac', 'port', 'status'],
    'ovs_add_port': ['bridge_name', 'port_name'],
    'ovs_del_port': ['bridge_name', 'port_name'],
    'ovs_del_br': ['bridge_name'],
    'ovs_add_patch_port': ['bridge_name', 'peer_port_name', 'port_name'],
    'ovs_set_if_external_id': ['extneral_id', 'interface', 'value'],
    'ip_link_add_veth_pair': ['dev1_name', 'dev2_name'],
    'ip_link_get_dev': ['device_name'],
    'ip_link_del_dev': ['device_name'],
    'ip_link_set_dev': ['device_name', 'option'],
    'ip_link_set_promisc': ['device_name', 'option'],
    'brctl_add_br': ['bridge_name'],
    'brctl_del_br': ['bridge_name'],
    'brctl_add_if': ['bridge_name', 'interface_name'],
    'brctl_del_if': ['bridge_name', 'interface_name'],
    'brctl_set_fd': ['bridge_name', 'fd'],
    'brctl_set_stp': ['bridge_name', 'option'],
}
VALUES = {'iface-id': u'8f2b9c0e-1d3c-4b5a-9e8f-0a1b2c3d4e5f', 'mac': u'fa:16:3e:01:02:03', 'status': u'active', 'fd': u'0',
          'extneral_id': u'iface-id', 'value': u'x:y'}
OPTIONS = {'ip_link_set_dev': u'up', 'ip_link_set_promisc': u'on', 'brctl_set_stp': u'off'}
NAME = st.text(st.sampled_from(u'abXY09_-.'), min_size=1, max_size=15).filter(lambda name: name[0] not in u'-.')


def make_arguments(command):
    return dict((name, OPTIONS[command] if name == 'option' else VALUES.get(name, u'eth0')) for name in ARGUMENTS[command])


def check(value):
    return binding.bind_legacy([binding.Arg('args', network_commands.CALL)], (value,), {})['args']


def check_refused(value, word=''):
    with pytest.raises(errors.ArgumentError) as caught:
        check(value)
    message = str(caught.value)
    assert message.startswith("argument 'args': ") and word in message and all(' ' <= c <= '~' for c in message)


def test_the_commands_are_those_of_the_client():
    assert network_commands.COMMANDS == set(ARGUMENTS) and len(ARGUMENTS) == 17


@pytest.mark.parametrize('command', sorted(ARGUMENTS))
def test_a_command_takes_what_the_client_sends(command):
    assert network_commands.list_arguments(command) == ARGUMENTS[command]
    arguments = make_arguments(command)
    taken, argv = check({u'cmd': u'%s' % command, u'args': dict(arguments, other=5)})
    assert taken == command and argv[0] in ('ip', 'brctl', 'ovs-vsctl')
    assert not [word for word in argv if '{' in word or '}' in word or not word]
    for value in arguments.values():
        assert [word for word in argv if value in word]


@pytest.mark.parametrize('command', sorted(ARGUMENTS))
def test_each_argument_is_checked(command):
    for name in ARGUMENTS[command]:
        # ovs-vsctl gets these texts after `name=`, where they cannot be options.
        for wrong in ([] if name in ('iface-id', 'value', 'status') else [u'-x', u'--']) + [u'', u'x y;"', u'x\n', u'\x00', u'x"y', u"x'y", u'caf\xe9', u'x' * 300, u'a/b', 5, None, [u'x']]:
            check_refused({u'cmd': u'%s' % command, u'args': dict(make_arguments(command), **{name: wrong})}, "'%s'" % name)
        arguments = make_arguments(command)
        del arguments[name]
        check_refused({u'cmd': u'%s' % command, u'args': arguments}, "'%s'" % name)


@pytest.mark.parametrize('value', [
    None, u'', u'ovs_del_br', [], {}, {u'cmd': u'ovs_del_br'}, {u'args': {}}, {u'cmd': u'ovs_del_br', u'args': None},
    {u'cmd': u'ovs_del_br', u'args': [u'x']}, {u'cmd': None, u'args': {}}, {u'cmd': [], u'args': {}}, {u'cmd': {}, u'args': {}},
    {u'cmd': u'ip', u'args': {}}, {u'cmd': u'ovs_del_br\n', u'args': {u'bridge_name': u'x'}}])
def test_what_is_no_call(value):
    check_refused(value)


@pytest.mark.parametrize('name, right, wrong', [
    ('bridge_name', [u'x', u'xapi0', u'xenbr0', u'br-int', u'eth0.100', u'_x', u'0', u'a' * 15],
     [u'a' * 16, u'.', u'..', u'.x', u'-x', u'x:1', u'x@y', u'x,y', u'x=y', u'x\\', u'x*', u'\uff41'])])
def test_names(name, right, wrong):
    for value in right:
        assert check({u'cmd': u'ovs_del_br', u'args': {name: value}})[1][-1] == value
    for value in wrong:
        check_refused({u'cmd': u'ovs_del_br', u'args': {name: value}}, '15 letters')


@pytest.mark.parametrize('command, right, wrong', [
    ('ip_link_set_dev', [u'up', u'down'], [u'UP', u'on', u'master x', u'up down']),
    ('ip_link_set_promisc', [u'on', u'off'], [u'up', u'yes']),
    ('brctl_set_stp', [u'on', u'off', u'yes', u'no'], [u'up', u'1'])])
def test_options(command, right, wrong):
    for option in right:
        assert option in check({u'cmd': u'%s' % command, u'args': dict(make_arguments(command), option=option)})[1]
    for option in wrong:
        check_refused({u'cmd': u'%s' % command, u'args': dict(make_arguments(command), option=option)}, "'option'")


@pytest.mark.parametrize('delay, is_right', [(u'0', True), (u'30', True), (u'31', False), (u'007', False), (u'-1', False), (u'1.5', False),
                                             (u'\u0661', False)])
def test_forward_delay(delay, is_right):
    call = {u'cmd': u'brctl_set_fd', u'args': {u'bridge_name': u'x', u'fd': delay}}
    if is_right:
        assert check(call)[1] == ['brctl', 'setfd', 'x', delay]
    else:
        check_refused(call, "'fd'")


@pytest.mark.parametrize('mac', [u'fa:16:3e:01:02', u'fa:16:3e:01:02:03:04', u'fa-16-3e-01-02-03', u'fa:16:3e:01:02:0g', u'f:a16:3e:01:02:03',
                                 u'fa163e010203'])
def test_mac_addresses(mac):
    check_refused({u'cmd': u'ovs_create_port', u'args': dict(make_arguments('ovs_create_port'), mac=mac)}, "'mac'")


@pytest.mark.parametrize('value', [u'a b', u'a,b', u'a=b', u'[a]', u'{a}', u"'a'", u'a\\', u'a;b', u'\xe9', u'a' * 256])
def test_texts_that_ovs_vsctl_would_take_apart(value):
    for command, name in (('ovs_create_port', 'iface-id'), ('ovs_create_port', 'status'), ('ovs_set_if_external_id', 'value')):
        check_refused({u'cmd': u'%s' % command, u'args': dict(make_arguments(command), **{name: value})}, "'%s'" % name)


@given(NAME, NAME)
def test_names_stay_whole_words(bridge, port):
    for command in ('ovs_add_port', 'ovs_del_port'):
        argv = check({u'cmd': u'%s' % command, u'args': {u'bridge_name': bridge, u'port_name': port}})[1]
        assert argv[-2:] == [bridge, port]
        assert [word for word in argv if word.startswith('-')] in (
            ['--timeout=30', '--', '--if-exists'], ['--timeout=30', '--', '--if-exists', '--'])
