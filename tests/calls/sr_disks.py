# SPDX-License-Identifier: Apache-2.0
"""Disks in an SR and in images: chains of VHDs, their archives, their digests, and a directory's state before and after a call."""

import contextlib
import gzip
import hashlib
import io
import os
import random
import stat
import tarfile

from dom0_lib.disks import vhd
from tests.calls import calls
from tests.harness.vhd import vhd_reader
from tests.harness.vhd import vhd_writer

MIB = 1 << 20
BLOCK = vhd.BLOCK_SIZE
DISK_BYTES = 16 * BLOCK


# Chains of whole blocks, in an SR

def vhd_path(directory, vdi_uuid):
    return os.path.join(directory, "%s.vhd" % vdi_uuid)


def random_bytes(seed, size_bytes=BLOCK):
    return random.Random(seed).getrandbits(8 * size_bytes).to_bytes(size_bytes, "little")


def write_chain(directory, depth=1, blocks=1, seed=0):
    """Write a chain of VHDs, parents hidden, `blocks` blocks of noise in each. Returns the uuids, leaf first."""
    uuids = []
    for level in range(depth):
        uuids[:0] = calls.make_uuids(1)
        content = [((level + number) * BLOCK, random_bytes("%s %s %s" % (seed, level, number))) for number in range(blocks)]
        hidden = level + 1 < depth
        if level == 0:
            vhd_writer.write_dynamic(vhd_path(directory, uuids[0]), content, size_bytes=DISK_BYTES, hidden=hidden)
        else:
            vhd_writer.write_differencing(vhd_path(directory, uuids[0]), vhd_path(directory, uuids[1]), content, hidden=hidden)
    return uuids


def guest_digest(directory, vdi_uuid):
    """The digest of the content that a guest reads from a VDI, parents found through their locators."""
    return vhd_reader.digest(vhd_path(directory, vdi_uuid))


def read_metadata(sr, vdi_uuid):
    with open(vhd_path(sr.path, vdi_uuid), "rb") as opened:
        return vhd.read_metadata(opened)


def add_vdi(sr, seed=99):
    """Write another tenant's VDI, whose content no call may show. Returns its path."""
    path = vhd_path(sr.path, calls.make_uuids(1)[0])
    vhd_writer.write_dynamic(path, make_content(seed, 3 * MIB))
    return path


def list_vhds(sr):
    """The uuids of the VHDs in the SR, in which nothing else may be."""
    names = os.listdir(sr.path)
    assert all(name.endswith(".vhd") for name in names), names
    return {name[:-len(".vhd")] for name in names}


# Disks whose content is aligned to nothing, outside an SR

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
    """A few runs of changed sectors: (offset, bytes)."""
    chance = random.Random(seed)
    for _ in range(12):
        count = chance.choice([1, 1, 2, 7, 100, 4096, 5000])
        sector = chance.choice([bytes(512), (b"change %d " % seed * 60)[:512]])
        yield chance.randrange(0, size_bytes // 512 - count) * 512, sector * count


def make_chain(directory, depth, size_bytes=10 * MIB, seed=0):
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
            if not isinstance(member, tarfile.TarInfo):
                member = tarfile.TarInfo(member)
                # After 2000: os-xenapi's plug-in extracts the file, and vhd-util writes its time into the child.
                member.mtime = 1500000000
            member.size = len(source)
            archive.addfile(member, io.BytesIO(source))
    return gzip.compress(plain.getvalue(), 1) if compressed else plain.getvalue()


def pack_chain(paths, **options):
    """The archive of a chain, leaf first: 0.vhd, 1.vhd, ..."""
    return pack([("%d.vhd" % number, path) for number, path in enumerate(paths)], **options)


def pack_vdis(directory, uuids, **options):
    """The archive of a chain in an SR, leaf first."""
    return pack_chain([vhd_path(directory, vdi_uuid) for vdi_uuid in uuids], **options)


# Before and after

def describe_tree(directory):
    """{relative path: all that a failed call must leave as it was}: inodes, kinds, links, sizes, times and contents."""
    found = {}
    for parent, directories, names in os.walk(directory):
        for name in directories + names:
            path = os.path.join(parent, name)
            status = os.lstat(path)
            shown = status.st_ino, status.st_mode
            if not stat.S_ISDIR(status.st_mode):  # the times of a directory change with each file that comes and goes
                shown += status.st_nlink, status.st_size, status.st_mtime_ns
            if stat.S_ISREG(status.st_mode):
                with open(path, "rb") as opened:
                    shown += hashlib.sha256(opened.read()).hexdigest(),
            found[os.path.relpath(path, directory)] = shown
    return found


@contextlib.contextmanager
def unchanged(directory):
    """After the block the directory must be as it was before."""
    before = describe_tree(directory)
    yield
    assert describe_tree(directory) == before
