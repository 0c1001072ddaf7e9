# SPDX-License-Identifier: Apache-2.0
"""The HTTP client against servers that answer byte by byte as a script says."""

from __future__ import absolute_import, division

import contextlib
import os
import socket
import ssl
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dom0_lib import errors
from dom0_lib.web import connection
from dom0_lib.web import http_client
from tests import patience
from tests.unit import scripted_server
from tests.unit.scripted_server import DEAF, RESET, ScriptedServer

OK = b'HTTP/1.1 200 OK\r\n'
# Waits of the client come in slices of half a second, after which it looks at its deadlines.
SLICE_S = 0.5
BODY = bytes(bytearray(range(256))) * 3000

# A self-signed certificate for 127.0.0.1 and its key, made for these tests; only they trust it.
CERTIFICATE = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'tls_certificate.pem')


def fetch(server, headers=None, options=None, path='/v2/images/1/file'):
    """(status, body) of a GET."""
    response = http_client.get(server.url + path, headers or {}, options)
    with contextlib.closing(response):
        return response.status, read_all(response)


def read_all(response):
    pieces = list(iter(response.read, b''))
    assert all(len(piece) <= http_client.READ_BYTES for piece in pieces)
    assert response.read() == b'', 'the end is an end'
    return b''.join(pieces)


def failure_of(*script, **options):
    """What a GET that such a server answers fails with."""
    with ScriptedServer(script) as server:
        with pytest.raises(errors.RetryableError) as caught:
            fetch(server, **options)
    text = str(caught.value)
    assert text.startswith('127.0.0.1:%d ' % server.port) or ' 127.0.0.1:%d' % server.port in text
    assert '\n' not in text
    return text


def cut(data, size):
    return [data[start:start + size] for start in range(0, len(data), size)]


def frame(data, size, last=b'0\r\n\r\n'):
    """`data` in chunks of `size`."""
    return b''.join(b'%x\r\n' % len(piece) + piece + b'\r\n' for piece in cut(data, size)) + last


# The request

def test_a_request_names_its_host_and_asks_to_close():
    with ScriptedServer([OK + b'\r\n']) as server:
        fetch(server, {u'X-Auth-Token': u'a secret', u'X-Roles': u'\u263a'})
    assert server.requests == [
        u'GET /v2/images/1/file HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nAccept: */*\r\n'
        u'X-Auth-Token: a secret\r\nX-Roles: \u263a\r\n\r\n' % server.netloc]


def test_ipv6_literal():
    with ScriptedServer([OK + b'\r\nsix'], family=socket.AF_INET6) as server:
        assert fetch(server) == (200, b'six')
    assert u'Host: [::1]:%d\r\n' % server.port in server.requests[0]


@pytest.mark.parametrize('text, host, port, target', [
    ('http://a', 'a', 80, '/'),
    ('https://a', 'a', 443, '/'),
    ('http://a:8080/image/v2', 'a', 8080, '/image/v2'),
    ('http://[fe80::1]/x?y=/z', 'fe80::1', 80, '/x?y=/z'),
    ('https://[::1]:9292', '::1', 9292, '/'),
    ('http://a?x=1', 'a', 80, '/?x=1'),
    ('http://a:1?x=1/2', 'a', 1, '/?x=1/2'),
])
def test_url(text, host, port, target):
    url = connection.Url(text)
    assert (url.host, url.port, url.target) == (host, port, target)


# Bodies

@pytest.mark.parametrize('step', [1, 17, 511, 512, 513, 65536])
@pytest.mark.parametrize('framing', ['length', 'chunked', 'close'])
def test_a_body_in_pieces_of_any_size(framing, step):
    body = BODY if step > 500 else BODY[:20 * step + 3]
    answer = {
        'length': OK + b'Content-Length: %d\r\n\r\n' % len(body) + body,
        'chunked': OK + b'Transfer-Encoding: chunked\r\n\r\n' + frame(body, 1000),
        'close': OK + b'\r\n' + body,
    }[framing]
    with ScriptedServer(cut(answer, step)) as server:
        assert fetch(server) == (200, body)


