# SPDX-License-Identifier: Apache-2.0
"""What the download tests share: images, calls of download_vhd2, and what an SR looks like before and after."""

import gzip
import hashlib
import io
import json
import os
import pickle
import random
import stat
import tarfile
import uuid

import pytest

from dom0_lib.disks import vhd
from tests import conftest
from tests.harness.image_service.service import ImageService
from tests.harness.pool import Pool
from tests.harness.vhd import vhd_reader
from tests.harness.vhd import vhd_writer

MIB = 1 << 20
# The oldest and the newest dom0 Python, for tests that take long or see the same code in all.
EDGE_PYTHONS = conftest.DOM0_PYTHONS[:1] + conftest.DOM0_PYTHONS[1:][-1:]


def describe_python(version_and_path):
    """A test's id for a parameter out of EDGE_PYTHONS."""
    return version_and_path[0]


class Cloud(object):
    """A simulated host, an image service, and download_vhd2 between them."""

    def __init__(self, pool, service, directory):
        self.pool = pool
        self.host = pool.hosts[0]
        self.sr = pool.srs[0]
        self.service = service
        self.directory = directory

    def call(self, image, uuid_stack=None, legacy=False, plugin="glance.py", **arguments):
        """The leaf's uuid; `image` is one of the service's or an id. Raises XenAPI.Failure."""
        values = {"image_id": getattr(image, "id", image), "endpoint": self.service.url, "sr_path": self.sr_path(self.sr),
                  "uuid_stack": uuid_stack or make_uuids(16), "extra_headers": {"X-Auth-Token": self.service.token}}
        values.update(arguments)
        values = {name: value for name, value in values.items() if value is not None}
        if legacy:
            reply = self.pool.call(plugin, "download_vhd2", {"params": encode_legacy(values)})
            return pickle.loads(reply.encode("latin-1"))["root"]["uuid"]
        reply = self.pool.call(plugin, "download_vhd2", {
            name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()})
        assert list(json.loads(reply)) == ["root"]
        return json.loads(reply)["root"]["uuid"]

    @staticmethod
    def sr_path(sr):
        return "/var/run/sr-mount/" + sr.uuid

    def make_path(self, name):
        return os.path.join(self.directory, name)

    def running(self):
        """Command lines of processes of this host, other than the tests themselves."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open("/proc/%s/environ" % pid, "rb") as environ, open("/proc/%s/cmdline" % pid, "rb") as cmdline:
                    if self.host.root.encode() in environ.read():
                        found.append(cmdline.read().replace(b"\0", b" "))
            except OSError:
                pass  # it has ended
        return found


@pytest.fixture(scope="module")
def cloud(dom0_python, tmp_path_factory):
    """One for all tests of a module on a Python: each leaves its VDIs behind, as users do."""
    with Pool(python=dom0_python, python36_locale=True) as pool, ImageService(has_v1=True) as service:
        yield Cloud(pool, service, str(tmp_path_factory.mktemp("images")))


@pytest.fixture
def nothing_is_left(cloud):
    """Whatever a test does: no staging directory, no process, nothing in the SR but what was published; SR.scan works."""
    cloud.service.faults.clear()
    del cloud.service.requests[:]
    yield
    list_vhds(cloud.sr)
    assert cloud.running() == []
    cloud.sr.scan()


def encode_legacy(kwargs):
    """What os-xenapi puts into `params`."""
    return pickle.dumps({"args": (), "kwargs": kwargs}, 0).decode("latin-1")


def make_uuids(count):
    return [str(uuid.uuid4()) for _ in range(count)]


# Disks

def make_content(seed, size_bytes):
    """Raw bytes of a disk: runs of zeros, of text and of noise, none of them aligned to anything."""
    chance = random.Random(seed)
    content = bytearray(size_bytes)
    position = 0
    while position < size_bytes:
        length = min(chance.randrange(1, 700000), size_bytes - position)
        kind = chance.randrange(3)
        if kind == 1:
            content[position:position + length] = (b"a line of %d\n" % position * (length // 10 + 1))[:length]
        elif kind == 2:
            content[position:position + length] = chance.getrandbits(8 * length).to_bytes(length, "little")
        position += length
    return bytes(content)


def make_changes(seed, size_bytes):
    """Some sectors here and there: (offset, bytes)."""
    chance = random.Random(seed)
    for _ in range(12):
        count = chance.choice([1, 1, 2, 7, 100, 4096, 5000])
        sector = chance.choice([bytes(512), (b"change %d " % seed * 60)[:512]])
        yield chance.randrange(0, size_bytes // 512 - count) * 512, sector * count


def make_chain(directory, depth, size_bytes=9 * MIB, seed=0):
    """Paths of a chain of VHDs, leaf first, as another host's SR has it: parents hidden."""
    paths = [os.path.join(directory, "%d-of-%d.vhd" % (number, depth)) for number in range(depth)]
    vhd_writer.write_dynamic(paths[-1], make_content(seed, size_bytes), hidden=int(depth > 1))
    for number in range(depth - 2, -1, -1):
        vhd_writer.write_differencing(paths[number], paths[number + 1], make_changes(seed + number + 1, size_bytes),
                                      hidden=int(number > 0))
    return paths


# Archives

def pack(entries, compressed=True, form=tarfile.GNU_FORMAT):
    """An archive of (name or TarInfo, path or bytes)."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=form) as archive:
        for member, source in entries:
            if not isinstance(source, bytes):
                with open(source, "rb") as opened:
                    source = opened.read()
            member = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
            member.size = len(source)
            archive.addfile(member, io.BytesIO(source))
    return gzip.compress(plain.getvalue(), 1) if compressed else plain.getvalue()


def pack_chain(paths, **options):
    """The archive of a chain, leaf first: 0.vhd, 1.vhd, ..."""
    return pack([("%d.vhd" % number, path) for number, path in enumerate(paths)], **options)


# SRs

def list_vhds(sr):
    """uuids of what is in the SR; nothing but VHDs may be there."""
    names = os.listdir(sr.path)
    assert all(name.endswith(".vhd") for name in names), names
    return {name[:-len(".vhd")] for name in names}


def read_metadata(sr, vdi_uuid):
    with open(os.path.join(sr.path, vdi_uuid + ".vhd"), "rb") as opened:
        return vhd.read_metadata(opened)


def describe_sr(sr):
    """What a failed call must leave as it was: names, inodes, kinds, sizes, times and contents."""
    found = {}
    for parent, directories, names in os.walk(sr.path):
        for name in directories + names:
            path = os.path.join(parent, name)
            status = os.lstat(path)
            content = None
            if stat.S_ISREG(status.st_mode):
                with open(path, "rb") as opened:
                    content = hashlib.sha256(opened.read()).hexdigest()
            found[os.path.relpath(path, sr.path)] = (
                status.st_ino, status.st_mode, status.st_nlink, status.st_size, status.st_mtime_ns, content)
    return found


def add_vdi(sr, seed=99):
    """A VDI that is there already, whose content nobody else may see. Returns its path."""
    path = os.path.join(sr.path, make_uuids(1)[0] + ".vhd")
    vhd_writer.write_dynamic(path, make_content(seed, 3 * MIB))
    return path


def digest(sr, vdi_uuid):
    """The SHA-256 of what a guest reads from a VDI, parents found through their locators."""
    return vhd_reader.digest(os.path.join(sr.path, vdi_uuid + ".vhd"))
