# SPDX-License-Identifier: Apache-2.0
"""No image lets its guest read beyond its own disk, not even after several boots with writes, done as tapdisk does them."""

import os
import subprocess
import uuid

import pytest

from tests.calls import pythons
from tests.harness.storage import tapdisk
from tests.harness.vhd import vhd_reader
from tests.harness.vhd import vhd_written_here
from tests.harness.vhd_util.vhd_util import install_vhd_util
from tests.security import hostile_guests
from tests.security import hostile_images
from tests.security.hostile_archives import pack

# A map that lies over the BAT is seen by the decoder.
IMPORTED = [hostile_guests.GrownBatmap, hostile_guests.ZeroedBat]
SECRET = b"root:$6$salt$hash-of-dom0:19000:0:99999:7:::\n".ljust(512, b".")


@pytest.fixture(scope="module")
def host():
    with hostile_images.open_hostile_hosts([pythons.NEWEST]) as opened:
        yield opened[0]


@pytest.fixture
def secret_path(tmp_path):
    path = tmp_path / "shadow"
    path.write_bytes(SECRET * 8)
    return str(path)


@pytest.fixture(params=hostile_guests.ATTACKS, ids=lambda attack: attack.__name__)
def attack(request):
    return request.param()


def test_no_guest_reads_a_file_of_dom0(host, attack, tmp_path, secret_path):
    """Where the image is imported, its guest goes to work: on the disk that was written anew it finds nothing but its own data."""
    uuids = [str(uuid.uuid4()) for _ in range(2)]
    image = pack(attack.make_files(hostile_images.Scene(tmp_path, host)))
    details = host.download(image, uuids).details
    assert (details is None) == (type(attack) in IMPORTED)
    if details:
        return
    leaf_path = os.path.join(host.sr.path, "%s.vhd" % uuids[0])
    vhd_written_here.expect_written_here(leaf_path)
    header = hostile_images.read(leaf_path)[512:1536]
    assert attack.read_from(leaf_path, secret_path) != SECRET
    assert hostile_images.read(leaf_path)[512:1536] == header, "the guest wrote the header"
    host.dom0.run_program("vhd-util", "check", "-n", leaf_path)
    assert host.sr.scan()[uuids[0]]["managed"]


def test_the_guest_would_read_it_from_an_image_that_nobody_checks(host, attack, tmp_path, secret_path):
    """The attack works on these very files, so the test above can fail."""
    leaf, base = attack.make_files(hostile_images.Scene(tmp_path, host))
    for name, data in (("leaf.vhd", leaf), ("base.vhd", base)):
        (tmp_path / name).write_bytes(data)
    program = install_vhd_util(tmp_path)
    leaf_path = str(tmp_path / "leaf.vhd")
    for arguments in (["modify", "-n", leaf_path, "-p", str(tmp_path / "base.vhd")], ["check", "-n", leaf_path]):
        subprocess.run([program] + arguments, check=True, timeout=60, stdout=subprocess.DEVNULL)
    assert attack.read_from(leaf_path, secret_path) == SECRET


def test_a_guest_of_a_good_image(host, tmp_path):
    """Its full blocks, rewritten from their first sector on, and new ones read back after a boot; the disk stays sound."""
    scene = hostile_images.Scene(tmp_path, host)
    path = scene.make_disk()
    digest = vhd_reader.digest(path)
    uuids = [str(uuid.uuid4()) for _ in range(2)]
    outcome = host.download(pack([hostile_images.read(scene.make_child(path)), hostile_images.read(path)]), uuids)
    assert outcome.details is None
    leaf_path, base_path = (os.path.join(host.sr.path, "%s.vhd" % name) for name in uuids)
    full = os.urandom(2 << 20)
    for _ in range(2):
        with tapdisk.RunningDisk(leaf_path) as disk:
            disk.write(4096, full)
            disk.write(0, full)
            disk.write(7 * 4096 + 5, b"end")
    with tapdisk.RunningDisk(leaf_path) as disk:
        disk.write(4096, b"again")
        disk.write(0, b"again")
    with tapdisk.RunningDisk(leaf_path) as disk:
        for sector in (0, 4096):
            assert disk.read(sector, 4096) == b"again".ljust(512, b"\0") + full[512:]
        assert disk.read(7 * 4096 + 5) == b"end".ljust(512, b"\0")
    assert vhd_reader.digest(base_path) == digest
    host.sr.scan()
