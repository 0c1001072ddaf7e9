# SPDX-License-Identifier: Apache-2.0
"""What a host tells of itself, and the steps by which hosts are trusted, on real files and a XAPI over a socket."""

from __future__ import absolute_import, division

import binascii
import os
import struct

import pytest

from dom0_lib import errors
from dom0_lib.migration import host_trust
from tests.unit.dom0_tree import Tree
from tests.unit.scripted_xapi import HOST_UUID, SESSION, scripted_xapi  # noqa: F401

HOST = 'OpaqueRef:host'
OTHER, THIRD = '6a5d8e32-0000-4000-8000-00000000000a', '6a5d8e32-0000-4000-8000-00000000000b'
ADMITTED, KNOWN = '/root/.ssh/authorized_keys', '/root/.ssh/known_hosts'


def make_public_key(seed):
    parts = [b'ssh-ed25519', seed.ljust(32, b'.')]
    blob = b''.join(struct.pack('>I', len(part)) + part for part in parts)
    return u'ssh-ed25519 ' + binascii.b2a_base64(blob).strip().decode('ascii')


def make_entry(name, address):
    return {'public_key': make_public_key(name), 'addresses': [address], 'host_keys': [make_public_key(b'host ' + name)]}


@pytest.fixture
def tree(scripted_xapi):  # noqa: F811
    return Tree(scripted_xapi.root)


@pytest.fixture
def describe(scripted_xapi, tree):  # noqa: F811
    """Function(records of network interfaces) -> what the host says of itself."""
    def describe(*pifs, **options):
        records = dict(('OpaqueRef:%d' % number, pif) for number, pif in enumerate(pifs))
        scripted_xapi.answer = lambda method, parameters: {
            'host.get_by_uuid': HOST, 'host.get_record': {'uuid': HOST_UUID, 'name_label': 'xen-1'}, 'PIF.get_all_records': records}[method]
        return host_trust.describe_key(SESSION, options.get('dry_run', True))
    return describe


def make_pif(device, ip='', ipv6=(), is_management=False, host=HOST):
    return {'device': device, 'IP': ip, 'IPv6': list(ipv6), 'management': is_management, 'host': host, 'uuid': device}


def test_a_dry_run_makes_no_key(describe, tree):
    assert describe(make_pif('eth0', '10.0.0.1')) == {
        'host_uuid': HOST_UUID, 'name': 'xen-1', 'public_key': None, 'addresses': ['10.0.0.1'], 'host_keys': []}
    assert not os.path.exists(tree.locate('/root'))


@pytest.mark.needs('ssh-keygen')
def test_a_key_is_made_where_there_is_none_and_kept(describe, tree):
    made = describe(make_pif('eth0', '10.0.0.1'), dry_run=False)['public_key']
    assert tree.read('/root/.ssh/id_ed25519.pub').decode('ascii') == u'%s root@%s\n' % (made, HOST_UUID)
    for dry_run in (False, True):
        assert describe(make_pif('eth0', '10.0.0.1'), dry_run=dry_run)['public_key'] == made


def test_addresses_are_this_hosts_and_management_comes_first(describe):
    assert describe(
        make_pif('eth2'), make_pif('eth1', '10.0.0.2', ['FD00::2/64', 'fe80::1/64', '']), make_pif('eth0', '10.0.0.1'),
        make_pif('eth3', '10.0.0.3', is_management=True), make_pif('eth4', '10.0.0.1'),
        make_pif('eth0', '10.0.0.9', host='OpaqueRef:other'))['addresses'] == ['10.0.0.3', '10.0.0.1', '10.0.0.2', 'fd00::2']


@pytest.mark.parametrize('count', [31, 32, 33])
def test_no_more_addresses_than_a_line_can_hold(describe, count):
    found = describe(*[make_pif('eth%02d' % number, '10.0.0.%d' % number) for number in range(count)])['addresses']
    assert found == ['10.0.0.%d' % number for number in range(min(count, 32))]


@pytest.mark.parametrize('pifs', [(), (make_pif('eth0'),), (make_pif('eth0', ipv6=['fe80::1/64']),),
                                  (make_pif('eth0', '10.0.0.9', host='OpaqueRef:other'),)])
def test_a_host_without_an_address(describe, pifs):
    with pytest.raises(errors.PluginError, match='no address of any network interface of this host'):
        describe(*pifs)


