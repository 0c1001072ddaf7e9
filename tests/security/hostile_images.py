# SPDX-License-Identifier: Apache-2.0
"""Images that a tenant might make to reach outside them, and one host with a neighbour's disks to hold them off from.

A case is a function, decorated with the error it must end with, that takes a Scene and returns the bytes of an image.
"""

import collections
import contextlib
import hashlib
import json
import os
import random
import threading
import time
import uuid

import XenAPI

from tests import patience
from tests.harness.image_service.service import ImageService
from tests.harness.pool import Pool
from tests.harness.vhd import vhd_writer

DISK_BYTES = 16 << 20
MAX_RESIDENT_KIB = 64 * 1024
MAX_SECONDS = patience.LIMIT_S
# The plug-in whose memory is watched.
_PLUGIN = "glance.py"
_VHD_UTIL_LOG = """#!/bin/sh
echo "$*" >> '{log}'
exec '{program}' "$@"
"""

Case = collections.namedtuple("Case", "name build error_class fragment is_for_old_python")
Outcome = collections.namedtuple("Outcome", "details seconds resident_kib")
CASES = []


def hostile(error_class, fragment, is_for_old_python=False):
    """Decorates a case with the class of the error and a part of its message."""
    def register(build):
        assert build.__name__ not in [case.name for case in CASES]
        CASES.append(Case(build.__name__, build, error_class, fragment, is_for_old_python))
        return build
    return register


class Scene(object):
    """What a case makes its image of: small disks of its own, and what it knows of its neighbour."""

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


class HostileHost(object):
    """Hosts, one for each Python, each with an SR that holds a neighbour's disk; what vhd-util is asked is written down."""

    def __init__(self, pool, service, number):
        self._pool = pool
        self._service = service
        self._number = number
        self.sr = pool.srs[number]
        self.dom0 = pool.hosts[number].dom0
        self.log = pool.hosts[number]
        self.neighbour_path = os.path.join(self.sr.path, "%s.vhd" % uuid.uuid4())
        vhd_writer.write_dynamic(self.neighbour_path, [(0, b"the neighbour's secret".ljust(512))], DISK_BYTES)
        with open(self.dom0.locate("/etc/dom0-plugins.conf"), "w") as settings:
            settings.write("[transfer]\nreserve = 1\n")
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
        calls = read(self._calls_path).decode("ascii").splitlines()
        os.unlink(self._calls_path)
        return calls

    def describe_sr(self):
        """{name: everything that must not change} of all that is in the SR, staging directories included."""
        found = {}
        for parent, directories, files in os.walk(self.sr.path):
            for name in directories + files:
                path = os.path.join(parent, name)
                status = os.lstat(path)
                digest = hashlib.md5(read(path)).hexdigest() if name in files else None
                found[path] = (status.st_ino, status.st_size, status.st_mode, status.st_nlink, status.st_mtime_ns, digest)
        return found

    def download(self, image_bytes, uuids=None):
        """Import an image of these bytes as the VDIs `uuids`, leaf first; its Outcome."""
        image = self._service.add_image(image_bytes)
        arguments = {
            "image_id": image.id, "endpoint": self._service.url, "sr_uuid": self.sr.uuid,
            "uuid_stack": json.dumps((uuids or [str(uuid.uuid4()) for _ in range(16)])[::-1]),
            "extra_headers": json.dumps({"X-Auth-Token": self._service.token})}
        details = None
        with _ResidentWatch(self.dom0.processes) as watch:
            begun_at = time.monotonic()
            try:
                self._pool.call(_PLUGIN, "download_vhd2", arguments, host=self._number)
            except XenAPI.Failure as failure:
                details = failure.details
            seconds = time.monotonic() - begun_at
        return Outcome(details, seconds, watch.peak_kib)


class _ResidentWatch(object):
    """Looks at the peak memory of running plug-ins every few milliseconds; the kernel keeps it, so nothing in between is lost."""

    _EVERY_S = 0.005

    def __init__(self, processes):
        self._processes = processes
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.peak_kib = 0

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc_info):
        self._ended.set()
        self._thread.join()

    def _watch(self):
        while not self._ended.wait(self._EVERY_S):
            for pid in self._processes.running_pids():
                with contextlib.suppress(OSError):
                    for line in read("/proc/%d/status" % pid).splitlines():
                        if line.startswith(b"VmHWM:"):
                            self.peak_kib = max(self.peak_kib, int(line.split()[1]))


@contextlib.contextmanager
def open_hostile_hosts(pythons):
    """A HostileHost for each of `pythons`, in one pool."""
    with ImageService() as service, Pool(hosts=len(pythons), python=pythons) as pool:
        yield [HostileHost(pool, service, number) for number in range(len(pythons))]
