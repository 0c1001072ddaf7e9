# SPDX-License-Identifier: Apache-2.0
"""Fuzz targets: the answers of an image service and of xenstored."""

import http.client
import io
import struct

from dom0_lib import errors
from dom0_lib.guests import xenstore_link
from dom0_lib.images import glance_api
from dom0_lib.web import http_client

_METHODS = ("GET", "HEAD", "PUT", "GET")


class Link(object):
    """A connection whose peer has sent `data`, which arrive in pieces, and closed."""

    label = "service:80"

    def __init__(self, data, piece_bytes):
        self._data = data
        self._piece_bytes = piece_bytes

    def receive(self, max_bytes):
        assert 0 < max_bytes <= http_client.READ_BYTES
        taken = min(max_bytes, self._piece_bytes)
        data, self._data = self._data[:taken], self._data[taken:]
        return data

    def close(self):
        pass


class _Socket(object):

    def __init__(self, data):
        self._data = data

    def makefile(self, mode):
        return io.BytesIO(self._data)


def _read(data, method, piece_bytes):
    """(status, headers of interest, body) or the error of dom0_lib.web.http_client."""
    try:
        response = http_client.Response(Link(data, piece_bytes), method)
        body = response.read_all(1 << 20)
        assert response.read() == b""
        return response, body
    except errors.RetryableError as error:
        assert "\n" not in str(error) and len(str(error)) < 300
        return None, str(error)


def fuzz_http(data):
    """Only RetryableError escapes, pieces make no difference, and http.client, where it takes the answer, reads the same."""
    if len(data) < 2:
        return
    method, piece_bytes, data = _METHODS[data[0] & 3], 1 + data[1], bytes(data[2:])
    response, body = _read(data, method, 1 << 18)
    other, other_body = _read(data, method, piece_bytes)
    assert (response is None, body) == (other is None, other_body)
    if response is None:
        return
    assert 200 <= response.status < 1000
    _compare(data, method, response, body)
    _check_record(response, body)


def _compare(data, method, response, body):
    theirs = http.client.HTTPResponse(_Socket(data), method=method)
    try:
        theirs.begin()
        their_body = theirs.read()
    except (http.client.HTTPException, ValueError):
        return
    if theirs.status < 200:  # it knows 100 alone of the interim ones
        return
    assert (theirs.status, their_body) == (response.status, body), (theirs.status, their_body, response.status, body)


def _check_record(response, body):
    try:
        record = glance_api._parse_record(body)
    except errors.RetryableError:
        record = {}
    digest = glance_api._find_digest(response, record)
    assert digest is None or len(digest[1]) in (32, 64, 96, 128) and digest[1] == digest[1].lower()


def fuzz_xenstore(data):
    """Only ValueError escapes, the cut into pieces makes no difference, and each message is as long as its header says."""
    if not data:
        return
    piece_bytes, data = 1 + data[0], bytes(data[1:])
    whole, pieces = _read_messages(data, len(data) or 1), _read_messages(data, piece_bytes)
    if whole is None or pieces is None:
        assert whole is pieces
        return
    assert whole == pieces
    position = 0
    for kind, request_id, payload in whole:
        assert struct.unpack_from("=IIII", data, position)[:2] == (kind, request_id)
        position += 16 + len(payload)
        assert data[position - len(payload):position] == payload


def _read_messages(data, piece_bytes):
    """The messages in `data`; None if something is refused."""
    reader, messages = xenstore_link.ReplyReader(), []
    try:
        for start in range(0, len(data), piece_bytes):
            messages += reader.feed(data[start:start + piece_bytes])
    except ValueError:
        return None
    return messages
