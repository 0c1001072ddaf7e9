# SPDX-License-Identifier: Apache-2.0
"""Glance's v2 API, the part that a plug-in, a cloud and a test need: records, data, deactivation.

    POST   /v2/images                       a queued image
    GET    /v2/images                       what the caller may see
    GET, PATCH, DELETE /v2/images/ID
    GET, PUT /v2/images/ID/file
    PUT    /v2/images/ID/stage              the other way in: leaves the image `uploading`
    POST   /v2/images/ID/actions/deactivate, .../reactivate
    GET    /v2/schemas/image                glanceclient asks this first, to know names from other properties
"""
from __future__ import absolute_import, division

import copy
import json
import re

from tests.harness.image_service.service_http import DataSlice, Response
from tests.harness.image_service.service_images import EDITABLE, Refused, check_attributes

OCTETS = "application/octet-stream"
PATCH_TYPES = ("application/openstack-images-v2.0-json-patch", "application/openstack-images-v2.1-json-patch")
READ_ONLY = ("id", "status", "size", "virtual_size", "checksum", "os_hash_algo", "os_hash_value", "created_at",
             "updated_at", "file", "self", "schema", "direct_url")
MAX_JSON_BYTES = 1 << 20
IMAGE = "^/v2/images/([^/]+)"


