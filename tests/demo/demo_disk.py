# SPDX-License-Identifier: Apache-2.0
"""A disk for the demo: this machine's documentation and libraries in tar archives, on a chain of three VHDs.

    base  2.vhd   | archive, motd first |      |         |      |         |      |
          1.vhd   |                     |      | archive |      |         |      |
    leaf  0.vhd   | motd anew           |      |         |      | archive |      |
                  1 MiB                   hole             hole             hole

The digest is that of a raw file with the same content, which no VHD code has touched.
"""

import collections
import hashlib
import io
import itertools
import os
import sys
import sysconfig
import tarfile

from dom0_lib.disks import vhd
from tests.harness.vhd import vhd_reader
from tests.harness.vhd import vhd_writer

MIB = 1 << 20
# How much of the data is in the base, in its child, in the leaf.
_SHARES = (0.6, 0.25, 0.15)
_PIECE_BYTES = vhd.BLOCK_SIZE
# Smaller files would make an archive of headers.
_FILE_MIN_BYTES = 4096

MOTD = "etc/motd"
_MOTD_BEFORE = b"written to the base\n".ljust(vhd.SECTOR_SIZE)
_MOTD_AFTER = b"written to the leaf, over what the base has\n".ljust(vhd.SECTOR_SIZE)
# The first member's data follow its header.
_MOTD_OFFSET = MIB + tarfile.BLOCKSIZE

# chain: paths, leaf first; archives: their offsets; data_bytes: without holes; digest: SHA-256 of all size_bytes
Disk = collections.namedtuple("Disk", "chain archives file_count data_bytes size_bytes digest")


def build(directory, data_bytes, advance):
    """Make a Disk with data_bytes or a little more of files, and as much of holes.

    advance(bytes) is called with the progress: half of it is the raw file, half the VHDs.  Raises OSError.
    """
    size_bytes = vhd.round_up(2 * data_bytes + 4 * MIB, vhd.BLOCK_SIZE)
    starts = [MIB + int(2 * data_bytes * sum(_SHARES[:number])) // MIB * MIB for number in range(len(_SHARES))]
    chain = [os.path.join(directory, "%d.vhd" % number) for number in reversed(range(len(_SHARES)))]
    # No file so large that an archive outgrows its place.
    files = itertools.chain([(MOTD, 0, _MOTD_BEFORE)], _read_files(data_bytes // 20))
    raw_path = os.path.join(directory, "disk.raw")
    file_count = written_bytes = 0
    with open(raw_path, "w+b") as raw:
        raw.truncate(size_bytes)
        for path, parent, start, share in zip(chain, [None] + chain, starts, _SHARES):
            file_count += _write_archive(raw, start, files, share * data_bytes, advance)
            changes = [(start, raw.tell())]
            if path == chain[-1]:
                raw.seek(_MOTD_OFFSET)
                raw.write(_MOTD_AFTER)
                changes.append((_MOTD_OFFSET, raw.tell()))
            raw.flush()
            written_bytes += sum(end - start for start, end in changes)
            _write_layer(path, parent, size_bytes, _read_back(raw, changes, advance))
        digest = _hash(raw)
    os.unlink(raw_path)
    return Disk(chain[::-1], starts, file_count, written_bytes, size_bytes, digest)


def read_files(path, archives):
    """The number of files on the disk whose leaf is `path`, and the text of its motd: read as a guest would read them."""
    count, motd = 0, None
    with vhd_reader.open_chain(path) as chain:
        for start in archives:
            device = io.BufferedReader(_Device(chain), MIB)
            device.seek(start)
            with tarfile.open(fileobj=device, mode="r:") as archive:
                for member in archive:
                    count += 1
                    if member.name == MOTD:
                        motd = archive.extractfile(member).read().decode("ascii").strip()
    return count, motd


def _write_layer(path, parent, size_bytes, changes):
    if parent is None:
        vhd_writer.write_dynamic(path, changes, size_bytes)
    else:
        vhd_writer.write_differencing(path, parent, changes)


def _write_archive(raw, start, files, limit_bytes, advance):
    """Write a tar archive with the next of `files` at `start`; returns their number and leaves `raw` at its end."""
    raw.seek(start)
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for count, (name, mtime, data) in enumerate(files, 1):
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), mtime
            before = raw.tell()
            archive.addfile(member, io.BytesIO(data))
            advance((raw.tell() - before) / 2)
            if raw.tell() - start >= limit_bytes:
                return count


def _read_back(raw, extents, advance):
    """(offset, bytes) of the data in the extents."""
    for start, end in extents:
        for offset in range(start, end, _PIECE_BYTES):
            data = os.pread(raw.fileno(), min(_PIECE_BYTES, end - offset), offset)
            yield offset, data
            advance(len(data) / 2)


def _hash(raw):
    digest = hashlib.sha256()
    raw.seek(0)
    for data in iter(lambda: raw.read(_PIECE_BYTES), b""):
        digest.update(data)
    return digest.hexdigest()


def _read_files(file_max_bytes):
    """(name, mtime, data) of files that anybody may read, in a fixed order; where they are few, over and over again."""
    for number in itertools.count(1):
        found = False
        for path in _list_files():
            try:
                status = os.lstat(path)
                data = b""
                if _FILE_MIN_BYTES <= status.st_size <= file_max_bytes and os.path.isfile(path) and not os.path.islink(path):
                    with open(path, "rb") as source:
                        data = source.read()
            except OSError:
                continue
            if data:
                found = True
                yield (path if number == 1 else "/copy%d%s" % (number, path))[1:], int(status.st_mtime), data
        if not found:
            raise OSError("no readable files in %s" % " ".join(_list_directories()))


def _list_directories():
    return ["/usr/share/doc", sysconfig.get_path("stdlib"), sys.prefix, "/usr/lib", "/usr/share"]


def _list_files():
    seen = set()
    for top in _list_directories():
        for parent, directories, names in os.walk(top):
            if parent in seen:
                directories[:] = []
                continue
            seen.add(parent)
            directories.sort()
            for name in sorted(names):
                yield os.path.join(parent, name)


class _Device(io.RawIOBase):
    """A chain as the guest's block device."""

    def __init__(self, chain):
        super().__init__()
        self._chain = chain
        self._position = 0

    def readable(self):
        return True

    def seekable(self):
        return True

    def seek(self, offset, whence=os.SEEK_SET):
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._chain.size_bytes}[whence]
        return self._position

    def readinto(self, buffer):
        size = max(0, min(len(buffer), self._chain.size_bytes - self._position))
        data = self._chain.read(self._position, size) if size else b""
        buffer[:size] = bytes(size) if data is None else data
        self._position += size
        return size
