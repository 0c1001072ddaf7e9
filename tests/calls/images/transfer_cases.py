# SPDX-License-Identifier: Apache-2.0
"""What tests of transfers share: disks in an SR, images, calls in either form, and what must be as it was before."""

import contextlib
import glob
import hashlib
import io
import json
import os
import pickle
import random
import tarfile
import time
import uuid

import pytest
import XenAPI

from dom0_lib.disks import vhd
from tests import conftest
from tests import patience
from tests.harness.vhd import vhd_reader
from tests.harness.vhd import vhd_writer

PLUGIN = "glance.py"
BLOCK = vhd.BLOCK_SIZE
DISK_BYTES = 16 * BLOCK
SETTINGS = "/etc/dom0-plugins.conf"
# (version, path) of the two oldest dom0 Pythons and the newest, for tests that take long.
ROTATION = conftest.DOM0_PYTHONS[:2] + conftest.DOM0_PYTHONS[2:][-1:]
PROPERTIES = {"os_type": "linux", "auto_disk_config": "True"}


def random_bytes(seed, size_bytes=BLOCK):
    return random.Random(seed).getrandbits(8 * size_bytes).to_bytes(size_bytes, "little")


def write_chain(directory, depth=1, blocks=1, seed=0):
    """A chain of VHDs with uuids as names, parents hidden, `blocks` blocks of noise in each; the uuids, leaf first."""
    uuids = []
    for level in range(depth):
        uuids.insert(0, str(uuid.uuid4()))
        content = [((level + number) * BLOCK, random_bytes("%s %s %s" % (seed, level, number))) for number in range(blocks)]
        hidden = level + 1 < depth
        if level == 0:
            vhd_writer.write_dynamic(vhd_path(directory, uuids[0]), content, size_bytes=DISK_BYTES, hidden=hidden)
        else:
            vhd_writer.write_differencing(vhd_path(directory, uuids[0]), vhd_path(directory, uuids[1]), content, hidden=hidden)
    return uuids


def vhd_path(directory, vdi_uuid):
    return os.path.join(directory, "%s.vhd" % vdi_uuid)


def guest_digest(directory, vdi_uuid):
    return vhd_reader.digest(vhd_path(directory, vdi_uuid))


def pack(directory, uuids, is_gzip=True):
    """The image of a chain: bytes of a tar archive."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz" if is_gzip else "w", **({"compresslevel": 1} if is_gzip else {})) as archive:
        for number, vdi_uuid in enumerate(uuids):
            archive.add(vhd_path(directory, vdi_uuid), "%d.vhd" % number)
    return target.getvalue()


def read_tree(directory):
    """{path: digest of the content} of everything in an SR, staging directories as well."""
    found = {}
    for parent, directories, files in os.walk(directory):
        for name in directories:
            found[os.path.join(parent, name)] = "directory"
        for name in files:
            with open(os.path.join(parent, name), "rb") as source:
                found[os.path.join(parent, name)] = hashlib.md5(source.read()).hexdigest()
    return found


@contextlib.contextmanager
def unchanged(directory):
    """The directory must be after the block what it was before."""
    before = read_tree(directory)
    yield
    assert read_tree(directory) == before


def find_processes(text):
    """Processes with `text` in their command line: a plug-in has its arguments there, vhd-util its files."""
    found = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as source:
                if text.encode("ascii") in source.read():
                    found.append(int(path.split("/")[2]))
        except OSError:
            pass  # it has ended meanwhile
    return found


def wait_until(condition, limit_s=patience.LIMIT_S, interval_s=0.02):
    """The first true result of `condition()`; fails after `limit_s`."""
    deadline = time.monotonic() + limit_s
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < deadline, "%s did not become true within %s s" % (condition, limit_s)
        time.sleep(interval_s)


def write_settings(host, text):
    path = host.dom0.locate(SETTINGS)
    with open(path, "w") as settings:
        settings.write(text)


def remove_settings(host):
    with contextlib.suppress(FileNotFoundError):
        os.unlink(host.dom0.locate(SETTINGS))


class Site(object):
    """An image service, an SR of one host of a pool, and calls between them."""

    def __init__(self, pool, service, sr, host=0):
        self.pool = pool
        self.service = service
        self.sr = sr
        self.host = host

    def upload(self, image_id, vdi_uuids, is_legacy=False, **changes):
        arguments = dict({"vdi_uuids": vdi_uuids, "image_id": image_id, "properties": PROPERTIES}, **changes)
        return self._call("upload_vhd2", arguments, is_legacy)

    def download(self, image_id, uuid_stack, is_legacy=False, **changes):
        arguments = dict({"uuid_stack": uuid_stack, "image_id": image_id}, **changes)
        return self._call("download_vhd2", arguments, is_legacy)

    def _call(self, function, arguments, is_legacy):
        encode, decode = (encode_legacy, decode_legacy) if is_legacy else (encode_plain, json.loads)
        return decode(self.pool.call(PLUGIN, function, encode(self.complete(arguments)), host=self.host))

    def complete(self, arguments):
        """The arguments with those that say where."""
        where = {"endpoint": self.service.url, "sr_path": "/var/run/sr-mount/" + self.sr.uuid,
                 "extra_headers": {"X-Auth-Token": self.service.token}, "api_version": 2}
        return {name: value for name, value in dict(where, **arguments).items() if value is not None}

    def image_content(self, image):
        with open(image.path, "rb") as source:
            return source.read()

    def image_digests(self, image):
        """Digests of the members of an image's archive, in order."""
        with tarfile.open(image.path, "r:gz") as archive:
            return [(member.name, hashlib.md5(archive.extractfile(member).read()).hexdigest()) for member in archive]

    def disk_digests(self, uuids):
        found = []
        for number, vdi_uuid in enumerate(uuids):
            with open(vhd_path(self.sr.path, vdi_uuid), "rb") as source:
                found.append(("%d.vhd" % number, hashlib.md5(source.read()).hexdigest()))
        return found

    def image_requests(self, image):
        return [request for request in list(self.service.requests) if image.id in request.path]

    def wait_settled(self, image):
        """Until the service has dealt with every request for an image."""
        wait_until(lambda: all(request.done.is_set() for request in self.image_requests(image)))


def encode_plain(arguments):
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in arguments.items()}


def encode_legacy(arguments):
    return {"params": pickle.dumps({"args": (), "kwargs": arguments}, protocol=0).decode("latin-1")}


def decode_legacy(reply):
    return pickle.loads(reply.encode("ascii"))


@contextlib.contextmanager
def refused(function, class_name, *parts):
    """The call in the block must fail with this class, and `parts` in its message."""
    with pytest.raises(XenAPI.Failure) as caught:
        yield caught
    details = caught.value.details
    assert details[:3] == ["XENAPI_PLUGIN_FAILURE", function, class_name], details
    for part in parts:
        assert part in details[3], details
