# SPDX-License-Identifier: Apache-2.0
"""Root's ssh keys with the real ssh-keygen: which one is taken, which are refused, and what making one leaves."""

from __future__ import absolute_import, division

import fcntl
import os
import stat
import subprocess

import pytest

from dom0_lib import errors
from dom0_lib.migration import ssh_directory
from tests.unit.dom0_tree import Tree

pytestmark = pytest.mark.needs('ssh-keygen')

SSH = '/root/.ssh'
ED25519, ECDSA, RSA = SSH + '/id_ed25519', SSH + '/id_ecdsa', SSH + '/id_rsa'


@pytest.fixture
def tree(tmpdir, monkeypatch):
    monkeypatch.setenv('DOM0_ROOT', str(tmpdir))
    tmpdir.mkdir('root').mkdir('.ssh')
    return Tree(tmpdir)


def make_key(tree, dom0_path, kind='ed25519', passphrase=''):
    """Returns '<type> <base64>'."""
    path = tree.locate(dom0_path)
    subprocess.check_call(['ssh-keygen', '-q', '-t', kind, '-N', passphrase, '-f', path])
    with open(path + '.pub') as source:
        return u' '.join(source.read().split()[:2])


def get_mode(tree, dom0_path):
    return stat.S_IMODE(os.stat(tree.locate(dom0_path)).st_mode)


def list_names(tree):
    return sorted(os.listdir(tree.locate(SSH)))


def test_the_first_usable_key_is_taken_and_none_is_no_error(tree):
    assert ssh_directory.find_public_key(None) is None
    rsa = make_key(tree, RSA, 'rsa')
    assert ssh_directory.find_public_key(None) == rsa
    ecdsa = make_key(tree, ECDSA, 'ecdsa')
    assert ssh_directory.find_public_key(None) == ecdsa
    ed25519 = make_key(tree, ED25519)
    assert ssh_directory.find_public_key(None) == ed25519


def test_the_private_half_alone_says_which_key_it_is(tree):
    key = make_key(tree, ED25519)
    tree.write(ED25519 + '.pub', b'ssh-ed25519 another\n')
    assert ssh_directory.find_public_key(None) == key


def test_a_key_with_a_passphrase_gives_way_to_another(tree):
    make_key(tree, ED25519, passphrase='secret')
    with pytest.raises(errors.PluginError) as caught:
        ssh_directory.find_public_key(None)
    assert str(caught.value).startswith('migrations cannot use the key /root/.ssh/id_ed25519 (')
    rsa = make_key(tree, RSA, 'rsa')
    assert ssh_directory.find_public_key(None) == rsa


def test_an_unusable_key_of_another_name_leaves_room_for_ours(tree):
    make_key(tree, RSA, 'rsa', passphrase='secret')
    assert ssh_directory.find_public_key(None) is None


def test_a_link_to_a_key_that_is_gone_is_refused(tree):
    os.symlink('/nowhere', tree.locate(ED25519))
    with pytest.raises(errors.PluginError, match='move the key away'):
        ssh_directory.find_public_key(None)


def test_the_key_of_the_settings(tree):
    with pytest.raises(errors.PluginError, match="'identity_file' in .migration. of .* is /root/key, which does not exist"):
        ssh_directory.find_public_key('/root/key')
    key = make_key(tree, '/root/key')
    make_key(tree, ED25519)
    assert ssh_directory.find_public_key('/root/key') == key


def test_a_key_of_a_type_that_is_not_taken(tree, tmpdir, monkeypatch):
    """As an old ssh-keygen answers for a DSA key, which new ones cannot make."""
    program = tmpdir.mkdir('bin').join('ssh-keygen')
    program.write('#!/bin/sh\necho ssh-dss AAAAB3NzaC1kc3MAAACBAI0=\n')
    program.chmod(0o755)
    monkeypatch.setenv('PATH', '%s:%s' % (tmpdir.join('bin'), os.environ['PATH']))
    tree.write('/root/key', b'')
    with pytest.raises(errors.PluginError, match='migrations cannot use the key /root/key: it has a key of an unknown type'):
        ssh_directory.find_public_key('/root/key')


def test_a_made_key_is_found_and_leaves_nothing_else(tree):
    for name in ('.dom0-plugins-key', '.dom0-plugins-key.pub'):
        tree.write(SSH + '/' + name, b'left by a killed call')
    ssh_directory.make_key('root@host')
    assert list_names(tree) == ['id_ed25519', 'id_ed25519.pub']
    assert get_mode(tree, ED25519) == 0o600
    words = tree.read(ED25519 + '.pub').decode('ascii').split()
    assert ssh_directory.find_public_key(None) == u' '.join(words[:2]) and words[2:] == [u'root@host']


def test_a_key_that_is_there_is_never_replaced(tree):
    tree.write(ED25519, b'precious')
    with pytest.raises(errors.PluginError, match='cannot make the key /root/.ssh/id_ed25519'):
        ssh_directory.make_key('root@host')
    assert tree.read(ED25519) == b'precious'


def test_a_public_half_that_is_there_is_never_replaced(tree):
    tree.write(ED25519 + '.pub', b'precious')
    ssh_directory.make_key('root@host')
    assert tree.read(ED25519 + '.pub') == b'precious'
    assert list_names(tree) == ['id_ed25519', 'id_ed25519.pub'] and ssh_directory.find_public_key(None)


def is_locked(tree):
    fd = os.open(tree.locate(SSH), os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except EnvironmentError:
        return True
    finally:
        os.close(fd)


def test_the_directory_is_made_and_locked_for_the_block(tree):
    os.rmdir(tree.locate(SSH))
    before = os.umask(0)
    try:
        with ssh_directory.locked():
            assert get_mode(tree, SSH) == 0o700 and is_locked(tree)
    finally:
        os.umask(before)
    assert not is_locked(tree)
    os.chmod(tree.locate(SSH), 0o755)
    with pytest.raises(KeyError):
        with ssh_directory.locked():
            raise KeyError
    assert not is_locked(tree) and get_mode(tree, SSH) == 0o755


def test_a_directory_that_cannot_be_made(tree):
    os.rmdir(tree.locate(SSH))
    tree.write(SSH, b'a file')
    with pytest.raises(errors.PluginError, match='cannot use /root/.ssh: '):
        with ssh_directory.locked():
            pass
