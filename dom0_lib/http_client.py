# SPDX-License-Identifier: Apache-2.0
"""A small HTTP/1.1 client: one request per connection, bodies streamed, no wait without a deadline.

The standard library's client cannot be stopped while it waits for a trickle, copies each piece on Python 2 and costs
20 ms to import.  What goes wrong on the network is errors.RetryableError; statuses are left to the caller.
"""

from __future__ import absolute_import, division

import errno
import socket

from dom0_lib import compat
from dom0_lib import errors

READ_BYTES = 256 * 1024
_MAX_HEAD_BYTES = 64 * 1024
_MAX_INTERIM_RESPONSES = 10
_MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_WAIT_SLICE_S = 1.0


class Timeouts(object):
    """Seconds: to connect, without any progress, and for the whole exchange."""

    def __init__(self, connect_s=30, idle_s=90, total_s=6 * 3600):
        self.connect_s = connect_s
        self.idle_s = idle_s
        self.total_s = total_s


class Url(object):
    """The parts of an http or https URL that dom0_lib.args has checked."""

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
        return self.scheme, self.host.lower(), self.port


def get(url, headers, timeouts=None):
    """The Response to a GET of `url`; redirects are followed, but `headers` never leave the origin they are meant for.

    The caller closes the response.  Raises errors.RetryableError.
    """
    timeouts = timeouts or Timeouts()
    origin = Url(url).origin
    for _ in range(_MAX_REDIRECTS + 1):
        place = Url(url)
        response = _exchange(place, 'GET', headers if place.origin == origin else {}, timeouts)
        location = response.header('location')
        if response.status not in _REDIRECTS or not location:
            return response
        response.close()
        url = _follow(place.text, location)
    raise errors.RetryableError('%s was redirected more than %d times' % (_label(Url(url)), _MAX_REDIRECTS))


def _follow(url, location):
    from dom0_lib import args
    try:
        joined = compat.import_urlparse().urljoin(url, location).partition('#')[0]
        endpoint, question, query = joined.partition('?')
        args.ENDPOINT.check(compat.to_text(endpoint))
        if not all('!' <= c <= '~' for c in query):
            raise ValueError('has a broken query')
    except ValueError as error:
        raise errors.RetryableError('a redirect %s' % error)
    return endpoint + question + query


def _exchange(url, method, headers, timeouts):
    connection = _Connection(url, timeouts)
    try:
        connection.send(_request_head(url, method, headers))
        return Response(connection, method)
    except BaseException:
        connection.close()
        raise


def _request_head(url, method, headers):
    fields = [('Host', url.netloc), ('Connection', 'close'), ('Accept', '*/*')]
    fields += sorted(headers.items())
    lines = ['%s %s HTTP/1.1' % (method, url.target)] + ['%s: %s' % field for field in fields]
    return ('\r\n'.join(lines) + '\r\n\r\n').encode('utf-8')


def _is_number(text):
    # Not isdigit(), which takes the superscript digits of Latin-1 for numbers.
    return bool(text) and all(u'0' <= c <= u'9' for c in text)


def _label(url):
    return '%s:%d' % (url.host, url.port)


class _Connection(object):
    """A socket whose waits come in slices, so that no peer can outlast a deadline by sending a byte now and then."""

    def __init__(self, url, timeouts):
        self.label = _label(url)
        self._timeouts = timeouts
        self._ends_at = compat.monotonic_s() + timeouts.total_s
        try:
            self._socket = socket.create_connection((url.host, url.port), timeouts.connect_s)
        except (EnvironmentError, UnicodeError) as error:
            raise errors.RetryableError('cannot connect to %s: %s' % (self.label, compat.to_text(error)))
        try:
            if url.scheme == 'https':
                self._socket = _wrap_tls(self._socket, url.host, self.label)
            self._socket.settimeout(_WAIT_SLICE_S)
        except BaseException:
            self._socket.close()
            raise

    def send(self, data):
        data = memoryview(data)
        while data:
            data = data[self._wait_for(self._socket.send, data, 'send to'):]

    def receive(self, max_bytes):
        """At least one byte and at most `max_bytes`; b'' when the peer has closed."""
        return self._wait_for(self._socket.recv, max_bytes, 'read from')

    def _wait_for(self, operation, argument, what):
        idle_until = compat.monotonic_s() + self._timeouts.idle_s
        while True:
            try:
                result = operation(argument)
            except socket.timeout:
                result = None
            except EnvironmentError as error:
                # Python 2 has no class for a timeout of ssl, and does not resume after a signal.
                if 'timed out' not in str(error) and error.errno != errno.EINTR:
                    raise errors.RetryableError('cannot %s %s: %s' % (what, self.label, compat.to_text(error)))
                result = None
            now = compat.monotonic_s()
            if now >= self._ends_at:
                raise errors.RetryableError('%s took longer than %d s' % (self.label, self._timeouts.total_s))
            if result is not None:
                return result
            if now >= idle_until:
                raise errors.RetryableError('%s made no progress for %d s' % (self.label, self._timeouts.idle_s))

    def close(self):
        self._socket.close()


