# SPDX-License-Identifier: Apache-2.0
"""A TCP or TLS connection whose waits come in slices, so that a peer cannot outlast a deadline by sending a byte now and then.

The only module that opens network connections.  Network failures are errors.RetryableError.
"""

from __future__ import absolute_import, division

import errno
import os
import select
import socket

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib import paths

_WAIT_SLICE_S = 0.5
_MAX_PROXY_ANSWER_BYTES = 64 * 1024
_TLS_ADVICE = 'in [tls] of %s' % paths.SETTINGS


class Options(object):
    """The options of a connection.

    connect_s, idle_s:          limits, in seconds, for connecting and for a time without progress
    total_s:                    limit, in seconds from now, for everything that is done with these options
    verify, ca_file:            whether TLS certificates are verified, and a dom0 path with the authorities to trust
    proxy:                      a Url, or None
    check:                      called at least twice a second while waiting; an exception from it ends the wait
    """

    def __init__(self, connect_s=30, idle_s=90, total_s=6 * 3600, verify=True, ca_file=None, proxy=None, check=None):
        self.connect_s = connect_s
        self.idle_s = idle_s
        self.total_s = total_s
        self._ends_at = compat.monotonic_s() + total_s
        self.verify = verify
        self.ca_file = ca_file
        self.proxy = proxy
        self.check = check or (lambda: None)

    @property
    def is_out_of_time(self):
        """Whether total_s have passed."""
        return compat.monotonic_s() >= self._ends_at


class Url(object):
    """The parts of an http or https URL that dom0_lib.call.kinds has checked."""

    def __init__(self, text):
        self.text = text
        self.scheme, _, rest = text.partition('://')
        rest, question, query = rest.partition('?')
        self.netloc, slash, path = rest.partition('/')
        self.target = (slash + path or '/') + question + query
        if self.netloc.startswith('['):
            self.host, _, port = self.netloc[1:].partition(']')
        else:
            self.host, _, port = self.netloc.partition(':')
        port = port.lstrip(':')
        self.port = int(port) if port else {'http': 80, 'https': 443}[self.scheme]

    @property
    def origin(self):
        """The parts that two URLs of the same server share."""
        return self.scheme, self.host.lower(), self.port

    @property
    def label(self):
        """The server, for errors."""
        return '%s:%d' % (self.host, self.port)


class Broken(Exception):
    """The peer closed the connection while we were sending; it may have sent the reason before."""


class Connection(object):
    """An open connection to the server of `url`, or through the proxy.

    is_proxied: requests must name the whole URL
    """

    def __init__(self, url, options):
        self.label = url.label
        self.is_proxied = options.proxy is not None and url.scheme == 'http'
        self._options = options
        place = options.proxy or url
        try:
            self._socket = _connect(place, options)
        except (EnvironmentError, UnicodeError) as error:
            raise errors.RetryableError('cannot connect to %s: %s' % (place.label, compat.to_text(error)))
        try:
            self._socket.settimeout(_WAIT_SLICE_S)
            if url.scheme == 'https':
                if options.proxy:
                    self._open_tunnel(url)
                self._socket = _wrap_tls(self._socket, url, options)
        except BaseException:
            self._socket.close()
            raise

    def _open_tunnel(self, url):
        try:
            self.send(('CONNECT %s:%d HTTP/1.1\r\nHost: %s\r\n\r\n' % (url.host, url.port, url.netloc)).encode('ascii'))
        except Broken as error:
            raise errors.RetryableError('the proxy of %s: %s' % (self.label, error))
        answer = b''
        while b'\r\n\r\n' not in answer:  # a TLS server does not speak first, so no byte of TLS can follow the answer
            data = self.receive(4096)
            answer += data
            if not data or len(answer) > _MAX_PROXY_ANSWER_BYTES:
                break
        if not answer.startswith(b'HTTP/1.') or answer[8:12] != b' 200':
            raise errors.RetryableError('the proxy does not connect to %s' % self.label)

    def send(self, data):
        """Send all of `data`.  Raises Broken when the peer has closed."""
        data = memoryview(data)
        while data:
            data = data[self._wait_for(self._socket.send, data, is_sending=True):]

    def receive(self, max_bytes):
        """At least one byte and at most `max_bytes`; b'' when the peer has closed."""
        return self._wait_for(self._socket.recv, max_bytes, is_sending=False)

    def poll(self, max_bytes):
        """Bytes that the peer has sent already; b'' when it has closed, None when there are none."""
        if not select.select([self._socket], [], [], 0)[0]:
            return None
        self._socket.settimeout(0)
        try:
            return self._socket.recv(max_bytes)
        except EnvironmentError as error:
            # A TLS peer may send records without data: ssl then says that the operation did not complete.
            waits = error.errno in (errno.EAGAIN, errno.EWOULDBLOCK) or 'did not complete' in str(error)
            return None if waits else b''
        finally:
            self._socket.settimeout(_WAIT_SLICE_S)

    def _wait_for(self, operation, argument, is_sending):
        idle_until = compat.monotonic_s() + self._options.idle_s
        while True:
            self._options.check()
            try:
                result = operation(argument)
            except socket.timeout:
                result = None
            except EnvironmentError as error:
                # Python 2 has no class for a timeout of ssl, and does not resume after a signal.
                if 'timed out' not in str(error) and error.errno != errno.EINTR:
                    self._raise_broken(error, is_sending)
                result = None
            if self._options.is_out_of_time:
                raise errors.RetryableError('%s took longer than %d s' % (self.label, self._options.total_s))
            if result is not None:
                return result
            if compat.monotonic_s() >= idle_until:
                raise errors.RetryableError('%s made no progress for %d s' % (self.label, self._options.idle_s))

    def _raise_broken(self, error, is_sending):
        if is_sending and error.errno in (errno.EPIPE, errno.ECONNRESET):
            raise Broken('cannot send to %s: %s' % (self.label, compat.to_text(error)))
        raise errors.RetryableError('cannot %s %s: %s' % (
            'send to' if is_sending else 'read from', self.label, compat.to_text(error)))

    def close(self):
        self._socket.close()


