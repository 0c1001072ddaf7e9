# SPDX-License-Identifier: Apache-2.0
"""A small HTTP/1.1 client: one request per connection, bodies streamed either way.

The standard library's client cannot be stopped while it waits for a trickle, does not see an answer that comes while it sends,
copies each piece on Python 2 and costs 20 ms to import.  Network failures are errors.RetryableError; the caller judges
the status.
"""

from __future__ import absolute_import, division

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib import text_checks
from dom0_lib.web import connection

READ_BYTES = 256 * 1024
# uWSGI refuses chunks of about 1 MiB and more.
MAX_CHUNK_BYTES = 512 * 1024
_MAX_HEAD_BYTES = 64 * 1024
_MAX_INTERIM_RESPONSES = 10
_MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)


def get(url, headers, options=None):
    """The Response to a GET of `url`; redirects are followed, but to another origin only the header Range is sent.

    The caller closes the response.  Raises errors.RetryableError, or errors.PluginError for a certificate.
    """
    origin = connection.Url(url).origin
    for _ in range(_MAX_REDIRECTS + 1):
        place = connection.Url(url)
        response = request('GET', url, headers if place.origin == origin else _keep_range(headers), options=options)
        location = response.header('location')
        if response.status not in _REDIRECTS or not location:
            return response
        response.close()
        url = _follow(url, location)
    raise errors.RetryableError('%s was redirected more than %d times' % (connection.Url(url).label, _MAX_REDIRECTS))


def _keep_range(headers):
    return dict((name, headers[name]) for name in headers if name == 'Range')


def _follow(url, location):
    try:
        joined = compat.import_urlparse().urljoin(url, location).partition('#')[0]
        endpoint, question, query = joined.partition('?')
        text_checks.check_url(compat.to_text(endpoint))
        if not all('!' <= c <= '~' for c in query):
            raise ValueError('has a broken query')
    except ValueError as error:
        raise errors.RetryableError('a redirect %s' % error)
    return endpoint + question + query


def request(method, url, headers, body=None, options=None):
    """The Response to a request, redirect or not; `body` is bytes or None.  Raises what get() raises."""
    if body is not None:
        headers = dict(headers, **{'Content-Length': '%d' % len(body)})
    link = _send_head(method, url, headers, options)
    try:
        try:
            if body:
                link.send(body)
            return Response(link, method)
        except connection.Broken as error:
            raise errors.RetryableError(compat.to_text(error))
    except BaseException:
        link.close()
        raise


def _send_head(method, url, headers, options):
    place = connection.Url(url)
    link = connection.Connection(place, options or connection.Options())
    try:
        fields = [('Host', place.netloc), ('Connection', 'close'), ('Accept', '*/*')] + sorted(headers.items())
        lines = ['%s %s HTTP/1.1' % (method, url if link.is_proxied else place.target)] + ['%s: %s' % field for field in fields]
        link.send(('\r\n'.join(lines) + '\r\n\r\n').encode('utf-8'))
        return link
    except connection.Broken as error:
        link.close()
        raise errors.RetryableError(compat.to_text(error))
    except BaseException:
        link.close()
        raise


class Upload(object):
    """A request whose body goes out in chunks; after an error its end is never sent, so it can never look complete."""

    def __init__(self, method, url, headers, options=None):
        self._method = method
        self._connection = _send_head(method, url, dict(headers, **{'Transfer-Encoding': 'chunked'}), options)
        self._answer = None   # what the server sent before we were done
        self._broken = None   # why we cannot send any more

    def send(self, data):
        """Send a piece of the body.  False when the server has answered or closed already: then call read_answer()."""
        data = memoryview(data)
        for start in range(0, len(data), MAX_CHUNK_BYTES):
            piece = data[start:start + MAX_CHUNK_BYTES].tobytes()
            if not self._send(b'%x\r\n%s\r\n' % (len(piece), piece)):
                return False
        return True

    def _send(self, chunk):
        self._answer = self._connection.poll(_MAX_HEAD_BYTES)
        if self._answer is not None:
            return False
        try:
            self._connection.send(chunk)
        except connection.Broken as error:
            self._broken = error
            return False
        return True

    def finish(self):
        """Send the end of the body; the Response.  Raises errors.RetryableError."""
        self._send(b'0\r\n\r\n')
        return self.read_answer()

    def read_answer(self):
        """The Response, also to a body that was not sent to its end.  Raises errors.RetryableError."""
        try:
            return Response(self._connection, self._method, self._answer or b'')
        except errors.RetryableError as error:
            if self._broken is None:
                raise
            raise errors.RetryableError('%s; %s' % (self._broken, error))

    def close(self):
        self._connection.close()


class Response(object):
    """The answer to one request: `status`, header(name), and a body that read() streams."""

    def __init__(self, link, method, received=b''):
        self._connection = link
        self._buffer = received
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

    def read_all(self, max_bytes):
        """The whole body, which must not be longer than `max_bytes`."""
        pieces, size_bytes = [], 0
        for piece in iter(self.read, b''):
            pieces.append(piece)
            size_bytes += len(piece)
            if size_bytes > max_bytes:
                raise self._broken('sent more than %d bytes' % max_bytes)
        return b''.join(pieces)

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
        # Other programs take a lone LF for the end of a line, and would read another header there.
        if any(u'\n' in line or u'\r' in line for line in lines):
            raise self._broken('sent a broken header')
        version, _, rest = lines[0].partition(u' ')
        code = rest[:3]
        if not version.startswith(u'HTTP/1.') or len(code) != 3 or not text_checks.is_number(code) or rest[3:4].strip():
            raise self._broken('does not speak HTTP')
        self.status = int(code)
        self._headers = {}
        for line in lines[1:]:
            name, colon, value = line.partition(u':')
            # Plain strip() also strips control characters: then `\x1cchunked` would be a chunked body here and nowhere else.
            name, value = name.lower(), value.strip(u' \t')
            # A name with a space or a byte beyond ASCII ends the headers for other programs, which would not see those after it.
            if not colon or not name or not all(u'!' <= c <= u'~' for c in name):
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
        length_bytes = text_checks.parse_number(length)
        if length_bytes is None:
            raise self._broken('sent a content-length that is not a number')
        return length_bytes

    def _begin_chunk(self):
        size = self._line().partition(b';')[0].strip(b' \t')
        if not 0 < len(size) < 16 or size.strip(text_checks.HEX_DIGITS.encode('ascii')):
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
