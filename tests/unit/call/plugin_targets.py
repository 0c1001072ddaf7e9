# SPDX-License-Identifier: Apache-2.0
"""Functions for the calls of tests/unit/call/test_dispatch.py: in this process, and copied into a plug-in directory's dom0_lib."""

from __future__ import absolute_import, division, print_function

import os
import subprocess
import sys
import threading
import time

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib import termination


class Speechless(Exception):
    """An exception that cannot be shown."""

    def __str__(self):
        raise ValueError('no text')

    __unicode__ = __repr__ = __str__


class ImageBroken(errors.InvalidImage):
    """A subclass keeps its own name on the wire."""


# name: what to raise
ERRORS = {
    'failure': lambda: errors.Failure('VDI_IN_USE', [u'OpaqueRef:1', u'destroy']),
    'failure without params': lambda: errors.Failure('TASK_CANCELLED', []),
    'failure with strange params': lambda: errors.Failure('CODE', [u'', 5, None, u'caf\xe9\x1b\n', ('tuple',)]),
    'plugin': lambda: errors.PluginError(u'cannot'),
    'retryable': lambda: errors.RetryableError(u'connection lost'),
    'image not found': lambda: errors.ImageNotFound(u'ImageNotFound'),
    'subclass': lambda: ImageBroken(u'gap'),
    'argument': lambda: errors.ArgumentError('uuid_stack', 'is too short'),
    'command not found': lambda: errors.CommandNotFound('mkisofs'),
    'command failed': lambda: errors.CommandFailed('tar', 2, u'gzip: stdin: unexpected end of file\n'),
    'command silent': lambda: errors.CommandFailed('tar', 2, u''),
    'command stuck': lambda: errors.CommandFailed('tar', None, u''),
    'empty': lambda: errors.RetryableError(),
    'empty text': lambda: errors.RetryableError(u''),
    'blank': lambda: errors.RetryableError(u' \n\t'),
    'memory': MemoryError,
    'key': lambda: KeyError(u'uuid'),
    'key without text': KeyError,
    'exit': lambda: SystemExit('bye'),
    'exit without text': SystemExit,
    'non-ascii': lambda: errors.PluginError(u'caf\xe9 \u20ac \U0001f600'),
    'control characters': lambda: errors.PluginError(u'\x1b[31mred\0\x7f\ud800\ufffe'),
    'lines': lambda: errors.PluginError(u'request 7\nTIMEOUT: no answer\r\n'),
    'bytes': lambda: Exception(u'caf\xe9'.encode('utf-8')),
    'bad bytes': lambda: Exception(b'\xff\xfe'),
    'several': lambda: Exception(u'caf\xe9', 5),
    'markup': lambda: errors.PluginError(u'<value>&amp;"]]>'),
    'speechless': Speechless,
}


def fail(_session_ref, name):
    raise ERRORS[name]()


def open_missing(_session_ref):
    open('/no/such/file')


def decode_badly(_session_ref):
    b'caf\xe9'.decode('utf-8')


RESULTS = {
    'none': None, 'text': u'2.1', 'wide': u'caf\xe9 \u20ac \U0001f600 \x1b', 'nested': {u'root': {u'uuid': u'x'}},
    'list': [1, u'a', None, True],
    'tuple': (1, 2), 'true': True, 'number': 7, 'object': object(), 'set': set([1]), 'bytes': b'\xff', 'not a number': float('nan'),
    'numbered map': {1: u'x'},
}
RESULTS['endless'] = []
RESULTS['endless'].append(RESULTS['endless'])


def give(_session_ref, name):
    return RESULTS[name]


def echo(_session_ref, **values):
    return values


def tell_session(session_ref):
    return session_ref


def stop(_session_ref):
    raise errors.Terminated(15)


# For calls in a process of their own.

def write_noise(_session_ref):
    """Everything that can get at standard output but the reply."""
    print('noise by print')
    sys.stdout.write('noise by write\n' * 10000)
    sys.stdout.flush()
    os.write(1, b'noise by descriptor\n')
    subprocess.check_call(['sh', '-c', 'echo noise by child; ls -l /proc/self/fd >&2'], stdout=None)
    os.system('echo noise by shell')
    return u'quiet'


def leave_child(_session_ref):
    """A child that lives on, with every descriptor that it can inherit."""
    with open(os.devnull, 'r+b') as null:
        return u'%d' % subprocess.Popen(['sleep', '600'], stdin=null, stdout=null, stderr=null, close_fds=False).pid


def leave_thread(_session_ref):
    threading.Thread(target=time.sleep, args=(600,)).start()
    return None


def read_stdin(_session_ref):
    os.read(0, 1)


def make_long(_session_ref):
    return u'x' * 3000000


def list_modules(_session_ref, **_):
    return sorted(sys.modules)


def list_path(_session_ref):
    return sys.path


def parse(_session_ref, document):
    return document


def touch(path):
    open(path, 'w').close()


def wait_until_exists(path):
    deadline = compat.monotonic_s() + 30
    while not os.path.exists(path):
        assert compat.monotonic_s() < deadline
        time.sleep(0.01)


def work(_session_ref, directory):
    """Work for ever; clean up in the end, which takes a while."""
    try:
        touch(os.path.join(directory, 'working'))
        while True:
            try:
                time.sleep(30)
            except Exception:
                pass  # as careless code does; it must not swallow the signal
    finally:
        touch(os.path.join(directory, 'cleaning'))
        wait_until_exists(os.path.join(directory, 'may finish'))
        touch(os.path.join(directory, 'cleaned'))


def publish(_session_ref, directory):
    """Work under a shield, then go on."""
    with termination.Shield():
        with termination.Shield():
            touch(os.path.join(directory, 'working'))
            wait_until_exists(os.path.join(directory, 'may finish'))
        touch(os.path.join(directory, 'published'))
    touch(os.path.join(directory, 'went on'))
    time.sleep(30)


def settle(_session_ref, directory):
    """Finish the work under a shield; after that the call has succeeded."""
    with termination.Shield():
        touch(os.path.join(directory, 'working'))
        wait_until_exists(os.path.join(directory, 'may finish'))
        termination.settle()
    touch(os.path.join(directory, 'settled'))
    wait_until_exists(os.path.join(directory, 'may answer'))
    return u'done'
