# SPDX-License-Identifier: Apache-2.0
"""What /etc/dom0-plugins.conf may say; a value that cannot be used is named."""

from __future__ import absolute_import, division

import io
import os

import pytest

from dom0_lib import errors
from dom0_lib import paths
from dom0_lib import settings
from dom0_lib.call import policy
from tests.unit import broken_settings

DEFAULTS = {
    'connect_timeout_s': 30, 'idle_timeout_s': 90, 'total_timeout_s': 21600, 'proxy': None, 'verify': True, 'verify_hosts': False, 'ca_file': None,
    'threads': 0, 'nice': 10, 'reserve_bytes': 512 << 20, 'collection_wait_s': 60, 'detach_wait_s': 30,
    'host_keys': 'accept-new', 'identity_file': None,
    'ciphers': 'aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr',
    'commands': ['*'], 'command_timeout_s': 120, 'deny': [], 'require_pool_admin': True,
}


@pytest.fixture
def load(tmpdir, monkeypatch):
    """Function(text of the file, or None for no file) -> attributes of the settings."""
    monkeypatch.setenv('DOM0_ROOT', str(tmpdir))

    def write_and_load(text):
        if text is not None:
            with io.open(str(tmpdir.ensure('etc', 'dom0-plugins.conf')), 'wb') as target:
                target.write(text.encode('utf-8'))
        return {name: value for name, value in vars(settings.load()).items() if not name.startswith('_')}
    return write_and_load


@pytest.mark.parametrize('text', [None, u'', u'# nothing\n', u'[network]\n', u'[transfer]\nnice =\n'])
def test_defaults(load, text):
    assert load(text) == DEFAULTS


@pytest.mark.parametrize('section, line, name, value', [
    ('network', 'connect_timeout = 1', 'connect_timeout_s', 1),
    ('network', 'idle_timeout: 604800', 'idle_timeout_s', 604800),
    ('network', 'total_timeout = 7', 'total_timeout_s', 7),
    ('network', 'proxy = http://p:3128', 'proxy', 'http://p:3128'),
    ('tls', 'verify = NO', 'verify', False),
    ('tls', 'verify = 1', 'verify', True),
    ('tls', 'verify_hosts = yes', 'verify_hosts', True),
    ('tls', 'ca_file = /etc/100%/ca.pem', 'ca_file', '/etc/100%/ca.pem'),
    ('transfer', 'threads = 64', 'threads', 64),
    ('transfer', 'nice = 0', 'nice', 0),
    ('transfer', 'reserve = 0', 'reserve_bytes', 0),
    ('transfer', 'reserve = 16777216', 'reserve_bytes', 1 << 44),
    ('transfer', 'collection_wait = 5', 'collection_wait_s', 5),
    ('netwrap', 'commands = ip link *,ovs-vsctl *', 'commands', ['ip link *', 'ovs-vsctl *']),
    ('netwrap', 'commands =', 'commands', []),
    ('netwrap', 'timeout = 5', 'command_timeout_s', 5),
    ('migration', 'host_keys = strict', 'host_keys', 'strict'),
    ('migration', 'identity_file = /root/.ssh/id_move', 'identity_file', '/root/.ssh/id_move'),
    ('migration', 'ciphers = aes256-ctr', 'ciphers', 'aes256-ctr'),
    ('policy', 'deny = a.*,  b.c ,', 'deny', ['a.*', 'b.c']),
    ('policy', 'require_pool_admin = off', 'require_pool_admin', False),
])
def test_each_setting(load, section, line, name, value):
    assert load(u'[%s]\n%s\n' % (section, line)) == dict(DEFAULTS, **{name: value})


@pytest.mark.parametrize('text, given', [
    (None, False), (u'', False), (u'# nothing\n\n[network]\n#proxy = http://p\n; deny = *\n', False),
    (u'[policy]\ndeny = *\n', True), (u'deny = *', True), (u'[policy]\n  deny=\n', True), (u'\ufeff[policy]', True),
    (u'[polcy]\n', True), (u'# nothing\n[policy]\n  x\n', True), (u'#\rdeny = *', True), (u'  # nothing\n\t; nothing\n \t\n', False),
])
def test_comments_and_names_of_sections_are_no_settings(load, text, given):
    load(u'')
    with io.open(paths.locate(paths.SETTINGS), 'wb') as target:
        target.write((text or u'').encode('utf-8'))
    if text is None:
        os.unlink(paths.locate(paths.SETTINGS))
    assert settings.are_given() is given


def test_a_file_that_cannot_be_read_is_left_to_who_reads_it(load):
    load(u'')
    os.unlink(paths.locate(paths.SETTINGS))
    os.mkdir(paths.locate(paths.SETTINGS))
    assert settings.are_given()


