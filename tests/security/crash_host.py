# SPDX-License-Identifier: Apache-2.0
"""A simulated host with other tenants' disks, on which calls die at a chosen place, and the checks after the next call."""

import collections
import contextlib
import os
import random
import shutil
import tarfile
import uuid

from tests.calls import calls
from tests.calls.scene import Scene
from tests.harness.image_service.service import ImageService
from tests.harness.pool import Pool
from tests.harness.vhd import vhd_image
from tests.harness.vhd import vhd_reader
from tests.harness.vhd import vhd_writer
from tests.harness.vhd import vhd_written_here

_DISK_BYTES = 6 << 20
# The outcome of a call: `details` is None when it was answered, else the details of its failure.
Outcome = collections.namedtuple("Outcome", "details")


class CrashHost(Scene):

    plugin = "glance.py"

    def __init__(self, pool, service, directory):
        super().__init__(pool)
        self.dom0 = self.host.dom0
        self._service = service
        self._where = {"endpoint": service.url, "sr_uuid": self.sr.uuid, "extra_headers": {"X-Auth-Token": service.token}}
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
        uuids = calls.make_uuids(3)
        self._download(uuids)
        return uuids

    def add_image(self, data):
        """An image of these bytes in the service."""
        return self._service.add_image(data)

    def _download(self, uuids, image=None):
        return self.call("download_vhd2", image_id=(image or self._image).id, uuid_stack=uuids[::-1], **self._where)

    def download(self, uuids, image=None):
        """Import the image as the VDIs `uuids`, leaf first."""
        return self.attempt(lambda: self._download(uuids, image))

    def upload(self):
        """Upload the chain that was there from the beginning; (Outcome, image)."""
        image = self._service.add_image(None)
        return self.attempt(lambda: self.call("upload_vhd2", image_id=image.id, vdi_uuids=self.uploaded, **self._where)), image

    def sweep(self):
        """Call sweep; its Outcome."""
        return self.attempt(lambda: self.call("sweep", sr_uuid=self.sr.uuid))

    @staticmethod
    def attempt(call):
        """The Outcome of a call."""
        return Outcome(Scene.attempt(call))

    def list_staging(self):
        """The names of staging directories that calls have left in the SR."""
        return [name for name in os.listdir(self.sr.path) if name.startswith(".")]

    def check(self, uuids):
        """Sweep the SR: then nothing without an owner is left, and the chain `uuids` is there whole or not at all. True: whole."""
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
        for name in uuids:
            vhd_written_here.expect_written_here(self._path(name))
            self.dom0.run_program("vhd-util", "check", "-n", self._path(name))
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
        """{name: the state that must not change} of everything in the SR."""
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
