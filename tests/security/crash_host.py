# SPDX-License-Identifier: Apache-2.0
"""One simulated host with other tenants' disks, on which calls die at a chosen place; and invariants after the next call."""

import collections
import contextlib
import json
import os
import random
import shutil
import tarfile
import uuid

import XenAPI

from tests.harness.image_service.service import ImageService
from tests.harness.pool import Pool
from tests.harness.vhd import vhd_image
from tests.harness.vhd import vhd_reader
from tests.harness.vhd import vhd_writer

_DISK_BYTES = 6 << 20
# What a call did: `error` is None when it was answered, `details` of the failure otherwise.
Outcome = collections.namedtuple("Outcome", "details")


class CrashHost(object):

    def __init__(self, pool, service, directory):
        self.pool = pool
        self.sr = pool.srs[0]
        self.dom0 = pool.hosts[0].dom0
        self._service = service
        generator = random.Random(7)
        chain = _write_chain(directory, generator)
        self.guest_digest = vhd_reader.digest(chain)
        archive = os.path.join(directory, "image.tgz")
        with tarfile.open(archive, "w:gz", compresslevel=1) as target:
            for number, path in enumerate(chain):
                target.add(path, "%d.vhd" % number)
        self._image = service.add_image(archive)
        # The neighbours: a disk of another tenant's, and a chain to upload.
        self._neighbour = os.path.join(self.sr.path, "%s.vhd" % uuid.uuid4())
        vhd_writer.write_dynamic(self._neighbour, [(0, generator.randbytes(100000))], _DISK_BYTES)
        self.uploaded = self._import()
        self._before = self._look()

    def _import(self):
        uuids = [str(uuid.uuid4()) for _ in range(3)]
        self._download(uuids)
        return uuids

    def add_image(self, data):
        """An image of the service's, of these bytes."""
        return self._service.add_image(data)

    def _download(self, uuids, image=None):
        return self.pool.call("glance.py", "download_vhd2", {
            "image_id": (image or self._image).id, "endpoint": self._service.url, "uuid_stack": json.dumps(uuids[::-1]),
            "sr_uuid": self.sr.uuid, "extra_headers": json.dumps({"X-Auth-Token": self._service.token})})

    def download(self, uuids, image=None):
        """Import the image as the VDIs `uuids`, leaf first."""
        return self.attempt(lambda: self._download(uuids, image))

    def upload(self):
        """Upload the chain that was there from the beginning; (Outcome, image)."""
        image = self._service.add_image(None)
        return self.attempt(lambda: self.pool.call("glance.py", "upload_vhd2", {
            "image_id": image.id, "endpoint": self._service.url, "vdi_uuids": json.dumps(self.uploaded),
            "sr_uuid": self.sr.uuid, "extra_headers": json.dumps({"X-Auth-Token": self._service.token})})), image

    def sweep(self):
        """Clean up the SR, by the call for that."""
        return self.attempt(lambda: self.pool.call("glance.py", "sweep", {"sr_uuid": self.sr.uuid}))

    @staticmethod
    def attempt(call):
        """The Outcome of a call."""
        try:
            call()
        except XenAPI.Failure as failure:
            return Outcome(failure.details)
        return Outcome(None)

    @contextlib.contextmanager
    def armed(self, fault):
        """Within, calls pass fault points with this DOM0_FAULT."""
        self.dom0.plugin_environment["DOM0_FAULT"] = fault
        try:
            yield
        finally:
            del self.dom0.plugin_environment["DOM0_FAULT"]

    def list_staging(self):
        """The names of directories that calls have left in the SR."""
        return [name for name in os.listdir(self.sr.path) if name.startswith(".")]

    def check(self, uuids):
        """After the next call for the SR: nothing without an owner, and of the chain `uuids` all or nothing.  True: all."""
        assert self.sweep().details is None
        names = set(os.listdir(self.sr.path))
        ours = set("%s.vhd" % name for name in uuids)
        assert names - ours == set(self._before), "left in the SR: %s" % sorted(names - ours - set(self._before))
        assert names & ours in (set(), ours), "a part of the chain is in the SR: %s" % sorted(names & ours)
        changed = [name for name, state in self._look().items() if name in self._before and state != self._before[name]]
        assert not changed, "changed: %s" % changed
        self.sr.scan()
        if not names & ours:
            return False
        assert vhd_reader.digest([self._path(name) for name in uuids]) == self.guest_digest
        assert [self._is_hidden(name) for name in uuids] == [0, 1, 1]
        return True

    def _is_hidden(self, vdi_uuid):
        with contextlib.closing(vhd_image.Image.open(self._path(vdi_uuid))) as image:
            return image.footer.hidden

    def remove(self, uuids):
        """Remove the VDIs' files; the scan of the next check() forgets their records."""
        for name in uuids:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path(name))

    def _path(self, vdi_uuid):
        return os.path.join(self.sr.path, "%s.vhd" % vdi_uuid)

    def _look(self):
        """{name: state that must not change} of everything in the SR."""
        states = {}
        for name in os.listdir(self.sr.path):
            status = os.lstat(os.path.join(self.sr.path, name))
            states[name] = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_nlink)
        return states


def _write_chain(directory, generator):
    """A three-deep chain of small disks, leaf first."""
    paths = [os.path.join(directory, "%d.vhd" % number) for number in range(3)]
    vhd_writer.write_dynamic(paths[2], [(0, generator.randbytes(700000)), (4 << 20, generator.randbytes(50000))], _DISK_BYTES)
    vhd_writer.write_differencing(paths[1], paths[2], [(1 << 20, generator.randbytes(200000))])
    vhd_writer.write_differencing(paths[0], paths[1], [(4 << 20, generator.randbytes(30000))])
    return paths


@contextlib.contextmanager
def open_crash_host(python, directory, prepare_sr=lambda path: None):
    """A CrashHost whose plug-ins run on `python`; prepare_sr(path) is called while the SR is empty."""
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory)
    with ImageService() as service, Pool(python=python) as pool:
        settings = os.path.join(pool.hosts[0].root, "etc", "dom0-plugins.conf")
        with open(settings, "w") as target:
            target.write("[transfer]\nreserve = 1\ncollection_wait = 5\n")
        prepare_sr(pool.srs[0].path)
        yield CrashHost(pool, service, directory)