NUMBERS = [('network', 'connect_timeout', 1, 604800), ('network', 'idle_timeout', 1, 604800),
           ('network', 'total_timeout', 1, 604800), ('transfer', 'threads', 0, 64), ('transfer', 'nice', 0, 19),
           ('transfer', 'reserve', 0, 16777216), ('transfer', 'collection_wait', 1, 604800),
           ('transfer', 'detach_wait', 1, 604800), ('netwrap', 'timeout', 1, 604800)]


@pytest.mark.parametrize('value', ['-1', '1.5', 'many', '1 2', '0x10', '1e3', '9999999999', u'\u0663', u'\xb2'])
@pytest.mark.parametrize('section, name, lowest, highest', NUMBERS)
def test_a_number_that_is_none(load, section, name, lowest, highest, value):
    check_refused(load, section, name, value, 'needs a whole number from %d to %d' % (lowest, highest))


@pytest.mark.parametrize('section, name, lowest, highest', NUMBERS)
def test_the_ends_of_a_range(load, section, name, lowest, highest):
    for value in (lowest, highest):
        load(u'[%s]\n%s = %d\n' % (section, name, value))
    for value in (lowest - 1, highest + 1):
        check_refused(load, section, name, str(value), 'needs a whole number')


@pytest.mark.parametrize('value', ['maybe', '2', 'yes no', 'none'])
@pytest.mark.parametrize('section, name', [('tls', 'verify'), ('policy', 'require_pool_admin')])
def test_a_truth_that_is_none(load, section, name, value):
    check_refused(load, section, name, value, 'needs yes or no')


@pytest.mark.parametrize('name, value, reason', [
    ('host_keys', 'no', 'needs accept-new or strict'),
    ('identity_file', '/root/my keys', 'needs letters, digits and any of @+,-./_'),
    ('identity_file', "/root/'", 'needs letters, digits'),
    ('ciphers', 'aes256-ctr -oProxyCommand=x', 'needs letters, digits'),
])
def test_what_would_be_more_than_one_word_for_ssh(load, name, value, reason):
    check_refused(load, 'migration', name, value, reason)


def check_refused(load, section, name, value, reason):
    with pytest.raises(errors.PluginError) as caught:
        load(u'[%s]\n%s = %s\n' % (section, name, value))
    assert str(caught.value).startswith("/etc/dom0-plugins.conf: '%s' in [%s] %s" % (name, section, reason))


@pytest.mark.parametrize('name', sorted(broken_settings.FILES))
def test_a_file_that_cannot_be_used(load, name):
    data, sentence = broken_settings.FILES[name]
    load(u'')
    with io.open(paths.locate(paths.SETTINGS), 'wb') as target:
        target.write(data)
    with pytest.raises(errors.PluginError) as caught:
        policy.load_settings()
    assert str(caught.value) == '/etc/dom0-plugins.conf: ' + sentence
    assert settings.are_given()


@pytest.mark.parametrize('name', sorted(broken_settings.PLACES))
def test_something_else_in_the_place_of_the_file(load, name):
    load(u'')
    os.unlink(paths.locate(paths.SETTINGS))
    make, sentence = broken_settings.PLACES[name]
    make(paths.locate(paths.SETTINGS))
    with pytest.raises(errors.PluginError) as caught:
        settings.load()
    assert str(caught.value) == sentence
    assert settings.are_given()


@pytest.mark.parametrize('data, changes', broken_settings.SOUND_FILES)
def test_a_file_that_looks_strange_and_is_sound(load, data, changes):
    load(u'')
    with io.open(paths.locate(paths.SETTINGS), 'wb') as target:
        target.write(data)
    assert policy.load_settings().describe_changes() == changes
    assert settings.are_given() is (changes != '')


@pytest.mark.parametrize('make', [lambda path: io.open(path, 'wb').close(), os.mkfifo, os.mkdir])
def test_no_descriptor_is_left(load, make):
    load(u'')
    os.unlink(paths.locate(paths.SETTINGS))
    make(paths.locate(paths.SETTINGS))
    before = os.listdir('/proc/self/fd')
    for _ in range(20):
        settings.are_given()
    assert len(os.listdir('/proc/self/fd')) == len(before)


def test_a_file_of_the_greatest_size(load):
    assert load(u'#' * (1 << 16)) == DEFAULTS


@pytest.mark.parametrize('text, known, near', [
    ('denny', ['deny', 'require_pool_admin'], 'deny'), ('DENY', ['deny', 'verify'], 'deny'), ('dney', ['deny', 'verify'], 'deny'),
    ('tlz', ['tls', 'policy'], 'tls'), ('tzz', ['tls', 'policy'], None), ('', ['tls', 'policy'], None),
    ('verifyhost', ['verify', 'verify_hosts'], 'verify_hosts'), ('d' * 10000, ['deny'], None),
])
def test_the_name_that_is_meant(text, known, near):
    assert settings.find_near(text, known) == near
