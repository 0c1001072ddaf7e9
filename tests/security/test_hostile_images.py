# SPDX-License-Identifier: Apache-2.0
"""Every hostile image ends with the right error, in bounded time and memory, and the SR is byte for byte what it was.

Some images are damaged where the damage can be repaired without doubt: these arrive.
"""

import os
import subprocess
import uuid

import pytest

from dom0_lib.disks import vhd
from tests.calls import pythons
from tests.calls import sr_disks
from tests.harness.vhd import vhd_reader
from tests.harness.vhd import vhd_writer
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
    assert len(CASES) >= 60 and len(OLD_CASES) >= 12


def test_a_good_image_is_watched_in_the_same_way(hosts, tmp_path):
    """The tests above see a change of the SR when one happens."""
    host = hosts[0]
    before = sr_disks.describe_tree(host.sr.path)
    outcome = host.download(hostile_archives.pack([hostile_images.Scene(tmp_path, host).good_disk()]))
    assert outcome.details is None
    assert any(call.startswith("check ") for call in host.take_vhd_util_calls())
    assert len(set(sr_disks.describe_tree(host.sr.path)) - set(before)) == 1


# Repairs

def import_repaired(host, path, digest, *said):
    """The disk at `path` must arrive with this guest content, and the log must name the repair."""
    leaf = str(uuid.uuid4())
    outcome = host.download(hostile_archives.pack([hostile_images.read(path)]), [leaf])
    assert outcome.details is None
    arrived = os.path.join(host.sr.path, "%s.vhd" % leaf)
    assert vhd_reader.digest(arrived) == digest
    with open(arrived, "rb") as fileobj:
        metadata = vhd.read_metadata(fileobj)
    assert metadata.primary_footer.pack() == metadata.backup_footer.pack()
    assert metadata.footer.intact and metadata.footer.geometry_size <= metadata.virtual_size_bytes
    lines = [line for line in host.host.syslog_lines() if "repaired 0.vhd: " in line]
    assert lines and all(text in lines[-1] for text in said)
    host.sr.scan()


@pytest.mark.needs("qemu-img")
def test_the_geometry_of_qemu_img(hosts, tmp_path):
    raw, path = tmp_path / "raw", tmp_path / "disk.vhd"
    raw.write_bytes(b"guest".ljust(70 << 10, b".") + bytes((8 << 20) - (70 << 10)))
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "vpc", "-o", "subformat=dynamic,force_size=on", raw, path],
                   check=True, timeout=60)
    import_repaired(hosts[0], str(path), vhd_reader.digest(str(path)), "the geometry", "spans more than the disk size")


@pytest.mark.parametrize("host", [0, 1], ids=["newest", "oldest"])
@pytest.mark.parametrize("offset, said", [
    (0, "the backup footer is not where it should be"), (100, "the backup footer has checksum"),
    (-512, "the primary footer is not where it should be"), (-412, "the primary footer has checksum")])
def test_one_damaged_footer(hosts, tmp_path, offset, said, host):
    path = hostile_images.Scene(tmp_path, hosts[host]).make_disk()
    digest = vhd_reader.digest(path)
    vhd_writer.patch(path, offset, b"damaged")
    import_repaired(hosts[host], path, digest, said)
