# SPDX-License-Identifier: Apache-2.0
"""The image that the benchmark moves: this machine's own libraries on a disk, as a cloud would have stored it.

Kept in the work directory: making it takes a minute.
"""

import collections
import os
import shutil
import subprocess
import tempfile

from dom0_lib.disks import vhd
from tests.harness.vhd import vhd_writer

MIB = 1 << 20
_SOURCES = ("usr/lib", "usr/bin", "usr/share")
_DEADLINE_S = 900

# path: of the gzip tar archive; vhd_bytes: the size of the one file in it, 0.vhd
Image = collections.namedtuple("Image", "path vhd_bytes")


class ImageFailed(Exception):
    """The image cannot be made; the text names the reason."""


def prepare(work_dir, data_mib):
    """The Image of a disk with `data_mib` of data, made if it is not there yet.  Raises ImageFailed, OSError."""
    path = os.path.join(work_dir, "image-%d-mib.tgz" % data_mib)
    size_path = path + ".size"
    if not os.path.exists(size_path):
        with tempfile.TemporaryDirectory(dir=work_dir, prefix="image-") as directory:
            vhd_path = os.path.join(directory, "0.vhd")
            vhd_writer.write_dynamic(vhd_path, _read_disk(data_mib * MIB), data_mib * MIB)
            _run(["tar", "-cf", "image.tar", "0.vhd"], directory)
            _run(["gzip", "-6", "image.tar"], directory)
            os.rename(os.path.join(directory, "image.tar.gz"), path)
            with open(size_path, "w") as target:
                target.write("%d\n" % os.path.getsize(vhd_path))
    with open(size_path) as source:
        return Image(path, int(source.read()))


def _read_disk(size_bytes):
    """(offset, bytes) of a tar archive of libraries and programs, as often as it takes to fill the disk."""
    offset = 0
    while offset < size_bytes:
        begun = offset
        tar = subprocess.Popen(["tar", "-c", "-C", "/"] + [name for name in _SOURCES if os.path.isdir("/" + name)],
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            while offset < size_bytes:
                data = tar.stdout.read(min(vhd.BLOCK_SIZE, size_bytes - offset))
                yield offset, data
                offset += len(data)
                if len(data) < vhd.BLOCK_SIZE:
                    break
        finally:
            tar.kill()
            tar.stdout.close()
            tar.wait()
        if offset == begun:
            raise ImageFailed("tar has nothing to say about %s" % " ".join(_SOURCES))


def _run(command, directory):
    if not shutil.which(command[0]):
        raise ImageFailed("%s is not there" % command[0])
    subprocess.run(command, cwd=directory, stdin=subprocess.DEVNULL, check=True, timeout=_DEADLINE_S)