@given(data=st.data(), body=st.binary(max_size=300))
def test_chunks_split_anywhere(data, body):
    """Neither the size of the chunks nor that of the pieces on the network matters."""
    chunked = frame(body, data.draw(st.integers(1, 301)), data.draw(st.sampled_from([
        b'0\r\n\r\n', b'0000\r\n\r\n', b'0;name=value\r\n\r\n', b'0\r\nETag: late\r\nX: y\r\n\r\n', b'0\n\n'])))
    answer = OK + b'Transfer-Encoding: Chunked\r\n\r\n' + chunked
    cuts = data.draw(st.lists(st.integers(0, len(answer)), max_size=5).map(sorted))
    pieces = [answer[start:end] for start, end in zip([0] + cuts, cuts + [len(answer)])]
    with ScriptedServer(pieces) as server:
        assert fetch(server) == (200, body)


def test_what_follows_a_body_is_not_part_of_it():
    with ScriptedServer([OK + b'Content-Length: 3\r\n\r\nabcHTTP/1.1 500 no\r\n\r\n'],
                        [OK + b'Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nmore']) as server:
        assert fetch(server) == (200, b'abc')
        assert fetch(server) == (200, b'abc')


@pytest.mark.parametrize('head, length', [
    (b'Content-Length: 4\r\n', 4), (b'', None), (b'Transfer-Encoding: chunked\r\nContent-Length: 4\r\n', None)])
def test_length_is_known_when_it_was_announced(head, length):
    with ScriptedServer([OK + head + b'\r\n']) as server:
        response = http_client.get(server.url, {})
        response.close()
    assert response.length == length


@pytest.mark.parametrize('status', [204, 304])
def test_a_status_without_a_body(status):
    """Glance answers 204 for an image without data; a server that keeps the connection open must not hold us up."""
    with ScriptedServer([b'HTTP/1.1 %d x\r\nContent-Length: 5\r\n\r\n' % status, patience.ENDLESS_S]) as server:
        started = time.time()
        assert fetch(server) == (status, b'')
        assert time.time() - started < patience.LIMIT_S


# Heads

@pytest.mark.parametrize('line, status', [
    (b'HTTP/1.0 200 OK', 200), (b'HTTP/1.1 404', 404), (b'HTTP/1.1 503 ', 503), (b'HTTP/1.1 299 caf\xe9', 299)])
def test_status_lines(line, status):
    with ScriptedServer([line + b'\r\nContent-Length: 0\r\n\r\n']) as server:
        assert fetch(server) == (status, b'')


def test_headers():
    with ScriptedServer([OK + b'ETag: "one"\r\nX-Thing:\tcaf\xe9 : x  \r\nX-Empty:\r\nContent-Length: 0\r\n'
                              b'Content-Length: 0\r\n\r\n']) as server:
        response = http_client.get(server.url, {})
        response.close()
    assert response.header('etag') == '"one"'
    assert response.header('x-thing') == u'caf\xe9 : x'
    assert response.header('x-empty') == ''
    assert response.header('x-absent') is None


def test_interim_responses_are_passed_over():
    with ScriptedServer([b'HTTP/1.1 100 Continue\r\n\r\n', b'HTTP/1.1 103 Early Hints\r\nETag: no\r\n\r\n',
                         OK + b'Content-Length: 2\r\n\r\nok']) as server:
        response = http_client.get(server.url, {})
        with contextlib.closing(response):
            assert (response.status, response.header('etag'), read_all(response)) == (200, None, b'ok')


