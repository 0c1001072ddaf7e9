# SPDX-License-Identifier: Apache-2.0
"""Every hostile image ends with the right error, in bounded time and memory, and the SR is byte for byte what it was.

Other images are imported, because all that is hostile in them is metadata: these are not taken over.
"""

import io
import os
import subprocess
import tarfile
import uuid

import pytest

from tests.calls import pythons
from tests.calls import sr_disks
from tests.harness.vhd import vhd_reader
from tests.harness.vhd import vhd_writer
from tests.harness.vhd import vhd_written_here
from tests.security import hostile_archives
from tests.security import hostile_disks  # noqa: F401  registers its cases
from tests.security import hostile_guests  # noqa: F401
from tests.security import hostile_images

CASES = hostile_images.CASES
OLD_CASES = [case for case in CASES if case.is_for_old_python]


@pytest.fixture(scope="module")
def hosts():
    """On the newest dom0 Python and on the oldest."""
    with hostile_images.open_hostile_hosts([pythons.NEWEST, pythons.OLDEST]) as opened:
        yield opened


def check_refused(host, case, directory):
    image = case.build(hostile_images.Scene(directory, host))
    before = sr_disks.describe_tree(host.sr.path)
    host.take_vhd_util_calls()
    outcome = host.download(image)
    assert outcome.details, "the image was accepted"
    assert outcome.details[:3] == ["XENAPI_PLUGIN_FAILURE", "download_vhd2", case.error_class], outcome.details
    assert case.fragment in outcome.details[3]
    assert len(outcome.details) == 4 and "\n" not in outcome.details[3]
    assert sr_disks.describe_tree(host.sr.path) == before
    assert host.take_vhd_util_calls() == [], "vhd-util was shown a file that our own parser refuses"
    assert outcome.seconds < hostile_images.MAX_SECONDS
    assert 0 < outcome.resident_kib <= hostile_images.MAX_RESIDENT_KIB


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_hostile_image(hosts, case, tmp_path):
    check_refused(hosts[0], case, tmp_path)


@pytest.mark.parametrize("case", OLD_CASES, ids=lambda case: case.name)
def test_a_hostile_image_on_the_oldest_python(hosts, case, tmp_path):
    check_refused(hosts[1], case, tmp_path)


def test_there_are_as_many_cases_as_promised():
    assert len(CASES) >= 60 and len(OLD_CASES) >= 12 and len(hostile_images.HARMLESS) >= 20


def test_a_good_image_is_watched_in_the_same_way(hosts, tmp_path):
    """The tests above see a change of the SR when one happens."""
    host = hosts[0]
    before = sr_disks.describe_tree(host.sr.path)
    outcome = host.download(hostile_archives.pack([hostile_images.Scene(tmp_path, host).good_disk()]))
    assert outcome.details is None
    assert any(call.startswith("check ") for call in host.take_vhd_util_calls())
    assert len(set(sr_disks.describe_tree(host.sr.path)) - set(before)) == 1


# Images that are imported, and none of the bytes in them that are no guest's data

# vhd-util ends with an error, or SIGABRT, where it opens one of these.
UNREADABLE = ("header_version", "batmap_of_no_size", "batmap_of_two_tebibytes")


def read_content(paths):
    """{offset: bytes} of a chain, leaf first, in which only the end of the last block may differ by zeros."""
    with vhd_reader.open_chain(paths) as chain:
        return {offset: data for offset, data in ((offset, bytes(data).rstrip(b"\0")) for offset, data in chain.extents()) if data}


def import_harmless(host, image, directory, sound_path=None):
    """sound_path: the disk of the image before it was damaged, where vhd-util's way of reading it ends there."""
    with tarfile.open(fileobj=io.BytesIO(image)) as archive:
        names = archive.getnames()
        archive.extraction_filter = staticmethod(lambda member, path: member)
        archive.extractall(str(directory))
    uuids = [str(uuid.uuid4()) for _ in names]
    before = sr_disks.describe_tree(host.sr.path)
    host.take_vhd_util_calls()
    outcome = host.download(image, uuids)
    assert outcome.details is None
    paths = [os.path.join(host.sr.path, "%s.vhd" % name) for name in uuids]
    after = sr_disks.describe_tree(host.sr.path)
    assert [after.pop(os.path.basename(path)) for path in paths] and after == before
    for path in paths:
        vhd_written_here.expect_written_here(path)
        host.dom0.run_program("vhd-util", "check", "-n", path)
    foreign = [sound_path] if sound_path else [os.path.join(str(directory), name) for name in names]
    assert read_content(paths[0]) == read_content(foreign)
    assert host.sr.scan()[uuids[0]]["managed"]


@pytest.mark.parametrize("build", hostile_images.HARMLESS, ids=lambda build: build.__name__)
def test_a_harmless_image(hosts, build, tmp_path):
    for name in ("archive", "sound"):
        (tmp_path / name).mkdir()
    sound_path = hostile_images.Scene(tmp_path / "sound", hosts[0]).make_disk() if build.__name__ in UNREADABLE else None
    import_harmless(hosts[0], build(hostile_images.Scene(tmp_path, hosts[0])), tmp_path / "archive", sound_path)


@pytest.mark.needs("qemu-img")
def test_the_geometry_of_qemu_img(hosts, tmp_path):
    raw, path = tmp_path / "raw", tmp_path / "disk.vhd"
    raw.write_bytes(b"guest".ljust(70 << 10, b".") + bytes((8 << 20) - (70 << 10)))
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "vpc", "-o", "subformat=dynamic,force_size=on", raw, path],
                   check=True, timeout=60)
    import_harmless(hosts[0], hostile_archives.pack([path.read_bytes()]), tmp_path)


@pytest.mark.parametrize("host", [0, 1], ids=["newest", "oldest"])
@pytest.mark.parametrize("offset", [0, 100, -512, -412])
def test_one_damaged_footer(hosts, tmp_path, offset, host):
    path = hostile_images.Scene(tmp_path, hosts[host]).make_disk()
    vhd_writer.patch(path, offset, b"damaged")
    import_harmless(hosts[host], hostile_archives.pack([hostile_images.read(path)]), tmp_path)