class ApiV2(object):
    """Answers requests under /v2 for one service's images. `url`: what Location headers begin with."""

    def __init__(self, images, url):
        self._images = images
        self._url = url
        self._routes = [
            ("^/v2/images$", {"GET": self._list, "POST": self._create}),
            (IMAGE + "$", {"GET": self._show, "PATCH": self._change, "DELETE": self._delete}),
            (IMAGE + "/file$", {"GET": self._download, "PUT": self._upload}),
            (IMAGE + "/stage$", {"PUT": self._stage}),
            (IMAGE + "/actions/deactivate$", {"POST": self._deactivate}),
            (IMAGE + "/actions/reactivate$", {"POST": self._reactivate}),
            ("^/v2/schemas/image$", {"GET": self._show_schema}),
        ]

    def answer(self, request, identity):
        for pattern, methods in self._routes:
            match = re.match(pattern, request.path)
            if match:
                if request.method not in methods:
                    raise Refused(405, "The method %s is not allowed for this resource." % request.method,
                                  [("Allow", ", ".join(methods))])
                return methods[request.method](request, identity, *match.groups())
        raise Refused(404, "The resource could not be found.")

    def _list(self, request, identity):
        visible = []
        for image in self._images:
            try:
                visible.append(_record(self._images.find(image.id, identity)))
            except Refused:
                pass
        return _json(200, {"images": visible, "first": "/v2/images", "schema": "/v2/schemas/images"})

    def _show_schema(self, request, identity):
        properties = dict.fromkeys(READ_ONLY + EDITABLE + ("owner",), {"type": ["null", "string"]})
        properties.update(dict.fromkeys(("size", "virtual_size"), {"type": ["null", "integer"]}))
        properties.update(dict.fromkeys(("min_ram", "min_disk"), {"type": "integer"}))
        properties.update(dict.fromkeys(("protected", "os_hidden"), {"type": "boolean"}))
        properties["tags"] = {"type": "array", "items": {"type": "string"}}
        return _json(200, {"name": "image", "properties": properties, "additionalProperties": {"type": "string"}})

    def _create(self, request, identity):
        attributes = _read_json(request)
        check_attributes(attributes)
        for name in attributes:
            if name in READ_ONLY and name != "id":
                raise Refused(403, "Attribute '%s' is read-only." % name)
        _check_role(identity, "add_image")
        _check_publishing(attributes, identity)
        if attributes.pop("owner", identity.project) != identity.project and "admin" not in identity.roles:
            raise Refused(403, "You are not permitted to create images owned by someone else")
        image = self._images.create(identity.project, attributes, attributes.pop("id", None))
        return _json(201, _record(image), [("Location", "%s/v2/images/%s" % (self._url, image.id))])

    def _show(self, request, identity, image_id):
        return _json(200, _record(self._images.find(image_id, identity)))

    def _change(self, request, identity, image_id):
        operations = _read_patch(request)
        image = self._find_to_change(image_id, identity, "modify_image")
        changed = copy.copy(image)
        changed.properties = dict(image.properties)
        for operation, name, value in operations:
            _apply(changed, operation, name, value)
        check_attributes(changed.properties)
        check_attributes({name: getattr(changed, name) for name in EDITABLE})
        _check_publishing({name: value for operation, name, value in operations}, identity)
        for name in EDITABLE + ("properties",):
            setattr(image, name, getattr(changed, name))
        return _json(200, _record(image))

    def _delete(self, request, identity, image_id):
        image = self._find_to_change(image_id, identity, "delete_image")
        if image.protected:
            raise Refused(403, "Image %s is protected and cannot be deleted." % image_id)
        self._images.delete(image)
        return _nothing()

    def _download(self, request, identity, image_id):
        image = self._images.find(image_id, identity)
        _check_role(identity, "download_image")
        if image.status == "deactivated" and "admin" not in identity.roles:
            raise Refused(403, "The requested image has been deactivated. Image data download is forbidden.")
        start, stop = 0, image.size
        wanted = request.headers.get("Range")
        if wanted is not None:
            if image.size is None:
                raise Refused(500)  # Glance computes with the size of an image that has none
            start, stop = _parse_range(wanted, image.size)
        if image.status not in ("active", "deactivated") or not image.has_data:
            return Response(204)
        response = Response(200, [("Content-Type", OCTETS)], DataSlice(image.path, start, stop - start))
        if wanted is not None:
            response = Response(206, response.headers, response.body)
            response.set_header("Content-Range", "bytes %d-%d/%d" % (start, stop - 1, image.size))
        response.set_header("Content-MD5", image.checksum)  # of the whole image, for a part as well
        return response

    def _upload(self, request, identity, image_id):
        _check_octets(request)
        self._images.upload(self._find_to_change(image_id, identity, "upload_image"), request.body)
        return _nothing()

    def _stage(self, request, identity, image_id):
        _check_octets(request)
        image = self._find_to_change(image_id, identity, "modify_image")
        if image.status != "queued":
            raise Refused(409, "Image status transition from %s to uploading is not allowed" % image.status)
        image.status = "uploading"
        while request.body.read():
            pass
        return _nothing()

    def _deactivate(self, request, identity, image_id):
        return self._set_status(identity, image_id, "deactivate", ("active", "deactivated"), "deactivated")

    def _reactivate(self, request, identity, image_id):
        return self._set_status(identity, image_id, "reactivate", ("active", "deactivated"), "active")

    def _set_status(self, identity, image_id, action, allowed, status):
        image = self._find_to_change(image_id, identity, action)
        if image.status not in allowed:
            raise Refused(403, "Not allowed to %s image in status '%s'" % (action, image.status))
        image.status = status
        return _nothing()

    def _find_to_change(self, image_id, identity, action):
        image = self._images.find(image_id, identity)
        _check_role(identity, action)
        if image.owner != identity.project and "admin" not in identity.roles:
            raise _forbidden(action)
        return image


def _check_role(identity, action):
    if "member" not in identity.roles:
        raise _forbidden(action)


def _check_publishing(attributes, identity):
    if attributes.get("visibility") == "public" and "admin" not in identity.roles:
        raise _forbidden("publicize_image")


def _forbidden(action):
    return Refused(403, "You are not authorized to complete %s action." % action)


def _check_octets(request):
    content_type = request.headers.get("Content-Type", "")
    if content_type.split(";")[0].strip().lower() != OCTETS:
        raise Refused(415, "Invalid content type %s" % content_type)


