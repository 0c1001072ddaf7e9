# SPDX-License-Identifier: Apache-2.0
"""Our lines in root's ssh files, and that all others stay what they are."""

from __future__ import absolute_import, division

import base64
import hashlib
import hmac
import os
import stat

import pytest

from dom0_lib import errors
from dom0_lib import faults
from dom0_lib.migration import arrival_gate
from dom0_lib.migration import authorized_keys
from tests.unit.dom0_tree import Tree
from tests.unit.migration.test_trust_kinds import make_blob, make_key

UUID = u'11111111-2222-4333-8444-555555555555'
OTHER = u'66666666-7777-4888-9999-aaaaaaaaaaaa'
PATH = authorized_keys.AUTHORIZED_KEYS
ENTRY = {'public_key': make_key(), 'addresses': [u'10.0.0.7', u'fd00::7'], 'host_keys': [make_key(b'h'), make_key(b'r', u'ssh-ed25519')]}
MARK = b' dom0-plugins:' + UUID.encode('ascii')
STRANGE = (b"# dom0-plugins:%s\nssh-rsa AAAA admin's\r\n\n  \tssh-rsa BBBB dom0-plugins:not-a-uuid\n\xff\0 junk\n"
           b'ssh-rsa CCCC x-dom0-plugins:%s\n').replace(b'%s', UUID.encode('ascii'))


@pytest.fixture
def tree(tmpdir, monkeypatch):
    tree = Tree(tmpdir)
    monkeypatch.setenv('DOM0_ROOT', tree.root)
    tmpdir.mkdir('root').mkdir('.ssh')
    return tree


def change(uuid, *lines):
    """Whether anything changed."""
    target = authorized_keys.LineFile(PATH)
    is_new = target.replace(uuid, list(lines))
    target.save()
    return is_new


def line(text, uuid=UUID):
    return text + b' dom0-plugins:' + uuid.encode('ascii')


def test_a_file_is_made(tree):
    assert change(UUID, line(b'a'))
    assert tree.read(PATH) == line(b'a') + b'\n'
    assert stat.S_IMODE(os.stat(tree.locate(PATH)).st_mode) == 0o600


def test_nothing_to_do_makes_no_file(tree):
    assert not change(UUID)
    assert os.listdir(os.path.dirname(tree.locate(PATH))) == []


@pytest.mark.parametrize('before', [STRANGE, STRANGE[:-1], b'', b'\n', b'\n\n'])
def test_other_lines_stay(tree, before):
    tree.write(PATH, before)
    os.chmod(tree.locate(PATH), 0o640)
    whole = before if not before or before.endswith(b'\n') else before + b'\n'
    assert change(UUID, line(b'a'))
    assert tree.read(PATH) == whole + line(b'a') + b'\n'
    assert change(OTHER, line(b'b', OTHER))
    assert change(UUID, line(b'c'))
    assert tree.read(PATH) == whole + line(b'c') + b'\n' + line(b'b', OTHER) + b'\n'
    assert authorized_keys.LineFile(PATH).list_hosts() == [UUID, OTHER]
    assert change(UUID) and change(OTHER) and not change(UUID)
    assert tree.read(PATH) == whole
    assert stat.S_IMODE(os.stat(tree.locate(PATH)).st_mode) == 0o640


def test_what_is_the_same_is_not_written(tree):
    tree.write(PATH, b'x\n' + line(b'a') + b'\ny')
    before = os.stat(tree.locate(PATH))
    assert not change(UUID, line(b'a'))
    assert os.stat(tree.locate(PATH)).st_ino == before.st_ino and tree.read(PATH).endswith(b'\ny')


def test_lines_of_a_host_are_gathered(tree):
    tree.write(PATH, b'\n'.join([b'x', line(b'a'), b'y', line(b'b'), b'z', line(b'a')]))
    assert change(UUID, line(b'c'), line(b'd'))
    assert tree.read(PATH) == b'\n'.join([b'x', line(b'c'), line(b'd'), b'y', b'z', b''])


def test_a_link_stays(tree):
    real = tree.write('/etc/keys', b'x\n')
    os.symlink('../../etc/keys', tree.locate(PATH))
    assert change(UUID, line(b'a'))
    assert os.path.islink(tree.locate(PATH)) and tree.read('/etc/keys') == b'x\n' + line(b'a') + b'\n'
    assert os.listdir(os.path.dirname(real)) == ['keys']


def test_somebody_else_writes(tree, monkeypatch):
    tree.write(PATH, b'x\n')

    def write(name):
        with open(tree.locate(PATH), 'ab') as target:
            target.write(b'y\n')
    monkeypatch.setattr(faults, 'point', write)
    with pytest.raises(errors.RetryableError):
        change(UUID, line(b'a'))
    assert tree.read(PATH) == b'x\ny\n' and os.listdir(os.path.dirname(tree.locate(PATH))) == ['authorized_keys']


@pytest.mark.parametrize('what', ['time', 'size', 'file'])
def test_somebody_else_writes_what_looks_alike(tree, monkeypatch, what):
    """The other two are as before: an editor that keeps the length, one that sets the time back, one that replaces the file."""
    tree.write(PATH, b'x\n')
    path = tree.locate(PATH)
    os.utime(path, (1000000000, 1000000000))
    new = b'y\ny\n' if what == 'size' else b'y\n'

    def write(name):
        if what == 'file':
            os.rename(tree.write('/root/.ssh/other', new), path)
        else:
            with open(path, 'r+b') as target:
                target.write(new)
        if what != 'time':
            os.utime(path, (1000000000, 1000000000))
    monkeypatch.setattr(faults, 'point', write)
    with pytest.raises(errors.RetryableError):
        change(UUID, line(b'a'))
    assert tree.read(PATH) == new


