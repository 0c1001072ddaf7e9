# SPDX-License-Identifier: Apache-2.0
"""Public keys and addresses: what is one, and that nothing else comes through."""

from __future__ import absolute_import, division

import base64
import socket
import struct

from hypothesis import given
from hypothesis import strategies
import pytest

from dom0_lib import compat
from dom0_lib import net_addresses
from dom0_lib.migration import public_key
from dom0_lib.migration import trust_kinds

UUID = u'11111111-2222-4333-8444-555555555555'
OTHER = u'66666666-7777-4888-9999-aaaaaaaaaaaa'


def make_blob(*strings):
    return base64.b64encode(b''.join(struct.pack('>I', len(string)) + string for string in strings)).decode('ascii')


def make_key(seed=b'k', key_type=u'ssh-ed25519'):
    return key_type + u' ' + make_blob(key_type.encode('ascii'), seed * 32)


KEY = make_key()
ENTRY = {u'public_key': KEY, u'addresses': [u'10.0.0.7'], u'host_keys': [KEY]}


@pytest.mark.parametrize('text, expected', [
    (KEY, KEY),
    (KEY + u' root@xen1', KEY),
    (KEY + u' caf\xe9 "quoted", command=reboot', KEY),
    (u'ssh-rsa ' + make_blob(b'ssh-rsa', b'\1\0\1', b'\0' + b'n' * 256), None),
    (u'ecdsa-sha2-nistp256 ' + make_blob(b'ecdsa-sha2-nistp256', b'nistp256', b'\4' + b'p' * 64), None),
])
def test_public_key(text, expected):
    assert public_key.check_public_key(text) == (expected or text)


@pytest.mark.parametrize('text', [
    u'', u'ssh-ed25519', u'ssh-ed25519 ', u' ' + KEY, u'\t' + KEY, KEY + u'\n', KEY + u' a\nssh-rsa AAAA', KEY.replace(u' ', u'\t'), KEY.replace(u' ', u'  '),
    u'from="*" ' + KEY, u'restrict,command="x" ' + KEY, u'@cert-authority ' + KEY, u'#' + KEY, u'*,10.0.0.7 ' + KEY,
    u'ssh-dss ' + make_blob(b'ssh-dss', b'p', b'q', b'g', b'y'), u'ssh-ed25519-cert-v01@openssh.com ' + make_blob(b'ssh-ed25519', b'k' * 32),
    u'ssh-rsa ' + KEY.split()[1], u'ssh-ed25519 ' + make_blob(b'ssh-ed25519'), u'ssh-ed25519 ' + make_blob(b'ssh-ed25519', b'k' * 32, b'more'),
    u'ssh-ed25519 ' + make_blob(b'ssh-ed25519', b''), u'ssh-ed25519 AAAA', u'ssh-ed25519 ' + KEY.split()[1][:-4], KEY + u'A', KEY + u'=', KEY + u'"', KEY + u'\\',
    KEY.replace(u'AAAAC3', u'AA\u0410AC3'), KEY[:20] + u'*' + KEY[20:], u'ssh-rsa ' + make_blob(b'ssh-rsa', b'\1\0\1', b'n' * 3000), KEY + u' ' + u'c' * 5000,
    u'ssh-ed25519 ' + base64.b64encode(struct.pack('>I', 0xffffffff)).decode('ascii'), None, 5, [KEY], KEY.encode('ascii') if compat.PYTHON2 else b'',
])
def test_no_public_key(text):
    with pytest.raises(ValueError):
        public_key.check_public_key(text)


def test_keys():
    answer = dict(ENTRY, name=u'xen1', host_uuid=UUID, addresses=[u'10.0.0.7', u'FD00::7'], public_key=KEY + u' root@xen1')
    assert trust_kinds.KEYS.check({UUID: answer, OTHER: dict(ENTRY, host_keys=[])}) == {
        UUID: {'public_key': KEY, 'addresses': [u'10.0.0.7', u'fd00::7'], 'host_keys': [KEY]},
        OTHER: {'public_key': KEY, 'addresses': [u'10.0.0.7'], 'host_keys': []}}


@pytest.mark.parametrize('changes, word', [
    ({u'addresses': [u'10.0.0.%d' % number for number in range(33)]}, 'at most 32'),
    ({u'host_keys': [KEY] * 9}, 'at most 8'),
    ({u'host_uuid': OTHER}, 'another host'),
    ({u'public_key': None}, 'not a line of text'),
    ({u'options': u''}, 'and nothing else'),
])
def test_no_keys(changes, word):
    with pytest.raises(ValueError) as caught:
        trust_kinds.KEYS.check({UUID: dict(ENTRY, **changes)})
    assert str(caught.value).startswith('host %s ' % UUID) and word in str(caught.value)


@pytest.mark.parametrize('text', [u'10.0.0.7', u'0.0.0.0', u'255.255.255.255'])
def test_ipv4(text):
    assert struct.pack('>I', net_addresses.parse_ipv4(text)) == socket.inet_pton(socket.AF_INET, text)


@pytest.mark.parametrize('text', [
    u'', u'10', u'10.0.0', u'10.0.0.256', u'10.0.0.07', u'10.0.0.7 ', u'10.0.0.\u0667', u'10.0.0.\xb2', u'10.0.0.7/32', u'10.0.0.7,10.0.0.8', u'10.0.0.-7',
    u'10.0.0.0x7', u'10.0.0.1000'])
def test_no_ipv4(text):
    assert net_addresses.parse_ipv4(text) is None


@given(strategies.text(alphabet=u'0123afAF:g', max_size=45) | strategies.lists(strategies.sampled_from([u'0', u'1234', u'ff', u'']), max_size=9).map(u':'.join))
def test_ipv6_is_what_the_system_takes_for_one(text):
    try:
        socket.inet_pton(socket.AF_INET6, text)
        is_one = True
    except socket.error:
        is_one = False
    assert net_addresses.is_ipv6(text) == is_one


@pytest.mark.parametrize('text', [u'::1%eth0', u'fd00::7/64', u'[fd00::7]', u'::ffff:10.0.0.7', u'fd00::7,fd00::8', u'!fd00::7', u'fd00::*', u'fd00::\u0667', u'fd00::7\n'])
def test_no_ipv6(text):
    assert not net_addresses.is_ipv6(text)
