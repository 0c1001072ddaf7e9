# SPDX-License-Identifier: Apache-2.0
"""Labels, hosts and places of migrations: what is right, and what it means."""

from __future__ import absolute_import, division

import pytest

from dom0_lib.migration import migration_kinds

UUID = u'11111111-2222-4333-8444-555555555555'


@pytest.mark.parametrize('text, host', [
    (u'xen1', (u'xen1', None)),
    (u'xen1.example.org', (u'xen1.example.org', None)),
    (u'xen_1:22', (u'xen_1', 22)),
    (u'10.0.0.7', (u'10.0.0.7', None)),
    (u'10.0.0.7:2222', (u'10.0.0.7', 2222)),
    (u'10.0.0.7:80', (u'10.0.0.7', None)),
    (u'[fd00::7]:443', (u'fd00::7', None)),
    (u'fd00::7', (u'fd00::7', None)),
    (u'[fd00::7]', (u'fd00::7', None)),
    (u'[::ffff:10.0.0.7]:65535', (u'::ffff:10.0.0.7', 65535)),
])
def test_host(text, host):
    assert migration_kinds.HOST.check(text) == host


@pytest.mark.parametrize('text', [
    u'', u'-x', u'.x', u'-oProxyCommand=x', u'[-x]', u'a b', u'a\tb', u'a"b', u"a'b", u'a$b', u'a`b`', u'a|b', u'a/b', u'a\\b', u'a@b', u'a,b',
    u'a:', u'a:-1', u'a:0', u'a:65536', u'a:22 ', u'a:\u0662', u':22', u'[]', u'[::1', u'[::1]22', u'[::1]:', u'[::1%eth0]', u'fd00::7%eth0',
    u'fd00::g', u'\u0430', u'a\n', u'a\0', u'a' * 254, None, 5, [u'a'], True,
])
def test_no_host(text):
    with pytest.raises(ValueError):
        migration_kinds.HOST.check(text)


@pytest.mark.parametrize('text', [UUID, UUID + u'_ephemeral_1', UUID + u'_ephemeral_10', UUID + u'_ephemeral_999'])
def test_label(text):
    assert migration_kinds.LABEL.check(text) == text


@pytest.mark.parametrize('text', [
    u'', u'_ephemeral_1', UUID + u'_', UUID + u'_ephemeral', UUID + u'_ephemeral_', UUID + u'_ephemeral_0', UUID + u'_ephemeral_01',
    UUID + u'_ephemeral_1_ephemeral_2', UUID + u'_ephemeral_1000', UUID + u'_ephemeral_-1', UUID + u'_ephemeral_1\n', UUID + u'/..', u'../' + UUID,
    UUID[:-1], None, 5,
])
def test_no_label(text):
    with pytest.raises(ValueError):
        migration_kinds.LABEL.check(text)


@pytest.mark.parametrize('value, place', [(0, 0), (u'0', 0), (15, 15), (u'15', 15), (u'07', 7)])
def test_place(value, place):
    assert migration_kinds.PLACE.check(value) == place


@pytest.mark.parametrize('value', [u'', u'30', 30, -1, u'-1', u'1.0', 1.0, True, None, u'\u0661', u'001', [0]])
def test_no_place(value):
    with pytest.raises(ValueError):
        migration_kinds.PLACE.check(value)
