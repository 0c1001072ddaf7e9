# SPDX-License-Identifier: Apache-2.0
"""Settings that clients leave on a host: whole at any moment, and none lost to another writer."""

from __future__ import absolute_import, division

import fcntl
import json
import os
import subprocess
import sys

import pytest

from dom0_lib import errors
from dom0_lib.host import kept_settings
from tests.unit.dom0_tree import Tree

PATH = '/usr/etc/xenhost.conf'
CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
WRITERS, ENTRIES = 4, 8


@pytest.fixture
def tree(tmpdir, monkeypatch):
    tree = Tree(tmpdir)
    monkeypatch.setenv('DOM0_ROOT', tree.root)
    return tree


def test_nothing_is_stored(tree):
    assert kept_settings.load() == {}
    assert os.listdir(tree.root) == []


def test_store_and_load(tree):
    kept_settings.store(u'zone', u'caf\xe9')
    kept_settings.store(u'racks', [1, {u'a': None}])
    assert kept_settings.load() == {u'zone': u'caf\xe9', u'racks': [1, {u'a': None}]}
    assert json.loads(tree.read(PATH).decode('ascii')) == kept_settings.load()
    kept_settings.store(u'zone', None)
    kept_settings.store(u'absent', None)
    assert kept_settings.load() == {u'racks': [1, {u'a': None}]}
    assert os.stat(tree.locate(PATH) + '.lock').st_mode & 0o777 == 0o600
    assert sorted(os.listdir(os.path.dirname(tree.locate(PATH)))) == ['xenhost.conf', 'xenhost.conf.lock']


def test_what_os_xenapi_has_stored(tree):
    tree.write(PATH, b'{"zone": "a", "n": 5}')
    kept_settings.store(u'zone', u'b')
    assert kept_settings.load() == {u'zone': u'b', u'n': 5}


@pytest.mark.parametrize('data', [b'', b'{', b'[]', b'5', b'{"a": 1} x', b'\xff', b'{"a": 1}' + b' ' * (1 << 20) + b'x'])
def test_a_damaged_file_is_left_as_it_is(tree, data):
    tree.write(PATH, data)
    for call in (kept_settings.load, lambda: kept_settings.store(u'a', 1)):
        with pytest.raises(errors.PluginError) as caught:
            call()
        assert str(caught.value).startswith(PATH) and 'repair it or remove it' in str(caught.value)
    assert tree.read(PATH) == data


def test_a_file_of_the_greatest_size(tree):
    head = b'{"a": 1}'
    tree.write(PATH, head + b' ' * ((1 << 20) - len(head)))
    assert kept_settings.load() == {u'a': 1}
    kept_settings.store(u'a', u'x' * ((1 << 20) - len(b'{"a": ""}')))
    assert len(tree.read(PATH)) == 1 << 20
    with pytest.raises(errors.PluginError):
        kept_settings.store(u'a', u'x' * ((1 << 20) - len(b'{"a": ""}') + 1))
    assert len(tree.read(PATH)) == 1 << 20


def test_a_file_that_cannot_be_read_is_not_an_empty_one(tree):
    os.makedirs(tree.locate(PATH))
    with pytest.raises(errors.PluginError) as caught:
        kept_settings.load()
    assert str(caught.value).startswith('cannot read %s: ' % PATH)


def test_a_failure_leaves_the_old_file(tree, monkeypatch):
    kept_settings.store(u'a', 1)

    def fail(*_):
        raise EnvironmentError(28, 'No space left on device')
    for name in ('fsync', 'rename'):
        monkeypatch.setattr(kept_settings.os, name, fail)
        with pytest.raises(errors.PluginError) as caught:
            kept_settings.store(u'a', 2)
        assert str(caught.value).startswith('cannot write %s: ' % PATH) and 'No space left' in str(caught.value)
        monkeypatch.undo()
        monkeypatch.setenv('DOM0_ROOT', tree.root)
        assert kept_settings.load() == {u'a': 1}
    kept_settings.store(u'a', 3)
    assert kept_settings.load() == {u'a': 3}


def test_too_much(tree):
    kept_settings.store(u'a', 1)
    with pytest.raises(errors.PluginError):
        kept_settings.store(u'b', u'x' * (1 << 20))
    assert kept_settings.load() == {u'a': 1}


def test_a_reader_sees_the_old_or_the_new_file(tree, monkeypatch):
    """Before and after the one step that changes it, the file is whole."""
    kept_settings.store(u'a', 1)
    seen = []
    real_rename = os.rename

    def rename(*args):
        seen.append(kept_settings.load())
        real_rename(*args)
        seen.append(kept_settings.load())
    monkeypatch.setattr(kept_settings.os, 'rename', rename)
    kept_settings.store(u'a', 2)
    assert seen == [{u'a': 1}, {u'a': 2}]


def test_another_writer_is_waited_for(tree, monkeypatch):
    kept_settings.store(u'a', 1)
    monkeypatch.setattr(kept_settings, '_LOCK_TIMEOUT_S', 0.1)
    with open(tree.locate(PATH) + '.lock') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(errors.RetryableError):
            kept_settings.store(u'a', 2)
    kept_settings.store(u'a', 3)
    assert kept_settings.load() == {u'a': 3}


def test_writers_at_once_lose_nothing(tree):
    program = ('import sys\nfrom dom0_lib.host import kept_settings\n'
               'for number in range(%d): kept_settings.store(sys.argv[1] + "-%%d" %% number, number)' % ENTRIES)
    processes = [subprocess.Popen([sys.executable, '-B', '-c', program, 'writer%d' % number], cwd=CHECKOUT)
                 for number in range(WRITERS)]
    assert [process.wait() for process in processes] == [0] * WRITERS
    assert len(kept_settings.load()) == WRITERS * ENTRIES
