# SPDX-License-Identifier: Apache-2.0
"""download_vhd2 from odd services and over networks that fail for a while: the disk arrives."""

import pytest

from tests.calls import pythons
from tests.calls import calls
from tests.calls import sr_disks
from tests.calls.sr_disks import MIB, pack_chain
from tests.harness.image_service import service_faults as faults
from tests.harness.image_service.service import ImageService
from tests.harness.vhd import vhd_reader
from tests.harness.vhd import vhd_writer

pytestmark = pytest.mark.usefixtures("nothing_is_left")


@pytest.fixture(scope="module", params=pythons.EDGES, ids=pythons.version_of)
def dom0_python(request):
    return request.param


@pytest.fixture(scope="module")
def disk(site):
    path = site.make_path("disk.vhd")
    vhd_writer.write_dynamic(path, sr_disks.make_content(1, 6 * MIB))
    return path


@pytest.mark.parametrize("make_fault", [
    lambda: faults.Chunking(1), lambda: faults.Chunking(100000), lambda: faults.NoDigest(),
    lambda: faults.Refusal(503, path="^/v2/images/[^/]*$")],
    ids=["tiny chunks", "chunks", "no digest", "no record"])
def test_odd_answers(site, make_fault):
    fault = make_fault()
    path = site.make_path("small.vhd")
    vhd_writer.write_dynamic(path, [(0, b"small" + bytes(507))], 2 * MIB)
    site.service.faults.append(fault)
    leaf = site.download(site.service.add_image(pack_chain([path])))
    assert fault.hits and sr_disks.guest_digest(site.sr.path, leaf) == vhd_reader.digest(path)


def test_without_any_digest(site, disk):
    fault = faults.NoDigest(times=None)
    site.service.faults.append(fault)
    leaf = site.download(site.service.add_image(pack_chain([disk])), api_version=1)
    assert fault.hits and sr_disks.guest_digest(site.sr.path, leaf) == vhd_reader.digest(disk)
    assert any("announced no digest" in line for line in site.host.syslog_lines())


def test_a_redirect_to_a_store_that_must_not_see_the_token(site, disk):
    image = site.service.add_image(pack_chain([disk]))
    with ImageService() as store:
        site.service.faults.append(faults.Redirect(store.url + "/store/object?signature=x", path="/file$"))
        store.faults.append(faults.Refusal(200, [("Content-Length", str(image.size))], open(image.path, "rb").read()))
        leaf = site.download(image)
        assert "X-Auth-Token" not in store.requests[0].headers
        assert store.requests[0].target == "/store/object?signature=x"
    assert sr_disks.guest_digest(site.sr.path, leaf) == vhd_reader.digest(disk)


@pytest.mark.parametrize("make_fault", [
    lambda: faults.HangUp(at=1000000, path="/file$"), lambda: faults.HangUp(at=0, path="/file$"),
    lambda: faults.HangUp(at=1000000, reset=True, path="/file$"), lambda: faults.BadChunk(at=1000000, path="/file$")],
    ids=["mid-body", "before the body", "reset", "chunk"])
def test_a_broken_transfer_is_continued(site, disk, make_fault):
    fault = make_fault()
    site.service.faults.append(fault)
    leaf = site.download(site.service.add_image(pack_chain([disk], compressed=False)))
    assert fault.hits == 1
    assert sr_disks.guest_digest(site.sr.path, leaf) == vhd_reader.digest(disk)
    assert len(site.service.requests) == 3 and ("Range" in site.service.requests[2].headers) == (fault.at > 0)


def test_a_broken_transfer_from_a_service_without_ranges(site, disk):
    site.service.faults.append(faults.HangUp(at=1000000))
    leaf = site.download(site.service.add_image(pack_chain([disk], compressed=False)), api_version=1)
    assert sr_disks.guest_digest(site.sr.path, leaf) == vhd_reader.digest(disk)
    assert [request.status for request in site.service.requests] == [200] * 3


def test_a_stalled_transfer_is_continued(site, disk):
    site.write_settings("[network]\nidle_timeout = 1\n")
    try:
        site.service.faults.append(faults.Stall(20, at=1000000, path="/file$"))
        leaf = site.download(site.service.add_image(pack_chain([disk], compressed=False)))
    finally:
        calls.remove_settings(site.host)
    assert sr_disks.guest_digest(site.sr.path, leaf) == vhd_reader.digest(disk)
    assert any("made no progress for 1 s" in line for line in site.host.syslog_lines())
