# SPDX-License-Identifier: Apache-2.0
"""Images for the demo: packed as a cloud packs them, and put into the image service by its own API."""

import http.client
import json
import os
import tarfile
import urllib.parse

_TIMEOUT_S = 60
# The fastest: the demo's time belongs to the import, not to packing.
_COMPRESSION_LEVEL = 1


def pack(path, chain, advance=lambda size_bytes: None):
    """A tar.gz of VHDs, leaf first: 0.vhd, 1.vhd, ...; advance(bytes) is called for data that has been packed."""
    with tarfile.open(path, "w:gz", compresslevel=_COMPRESSION_LEVEL) as archive:
        for number, source in enumerate(chain):
            member = tarfile.TarInfo("%d.vhd" % number)
            member.size = os.path.getsize(source)
            with open(source, "rb") as data:
                archive.addfile(member, _Watched(data, advance))


class _Watched(object):
    """A file whose reader is watched."""

    def __init__(self, source, advance):
        self._source = source
        self._advance = advance

    def read(self, size):
        data = self._source.read(size)
        self._advance(len(data))
        return data


def create(service, name):
    """The id of a new image without data."""
    record = {"name": name, "container_format": "ovf", "disk_format": "vhd"}
    return json.loads(_request(service, "POST", "", "application/json", json.dumps(record).encode("ascii")))["id"]


def read_record(service, image_id):
    """The service's record of an image."""
    return json.loads(_request(service, "GET", "/" + image_id))


def upload(service, image_id, path):
    """Give an image its data."""
    with open(path, "rb") as data:
        _request(service, "PUT", "/%s/file" % image_id, "application/octet-stream", data, os.path.getsize(path))


def count_transferred(service, image_id, counter):
    """How many bytes of an image's data the service has counted: "received_bytes" or "sent_bytes"."""
    path = "/%s/file" % image_id
    return sum(request[counter] for request in service.status()["requests"] if request["path"].endswith(path))


def _request(service, method, path, content_type="application/json", body=None, size_bytes=None):
    headers = {"X-Auth-Token": service.token, "Content-Type": content_type}
    if size_bytes is not None:
        headers["Content-Length"] = str(size_bytes)
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(service.url).netloc, timeout=_TIMEOUT_S)
    try:
        connection.request(method, "/v2/images" + path, body, headers)
        response = connection.getresponse()
        text = response.read()
        if response.status >= 300:
            raise OSError("the image service answers %d %s to %s %s" % (response.status, response.reason, method, path))
        return text
    finally:
        connection.close()