def _wrap_tls(plain_socket, host, label):
    import ssl
    try:
        if hasattr(ssl, 'create_default_context'):
            return ssl.create_default_context().wrap_socket(plain_socket, server_hostname=host)
        return ssl.wrap_socket(plain_socket, cert_reqs=ssl.CERT_NONE)
    except (EnvironmentError, ValueError) as error:  # ssl.CertificateError is a ValueError before Python 3.7
        raise errors.RetryableError('TLS with %s failed: %s' % (label, compat.to_text(error)))


class Response(object):
    """The answer to one request: `status`, header(name), and a body that read() streams."""

    def __init__(self, connection, method):
        self._connection = connection
        self._buffer = b''
        for _ in range(_MAX_INTERIM_RESPONSES):
            self._read_head()
            if self.status >= 200:
                break
        else:
            raise self._broken('sent %d interim responses' % _MAX_INTERIM_RESPONSES)
        self._is_chunked = False
        self._left = self._body_length(method)  # bytes to come; in chunked form of this chunk; None: until the close
        self.length = None if self._is_chunked else self._left

    def header(self, name):
        """The value of a header (lower-case name), or None."""
        return self._headers.get(name)

    def read(self):
        """The next piece of the body, at most READ_BYTES; b'' after a complete end.

        Raises errors.RetryableError when the body stops short.
        """
        if self._is_chunked and self._left == 0:
            self._begin_chunk()
        if self._left == 0:
            return b''
        data = self._take(READ_BYTES if self._left is None else min(self._left, READ_BYTES))
        if self._left is not None:
            if not data:
                raise self._broken('closed the connection with %d bytes to come' % self._left)
            self._left -= len(data)
            if self._is_chunked and self._left == 0 and self._line():
                raise self._broken('sent a chunk that does not end where it should')
        return data

    def close(self):
        self._connection.close()

    def _broken(self, what):
        return errors.RetryableError('%s %s' % (self._connection.label, what))

    def _read_head(self):
        end = self._buffer.find(b'\r\n\r\n')
        while end < 0:
            if len(self._buffer) > _MAX_HEAD_BYTES:
                raise self._broken('sent more than %d bytes of headers' % _MAX_HEAD_BYTES)
            data = self._connection.receive(_MAX_HEAD_BYTES)
            if not data:
                raise self._broken('closed the connection before it answered')
            self._buffer += data
            end = self._buffer.find(b'\r\n\r\n')
        lines = self._buffer[:end].decode('latin-1').split(u'\r\n')
        self._buffer = self._buffer[end + 4:]
        version, _, rest = lines[0].partition(u' ')
        code = rest[:3]
        if not version.startswith(u'HTTP/1.') or len(code) != 3 or not _is_number(code) or rest[3:4].strip():
            raise self._broken('does not speak HTTP')
        self.status = int(code)
        self._headers = {}
        for line in lines[1:]:
            name, colon, value = line.partition(u':')
            name, value = name.lower(), value.strip()
            if not colon or not name or name != name.strip():
                raise self._broken('sent a broken header')
            if self._headers.get(name, value) != value and name in (u'content-length', u'transfer-encoding'):
                raise self._broken('sent two different %s headers' % name)
            self._headers[name] = value

    def _body_length(self, method):
        if method == 'HEAD' or self.status in (204, 304):
            return 0
        coding = self.header(u'transfer-encoding')
        if coding is not None:
            if coding.lower() != u'chunked':
                raise self._broken('sent an unknown transfer encoding')
            self._is_chunked = True
            return 0
        length = self.header(u'content-length')
        if length is None:
            return None
        if not _is_number(length) or len(length) > 18:
            raise self._broken('sent a content-length that is not a number')
        return int(length)

    def _begin_chunk(self):
        size = self._line().partition(b';')[0].strip()
        if not 0 < len(size) < 16 or size.strip(b'0123456789abcdefABCDEF'):
            raise self._broken('sent a chunk without a size')
        self._left = int(size, 16)
        if self._left == 0:
            for _ in range(100):
                if not self._line():
                    self._is_chunked = False
                    return
            raise self._broken('sent too many trailers')

    def _line(self):
        while b'\n' not in self._buffer:
            data = self._connection.receive(4096) if len(self._buffer) < 4096 else b''
            if not data:
                raise self._broken('stopped within the framing of a chunk')
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b'\n')
        return line.rstrip(b'\r')

    def _take(self, max_bytes):
        if self._buffer:
            data, self._buffer = self._buffer[:max_bytes], self._buffer[max_bytes:]
            return data
        return self._connection.receive(max_bytes)