BROKEN_HEADS = [
    (b'', 'closed the connection before it answered'),
    (b'HTTP/1.1 200 OK\r\nContent-Le', 'closed the connection before it answered'),
    (b'\x16\x03\x01 this is not HTTP\r\n\r\n', 'does not speak HTTP'),
    (b'\r\n\r\n', 'does not speak HTTP'),
    (b'HTTP/2 200 OK\r\n\r\n', 'does not speak HTTP'),
    (b'HTTP/1.1 20 OK\r\n\r\n', 'does not speak HTTP'),
    (b'HTTP/1.1 2000 OK\r\n\r\n', 'does not speak HTTP'),
    (b'HTTP/1.1 2x0 OK\r\n\r\n', 'does not speak HTTP'),
    # The superscript digits of Latin-1 are digits for Python, but no numbers.
    (b'HTTP/1.1 2\xb2\xb3 OK\r\n\r\n', 'does not speak HTTP'),
    (b'HTTP/1.1 -12 OK\r\n\r\n', 'does not speak HTTP'),
    (OK + b'no colon\r\n\r\n', 'sent a broken header'),
    (OK + b': nameless\r\n\r\n', 'sent a broken header'),
    (OK + b'ETag : x\r\n\r\n', 'sent a broken header'),
    (OK + b'ET\xe4g: x\r\n\r\n', 'sent a broken header'),
    (OK + b'ET\0g: x\r\n\r\n', 'sent a broken header'),
    (OK + b'ETag: x\r\n folded\r\n\r\n', 'sent a broken header'),
    (OK + b'ETag: x\nContent-Length: 3\r\n\r\n', 'sent a broken header'),
    (b'HTTP/1.1 200 OK\nContent-Length: 3\r\n\r\n', 'sent a broken header'),
    (OK + b'ETag: x\rContent-Length: 3\r\n\r\n', 'sent a broken header'),
    (OK + b'Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx', 'sent two different content-length headers'),
    (OK + b'Transfer-Encoding:\x1cchunked\r\n\r\n0\r\n\r\n', 'sent an unknown transfer encoding'),
    (OK + b'Content-Length:\x0b1\r\n\r\nx', 'sent a content-length that is not a number'),
    (OK + b'Content-Length: -1\r\n\r\n', 'sent a content-length that is not a number'),
    (OK + b'Content-Length: 1, 1\r\n\r\nx', 'sent a content-length that is not a number'),
    (OK + b'Content-Length: \xb2\r\n\r\nx', 'sent a content-length that is not a number'),
    (OK + b'Content-Length:\r\n\r\nx', 'sent a content-length that is not a number'),
    (OK + b'Content-Length: %s\r\n\r\nx' % (b'9' * 30), 'sent a content-length that is not a number'),
    (OK + b'Transfer-Encoding: gzip, chunked\r\n\r\n', 'sent an unknown transfer encoding'),
    (OK + b'X: ' + b'a' * 140000 + b'\r\n\r\n', 'sent more than 65536 bytes of headers'),
    (OK + b'a' * 300000, 'sent more than 65536 bytes of headers'),
    (b'HTTP/1.1 100 Continue\r\n\r\n' * 11 + OK + b'\r\n', 'sent 10 interim responses'),
]


@pytest.mark.parametrize('head, fragment', BROKEN_HEADS, ids=[fragment for _, fragment in BROKEN_HEADS])
def test_broken_heads(head, fragment):
    assert fragment in failure_of(head)


# Bodies that stop short

SHORT_BODIES = [
    (b'Content-Length: 5\r\n\r\nabc', 'closed the connection with 2 bytes to come'),
    (b'Content-Length: 5\r\n\r\n', 'closed the connection with 5 bytes to come'),
    (b'Transfer-Encoding: chunked\r\n\r\n', 'stopped within the framing of a chunk'),
    (b'Transfer-Encoding: chunked\r\n\r\n5', 'stopped within the framing of a chunk'),
    (b'Transfer-Encoding: chunked\r\n\r\n5\r\nabc', 'closed the connection with 2 bytes to come'),
    (b'Transfer-Encoding: chunked\r\n\r\n5\r\nabcde', 'stopped within the framing of a chunk'),
    (b'Transfer-Encoding: chunked\r\n\r\n5\r\nabcdef\r\n0\r\n\r\n', 'sent a chunk that does not end where it should'),
    (b'Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n', 'stopped within the framing of a chunk'),
    (b'Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n', 'stopped within the framing of a chunk'),
    (b'Transfer-Encoding: chunked\r\n\r\n\r\nabc\r\n', 'sent a chunk without a size'),
    (b'Transfer-Encoding: chunked\r\n\r\nno size\r\n', 'sent a chunk without a size'),
    (b'Transfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n', 'sent a chunk without a size'),
    (b'Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n', 'sent a chunk without a size'),
    (b'Transfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n', 'sent a chunk without a size'),
    (b'Transfer-Encoding: chunked\r\n\r\n' + b'0' * 20 + b'3\r\nabc\r\n', 'sent a chunk without a size'),
    (b'Transfer-Encoding: chunked\r\n\r\n' + b'3;' + b'x' * 9000, 'stopped within the framing of a chunk'),
    (b'Transfer-Encoding: chunked\r\n\r\n0\r\n' + b'A: b\r\n' * 200 + b'\r\n', 'sent too many trailers'),
]


