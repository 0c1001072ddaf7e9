# SPDX-License-Identifier: Apache-2.0
"""Which calls the settings of a host deny."""

from __future__ import absolute_import, division

import pytest

from dom0_lib import errors
from dom0_lib.call import policy


@pytest.fixture
def deny(tmpdir, monkeypatch):
    """Function(patterns): the host's settings deny these."""
    monkeypatch.setenv('DOM0_ROOT', str(tmpdir))

    def write(patterns):
        tmpdir.ensure('etc', 'dom0-plugins.conf').write('[policy]\ndeny = %s\n' % patterns)
    return write


@pytest.mark.parametrize('pattern, call', [
    ('netwrap.vif_rules', 'netwrap.vif_rules'),
    ('netwrap.*', 'netwrap.vif_rules'),
    ('netwrap.*', 'netwrap.'),
    ('*', 'glance.download_vhd2'),
    ('*.download_vhd2', 'glance.download_vhd2'),
    ('*down*vhd*', 'glance.download_vhd2'),
    ('glance.s**p', 'glance.sweep'),
    ('*glance*', 'glance.sweep'),
    ('a*a', 'a.a'),
    ('a*a', 'aa'),
    ('a*b*c', 'abc'),
    ('[policy].*', '[policy].x'),
])
def test_a_pattern_that_matches(pattern, call):
    assert policy.matches(pattern, call)


@pytest.mark.parametrize('pattern, call', [
    ('netwrap', 'netwrap.vif_rules'),
    ('netwrap.', 'netwrap.vif_rules'),
    ('netwrap.*', 'netwraps.vif_rules'),
    ('netwrap.*', 'Netwrap.vif_rules'),
    ('netwrap.Vif_rules', 'netwrap.vif_rules'),
    ('netwrap.vif_rules', 'netwrap.vif_rules\n'),
    ('netwrap.vif_rules', 'netwrap.vif_rules2'),
    ('netwrap.vif_rule?', 'netwrap.vif_rules'),
    ('netwrap.vif_rule[s]', 'netwrap.vif_rules'),
    ('netwrap|vif_rules', 'netwrap.vif_rules'),
    ('ab.ab*ab', 'ab.ab'),
    ('a*a', 'a'),
    ('*x*', 'glance.sweep'),
    ('*.sweep', 'glance.sweeps'),
    ('g*down*down*', 'glance.download'),
    ('a*bb*b', 'abb'),
    # No part of the text stands for two parts of the pattern.
    ('glance*glance*', 'glance.sweep'),
    ('*sweep*sweep', 'glance.sweep'),
])
def test_a_pattern_that_does_not_match(pattern, call):
    assert not policy.matches(pattern, call)


@pytest.mark.parametrize('patterns, plugin, function', [
    ('netwrap.run_command', 'netwrap', 'run_command'),
    ('netwrap.*', 'netwrap', 'vif_rules'),
    ('*', 'glance', 'download_vhd2'),
    ('xenhost.host_*', 'xenhost', 'host_reboot'),
    ('xenhost.host_*, glance.*', 'glance', 'sweep'),
    ('xenhost.host_*,glance.sweep', 'glance', 'sweep'),
    (' , ,glance.s**p', 'glance', 'sweep'),
])
def test_denied(deny, patterns, plugin, function):
    deny(patterns)
    with pytest.raises(errors.Denied) as caught:
        policy.authorize('OpaqueRef:1', plugin, function, False)
    assert str(caught.value).startswith("%s.%s is denied by '" % (plugin, function))


@pytest.mark.parametrize('patterns, plugin, function', [
    ('', 'netwrap', 'run_command'),
    (',', 'netwrap', 'run_command'),
    ('netwrap.*', 'netwraps', 'run_command'),
    ('*.sweep', 'glance', 'sweeps'),
    ('glance.*, xenhost.*', 'netwrap', 'run_command'),
])
def test_allowed(deny, patterns, plugin, function):
    deny(patterns)
    policy.authorize('OpaqueRef:1', plugin, function, False)


