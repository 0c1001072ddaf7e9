# SPDX-License-Identifier: Apache-2.0
"""Which calls the settings of a host deny."""

from __future__ import absolute_import, division

import pytest

from dom0_lib import errors
from dom0_lib import policy


@pytest.fixture
def deny(tmpdir, monkeypatch):
    """Function(patterns): the host's settings deny these."""
    monkeypatch.setenv('DOM0_ROOT', str(tmpdir))

    def write(patterns):
        tmpdir.ensure('etc', 'dom0-plugins.conf').write('[policy]\ndeny = %s\n' % patterns)
    return write


@pytest.mark.parametrize('patterns, plugin, function', [
    ('netwrap.vif_rules', 'netwrap', 'vif_rules'),
    ('netwrap.*', 'netwrap', 'vif_rules'),
    ('netwrap.*', 'netwrap', ''),
    ('*', 'glance', 'download_vhd2'),
    ('*.download_vhd2', 'glance', 'download_vhd2'),
    ('*down*vhd*', 'glance', 'download_vhd2'),
    ('xenhost.host_*', 'xenhost', 'host_reboot'),
    ('xenhost.host_*, glance.*', 'glance', 'sweep'),
    ('xenhost.host_*,glance.sweep', 'glance', 'sweep'),
    (' , ,glance.s**p', 'glance', 'sweep'),
    ('a*a', 'a', '.a'),
    ('[policy].*', '[policy]', 'x'),
])
def test_denied(deny, patterns, plugin, function):
    deny(patterns)
    with pytest.raises(errors.Denied) as caught:
        policy.authorize('OpaqueRef:1', plugin, function, False)
    assert str(caught.value).startswith("%s.%s is denied by '" % (plugin, function))


@pytest.mark.parametrize('patterns, plugin, function', [
    ('', 'netwrap', 'vif_rules'),
    (',', 'netwrap', 'vif_rules'),
    ('netwrap', 'netwrap', 'vif_rules'),
    ('netwrap.', 'netwrap', 'vif_rules'),
    ('netwrap.*', 'netwraps', 'vif_rules'),
    ('netwrap.*', 'Netwrap', 'vif_rules'),
    ('netwrap.Vif_rules', 'netwrap', 'vif_rules'),
    ('netwrap.vif_rules', 'netwrap', 'vif_rules\n'),
    ('netwrap.vif_rules', 'netwrap', 'vif_rules2'),
    ('netwrap.vif_rule?', 'netwrap', 'vif_rules'),
    ('netwrap.vif_rule[s]', 'netwrap', 'vif_rules'),
    ('netwrap|vif_rules', 'netwrap', 'vif_rules'),
    ('ab.ab*ab', 'ab', 'ab'),
    ('*x*', 'glance', 'sweep'),
    ('*.sweep', 'glance', 'sweeps'),
    ('g*down*down*', 'glance', 'download'),
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
    deny('x\n[tls]\nverify = perhaps')
    with pytest.raises(errors.PluginError):
        policy.authorize('OpaqueRef:1', 'glance', 'sweep', False)


def test_a_role_that_cannot_be_asked_for_is_not_taken_for_granted(tmpdir, monkeypatch):
    """There is no XAPI here."""
    monkeypatch.setenv('DOM0_ROOT', str(tmpdir))
    with pytest.raises(errors.PluginError):
        policy.authorize('OpaqueRef:1', 'xenhost', 'host_reboot', True)


def test_the_role_is_not_asked_for_where_it_need_not_be(tmpdir, monkeypatch):
    monkeypatch.setenv('DOM0_ROOT', str(tmpdir))
    tmpdir.ensure('etc', 'dom0-plugins.conf').write('[policy]\nrequire_pool_admin = no\n')
    policy.authorize('OpaqueRef:1', 'xenhost', 'host_reboot', True)
