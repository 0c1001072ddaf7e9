# SPDX-License-Identifier: Apache-2.0
"""What rsync is told.  A program of that name writes down its arguments; the real one is asked in tests/calls/migration."""

from __future__ import absolute_import, division

import os

import pytest

from dom0_lib import errors
from dom0_lib import settings
from dom0_lib.migration import rsync

PROGRAM = """#!/bin/sh
for argument; do echo "$argument"; done >> '{log}'
{script}
"""


class Recorder(object):
    """rsync on PATH; `arguments` of all its calls."""

    def __init__(self, directory):
        self._log = str(directory.join('log'))
        self._program = directory.join('rsync')
        directory.join('log').write('')
        self.change('')

    def change(self, script):
        self._program.write(PROGRAM.format(log=self._log, script=script))
        self._program.chmod(0o755)

    @property
    def arguments(self):
        with open(self._log) as log:
            return log.read().splitlines()


@pytest.fixture
def recorder(tmpdir, monkeypatch):
    monkeypatch.setenv('PATH', '%s:%s' % (tmpdir.mkdir('bin'), os.environ['PATH']))
    monkeypatch.setenv('DOM0_ROOT', str(tmpdir))
    return Recorder(tmpdir.join('bin'))


@pytest.fixture
def path(tmpdir):
    return str(tmpdir.ensure('staged', '0.vhd'))


def send(path, host, stale=(), check=lambda: None):
    fractions = []
    rsync.Transfer('/images/instance1', host, settings.load(), check).send(path, fractions.append, stale)
    return fractions


@pytest.mark.parametrize('host, target, port', [
    (('xen1', None), 'root@xen1:/images/instance1/', None),
    (('10.0.0.7', 2222), 'root@10.0.0.7:/images/instance1/', '-p 2222'),
    (('fd00::7', None), 'root@[fd00::7]:/images/instance1/', None),
])
def test_another_host(recorder, path, host, target, port):
    send(path, host)
    assert recorder.arguments[-3:] == ['--', os.path.dirname(path) + '/', target]
    shell, = [argument for argument in recorder.arguments if argument.startswith('--rsh=')]
    words = shell[len('--rsh='):].split(' ')
    assert words[0] == 'ssh' and '-oBatchMode=yes' in words and '-oStrictHostKeyChecking=accept-new' in words
    assert '-oConnectTimeout=30' in words and (port or '-p') in shell or port is None and '-p' not in words
    assert '--filter=H *' in recorder.arguments
    assert not [argument for argument in recorder.arguments if argument.startswith(('--delete', '--rsync-path'))]


def test_what_another_host_removes_first(recorder, path):
    send(path, ('xen1', None), stale=['2.vhd', '3.vhd'])
    assert '--rsync-path=rm -f /images/instance1/2.vhd /images/instance1/3.vhd ; rsync' in recorder.arguments


def test_this_host(recorder, path):
    send(path, None)
    assert recorder.arguments[-1] == '/images/instance1/'
    assert not [argument for argument in recorder.arguments if 'ssh' in argument]


def test_what_this_host_removes_first(recorder, path, tmpdir):
    directory = tmpdir.mkdir('images')
    for name in ('1.vhd', '2.vhd'):
        directory.join(name).write('')
    rsync.Transfer(str(directory), None, settings.load(), None).send(path, None, ['2.vhd', '3.vhd'])
    assert os.listdir(str(directory)) == ['1.vhd'] and not [word for word in recorder.arguments if '2.vhd' in word]


def test_progress(recorder, path):
    recorder.change("printf '     32,768   0%%    0.00kB/s\\r 1234   7%%  1kB/s'; sleep 0.2; printf '\\r   99 100%%  2kB/s (xfr#1)\\n'")
    assert send(path, None) == [0.07, 1.0]


def test_a_transfer_that_breaks_is_continued(recorder, path):
    recorder.change("printf '  1  5%% x\\r'; echo broken >&2; exit 12")

    class Enough(Exception):
        pass

    def check():
        if recorder.arguments.count('--dirs') == 2:
            raise Enough()
    with pytest.raises(Enough):
        send(path, ('xen1', None), check=check)


def test_one_that_never_began_is_not(recorder, path):
    recorder.change('echo broken >&2; exit 12')
    with pytest.raises(errors.RetryableError) as caught:
        send(path, ('xen1', None))
    assert str(caught.value) == 'the transfer to xen1: rsync ended with status 12: broken'
    assert recorder.arguments.count('--dirs') == 1


def test_holes_that_the_other_end_cannot_inflate(recorder, path):
    with open(path, 'wb') as target:
        target.truncate(1 << 20)
    recorder.change('case "$*" in *--compress*) exit 4;; esac')
    send(path, ('xen1', None))
    assert [argument for argument in recorder.arguments if argument.startswith(('--dirs', '--compress'))] == [
        '--dirs', '--compress', '--compress-level=1', '--dirs']
