# SPDX-License-Identifier: Apache-2.0
"""Glance's answers, played by a server that says what a script tells it; the real ones: tests/simulator."""

from __future__ import absolute_import, division

import contextlib
import hashlib
import json
import time

import pytest

from dom0_lib import errors
from dom0_lib import settings
from dom0_lib.images import glance_api
from tests import patience
from tests.unit.scripted_server import ScriptedServer

DATA = bytes(bytearray(range(256))) * 40
MD5 = hashlib.md5(DATA).hexdigest()
SHA512 = hashlib.sha512(DATA).hexdigest()
TOKEN = {u'X-Auth-Token': u'a secret'}


def answer(body=b'', status=200, **headers):
    """A script for one request; headers are written with _ for -, and content_length=None leaves it out."""
    headers.setdefault('content_length', len(body))
    lines = ['HTTP/1.1 %d x' % status] + [
        '%s: %s' % (name.replace('_', '-'), value) for name, value in sorted(headers.items()) if value is not None]
    return [('\r\n'.join(lines) + '\r\n\r\n').encode('latin-1') + body]


def record(**fields):
    return answer(json.dumps(fields).encode('ascii'))


NO_RECORD = answer(status=503)


def make_image(server, api_version=2, check=lambda: None, chosen=None):
    return glance_api.Image(server.url, 'an-image', TOKEN, api_version, chosen or settings.parse(b''), check)


def download(server, **options):
    """What read() returns, all of it, verified."""
    with contextlib.closing(make_image(server, **options).open_data()) as data:
        body = b''.join(iter(data.read, b''))
        data.verify()
        assert data.position == len(body)
        return body


def paths(server):
    return [request.split(u' ')[1] for request in server.requests]


def range_of(request):
    return [line.partition(u': ')[2] for line in request.splitlines() if line.startswith(u'Range: ')]


# What is asked

def test_v2():
    with ScriptedServer(record(status='active', size=len(DATA), checksum=MD5), answer(DATA)) as server:
        assert download(server) == DATA
    assert paths(server) == [u'/v2/images/an-image', u'/v2/images/an-image/file']
    assert all(u'X-Auth-Token: a secret\r\n' in request for request in server.requests)


def test_v1():
    with ScriptedServer(answer(DATA, etag='"%s"' % MD5)) as server:
        assert download(server, api_version=1) == DATA
    assert paths(server) == [u'/v1/images/an-image']


def test_the_record_is_not_needed():
    with ScriptedServer(NO_RECORD, answer(DATA)) as server:
        assert download(server) == DATA


# What the statuses mean

STATUSES = [
    (204, errors.RetryableError, 'image an-image has no data (status 204): is its upload complete?'),
    (206, errors.RetryableError, 'the image service answered status 206 for image an-image'),
    (300, errors.PluginError, 'does not speak the API version asked for (status 300): use api_version 2'),
    (302, errors.PluginError, 'answered status 302'),
    (304, errors.PluginError, 'answered status 304'),
    (400, errors.PluginError, 'answered status 400'),
    (401, errors.PluginError, 'refuses image an-image (status 401): the token is not valid for it'),
    (403, errors.PluginError, 'refuses image an-image (status 403): the token is not valid for it'),
    (404, errors.ImageNotFound, 'has no image an-image for this token (status 404)'),
    (408, errors.RetryableError, 'answered status 408'),
    (409, errors.PluginError, 'answered status 409'),
    (410, errors.ImageNotFound, 'has no image an-image for this token (status 410)'),
    (413, errors.PluginError, 'answered status 413'),
    (416, errors.PluginError, 'answered status 416'),
    (418, errors.RetryableError, 'answered status 418'),
    (429, errors.RetryableError, 'answered status 429'),
    (500, errors.RetryableError, 'answered status 500'),
    (501, errors.PluginError, 'answered status 501'),
    (502, errors.RetryableError, 'answered status 502'),
    (503, errors.RetryableError, 'answered status 503'),
    (505, errors.PluginError, 'answered status 505'),
    (599, errors.RetryableError, 'answered status 599'),
]


@pytest.mark.parametrize('status, error_class, text', STATUSES)
def test_statuses(status, error_class, text):
    """The same for the record, unless it may pass, and for the data."""
    for script in ([answer(status=status)] * 2, [NO_RECORD, answer(status=status)]):
        with ScriptedServer(*script) as server:
            with pytest.raises(errors.PluginError) as caught:
                download(server)
        assert type(caught.value) is error_class
        assert text in str(caught.value)
        assert 'secret' not in str(caught.value)