@pytest.mark.parametrize('answer, fragment', SHORT_BODIES, ids=[fragment for _, fragment in SHORT_BODIES])
def test_bodies_that_stop_short(answer, fragment):
    assert fragment in failure_of(OK + answer)


def test_reset_within_the_body():
    text = failure_of(OK + b'Content-Length: 100\r\n\r\nabc', 0.3, RESET)
    assert 'cannot read from 127.0.0.1' in text and 'reset' in text.lower()


# Waits

def test_connection_refused():
    with ScriptedServer() as server:
        pass
    with pytest.raises(errors.RetryableError) as caught:
        fetch(server)
    assert 'cannot connect to 127.0.0.1:%d: ' % server.port in str(caught.value)
    assert 'refused' in str(caught.value)


@pytest.mark.parametrize('host', ['name.invalid', 'a' * 70, '..'])
def test_a_name_that_is_none(host):
    with pytest.raises(errors.RetryableError) as caught:
        http_client.get('http://%s:1/' % host, {})
    assert str(caught.value).startswith('cannot connect to %s:1: ' % host)


def test_a_connection_that_nobody_accepts():
    listener = socket.socket()
    waiting = []
    with contextlib.closing(listener):
        listener.bind(('127.0.0.1', 0))
        listener.listen(0)
        try:
            for _ in range(8):  # fill the queue: what comes then is dropped
                waiting.append(socket.socket())
                waiting[-1].setblocking(False)
                waiting[-1].connect_ex(listener.getsockname())
            started = time.time()
            with pytest.raises(errors.RetryableError) as caught:
                http_client.get('http://127.0.0.1:%d/' % listener.getsockname()[1], {}, connection.Options(connect_s=0.3))
            assert 'cannot connect' in str(caught.value) and 'timed out' in str(caught.value)
            assert time.time() - started < patience.LIMIT_S
        finally:
            for client in waiting:
                client.close()


@pytest.mark.parametrize('script', [
    [patience.ENDLESS_S], [b'HTTP/1.1 200', patience.ENDLESS_S], [OK + b'Content-Length: 9\r\n\r\nabc', patience.ENDLESS_S],
    [OK + b'Transfer-Encoding: chunked\r\n\r\n3', patience.ENDLESS_S],
], ids=['silence', 'half a head', 'half a body', 'half a chunk'])
def test_a_server_that_falls_silent(script):
    started = time.time()
    text = failure_of(*script, options=connection.Options(idle_s=1))
    assert 'made no progress for 1 s' in text
    assert 1 <= time.time() - started < patience.LIMIT_S


@pytest.mark.parametrize('beginning', [b'', OK + b'X: ', OK + b'\r\n', OK + b'Content-Length: 1000000\r\n\r\n'],
                         ids=['no head', 'head', 'body', 'body of known length'])
def test_a_trickle_does_not_outlast_the_deadline(beginning):
    """One byte now and then is progress, but the whole exchange has a deadline."""
    started = time.time()
    text = failure_of(beginning, *[b'x', 0.1] * 10 * patience.ENDLESS_S, options=connection.Options(idle_s=2, total_s=1))
    assert 'took longer than 1 s' in text
    assert 1 <= time.time() - started < patience.LIMIT_S


