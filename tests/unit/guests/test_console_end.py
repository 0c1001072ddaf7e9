# SPDX-License-Identifier: Apache-2.0
"""The end of a console log: its length, and logs that are rotated while they are read."""

from __future__ import absolute_import, division

import base64
import os
import zlib

import pytest

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib.guests import console_end
from tests.unit.dom0_tree import Tree

LOG = '/var/log/xen/guest/console.7'
LIMIT = 102400


@pytest.fixture
def tree(tmpdir, monkeypatch):
    tree = Tree(tmpdir)
    monkeypatch.setenv('DOM0_ROOT', tree.root)
    monkeypatch.setattr(console_end, '_PAUSE_S', 0.001)
    os.makedirs(tree.locate(os.path.dirname(LOG)))
    return tree


def read():
    text = console_end.read_end(None, 7)
    assert isinstance(text, compat.text_type) and u'\n' not in text
    return zlib.decompress(base64.b64decode(text))


def check_refused(*words):
    with pytest.raises(errors.PluginError) as caught:
        read()
    message = str(caught.value)
    assert type(caught.value) is errors.PluginError and '\n' not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize('size', [0, 1, LIMIT - 1, LIMIT, LIMIT + 1, 3 * LIMIT + 7])
def test_the_last_bytes(tree, size):
    data = bytes(bytearray(number * 7 % 251 for number in range(size)))
    tree.write(LOG, data)
    assert read() == data[-LIMIT:]


def test_any_bytes_arrive(tree):
    data = bytes(bytearray(range(256)))
    tree.write(LOG, data)
    assert read() == data


def test_no_log(tree):
    tree.write('/var/log/xen/guest/console.70', b'x')
    check_refused('domain 7', LOG, '/local/logconsole/@', '/var/log/xen/guest/console.%d')


class Rotator(object):
    """Rotates the log before each of the first `times` calls of a function of os, such as read or open."""

    def __init__(self, monkeypatch, call, rotate, times=1):
        self.left = times
        real = getattr(os, call)

        def rotating(*args, **kwargs):
            if self.left:
                self.left -= 1
                rotate()
            return real(*args, **kwargs)
        monkeypatch.setattr(console_end.os, call, rotating)


def test_a_log_that_is_renamed_after_it_was_opened(tree, monkeypatch):
    path = tree.write(LOG, b'old')

    def rotate():
        os.rename(path, path + '.1')
        tree.write(LOG, b'')
    Rotator(monkeypatch, 'read', rotate)
    assert read() == b'old'


def test_a_log_that_is_away_between_rename_and_creation(tree, monkeypatch):
    path = tree.write(LOG, b'old')
    Rotator(monkeypatch, 'open', lambda: os.rename(path, path + '.1'))
    real_sleep = console_end.time.sleep

    def sleep(pause_s):
        tree.write(LOG, b'new')
        real_sleep(pause_s)
    monkeypatch.setattr(console_end.time, 'sleep', sleep)
    assert read() == b'new'


def test_a_log_that_is_cut_short_while_it_is_read(tree, monkeypatch):
    path = tree.write(LOG, b'x' * (LIMIT + 100))

    def rotate():
        with open(path, 'wb') as log:
            log.write(b'begun anew')
    Rotator(monkeypatch, 'read', rotate)
    assert read() == b'begun anew'


def test_a_log_that_is_cut_short_all_the_time(tree, monkeypatch):
    path = tree.write(LOG, b'x' * 100)

    def rotate():
        with open(path, 'wb') as log:
            log.write(b'y' * 50)
        tree.write(LOG + '.size', b'')
    Rotator(monkeypatch, 'read', rotate, times=1000)
    real_lseek = os.lseek

    def lseek(*args):  # before each attempt the log has grown again
        tree.write(LOG, b'x' * 100)
        return real_lseek(*args)
    monkeypatch.setattr(console_end.os, 'lseek', lseek)
    assert read() == b'y' * 50


def test_a_log_that_grows_while_it_is_read(tree, monkeypatch):
    path = tree.write(LOG, b'x' * 10)

    def grow():
        with open(path, 'ab') as log:
            log.write(b'y' * LIMIT * 2)
    Rotator(monkeypatch, 'read', grow)
    assert read() == b'x' * 10


@pytest.mark.parametrize('target', ['/etc/shadow', '/var/log/xen/secret', '/var/log/xen/guest/deeper/console.7'])
def test_a_link_that_leads_out(tree, target):
    tree.write(target, b'secret')
    for link in (tree.locate(target), os.path.relpath(tree.locate(target), tree.locate(os.path.dirname(LOG)))):
        os.symlink(link, tree.locate(LOG))
        check_refused(LOG, 'leads out of /var/log/xen/guest')
        os.unlink(tree.locate(LOG))


def test_a_link_to_another_log(tree):
    tree.write('/var/log/xen/guest/console.7.current', b'log')
    os.symlink('console.7.current', tree.locate(LOG))
    assert read() == b'log'


def test_the_directory_may_be_a_link(tree):
    os.rmdir(tree.locate('/var/log/xen/guest'))
    tree.write('/var/run/sr-mount/x/logs/console.7', b'log')
    os.symlink('../../run/sr-mount/x/logs', tree.locate('/var/log/xen/guest'))
    assert read() == b'log'


def test_a_link_that_appears_before_it_is_opened(tree, monkeypatch):
    tree.write('/etc/shadow', b'secret')
    path = tree.write(LOG, b'log')

    def replace():
        os.unlink(path)
        os.symlink(tree.locate('/etc/shadow'), path)
    Rotator(monkeypatch, 'open', replace)
    check_refused('console.7 is not a file')


@pytest.mark.parametrize('make', [os.mkdir, os.mkfifo])
def test_what_is_no_file(tree, make):
    make(tree.locate(LOG))
    check_refused(LOG, 'is not a file')