@pytest.mark.parametrize('body', [
    b'', b'<html>', b'[]', b'null', b'{"size": ', b'\xff', b'[' * 100000, b'x' * (2 << 20), b'{"size": "many"}', b'{"size": [1]}'],
    ids=['nothing', 'HTML', 'list', 'null', 'cut', 'no UTF-8', 'deep', 'long', 'size of letters', 'size in a list'])
@pytest.mark.parametrize('length', [len(DATA), None])
def test_a_record_that_is_none(body, length):
    """As any record that cannot be read: the data may be there all the same."""
    with ScriptedServer(answer(body), answer(DATA, content_length=length)) as server:
        assert download(server) == DATA


# Digests

SHA256 = hashlib.sha256(DATA).hexdigest()
OTHER = '0' * 32


@pytest.mark.parametrize('headers, fields', [
    ({'etag': '"%s"' % MD5}, {}),
    ({'etag': MD5.upper()}, {}),
    ({'content_md5': MD5}, {}),
    ({'x_image_meta_checksum': MD5}, {}),
    ({'etag': 'W/"abc"', 'content_md5': MD5}, {}),
    ({'etag': '"%s-5"' % MD5[:30], 'x_image_meta_checksum': MD5}, {}),
    ({'content_md5': 'kjh4/gNx8ks/gM8Nkl3+Yg=='}, {'checksum': MD5}),
    ({}, {'checksum': MD5}),
    ({}, {'os_hash_algo': 'sha512', 'os_hash_value': SHA512}),
    ({}, {'os_hash_algo': 'sha256', 'os_hash_value': SHA256.upper()}),
    ({'etag': OTHER}, {'os_hash_algo': 'sha512', 'os_hash_value': SHA512}),
    ({'etag': MD5}, {'os_hash_algo': 'sha512', 'os_hash_value': 'too short'}),
    ({'etag': MD5}, {'os_hash_algo': 'whirlpool', 'os_hash_value': '0' * 128}),
    ({'etag': MD5}, {'os_hash_algo': None, 'os_hash_value': None, 'checksum': None}),
    ({'etag': MD5}, {'os_hash_algo': ['sha512'], 'os_hash_value': 5}),
    ({'etag': MD5}, {'checksum': OTHER}),
])
def test_digests(headers, fields):
    """Each of these is compared: the data are right here, and then wrong in their last byte."""
    with ScriptedServer(record(**fields), answer(DATA, **headers)) as server:
        assert download(server) == DATA
    with ScriptedServer(record(**fields), answer(DATA[:-1] + b'x', **headers)) as server:
        with pytest.raises(errors.RetryableError) as caught:
            download(server)
    assert 'the data of image an-image have ' in str(caught.value) and ', the service announced ' in str(caught.value)


def test_without_a_digest_the_data_are_taken():
    with ScriptedServer(record(), answer(DATA, etag='W/"proxy"')) as server:
        assert download(server) == DATA


# Sizes

@pytest.mark.parametrize('fields, headers', [({'size': len(DATA)}, {}), ({'size': None}, {}), ({}, {}),
                                             ({'size': len(DATA)}, {'content_length': None})])
def test_sizes_that_fit(fields, headers):
    with ScriptedServer(record(**fields), answer(DATA, **headers)) as server:
        assert download(server) == DATA


@pytest.mark.parametrize('size', [0, len(DATA) - 1, len(DATA) + 1])
def test_sizes_that_do_not(size):
    """uWSGI in front of Glance ends a stalled answer cleanly, with a Content-Length that is right for what it sent."""
    with ScriptedServer(record(size=size), answer(DATA)) as server:
        with pytest.raises(errors.RetryableError) as caught:
            download(server)
    assert str(caught.value) == 'the service sends %d bytes of image an-image, its record says %s' % (len(DATA), size)


# Connections that break

def broken(size_bytes, **headers):
    """All headers, and so many bytes of the data."""
    return answer(DATA[:size_bytes], content_length=len(DATA), **headers)


def continued(first, last=None, content_range=None):
    return answer(DATA[first:last], 206, content_length=len(DATA) - first,
                  content_range=content_range or 'bytes %d-%d/%d' % (first, len(DATA) - 1, len(DATA)))