def test_a_trickle_in_time_is_read():
    script = [OK + b'Content-Length: 3\r\n\r\n', 0.6, b'a', 0.6, b'b', 0.6, b'c']
    with ScriptedServer(script) as server:
        assert fetch(server, options=connection.Options(idle_s=1)) == (200, b'abc')


def test_a_server_that_does_not_read():
    started = time.time()
    text = failure_of(DEAF, patience.ENDLESS_S, headers={u'X-Big': u'x' * 20000000}, options=connection.Options(idle_s=1))
    assert 'made no progress for 1 s' in text
    assert time.time() - started < patience.LIMIT_S


# Redirects

def redirect(location, status=302):
    return [b'HTTP/1.1 %d Found\r\nContent-Length: 0\r\nLocation: ' % status + location.encode('ascii') + b'\r\n\r\n']


TOKEN = {u'X-Auth-Token': u'a secret'}


@pytest.mark.parametrize('status', [301, 302, 303, 307, 308])
@pytest.mark.parametrize('location, target', [
    ('/other?a=b', u'/other?a=b'), ('next', u'/v2/images/1/next'), ('../2/file#part', u'/v2/images/2/file'),
    ('?page=2', u'/v2/images/1/file?page=2')])
def test_a_redirect_within_the_origin_keeps_the_headers(status, location, target):
    with ScriptedServer(redirect(location, status), [OK + b'\r\nthere']) as server:
        assert fetch(server, TOKEN) == (200, b'there')
    assert server.requests[1].startswith(u'GET %s HTTP/1.1\r\n' % target)
    assert [u'X-Auth-Token: a secret' in request for request in server.requests] == [True, True]


def test_a_redirect_to_another_origin_does_not_take_the_headers_along():
    with ScriptedServer([OK + b'\r\nthere']) as other:
        with ScriptedServer(redirect(other.url + '?signed=yes')) as server:
            assert fetch(server, TOKEN) == (200, b'there')
    assert u'a secret' in server.requests[0]
    assert other.requests[0].startswith(u'GET /?signed=yes HTTP/1.1\r\nHost: %s\r\n' % other.netloc)
    assert u'secret' not in other.requests[0]


def test_another_name_or_scheme_is_another_origin():
    origins = [connection.Url(text).origin for text in (
        'http://a', 'https://a', 'http://a:81', 'http://b', 'http://A:80/path', 'https://a:80', 'http://a:443')]
    assert origins[4] == origins[0]
    assert len(set(origins)) == 6


def test_back_at_the_origin_the_headers_are_back():
    server, other = ScriptedServer(), ScriptedServer()
    server.scripts = [redirect(other.url), [OK + b'\r\nback']]
    other.scripts = [redirect(server.url + '/back')]
    with server, other:
        assert fetch(server, TOKEN) == (200, b'back')
    assert [u'a secret' in request for request in server.requests + other.requests] == [True, True, False]


def test_redirects_end():
    with ScriptedServer(*[redirect('/again')] * 7) as server:
        with pytest.raises(errors.RetryableError) as caught:
            fetch(server)
    assert 'was redirected more than 5 times' in str(caught.value)
    assert len(server.requests) == 6


@pytest.mark.parametrize('location, fragment', [
    ('file:///etc/passwd', 'a redirect needs a URL that begins with http:// or https://'),
    ('ftp://127.0.0.1/x', 'a redirect needs a URL that begins with http:// or https://'),
    ('gopher:x', 'a redirect needs a URL that begins with http:// or https://'),
    ('http://:80/path', 'a redirect names no host'),
    ('http://a:b/', 'a redirect has a port that is not a number'),
    ('http://a:99999/', 'a redirect has a port that is not a number'),
    ('http://user:secret@a/', 'a redirect needs scheme://host'),
    ('http://[::1/', 'a redirect '),
    ('/with space', 'a redirect needs scheme://host'),
    ('/x?with space', 'a redirect has a broken query'),
])
def test_a_redirect_to_nowhere(location, fragment):
    with ScriptedServer(redirect(location)) as server:
        with pytest.raises(errors.RetryableError) as caught:
            fetch(server, TOKEN)
    assert fragment in str(caught.value)
    assert 'secret' not in str(caught.value)
    assert len(server.requests) == 1


