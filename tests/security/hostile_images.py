# SPDX-License-Identifier: Apache-2.0
"""Images that a tenant might make to read or write outside them, and a host with a neighbour's disk, which they must not reach.

A case is a function, decorated with the error it must end with, that takes a Scene and returns the bytes of an image.
"""

import collections
import contextlib
import os
import random
import time
import uuid

from tests import patience
from tests.calls import calls
from tests.calls import plugin_memory
from tests.calls import scene
from tests.harness.image_service.service import ImageService
from tests.harness.pool import Pool
from tests.harness.vhd import vhd_writer

DISK_BYTES = 16 << 20
MAX_RESIDENT_KIB = 64 * 1024
MAX_SECONDS = patience.LIMIT_S
_VHD_UTIL_LOG = """#!/bin/sh
echo "$*" >> '{log}'
exec '{program}' "$@"
"""

Case = collections.namedtuple("Case", "name build error_class fragment is_for_old_python")
Outcome = collections.namedtuple("Outcome", "details seconds resident_kib")
CASES = []
# Functions, as those of the cases, that make images in which nothing hostile reaches the SR.
HARMLESS = []


def hostile(error_class, fragment, is_for_old_python=False):
    """Decorates a case with the class of the error and a part of its message."""
    def register(build):
        assert build.__name__ not in [case.name for case in CASES]
        CASES.append(Case(build.__name__, build, error_class, fragment, is_for_old_python))
        return build
    return register


def harmless(build):
    """Decorates an image that tries it, and is imported as its guest's sectors alone."""
    assert build.__name__ not in [other.__name__ for other in HARMLESS]
    HARMLESS.append(build)
    return build


class Scene(object):
    """Material for a case: small disks of its own, and the neighbour's path, which an attacker might guess."""

    def __init__(self, directory, host):
        self.directory = str(directory)
        self.neighbour_name = os.path.basename(host.neighbour_path)
        self.neighbour_path = host.neighbour_path
        status = os.statvfs(host.sr.path)
        self.free_bytes = status.f_bavail * status.f_frsize // 512 * 512
        self._noise = random.Random(5).randbytes(70000)

    def path(self, name):
        return os.path.join(self.directory, name)

    def make_disk(self, name="disk.vhd", **options):
        """The path of a new, sound, dynamic disk with some content."""
        vhd_writer.write_dynamic(self.path(name), [(0, self._noise), (6 << 20, self._noise)], DISK_BYTES, **options)
        return self.path(name)

    def make_child(self, parent_path, name="child.vhd", **options):
        vhd_writer.write_differencing(self.path(name), parent_path, [(1 << 20, self._noise)], **options)
        return self.path(name)

    def good_disk(self):
        return read(self.make_disk())


def read(path):
    with open(path, "rb") as source:
        return source.read()


class HostileHost(scene.Scene):
    """One of several hosts, with an SR that holds a neighbour's disk; each command line of vhd-util is recorded."""

    plugin = "glance.py"

    def __init__(self, pool, service, number):
        super().__init__(pool, number)
        self._service = service
        self.dom0 = self.host.dom0
        self.neighbour_path = os.path.join(self.sr.path, "%s.vhd" % uuid.uuid4())
        vhd_writer.write_dynamic(self.neighbour_path, [(0, b"the neighbour's secret".ljust(512))], DISK_BYTES)
        self.write_settings("[transfer]\nreserve = 1\n")
        self._calls_path = self.dom0.locate("/tmp/vhd-util-calls")
        self._log_vhd_util()

    def _log_vhd_util(self):
        program = os.path.join(self.dom0.bin_dir, "vhd-util")
        os.rename(program, program + ".real")
        self.dom0.add_program("vhd-util", _VHD_UTIL_LOG.format(log=self._calls_path, program=program + ".real"))

    def take_vhd_util_calls(self):
        """The arguments of each call of vhd-util since the last time."""
        if not os.path.exists(self._calls_path):
            return []
        lines = read(self._calls_path).decode("ascii").splitlines()
        os.unlink(self._calls_path)
        return lines

    def download(self, image_bytes, uuids=None):
        """Import an image of these bytes as the VDIs `uuids`, leaf first; its Outcome."""
        image = self._service.add_image(image_bytes)
        with plugin_memory.watched(self.host) as peak:
            begun_at = time.monotonic()
            details = self.attempt(lambda: self.call(
                "download_vhd2", image_id=image.id, endpoint=self._service.url, sr_uuid=self.sr.uuid,
                uuid_stack=(uuids or calls.make_uuids(31))[::-1], extra_headers={"X-Auth-Token": self._service.token}))
            seconds = time.monotonic() - begun_at
        return Outcome(details, seconds, peak.kib)


@contextlib.contextmanager
def open_hostile_hosts(pythons):
    """A HostileHost for each of `pythons`, in one pool."""
    with ImageService() as service, Pool(hosts=len(pythons), python=pythons) as pool:
        yield [HostileHost(pool, service, number) for number in range(len(pythons))]
