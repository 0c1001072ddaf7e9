# SPDX-License-Identifier: Apache-2.0
"""The only module that asks which Python this is: CPython 2.7.5 or later, or 3.6 and later."""

from __future__ import absolute_import, division

import errno
import os
import sys

PYTHON2 = sys.version_info[0] == 2

if PYTHON2:
    import codecs
    import signal as raw_signal
    import thread as raw_thread

    text_type = unicode  # noqa: F821 - a Python 2 name
    integer_types = (int, long)  # noqa: F821 - a Python 2 name

    def _keep_undecodable_byte(error):
        if not isinstance(error, UnicodeDecodeError):
            raise error
        byte = error.object[error.start:error.start + 1]
        return unichr(0xdc00 + ord(byte)), error.start + 1  # noqa: F821 - a Python 2 name

    codecs.register_error('surrogateescape', _keep_undecodable_byte)
else:
    # The signal module proper wraps these in enums, which costs each call 3-5 ms.
    import _signal as raw_signal
    import _thread as raw_thread

    text_type = str
    integer_types = (int,)

SIGHUP, SIGINT, SIGTERM = raw_signal.SIGHUP, raw_signal.SIGINT, raw_signal.SIGTERM
_DEFAULT_SIGNALS = (raw_signal.SIGPIPE, raw_signal.SIGXFSZ)
_PR_SET_PDEATHSIG = 1


def interpreter():
    """The name and version of this interpreter, for an error."""
    return 'Python %d.%d' % sys.version_info[:2]


def argument_bytes(index):
    """The bytes of one command line argument, independent of the locale.

    With XAPI's empty environment Python 3.6 reads argv as ASCII with surrogate escapes.
    """
    argument = sys.argv[index]
    return argument if PYTHON2 else os.fsencode(argument)


def to_text(value):
    """Text of any object for an error or a log line; never raises and never loses the reason."""
    if isinstance(value, text_type):
        return value
    if not isinstance(value, bytes):
        try:
            value = str(value)
        except Exception:
            try:
                value = text_type(value)
            except Exception:
                value = type(value).__name__
    if isinstance(value, bytes):
        value = value.decode('utf-8', 'replace')
    return value


def native_ascii(data):
    """Bytes as this Python's plain str, the fastest type there; on Python 3 a byte beyond ASCII becomes U+FFFD."""
    return data if PYTHON2 else data.decode('ascii', 'replace')


def join_surrogates(text):
    """`text` with surrogate pairs made one character and lone surrogates replaced by U+FFFD."""
    if PYTHON2:
        raw = text.encode('utf-16-le')
    else:
        raw = text.encode('utf-16-le', 'surrogatepass')
    return raw.decode('utf-16-le', 'replace')


def text_of_bytes(data):
    """Text of bytes: UTF-8, and U+DC00 + value for each byte that is not part of it; bytes_of_text() gives the bytes back."""
    # Python 2 accepts ED A0 80 to ED BF BF, the encodings of surrogates, as UTF-8.
    if PYTHON2 and any(piece[:1] >= b'\xa0' for piece in data.split(b'\xed')[1:]):
        return data.decode('ascii', 'surrogateescape')
    return data.decode('utf-8', 'surrogateescape')


def bytes_of_text(text):
    """The bytes from which text_of_bytes() made `text`.  Raises ValueError for other lone surrogates."""
    if not PYTHON2:
        return text.encode('utf-8', 'surrogateescape')
    pieces = text.encode('utf-8').split(b'\xed')
    for number in range(1, len(pieces)):
        piece = pieces[number]
        if piece[:1] >= b'\xa0':  # a surrogate: ED B2 80 to ED B3 BF stand for 80 to FF
            if piece[:1] not in b'\xb2\xb3':
                raise ValueError('has half a character')
            pieces[number] = chr(ord(piece[1]) + 0x40 * (piece[:1] == b'\xb3')) + piece[2:]
        else:
            pieces[number] = b'\xed' + piece
    return b''.join(pieces)


def keep_from_children(fd):
    """Have `fd` closed when a child program starts, as Python 3 does for every descriptor."""
    if PYTHON2:
        import fcntl
        fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.fcntl(fd, fcntl.F_GETFD) | fcntl.FD_CLOEXEC)


