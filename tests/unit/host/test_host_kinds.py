# SPDX-License-Identifier: Apache-2.0
"""The kinds of arguments of host calls: what each takes and makes of it, and what it refuses."""

from __future__ import absolute_import, division

import pytest

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib.call import binding
from dom0_lib.host import host_kinds

KINDS = dict((name, value) for name, value in vars(host_kinds).items() if isinstance(value, binding.Kind))

TAKEN = [
    ('REBOOT', u'reboot', u'reboot'), ('REBOOT', u'"reboot"', u'reboot'), ('SHUTDOWN', u'"shutdown"', u'shutdown'),
    ('STARTUP', u'startup', u'startup'),
    ('LINE', u'root', u'root'), ('LINE', u'DOMAIN\\caf\xe9 x', u'DOMAIN\\caf\xe9 x'), ('PASSWORD', u' p w ', u' p w '),
    ('ADDRESS', u'10.0.0.5', u'10.0.0.5'), ('ADDRESS', u'10.0.0.5:8080', u'10.0.0.5:8080'), ('ADDRESS', u'[fd00::5]', u'[fd00::5]'),
    ('ADDRESS', u'xenserver-1.example.org', u'xenserver-1.example.org'), ('ADDRESS', u'xs1', u'xs1'),
    ('CONFIG_PARAMS', u'{"key": "a", "value": 1, "other": 2}', {u'key': u'a', u'value': 1}), ('CONFIG_PARAMS', {u'key': u'a'}, {u'key': u'a'}),
    ('CONFIG_ENTRY', u'{"key": "a", "value": null}', {u'key': u'a', u'value': None}),
    ('CONFIG_ENTRY', {u'key': u'a.b-c_d', u'value': [u'x', {}]}, {u'key': u'a.b-c_d', u'value': [u'x', {}]}),
    ('PCI_DEVICE', u'00:1f.2', u'0000:00:1f.2'), ('PCI_DEVICE', u'0001:FF:00.7', u'0001:ff:00.7'),
]
REFUSED = [
    ('REBOOT', value) for value in (u'', u'shutdown', u'"reboot', u'Reboot', u'reboot\n', [u'reboot'], 5)] + [
    ('SHUTDOWN', u'reboot'), ('STARTUP', u'start')] + [
    (kind, value) for kind in ('LINE', 'PASSWORD') for value in (u'', u'a\nb', u'a\x7f', u'x' * 1001, 5, [u'x'], u'\ud800')] + [
    ('ADDRESS', value) for value in (u'', u'http://x', u'x/y', u'a b', u'u@x', u'x:y', u'x:0', u':80', u'x?y', u'[fd00::5', u'-', u'..', 5)] + [
    ('CONFIG_PARAMS', value) for value in (
        u'', u'x', u'[]', u'{}', u'{"key": null}', u'{"key": 5}', u'{"key": ""}', u'{"key": "a b"}', u'{"key": "a"} x', [u'key'], 5, {})] + [
    ('CONFIG_ENTRY', value) for value in (u'{"key": "a"}', {u'key': u'a'}, {u'value': 1}, {u'key': u'a', u'value': {1: 2}}, {u'key': u'a', u'value': float('nan')},
                                        u'{"key": "a", "value": %s1%s}' % (u'[' * 990, u']' * 990))] + [
    ('PCI_DEVICE', value) for value in (
        u'', u'00:1f', u'00:1f.', u'00:1f.8', u'00:1f.10', u'0:1f.2', u'00:1g.2', u'000:00:1f.2', u'00000:00:1f.2', u'0:0:0:0.0', u'::.0',
        u'00:1f.2\n', u'../00:1f.2', u'00:\u0661f.2', u'00:1f.\u0662', u'00:1f.\xb2', 5)]


def bind(kind, value):
    return binding.bind_legacy([binding.Arg('x', KINDS[kind])], (), {u'x': value})['x']


@pytest.mark.parametrize('kind, value, expected', TAKEN)
def test_taken(kind, value, expected):
    result = bind(kind, value)
    assert result == expected and type(result) is type(expected)


@pytest.mark.parametrize('kind, value', REFUSED)
def test_refused(kind, value):
    with pytest.raises(errors.ArgumentError) as caught:
        bind(kind, value)
    message = str(caught.value)
    assert message.startswith("argument 'x': ") and all(' ' <= c <= '~' for c in message)
    if kind == 'PASSWORD' and isinstance(value, compat.text_type) and value:
        assert 'got' not in message


def test_every_kind_is_in_the_tables():
    assert set(KINDS) == set(case[0] for case in TAKEN) == set(case[0] for case in REFUSED)