def _connect(place, options):
    """A socket connected to the first address of `place` that answers.  Raises EnvironmentError."""
    failure = None
    for family, kind, protocol, _, address in socket.getaddrinfo(place.host, place.port, 0, socket.SOCK_STREAM):
        attempt = socket.socket(family, kind, protocol)
        try:
            _connect_socket(attempt, address, options)
            return attempt
        except EnvironmentError as error:
            attempt.close()
            failure = error
        except BaseException:
            attempt.close()
            raise
    raise failure


def _connect_socket(attempt, address, options):
    attempt.setblocking(False)
    status = attempt.connect_ex(address)
    until = compat.monotonic_s() + options.connect_s
    while status == errno.EINPROGRESS:
        options.check()
        if select.select([], [attempt], [], _WAIT_SLICE_S)[1]:
            status = attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        elif compat.monotonic_s() >= until:
            status = errno.ETIMEDOUT
    if status:
        raise EnvironmentError(status, os.strerror(status))


def _wrap_tls(plain_socket, url, options):
    import ssl
    context = _make_tls_context(ssl, options)
    try:
        if context is None:
            return _shake_hands(ssl.wrap_socket(plain_socket, do_handshake_on_connect=False), options)
        return _wrap_with_context(ssl, context, plain_socket, url.host, options)
    except (EnvironmentError, ValueError) as error:  # ssl.CertificateError is a ValueError before Python 3.7
        text = compat.to_text(error)
        if isinstance(error, ssl.CertificateError) or 'certificate verify failed' in text.lower().replace('_', ' '):
            raise errors.PluginError('the certificate of %s is not trusted (%s): name its authority with ca_file %s' % (
                url.label, text, _TLS_ADVICE))
        raise errors.RetryableError('TLS with %s failed: %s' % (url.label, text))


def _shake_hands(wrapped, options):
    until = compat.monotonic_s() + options.connect_s
    try:
        while True:
            options.check()
            try:
                wrapped.do_handshake()
                return wrapped
            except EnvironmentError as error:
                if 'timed out' not in str(error) or compat.monotonic_s() >= until:
                    raise
    except BaseException:
        wrapped.close()
        raise


def _wrap_with_context(ssl, context, plain_socket, host, options):
    def wrap():
        return _shake_hands(context.wrap_socket(plain_socket, server_hostname=host, do_handshake_on_connect=False), options)

    # Python 2 looks for an address among the certificate's names only; authorities put it elsewhere.
    address = _pack_address(host) if compat.PYTHON2 and context.check_hostname else None
    if address is None:
        return wrap()
    context.check_hostname = False
    wrapped = wrap()
    certificate = wrapped.getpeercert()
    named = [_pack_address(value.strip()) for kind, value in certificate.get('subjectAltName', ()) if kind == 'IP Address']
    if address not in named:
        ssl.match_hostname(certificate, host)
    return wrapped


def _pack_address(text):
    """The bytes of an IP address, or None for a name."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_pton(family, text)
        except socket.error:
            pass
    return None


def _make_tls_context(ssl, options):
    if not hasattr(ssl, 'create_default_context'):  # the original 2.7.5, without distributors' patches
        if options.verify:
            raise errors.PluginError('%s cannot verify TLS certificates: upgrade it, or set verify = no %s' % (
                compat.interpreter(), _TLS_ADVICE))
        return None
    try:
        context = ssl.create_default_context(cafile=paths.locate(options.ca_file) if options.ca_file else None)
    except EnvironmentError as error:
        raise errors.PluginError('cannot use the ca_file %s: %s' % (_TLS_ADVICE, compat.to_text(error)))
    if hasattr(ssl, 'VERIFY_X509_STRICT'):
        # Python 3.13 began to refuse private authorities without a keyUsage, which all earlier versions accept.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not options.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