def test_a_redirect_without_a_place_is_an_answer():
    with ScriptedServer([b'HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n'],
                        [b'HTTP/1.1 300 Multiple Choices\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n']) as server:
        assert fetch(server) == (302, b'')
        assert fetch(server) == (300, b'')


# TLS

@pytest.fixture
def tls_server():
    with open_tls_server() as server:
        yield server


@contextlib.contextmanager
def open_tls_server(**options):
    """Its certificate is for the address 127.0.0.1 and names no host."""
    context = ssl.SSLContext(getattr(ssl, 'PROTOCOL_TLS_SERVER', ssl.PROTOCOL_SSLv23))
    context.load_cert_chain(CERTIFICATE)
    body = BODY * 2
    scripts = [[OK + b'Content-Length: %d\r\n\r\n' % len(body)] + cut(body, 50000)]
    with ScriptedServer(*scripts, wrap=lambda accepted: context.wrap_socket(accepted, server_side=True), **options) as server:
        server.url = 'https://%s' % server.netloc
        yield server


def test_tls(tls_server, monkeypatch):
    monkeypatch.setenv('SSL_CERT_FILE', CERTIFICATE)
    assert fetch(tls_server, TOKEN) == (200, BODY * 2)
    assert u'a secret' in tls_server.requests[0]


def test_a_certificate_for_another_name(tls_server, monkeypatch):
    monkeypatch.setenv('SSL_CERT_FILE', CERTIFICATE)
    tls_server.url = tls_server.url.replace('127.0.0.1', 'localhost')
    assert 'certificate of localhost:%d is not trusted' % tls_server.port in refuse_certificate(tls_server)


def test_a_certificate_for_another_address(monkeypatch):
    monkeypatch.setenv('SSL_CERT_FILE', CERTIFICATE)
    with open_tls_server(family=socket.AF_INET6) as server:
        assert 'certificate of ::1:%d is not trusted' % server.port in refuse_certificate(server)


def refuse_certificate(tls_server, options=None):
    with pytest.raises(errors.PluginError) as caught:
        fetch(tls_server, TOKEN, options)
    assert not isinstance(caught.value, errors.RetryableError), 'a repetition meets the same certificate'
    assert tls_server.requests == []
    return str(caught.value)


def test_the_authorities_of_the_settings(tls_server, monkeypatch):
    monkeypatch.setenv('DOM0_ROOT', os.path.dirname(CERTIFICATE))
    assert fetch(tls_server, TOKEN, connection.Options(ca_file='/' + os.path.basename(CERTIFICATE))) == (200, BODY * 2)


def test_authorities_that_are_not_there(tls_server):
    text = refuse_certificate(tls_server, connection.Options(ca_file='/nonexistent'))
    assert 'ca_file in [tls] of /etc/dom0-plugins.conf' in text


def test_verification_switched_off(tls_server):
    tls_server.url = tls_server.url.replace('127.0.0.1', 'localhost')
    assert fetch(tls_server, TOKEN, connection.Options(verify=False)) == (200, BODY * 2)


def test_a_certificate_that_nobody_vouches_for(tls_server):
    text = refuse_certificate(tls_server)
    assert 'certificate of 127.0.0.1:%d is not trusted' % tls_server.port in text
    assert 'ca_file in [tls] of /etc/dom0-plugins.conf' in text


def test_a_redirect_out_of_tls_on_the_same_port_does_not_take_the_headers_along(monkeypatch):
    monkeypatch.setenv('SSL_CERT_FILE', CERTIFICATE)
    with open_tls_server() as server:
        wrap = server._wrap
        server._wrap = lambda accepted: wrap(accepted) if server.scripts else accepted
        server.scripts = [redirect('http://%s/there' % server.netloc), [OK + b'\r\nthere']]
        assert fetch(server, TOKEN) == (200, b'there')
    assert [u'a secret' in request for request in server.requests] == [True, False]