@pytest.mark.parametrize('cuts', [[0], [1], [5000], [len(DATA) - 1], [1000, 3000, 8000]])
def test_a_broken_transfer_is_continued(cuts):
    scripts = [record(checksum=MD5), broken(cuts[0])]
    scripts += [continued(first, last) for first, last in zip(cuts, cuts[1:] + [len(DATA)])]
    if cuts[0] == 0:  # nothing had come yet
        scripts[2] = answer(DATA)
    with ScriptedServer(*scripts) as server:
        assert download(server) == DATA
    ranges = [[u'bytes=%d-' % cut] if cut else [] for cut in cuts]
    assert [range_of(request) for request in server.requests] == [[], []] + ranges
    assert all(u'a secret' in request for request in server.requests)


def test_data_of_unknown_length_that_end_too_early():
    """In good form, as uWSGI ends an answer that stalled: only the record knows better."""
    scripts = [record(size=len(DATA), checksum=MD5), answer(DATA[:5000], content_length=None), continued(5000)]
    with ScriptedServer(*scripts) as server:
        assert download(server) == DATA


def test_data_of_unknown_length_that_go_on_too_long():
    with ScriptedServer(record(size=len(DATA) - 1, checksum=MD5), answer(DATA + b'x', content_length=None)) as server:
        with pytest.raises(errors.RetryableError):
            download(server)


def test_a_continuation_may_take_several_tries():
    scripts = [record(checksum=MD5), broken(5000), answer(status=503), continued(5000)]
    with ScriptedServer(*scripts) as server:
        assert download(server) == DATA


def test_the_digest_is_of_all_parts():
    """One byte of the first part is wrong: what is continued cannot make it right."""
    scripts = [record(checksum=MD5), broken(5000), continued(5000)]
    scripts[1] = [scripts[1][0].replace(DATA[:100], b'x' * 100, 1)]
    with ScriptedServer(*scripts) as server:
        with pytest.raises(errors.RetryableError) as caught:
            download(server)
    assert 'the service announced ' + MD5 in str(caught.value)


@pytest.mark.parametrize('script', [
    answer(DATA), continued(0), continued(4000), answer(DATA[5000:], 206), continued(5000, content_range='bytes 50000-')],
    ids=['all of it', 'from the start', 'from before', 'no range', 'other range'])
def test_a_server_that_does_not_continue(script):
    """What it sends instead would be appended in the wrong place: the transfer begins again."""
    with ScriptedServer(record(checksum=MD5), broken(5000), script) as server:
        with pytest.raises(glance_api.RangeIgnored):
            download(server)


@pytest.mark.parametrize('status, error_class', [
    (404, errors.ImageNotFound), (401, errors.PluginError), (410, errors.ImageNotFound)])
def test_a_continuation_that_is_refused(status, error_class):
    with ScriptedServer(record(checksum=MD5), broken(5000), answer(status=status)) as server:
        with pytest.raises(errors.PluginError) as caught:
            download(server)
    assert type(caught.value) is error_class


def test_waits_end_when_the_caller_wants():
    """The last of the pauses between tries takes 8 s."""
    class Cancelled(Exception):
        pass

    def check():
        if time.time() - started > 0.8:
            raise Cancelled

    started = time.time()
    with ScriptedServer(record(), broken(5000)) as server:
        with pytest.raises(Cancelled):
            download(server, check=check)
    assert time.time() - started < patience.LIMIT_S


# Settings

def settings_of(text):
    return settings.parse(text.encode('utf-8'))


def test_the_settings_are_used():
    with ScriptedServer(NO_RECORD, answer(DATA)) as proxy:
        chosen = settings_of(u'[network]\nproxy = %s\n' % proxy.url)
        image = glance_api.Image('http://images.invalid', 'an-image', TOKEN, 2, chosen, lambda: None)
        with contextlib.closing(image.open_data()) as data:
            assert b''.join(iter(data.read, b'')) == DATA
    assert paths(proxy)[1] == u'http://images.invalid/v2/images/an-image/file'


def test_a_proxy_that_is_no_url():
    with pytest.raises(errors.PluginError) as caught:
        glance_api.Image('http://a', 'an-image', TOKEN, 2, settings_of(u'[network]\nproxy = squid:3128\n'), lambda: None)
    assert str(caught.value) == (
        "/etc/dom0-plugins.conf: 'proxy' in [network] needs a URL that begins with http:// or https://")
