# SPDX-License-Identifier: Apache-2.0
"""The image service's images: records, states, data files, who may see them, limits.

    queued --PUT--> saving --end of the data--> active <--> deactivated
       ^              |                           any --DELETE--> deleted (its id is never free again)
       +--- failed ---+   v1: failed --> killed

As Glance 33.0.0 does it; the contract suite holds both to the same cases.
"""
from __future__ import absolute_import, division

import hashlib
import os
import re
import threading
import time
import uuid

from tests.harness.image_service.service_http import PIECE_BYTES, BrokenMessage

CONTAINER_FORMATS = (None, "ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed")
DISK_FORMATS = (None, "ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "iso", "ploop")
VISIBILITIES = ("community", "public", "private", "shared")
ID_PATTERN = "^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$"


class Refused(Exception):
    """What the service answers instead of doing it: HTTP status, one line of text, further headers."""

    def __init__(self, status, text="", headers=()):
        super().__init__(status, text)
        self.status = status
        self.text = text
        self.headers = list(headers)


class Image(object):
    """One image. `path` is where its data is, None without data; `md5` is the name tests use for `checksum`."""

    def __init__(self, image_id, owner):
        self.id = image_id
        self.owner = owner
        self.status = "queued"
        self.name = None
        self.disk_format = None
        self.container_format = None
        self.visibility = "shared"
        self.protected = False
        self.os_hidden = False
        self.min_ram = 0
        self.min_disk = 0
        self.tags = []
        self.properties = {}
        self.size = None
        self.checksum = None
        self.os_hash_algo = None
        self.os_hash_value = None
        self.created_at = self.updated_at = _now()
        self.path = None
        self.is_unusable = False  # refused by the inspection of a bare image: every further PUT gets 500

    @property
    def md5(self):
        return self.checksum

    @property
    def has_data(self):
        return self.path is not None and os.path.exists(self.path)

    def set_digests(self, digests, size_bytes):
        self.size = size_bytes
        self.checksum = digests["md5"].hexdigest()
        if "sha512" in digests:
            self.os_hash_algo = "sha512"
            self.os_hash_value = digests["sha512"].hexdigest()


EDITABLE = ("name", "disk_format", "container_format", "visibility", "protected", "os_hidden", "min_ram", "min_disk",
            "tags")


class Images(object):
    """All images of one service.

    directory            for uploaded data
    hashes_sha512        false: as servers before 2018, which have MD5 only
    image_size_cap       bytes; user_storage_quota: bytes of one project; None: no limit
    """

    def __init__(self, directory, hashes_sha512=True, image_size_cap=None, user_storage_quota=None):
        self.directory = directory
        self.image_size_cap = image_size_cap
        self.user_storage_quota = user_storage_quota
        self._algorithms = ("md5", "sha512") if hashes_sha512 else ("md5",)
        self._lock = threading.Lock()
        self._images = {}

    def __getitem__(self, image_id):
        return self._images[image_id]

    def __iter__(self):
        return iter([image for image in list(self._images.values()) if image.status != "deleted"])

    def create(self, owner, attributes=None, image_id=None):
        """A new queued image; Refused 409 when its id is, or ever was, in use."""
        image = Image(image_id or str(uuid.uuid4()), owner)
        for name, value in (attributes or {}).items():
            if name in EDITABLE:
                setattr(image, name, value)
            else:
                image.properties[name] = value
        with self._lock:
            if image.id in self._images:
                raise Refused(409, "Image ID %s already exists!" % image.id)
            self._images[image.id] = image
        return image

    def fill(self, image, path):
        """Make a queued image active with a file's content, which stays where it is."""
        digests, size_bytes = self._new_digests(), 0
        with open(path, "rb") as data:
            for piece in iter(lambda: data.read(PIECE_BYTES), b""):
                size_bytes += len(piece)
                for digest in digests.values():
                    digest.update(piece)
        image.set_digests(digests, size_bytes)
        image.path = path
        image.status = "active"

    def find(self, image_id, identity):
        """The image, if this caller may know of it; else Refused 404."""
        image = self._images.get(image_id)
        if image is None or image.status == "deleted" or not _is_visible(image, identity):
            raise Refused(404, "No image found with ID %s" % image_id)
        return image

    def delete(self, image):
        with self._lock:
            image.status = "deleted"
        self._drop_data(image)

    def upload(self, image, body, status_on_failure="queued"):
        """Take the data of a queued image from a RequestBody.

        Refused 409 wrong state, 400 no formats, 413 over a limit, 415 not the format it claims, 410 deleted
        meanwhile, 500 body broken.
        """
        with self._lock:
            if image.status != "queued":
                raise Refused(409, "Image status transition from %s to saving is not allowed" % image.status)
            if image.disk_format is None or image.container_format is None:
                raise Refused(400, "Properties disk_format, container_format must be set prior to saving data.")
            if image.is_unusable:
                raise Refused(500)
            if body.size_bytes is not None:
                self._check_quota(image, body.size_bytes)
            image.status = "saving"
        path = os.path.join(self.directory, image.id)
        image.path = path
        try:
            digests, size_bytes, start = self._receive(path, body)
        except BrokenMessage:
            self._fail(image, status_on_failure)
            raise Refused(500)
        except BaseException:
            self._fail(image, status_on_failure)
            raise
        self._activate(image, digests, size_bytes, start, body)

    def _receive(self, path, body):
        digests, size_bytes, start = self._new_digests(), 0, b""
        with open(path, "wb") as data:
            for piece in iter(body.read, b""):
                size_bytes += len(piece)
                if self.image_size_cap is not None and size_bytes > self.image_size_cap:
                    raise Refused(413, "The incoming image is too large")
                if len(start) < 512:
                    start += piece[:512]
                for digest in digests.values():
                    digest.update(piece)
                data.write(piece)
        return digests, size_bytes, start

    def _activate(self, image, digests, size_bytes, start, body):
        with self._lock:
            if image.status == "deleted":
                self._drop_data(image)
                raise Refused(410, "Image %s could not be found after upload." % image.id)
            if body.size_bytes is None:
                try:
                    self._check_quota(image, size_bytes)
                except Refused:
                    self._drop_data(image)  # and the image stays `saving`: Glance forgets to put it back
                    raise
            image.set_digests(digests, size_bytes)
            image.updated_at = _now()
            if image.container_format == "bare" and not _looks_like(image.disk_format, start):
                image.is_unusable = True
                image.size = None
                image.status = "queued"
                raise Refused(415, "Image disk_format %s does not match stream data" % image.disk_format)
            image.status = "active"

    def _fail(self, image, status):
        with self._lock:
            if image.status != "deleted":
                image.status = status
        self._drop_data(image)

    def _drop_data(self, image):
        if image.path and os.path.dirname(image.path) == self.directory and os.path.exists(image.path):
            os.unlink(image.path)
        image.path = None

    def _check_quota(self, image, size_bytes):
        if self.user_storage_quota is None:
            return
        used = sum(other.size or 0 for other in self if other.owner == image.owner)
        if used + size_bytes > self.user_storage_quota:
            raise Refused(413, "Image exceeds the storage quota: %d bytes remaining" % (self.user_storage_quota - used))

    def _new_digests(self):
        return {name: hashlib.new(name) for name in self._algorithms}


def check_attributes(attributes):
    """Refused 400 for a value that Glance's image schema does not allow."""
    kinds = {
        "id": lambda value: isinstance(value, str) and re.match(ID_PATTERN, value),
        "name": lambda value: value is None or isinstance(value, str),
        "owner": lambda value: value is None or isinstance(value, str),
        "disk_format": lambda value: value in DISK_FORMATS,
        "container_format": lambda value: value in CONTAINER_FORMATS,
        "visibility": lambda value: value in VISIBILITIES,
        "protected": lambda value: isinstance(value, bool),
        "os_hidden": lambda value: isinstance(value, bool),
        "min_ram": lambda value: type(value) is int,
        "min_disk": lambda value: type(value) is int,
        "tags": lambda value: isinstance(value, list) and all(isinstance(tag, str) for tag in value),
    }
    for name, value in attributes.items():
        if not kinds.get(name, lambda value: isinstance(value, str))(value):
            raise Refused(400, "Provided object does not match schema 'image': %s: %r" % (name, value))


def _is_visible(image, identity):
    return (image.owner == identity.project or "admin" in identity.roles
            or image.visibility in ("public", "community"))


def _looks_like(disk_format, start):
    """Glance's inspection, as far as the formats a XenServer cloud meets: VHD by its cookie, qcow2 never raw."""
    if disk_format == "vhd":
        return start.startswith(b"conectix") and len(start) >= 512
    if disk_format == "qcow2":
        return start.startswith(b"QFI\xfb")
    return disk_format != "raw" or not start.startswith(b"QFI\xfb")


def _now():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