def test_host_keys_that_cannot_be_read_are_left_out(describe, tree):
    keys = [make_public_key(b'1'), make_public_key(b'3')]
    tree.write('/etc/ssh/ssh_host_ed25519_key.pub', keys[0].encode('ascii') + b' root@host\n')
    tree.write('/etc/ssh/ssh_host_ecdsa_key.pub', b'ssh-dss AAAA\n')
    tree.write('/etc/ssh/ssh_host_rsa_key.pub', keys[1].encode('ascii'))
    assert describe(make_pif('eth0', '10.0.0.1'))['host_keys'] == keys
    os.unlink(tree.locate('/etc/ssh/ssh_host_ed25519_key.pub'))
    os.mkdir(tree.locate('/etc/ssh/ssh_host_ed25519_key.pub'))
    assert describe(make_pif('eth0', '10.0.0.1'))['host_keys'] == keys[1:]


def list_outcomes(steps):
    return [(step['step'], step['outcome']) for step in steps]


def test_hosts_are_trusted_once_and_no_more_when_that_is_taken_back(tree):
    keys = {HOST_UUID: make_entry(b'own', u'10.0.0.1'), OTHER: make_entry(b'other', u'10.0.0.2'), THIRD: make_entry(b'third', u'10.0.0.3')}
    would = host_trust.trust(SESSION, keys, dry_run=True)
    assert list_outcomes(would) == [(HOST_UUID, 'already'), (OTHER, 'would'), (THIRD, 'would')]
    assert would[0]['detail'] == 'this host itself' and not os.path.exists(tree.locate('/root'))

    assert list_outcomes(host_trust.trust(SESSION, keys, dry_run=False)) == [(HOST_UUID, 'already'), (OTHER, 'done'), (THIRD, 'done')]
    admitted, known = tree.read(ADMITTED), tree.read(KNOWN)
    for name in (b'other', b'third'):
        assert make_public_key(name).encode('ascii') in admitted and make_public_key(b'host ' + name).encode('ascii') in known
    assert make_public_key(b'own').encode('ascii') not in admitted

    again = host_trust.trust(SESSION, keys, dry_run=False)
    assert [step['outcome'] for step in again] == ['already'] * 3 and (tree.read(ADMITTED), tree.read(KNOWN)) == (admitted, known)
    assert again[1]['detail'] == 'it may send disks here, and is known by its host keys' and again[1]['fix'] is None

    assert list_outcomes(host_trust.distrust(SESSION, [OTHER], dry_run=True)) == [(OTHER, 'would')]
    assert (tree.read(ADMITTED), tree.read(KNOWN)) == (admitted, known)
    assert list_outcomes(host_trust.distrust(SESSION, [OTHER], dry_run=False)) == [(OTHER, 'done')]
    assert make_public_key(b'other').encode('ascii') not in tree.read(ADMITTED)
    assert make_public_key(b'third').encode('ascii') in tree.read(ADMITTED)
    assert list_outcomes(host_trust.distrust(SESSION, None, dry_run=False)) == [(THIRD, 'done')]
    assert make_public_key(b'host third').encode('ascii') not in tree.read(KNOWN)
    assert list_outcomes(host_trust.distrust(SESSION, [THIRD], dry_run=False)) == [(THIRD, 'already')]
    assert host_trust.distrust(SESSION, None, dry_run=False) == []


def test_a_line_that_admits_the_key_without_limits_is_told(tree):
    tree.write(ADMITTED, make_public_key(b'other').encode('ascii') + b' by hand\n')
    step, = host_trust.trust(SESSION, {OTHER: make_entry(b'other', u'10.0.0.2')}, dry_run=False)
    assert step['outcome'] == 'done' and step['fix'].startswith('remove such a line')
    assert '%s admits its key without limits' % ADMITTED in step['detail'] and 'line ' in step['detail']


def test_another_key_for_an_address_is_a_problem(tree):
    tree.write(KNOWN, b'10.0.0.2 ' + make_public_key(b'an impostor').encode('ascii') + b'\n')
    step, = host_trust.trust(SESSION, {OTHER: make_entry(b'other', u'10.0.0.2')}, dry_run=False)
    assert step['outcome'] == 'problem'
    assert 'of %s has another key for one of its addresses' % KNOWN in step['detail']
    assert step['fix'].startswith('remove such a line if the host was reinstalled')


def test_a_file_that_cannot_be_written_is_a_problem_of_each_host_that_it_was_for(tree):
    tree.write(KNOWN, b'')
    host_trust.trust(SESSION, {THIRD: make_entry(b'third', u'10.0.0.3')}, dry_run=False)
    # The new file's name is a directory's, which nobody can remove as a file.
    os.mkdir(tree.locate('/root/.ssh/.known_hosts.new'))
    steps = host_trust.trust(SESSION, {OTHER: make_entry(b'other', u'10.0.0.2'), THIRD: make_entry(b'third', u'10.0.0.3')}, dry_run=False)
    assert list_outcomes(steps) == [(OTHER, 'problem'), (THIRD, 'already')]
    assert steps[0]['detail'].startswith('cannot write %s: ' % KNOWN) and steps[0]['fix'] == (
        'make it writable for root, and repeat the call')
