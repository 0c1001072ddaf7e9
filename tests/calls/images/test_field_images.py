# SPDX-License-Identifier: Apache-2.0
"""Images as users have them (tests/data/field-images): each becomes a disk with its guest's content, or is called what it is."""

import gzip
import os
import pathlib
import shutil
import subprocess
import tarfile

import pytest

from tests.calls import calls
from tests.calls import sr_disks
from tests.conftest import CHECKOUT
from tests.harness.vhd import vhd_reader
from tests.harness.vhd import vhd_written_here

pytestmark = pytest.mark.usefixtures("nothing_is_left")

IMAGES = pathlib.Path(CHECKOUT, "tests/data/field-images")

# Names of the VHDs in an image, leaf first, as GNU tar extracts them; None for a VHD that is in no archive.
TAKEN = {
    "plain.tgz": ["0.vhd"],
    "qemu-img.tgz": ["0.vhd"],
    "apple-double.tgz": ["0.vhd"],
    "macosx-directory.tgz": ["0.vhd"],
    "sparse-gnu.tgz": ["0.vhd"],
    "bsdtar-default.tgz": ["0.vhd"],
    "end-lone-zero-block.tgz": ["0.vhd"],
    "tar-incremental.tgz": ["0.vhd"],
    "pax-name.tgz": [u"disque-\xe9t\xe9.vhd"],
    "upper-case.tgz": ["DISK.VHD"],
    "bat-spare-slots-zero.tgz": ["0.vhd"],
    "footer-gone.tgz": ["0.vhd"],
    "no-locators.tgz": ["0.vhd", "1.vhd"],
    "chain-17.tgz": ["%d.vhd" % number for number in range(17)],
    "bare-fixed.vhd.gz": None,
}

REFUSED = {
    "xva.tgz": "the image is an XVA",
    "disk-raw.tgz": "the image is a raw disk in an archive",
    "bare.vhdx.gz": "the image is a VHDX disk",
    "bare.iso.gz": "the image is an ISO image",
    "zero-vhd-is-vhdx.tgz": "0.vhd: no VHD, but a VHDX disk",
}


def extract(name, directory):
    """Paths of the VHDs of an image, leaf first, by GNU tar or gzip."""
    if TAKEN[name] is None:
        path = directory / "disk.vhd"
        with gzip.open(str(IMAGES / name)) as source, open(str(path), "wb") as target:
            shutil.copyfileobj(source, target)
        return [path]
    subprocess.run(["tar", "-C", str(directory), "-xzf", str(IMAGES / name)], check=False, timeout=60)
    return [directory / member for member in TAKEN[name]]


def read_guest(paths, size_bytes=None):
    """The guest's bytes, filled up with zeros to a size."""
    with vhd_reader.open_chain(paths) as chain:
        content = bytearray(chain.size_bytes if size_bytes is None else size_bytes)
        for offset, data in chain.extents():
            content[offset:offset + len(data)] = data
    return content


def add_footer(path):
    """Append the copy of the footer that a VHD has at its beginning: the reader needs one at the end."""
    with open(str(path), "r+b") as opened:
        footer = opened.read(512)
        opened.seek(0, os.SEEK_END)
        opened.write(footer)


def test_each_image_has_a_case():
    assert sorted(list(TAKEN) + list(REFUSED)) == sorted(path.name for path in IMAGES.iterdir() if path.name != "README.md")


@pytest.mark.parametrize("name", sorted(TAKEN))
def test_an_image_that_is_taken(site, name, tmp_path):
    paths = extract(name, tmp_path)
    if name == "footer-gone.tgz":
        add_footer(paths[0])
    uuids = calls.make_uuids(17)
    leaf = site.download(site.service.add_image((IMAGES / name).read_bytes()), uuids)
    imported = [os.path.join(site.sr.path, "%s.vhd" % vdi_uuid) for vdi_uuid in uuids[::-1][:len(paths)]]
    assert leaf == uuids[-1] and imported[0].endswith(leaf + ".vhd")
    for path in imported:
        vhd_written_here.expect_written_here(path)
    found = read_guest(imported[0])
    if paths[0].name == "disk.vhd":
        expected = paths[0].read_bytes()[:-512].ljust(len(found), b"\0")
    else:
        expected = read_guest(paths, len(found))
    assert bytes(found) == bytes(expected)
    # The disk of Azure's image is empty.
    assert bool(found.strip(b"\0")) == (name != "bare-fixed.vhd.gz")
    site.sr.scan()


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_an_image_that_is_something_else(site, name):
    image = site.service.add_image((IMAGES / name).read_bytes())
    with sr_disks.unchanged(site.sr.path), calls.refused("download_vhd2", "InvalidImage", REFUSED[name]):
        site.download(image)


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("name", ["plain.tgz", "qemu-img.tgz"])
def test_a_vhd_that_is_in_no_archive(site, name, compress):
    with tarfile.open(str(IMAGES / name)) as archive:
        disk = archive.extractfile("0.vhd").read()
    leaf = site.download(site.service.add_image(compress(disk), container_format="bare"))
    packed = site.download(site.service.add_image((IMAGES / name).read_bytes()))
    paths = [os.path.join(site.sr.path, vdi_uuid + ".vhd") for vdi_uuid in (leaf, packed)]
    assert read_guest(paths[0]) == read_guest(paths[1])
