# SPDX-License-Identifier: Apache-2.0
"""Transfers between an image service and an SR of a simulated host."""

import hashlib
import os
import tarfile

from tests.calls import calls
from tests.calls import sr_disks
from tests.calls.scene import Scene

PLUGIN = "glance.py"
PROPERTIES = {"os_type": "linux", "auto_disk_config": "True"}


class Site(Scene):
    """An image service, a host with an SR, and both transfers between them.

    directory: for files of the tests
    """

    plugin = PLUGIN

    def __init__(self, pool, service, sr=None, number=0, directory=None):
        super().__init__(pool, number, sr)
        self.service = service
        self.directory = directory

    def upload(self, image_id, vdi_uuids, is_legacy=False, **changes):
        arguments = dict({"vdi_uuids": vdi_uuids, "image_id": image_id, "properties": PROPERTIES}, **changes)
        return self._transfer("upload_vhd2", arguments, is_legacy)

    def download(self, image, uuid_stack=None, is_legacy=False, plugin=PLUGIN, **changes):
        """The leaf's uuid; `image` is one of the service's or an id. Raises XenAPI.Failure."""
        arguments = {"image_id": getattr(image, "id", image), "uuid_stack": uuid_stack or calls.make_uuids(16)}
        reply = self._transfer("download_vhd2", dict(arguments, **changes), is_legacy, plugin)
        assert list(reply) == ["root"] and list(reply["root"]) == ["uuid"]
        return reply["root"]["uuid"]

    def _transfer(self, function, arguments, is_legacy, plugin=PLUGIN):
        return calls.call_form(self.pool, plugin, function, self.complete(arguments), is_legacy, self.number)

    def complete(self, arguments):
        """The arguments with those that name the service and the SR; None stands for an argument that is not sent."""
        where = {"endpoint": self.service.url, "sr_path": calls.mount_path(self.sr), "api_version": 2,
                 "extra_headers": {"X-Auth-Token": self.service.token}}
        return {name: value for name, value in dict(where, **arguments).items() if value is not None}

    def make_path(self, name):
        return os.path.join(self.directory, name)

    def find_programs(self):
        """Command lines of the processes of this host, all of which end with their calls."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open("/proc/%s/environ" % pid, "rb") as environ, open("/proc/%s/cmdline" % pid, "rb") as cmdline:
                    if self.host.root.encode() in environ.read():
                        found.append(cmdline.read().replace(b"\0", b" "))
            except OSError:
                pass  # it has ended
        return found

    # Images

    @staticmethod
    def image_content(image):
        with open(image.path, "rb") as source:
            return source.read()

    @staticmethod
    def image_digests(image):
        """Digests of the members of an image's archive, in order."""
        with tarfile.open(image.path, "r:gz") as archive:
            return [(member.name, hashlib.md5(archive.extractfile(member).read()).hexdigest()) for member in archive]

    def disk_digests(self, uuids):
        """image_digests() of the archive in which these VDIs must arrive."""
        found = []
        for number, vdi_uuid in enumerate(uuids):
            with open(sr_disks.vhd_path(self.sr.path, vdi_uuid), "rb") as source:
                found.append(("%d.vhd" % number, hashlib.md5(source.read()).hexdigest()))
        return found

    def image_requests(self, image):
        return [request for request in list(self.service.requests) if image.id in request.path]

    def wait_settled(self, image):
        """Until the service has dealt with every request for an image."""
        calls.wait_until(lambda: all(request.done.is_set() for request in self.image_requests(image)))