def _read_json(request):
    content = b""
    for piece in iter(request.body.read, b""):
        content += piece
        if len(content) > MAX_JSON_BYTES:
            raise Refused(413, "The request body is too large")
    try:
        return json.loads(content.decode("utf-8"))
    except ValueError:
        raise Refused(400, "Malformed JSON in request body.")


def _read_patch(request):
    """The operations as (operation, name, value), every one checked before the image is looked for."""
    content_type = request.headers.get("Content-Type")
    if content_type not in PATCH_TYPES:
        raise Refused(415, "Image PATCH expects Content-Type one of: " + ", ".join(PATCH_TYPES),
                      [("Accept-Patch", ", ".join(PATCH_TYPES))])
    items = _read_json(request)
    if not isinstance(items, list):
        raise Refused(400, "Request body must be a JSON array of operation objects.")
    operations = [_read_operation(item, content_type == PATCH_TYPES[0]) for item in items]
    for operation, name, value in operations:
        if name in READ_ONLY:
            raise Refused(403, "Attribute '%s' is read-only." % name)
        if operation != "remove":
            check_attributes({name: value})
    return operations


def _read_operation(item, is_old_style):
    if is_old_style:  # {"replace": "/name", "value": ...}
        operation = next((name for name in ("add", "replace", "remove") if name in item), None)
        item = dict(item, op=operation, path=item.get(operation))
    operation, path = item.get("op"), item.get("path")
    if operation not in ("add", "replace", "remove"):
        raise Refused(400, "Invalid operation: `%s`." % operation)
    if not re.match("^/[^/]+$", path or ""):
        raise Refused(400, "Invalid JSON pointer for this resource: '%s'" % path)
    if operation != "remove" and "value" not in item:
        raise Refused(400, 'Operation "%s" requires a member named "value".' % operation)
    return operation, path[1:], item.get("value")


def _apply(image, operation, name, value):
    if name in EDITABLE:
        if operation == "remove":
            raise Refused(403, "Property %s may not be removed." % name)
        if name in ("container_format", "disk_format") and image.status != "queued":
            raise Refused(403, "Attribute %s can be only replaced for a queued image." % name)
        setattr(image, name, value)
    elif operation != "add" and name not in image.properties:
        raise Refused(409, "Property %s does not exist." % name)
    elif operation == "remove":
        del image.properties[name]
    else:
        image.properties[name] = value


def _parse_range(value, size):
    """(start, stop) of a Range header. Glance's own reading of it: `bytes=-0` is everything."""
    match = re.match(r"^bytes\s*=\s*(\d*)-(\d*)$", value, re.IGNORECASE)
    if "," in value:
        raise Refused(400, "Requests with multiple ranges are not supported in Glance.")
    if match is None or match.groups() == ("", ""):
        raise Refused(416, "Invalid Range header.")
    first, last = match.groups()
    if not first:
        start, stop = (max(0, size - int(last)) if int(last) else 0), size
    else:
        start, stop = int(first), min(int(last) + 1, size) if last else size
    if start >= size or last and first and int(last) < start:
        raise Refused(416, "Invalid start position in Range header.")
    return start, stop


def _record(image):
    record = dict(image.properties)
    for name in EDITABLE + ("id", "status", "owner", "size", "checksum", "os_hash_algo", "os_hash_value",
                            "created_at", "updated_at"):
        record[name] = getattr(image, name)
    path = "/v2/images/" + image.id
    record.update(virtual_size=None, self=path, file=path + "/file", schema="/v2/schemas/image")
    if image.has_data and image.status == "active":
        record["stores"] = "files"
    return record


def _json(status, value, headers=()):
    return Response(status, [("Content-Type", "application/json")] + list(headers), json.dumps(value).encode("utf-8"))


def _nothing():
    return Response(204, [("Content-Type", "text/html; charset=UTF-8")])