def test_a_tls_server_that_accepts_and_never_speaks():
    """Without a deadline of its own the handshake would last until the server closes the connection."""
    with ScriptedServer([DEAF, 20]) as server:
        server.url = 'https://%s' % server.netloc
        with pytest.raises(errors.RetryableError) as caught:
            fetch(server, TOKEN, connection.Options(connect_s=1))
    assert str(caught.value).startswith('TLS with 127.0.0.1:%d failed: ' % server.port) and 'timed out' in str(caught.value)


def test_a_handshake_can_be_ended():
    asked = []

    def check():
        asked.append(True)
        if len(asked) > 4:
            raise errors.PluginError('stop')
    with ScriptedServer([DEAF, 20]) as server:
        server.url = 'https://%s' % server.netloc
        with pytest.raises(errors.PluginError) as caught:
            fetch(server, TOKEN, connection.Options(connect_s=15, check=check))
    assert str(caught.value) == 'stop'


# Proxies

def through(proxy, **options):
    return connection.Options(proxy=connection.Url(proxy.url), **options)


def test_a_proxy_gets_the_whole_url():
    with ScriptedServer([OK + b'\r\nthere']) as proxy:
        response = http_client.get('http://images.invalid:9292/v2/x?y=z', TOKEN, through(proxy))
        with contextlib.closing(response):
            assert read_all(response) == b'there'
    assert proxy.requests[0].startswith(u'GET http://images.invalid:9292/v2/x?y=z HTTP/1.1\r\nHost: images.invalid:9292\r\n')
    assert u'a secret' in proxy.requests[0]


def test_a_proxy_only_connects_to_a_tls_server(tls_server, monkeypatch):
    """The proxy, which the tests play by handing the connection on, must see neither path nor token."""
    monkeypatch.setenv('SSL_CERT_FILE', CERTIFICATE)
    wrap, heads = tls_server._wrap, []

    def connect(accepted):
        heads.append(scripted_server.read_head(accepted))
        accepted.sendall(b'HTTP/1.1 200 Connection established\r\nVia: a proxy\r\n\r\n')
        return wrap(accepted)

    tls_server._wrap = connect
    proxy = connection.Url('http://%s' % tls_server.netloc)
    assert fetch(tls_server, TOKEN, connection.Options(proxy=proxy)) == (200, BODY * 2)
    assert heads == [u'CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: %s\r\n\r\n' % (tls_server.port, tls_server.netloc)]


@pytest.mark.parametrize('answer', [
    b'HTTP/1.1 403 Forbidden\r\n\r\n', b'', b'hello', b'HTTP/1.1 407 x\r\nX: ' + b'a' * 200000],
    ids=['refusal', 'nothing', 'no HTTP', 'endless'])
def test_a_proxy_that_does_not_connect(answer):
    with ScriptedServer([answer]) as proxy:
        with pytest.raises(errors.RetryableError) as caught:
            http_client.get('https://images.invalid/v2/x', TOKEN, through(proxy))
    assert str(caught.value) == 'the proxy does not connect to images.invalid:443'
    assert u'secret' not in proxy.requests[0]


def test_a_proxy_that_is_not_there():
    with ScriptedServer() as proxy:
        pass
    with pytest.raises(errors.RetryableError) as caught:
        http_client.get('http://images.invalid/', {}, through(proxy))
    assert str(caught.value).startswith('cannot connect to %s: ' % proxy.netloc)


# A wish to end

@pytest.mark.parametrize('script', [
    [patience.ENDLESS_S], [OK + b'Content-Length: 9\r\n\r\nabc', patience.ENDLESS_S]])
def test_a_wait_ends_when_the_caller_wants(script):
    class Cancelled(Exception):
        pass

    def check():
        if time.time() - started > 0.7:
            raise Cancelled

    started = time.time()
    with ScriptedServer(script) as server:
        with pytest.raises(Cancelled):
            fetch(server, options=connection.Options(check=check))
    assert time.time() - started < patience.LIMIT_S