def test_what_is_no_file_of_lines(tree):
    tree.write(PATH, b'x' * (9 << 20))
    with pytest.raises(errors.PluginError) as caught:
        authorized_keys.LineFile(PATH)
    assert PATH in str(caught.value)
    os.unlink(tree.locate(PATH))
    os.mkdir(tree.locate(PATH))
    with pytest.raises(errors.PluginError) as caught:
        authorized_keys.LineFile(PATH)
    assert PATH in str(caught.value)


def test_the_lines_of_a_host():
    admission, = authorized_keys.make_admission(UUID, ENTRY)
    assert admission.startswith(b'from="10.0.0.7,fd00::7",no-port-forwarding,') and admission.endswith(b' ' + ENTRY['public_key'].encode('ascii') + MARK)
    limits = admission.partition(b'" ')[0].partition(b'command=')[0].split(b'",')[1].split(b',')
    assert sorted(limits) == [b'', b'no-X11-forwarding', b'no-agent-forwarding', b'no-port-forwarding', b'no-pty', b'no-user-rc']
    # sshd ends the command at the first quote, and the line at 8 KiB.
    assert admission.count(b'"') == 4 and b'\\' not in admission
    assert arrival_gate.make_command().encode('ascii') in admission
    assert authorized_keys.make_acquaintance(UUID, ENTRY) == [b'10.0.0.7,fd00::7 ' + key.encode('ascii') + MARK for key in ENTRY['host_keys']]


def test_the_longest_line():
    key = u'ssh-rsa ' + make_blob(b'ssh-rsa', b'\1\0\1', b'n' * 2200)
    addresses = [u'fd00:1111:2222:3333:4444:5555:6666:%04x' % number for number in range(32)]
    assert len(authorized_keys.make_admission(UUID, dict(ENTRY, public_key=key, addresses=addresses))[0]) < 8000


def test_a_key_that_is_admitted_without_limits(tree):
    key = ENTRY['public_key'].encode('ascii')
    tree.write(PATH, b'\n'.join([b'# ' + key, key + b' root@xen1', b'ssh-rsa AAAA', b'environment="A=b c" ' + key] + authorized_keys.make_admission(UUID, ENTRY)))
    assert authorized_keys.find_unlimited(authorized_keys.LineFile(PATH), ENTRY) == [2, 4]


def test_keys_that_get_in_without_our_line(tree):
    key = ENTRY['public_key'].encode('ascii')
    ours = authorized_keys.make_admission(UUID, ENTRY) + authorized_keys.make_acquaintance(UUID, ENTRY)
    tree.write(PATH, b'\n'.join([key, b'  # ' + key, b'ssh-rsa AAAA'] + ours + [b'no-pty ' + make_key(b'r', u'ssh-ed25519').encode('ascii')]))
    admitted = authorized_keys.LineFile(PATH)
    assert admitted.list_hosts() == [UUID], 'once, for three lines'
    assert admitted.list_keys() == [text.encode('ascii').split()[1] for text in [ENTRY['public_key']] + ENTRY['host_keys']]
    assert authorized_keys.find_bypasses(admitted) == [1, 7]
    assert authorized_keys.find_unlimited(admitted, ENTRY) == [1]


def hash_name(name):
    salt = b's' * 20
    return b'|1|' + base64.b64encode(salt) + b'|' + base64.b64encode(hmac.new(salt, name, hashlib.sha1).digest())


@pytest.mark.parametrize('text, is_other', [
    (b'10.0.0.7 ' + make_key(b'x').encode('ascii'), True),
    (b'xen7,fd00::7 ' + make_key(b'x').encode('ascii') + b' comment', True),
    (b'FD00::7 ' + make_key(b'x').encode('ascii'), True),
    (hash_name(b'10.0.0.7') + b' ' + make_key(b'x').encode('ascii'), True),
    (hash_name(b'10.0.0.8') + b' ' + make_key(b'x').encode('ascii'), False),
    (b'|1|?|? ' + make_key(b'x').encode('ascii'), False),
    (b'|1|x ' + make_key(b'x').encode('ascii'), False),
    (b'10.0.0.7 ' + make_key(b'h').encode('ascii'), False),
    (b'10.0.0.7 ssh-rsa AAAA', False),
    (b'10.0.0.70,xen7 ' + make_key(b'x').encode('ascii'), False),
    (b'# 10.0.0.7 ' + make_key(b'x').encode('ascii'), False),
    (b'10.0.0.7 ' + make_key(b'x').encode('ascii') + MARK, False),
    (b'10.0.0.7 ssh-ed25519', False),
])
def test_another_key_for_an_address(tree, text, is_other):
    tree.write(authorized_keys.KNOWN_HOSTS, b'x\n' + text + b'\n')
    known = authorized_keys.LineFile(authorized_keys.KNOWN_HOSTS)
    assert authorized_keys.find_contradictions(known, ENTRY) == ([2] if is_other else [])