def test_the_pattern_that_denies_is_named(deny):
    deny('glance.upload*, *.sweep')
    with pytest.raises(errors.Denied) as caught:
        policy.authorize('OpaqueRef:1', 'glance', 'sweep', False)
    assert str(caught.value) == "glance.sweep is denied by '*.sweep' in the settings of this host"


def test_without_settings_everything_is_allowed(tmpdir, monkeypatch):
    monkeypatch.setenv('DOM0_ROOT', str(tmpdir))
    policy.authorize('OpaqueRef:1', 'glance', 'sweep', False)


def test_settings_that_cannot_be_read_allow_nothing(deny):
    deny('glance.*\n[tls]\nverify = perhaps')
    with pytest.raises(errors.PluginError) as caught:
        policy.authorize('OpaqueRef:1', 'netwrap', 'run_command', False)
    assert "'verify' in [tls]" in str(caught.value)


def test_the_call_that_needs_no_settings_needs_a_role_that_xapi_confirms(deny):
    """There is no XAPI here, and the file says that no role is needed."""
    deny('glance.*\nrequire_pool_admin = no\n[tls]\nverify = perhaps')
    with pytest.raises(errors.PluginError) as caught:
        policy.authorize('OpaqueRef:1', 'dom0_host', 'doctor', True, needs_no_settings=True)
    assert "'verify' in [tls]" in str(caught.value)


@pytest.mark.parametrize('pattern, advice', [
    ('glance', "'glance.*' is meant?"),
    ('glance.', "'glance.*' is meant?"),
    ('glance.py', "'glance.*' is meant?"),
    ('glance.py.*', "'glance.*' is meant?"),
    ('glance.py.sweep', "'glance.sweep' is meant?"),
    ('Glance.*', "'glance.*' is meant?"),
    ('ipxe.py.*', "'ipxe.*' is meant?"),
    ('xenhost.py.host_*', "'xenhost.host_*' is meant?"),
    ('glance/sweep', "'glance.sweep' is meant?"),
    ('sweep', "'*.sweep' is meant?"),
    ('netwarp.*', "'netwrap.*' is meant?"),
    ('xenhots.host_*', "'xenhost.host_*' is meant?"),
    ('xenhost.host_rebot', "'xenhost.host_reboot' is meant?"),
    ('everything', 'a pattern is plug-in.function, such as glance.sweep or netwrap.*'),
    ('netwrap.run_command?', "'netwrap.run_command' is meant?"),
])
def test_a_pattern_that_denies_nothing_refuses_every_call(deny, pattern, advice):
    deny('netwrap.*, %s, glance.*' % pattern)
    with pytest.raises(errors.PluginError) as caught:
        policy.authorize('OpaqueRef:1', 'kernel', 'sweep', False)
    assert str(caught.value) == "/etc/dom0-plugins.conf: 'deny' in [policy] has '%s', which is no call: %s" % (pattern, advice)


def test_all_patterns_that_deny_nothing_are_named_up_to_five(deny):
    deny(', '.join('nobody%d' % number for number in range(5)))
    with pytest.raises(errors.PluginError) as caught:
        policy.load_settings()
    assert all("'nobody%d'" % number in str(caught.value) for number in range(5)) and 'and more' not in str(caught.value)
    deny(', '.join('nobody%d' % number for number in range(6)))
    with pytest.raises(errors.PluginError) as caught:
        policy.load_settings()
    assert "'nobody4'" in str(caught.value) and "'nobody5'" not in str(caught.value) and str(caught.value).endswith('; and more')


def test_a_role_that_cannot_be_asked_for_is_not_taken_for_granted(tmpdir, monkeypatch):
    """There is no XAPI here."""
    monkeypatch.setenv('DOM0_ROOT', str(tmpdir))
    with pytest.raises(errors.PluginError):
        policy.authorize('OpaqueRef:1', 'xenhost', 'host_reboot', True)


def test_the_role_is_not_asked_for_where_it_need_not_be(tmpdir, monkeypatch):
    monkeypatch.setenv('DOM0_ROOT', str(tmpdir))
    tmpdir.ensure('etc', 'dom0-plugins.conf').write('[policy]\nrequire_pool_admin = no\n')
    policy.authorize('OpaqueRef:1', 'xenhost', 'host_reboot', True)
