# SPDX-License-Identifier: Apache-2.0
"""Glance's v1 API as 15.0.2 had it, the part that the plug-ins use: HEAD, GET and PUT of /v1/images/ID.

The record travels in x-image-meta-* headers, a property as x-image-meta-property-*, where `-` and `_` are the same.
"""
from __future__ import absolute_import, division

import json
import re

from tests.harness.image_service.service_http import DataSlice, Response
from tests.harness.image_service.service_images import Refused, check_attributes

META = "x-image-meta-"
PROPERTY = META + "property-"
WRITABLE = ("name", "disk_format", "container_format")


class ApiV1(object):
    """Answers requests under /v1 for one service's images."""

    def __init__(self, images):
        self._images = images

    def answer(self, request, identity):
        match = re.match("^/v1/images/([^/]+)$", request.path)
        methods = {"HEAD": self._show, "GET": self._download, "PUT": self._update}
        if match is None:
            raise Refused(404, "The resource could not be found.")
        if request.method not in methods:
            raise Refused(405, "The method is not allowed.", [("Allow", ", ".join(methods))])
        return methods[request.method](request, self._images.find(match.group(1), identity), identity)

    def _show(self, request, image, identity):
        return Response(200, _headers(image))

    def _download(self, request, image, identity):
        if image.status == "deactivated":
            raise Refused(403, "Image %s is deactivated" % image.id)
        if image.status != "active" or not image.has_data:
            raise Refused(404, "Image %s is not active" % image.id)
        headers = [("Content-Type", "application/octet-stream"), ("ETag", image.checksum)]
        return Response(200, headers + _headers(image), DataSlice(image.path, 0, image.size))  # Range is ignored

    def _update(self, request, image, identity):
        if image.owner != identity.project and "admin" not in identity.roles:
            raise Refused(403, "You are not permitted to modify %s" % image.id)
        if request.body.complete:
            _apply(image, request.headers)
        else:
            if image.status != "queued":
                raise Refused(409, "Image data may not be uploaded in status '%s'" % image.status)
            _apply(image, request.headers)
            self._images.upload(image, request.body, status_on_failure="killed")
        record = {"image": {"id": image.id, "status": image.status, "size": image.size, "checksum": image.checksum,
                            "properties": image.properties}}
        response = Response(200, [("Content-Type", "application/json")], json.dumps(record).encode("utf-8"))
        response.set_header("ETag", image.checksum)
        return response


def _apply(image, headers):
    for header, value in headers.items():
        header = header.lower()
        if header.startswith(PROPERTY):
            image.properties[header[len(PROPERTY):].replace("-", "_")] = value
        elif header.startswith(META):
            name = header[len(META):].replace("-", "_")
            if name in WRITABLE:
                check_attributes({name: value})
                setattr(image, name, value)
            elif name == "is_public":
                image.visibility = "public" if value.lower() in ("true", "1") else "private"


def _headers(image):
    fields = {"id": image.id, "status": image.status, "size": image.size, "checksum": image.checksum,
              "owner": image.owner, "name": image.name, "disk_format": image.disk_format,
              "container_format": image.container_format, "is_public": image.visibility == "public",
              "protected": image.protected, "min_ram": image.min_ram, "min_disk": image.min_disk, "deleted": False,
              "created_at": image.created_at, "updated_at": image.updated_at}
    headers = [(META + name, str(value)) for name, value in sorted(fields.items()) if value is not None]
    return headers + [(PROPERTY + name, str(value)) for name, value in sorted(image.properties.items())]
