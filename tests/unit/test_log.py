# SPDX-License-Identifier: Apache-2.0
"""Log lines, as a syslog daemon's socket gets them."""

from __future__ import absolute_import, division

import errno
import os
import re
import shutil
import socket
import tempfile
import threading

import pytest

from dom0_lib import log

# RFC 3164: priority (facility user: 8; informational 6, warning 4), local time, and tag with process.
LINE = re.compile(u'<(8|12|14)>[A-Z][a-z]{2} [ 0-3][0-9] [0-2][0-9]:[0-5][0-9]:[0-6][0-9] dom0-plugins\\[%d\\]: (.*)\\Z' % os.getpid())


@pytest.fixture
def root(monkeypatch):
    """A dom0 with an empty /dev; short, because a socket's path has 107 bytes."""
    path = tempfile.mkdtemp(prefix='dom0-')
    os.mkdir(os.path.join(path, 'dev'))
    monkeypatch.setenv('DOM0_ROOT', path)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def daemon(root):
    """The socket of a syslog daemon."""
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind(os.path.join(root, 'dev', 'log'))
    receiver.settimeout(10)
    yield receiver
    receiver.close()


def receive(daemon):
    """(priority, text) of the next line."""
    line = daemon.recv(100000).decode('utf-8')
    match = LINE.match(line)
    assert match, line
    return int(match.group(1)), match.group(2)


@pytest.mark.parametrize('message, values, text', [
    ('nothing to fill in', (), u'nothing to fill in'),
    ('imported %s as %s', (u'image', 'vdi'), u'imported image as vdi'),
    ('%s', (u'caf\xe9 \u20ac \U0001f600',), u'caf\xe9 \u20ac \U0001f600'),
    ('%s bytes', (5,), u'5 bytes'),
    ('100%% of %s', (u'%s %d',), u'100% of %s %d'),
    ('%s', (u'two\nlines\r\n',), u'two lines  '),
    ('%s', (u'\0\x1b[31mred\x1b\x7f\t',), u'  [31mred   '),
    ('%s', (u'lone \ud800 surrogate',), u'lone \ufffd surrogate'),
    ('%s', (None,), u'None'),
    ('%s', (u'caf\xe9'.encode('utf-8'),), u'caf\xe9'),
    ('%s', (ValueError(u'caf\xe9'),), u'caf\xe9'),
])
def test_a_line_is_one_line_of_text(daemon, message, values, text):
    log.info(message, *values)
    assert receive(daemon) == (14, text)


def test_a_warning_has_a_priority_of_its_own(daemon):
    log.warning('refused %s', u'it')
    log.info('did %s', u'it')
    assert [receive(daemon), receive(daemon)] == [(12, u'refused it'), (14, u'did it')]


@pytest.mark.parametrize('character', [u'x', u'\u20ac', u'\U0001f600', u'\n'])
def test_a_long_line_is_cut(daemon, character):
    log.info('%s', character * 200000)
    assert receive(daemon) == (14, character.replace(u'\n', u' ') * 1000)


def test_a_forged_line_stays_inside_its_own(daemon):
    log.warning('unknown image %s', u'x\n<14>Jan  1 00:00:00 sshd[1]: accepted')
    assert receive(daemon)[1].startswith(u'unknown image x <14>Jan')
    daemon.setblocking(False)
    with pytest.raises(socket.error) as caught:
        daemon.recv(1)
    assert caught.value.errno == errno.EAGAIN


def test_nobody_logs(root):
    log.info('to nobody')  # no socket


def test_nobody_logs_any_more(root):
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind(os.path.join(root, 'dev', 'log'))
    receiver.close()
    log.info('to nobody')  # connection refused


def test_no_dev(root):
    os.rmdir(os.path.join(root, 'dev'))
    log.info('to nobody')


def test_a_stream_socket_is_not_for_us(root):
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    receiver.bind(os.path.join(root, 'dev', 'log'))
    receiver.listen(1)
    log.info('to nobody')
    receiver.close()


def test_a_root_too_deep_for_a_socket(monkeypatch):
    monkeypatch.setenv('DOM0_ROOT', '/' + 'x' * 200)
    log.info('to nobody')


def test_a_daemon_that_does_not_read_blocks_nobody(daemon):
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.setblocking(False)
    sender.connect(daemon.getsockname())
    with pytest.raises(socket.error) as caught:
        while True:
            sender.send(b'x' * 1000)
    assert caught.value.errno == errno.EAGAIN
    sender.close()
    thread = threading.Thread(target=log.info, args=('to a full socket',))
    thread.daemon = True
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


def test_no_descriptor_is_left(daemon):
    before = os.listdir('/proc/self/fd')
    for _ in range(20):
        log.info('line')
        receive(daemon)
    assert len(os.listdir('/proc/self/fd')) == len(before)