def start_program(path, argv, environment, streams, dies_with_us=False):
    """Start the program at `path` with `streams` (three descriptors) as its stdin, stdout and stderr and no others.

    It gets SIGPIPE and SIGXFSZ, which XAPI and Python ignore, as the system's default.  Returns its process id.
    dies_with_us: it gets SIGTERM when this thread ends, for any reason
    Raises EnvironmentError if it cannot be started.
    """
    if dies_with_us:
        return _fork_program(path, argv, environment, streams, _make_pact())
    if not hasattr(os, 'posix_spawn'):  # before Python 3.8
        return _fork_program(path, argv, environment, streams, lambda: None)
    actions = [(os.POSIX_SPAWN_DUP2, stream, number) for number, stream in enumerate(streams)]
    actions += [(os.POSIX_SPAWN_CLOSE, other) for other in _list_descriptors()]
    return os.posix_spawn(path, argv, environment, file_actions=actions, setsigdef=_DEFAULT_SIGNALS)


def _list_descriptors():
    """All open descriptors but the standard streams; one of them, the listing's own, is closed by now."""
    return [int(name) for name in os.listdir('/proc/self/fd') if int(name) > 2]


def _make_pact():
    """A function for the child of a fork, by which it gets SIGTERM when its parent ends.  It looks nothing up after the fork."""
    import ctypes
    prctl, parent_pid = ctypes.CDLL(None).prctl, os.getpid()

    def agree():
        prctl(_PR_SET_PDEATHSIG, SIGTERM)
        if os.getppid() != parent_pid:  # the parent has ended already
            os._exit(127)
    return agree


def _fork_program(path, argv, environment, streams, prepare):
    report, problem = os.pipe()
    keep_from_children(problem)
    try:
        pid = os.fork()
        if not pid:
            _become_program(path, argv, environment, streams, problem, prepare)
    finally:
        os.close(problem)
    try:
        number = _read_through(report)
    finally:
        os.close(report)
    if number:
        os.waitpid(pid, 0)
        raise EnvironmentError(int(number), os.strerror(int(number)))
    return pid


def _become_program(path, argv, environment, streams, problem, prepare):
    """In the child: replace this process by the program.  Never returns: the callers on the stack belong to the parent."""
    try:
        prepare()
        for number in _DEFAULT_SIGNALS:
            raw_signal.signal(number, raw_signal.SIG_DFL)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        # Listed after the fork: no other thread can open one now, which Python 2 would pass on.
        for other in _list_descriptors():
            if other != problem:
                _close(other)
        os.execve(path, argv, environment)
    except EnvironmentError as error:
        os.write(problem, str(error.errno).encode('ascii'))
    finally:
        os._exit(127)


def _close(descriptor):
    try:
        os.close(descriptor)
    except EnvironmentError:
        pass  # the descriptor of the listing


def _read_through(descriptor):
    """All bytes of a pipe that holds few; Python 2 does not resume a call that a signal interrupts."""
    while True:
        try:
            return os.read(descriptor, 16)
        except EnvironmentError as error:
            if error.errno != errno.EINTR:
                raise


def thread_id():
    """A number that no other living thread has.  (The threading module would cost each call 3-5 ms.)"""
    return raw_thread.get_ident()


def monotonic_s():
    """Seconds of a clock that no clock adjustment moves; its zero is arbitrary."""
    if PYTHON2:
        # times(2) returns ticks of 10 ms since boot; Python 2.7 has no other monotonic clock.
        return os.times()[4]
    import time
    return time.monotonic()


def import_http_client():
    """The standard library's HTTP client module, which costs 15-25 ms to import."""
    if PYTHON2:
        import httplib
        return httplib
    import http.client
    return http.client


def import_xmlrpc_client():
    """The standard library's XML-RPC client module, which costs 40 ms to import."""
    if PYTHON2:
        import xmlrpclib
        return xmlrpclib
    import xmlrpc.client
    return xmlrpc.client


def import_urlparse():
    """The standard library's URL module."""
    if PYTHON2:
        import urlparse
        return urlparse
    import urllib.parse
    return urllib.parse


def import_queue():
    """The standard library's thread-safe queue module."""
    if PYTHON2:
        import Queue
        return Queue
    import queue
    return queue
