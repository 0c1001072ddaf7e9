# SPDX-License-Identifier: Apache-2.0
"""download_vhd2 over networks and services that are odd or fail for a while: the disk arrives all the same."""

import os

import pytest

from tests.calls.images import downloads
from tests.calls.images.downloads import MIB, pack_chain
from tests.harness.image_service import service_faults as faults
from tests.harness.vhd import vhd_reader
from tests.harness.vhd import vhd_writer

pytestmark = pytest.mark.usefixtures("nothing_is_left")


@pytest.fixture(scope="module", params=downloads.EDGE_PYTHONS, ids=downloads.describe_python)
def dom0_python(request):
    return request.param[1]


@pytest.fixture(scope="module")
def disk(cloud):
    path = cloud.make_path("disk.vhd")
    vhd_writer.write_dynamic(path, downloads.make_content(1, 5 * MIB))
    return path


@pytest.mark.parametrize("make_fault", [
    lambda: faults.Chunking(1), lambda: faults.Chunking(100000), lambda: faults.NoDigest(),
    lambda: faults.Refusal(503, path="^/v2/images/[^/]*$")],
    ids=["tiny chunks", "chunks", "no digest", "no record"])
def test_odd_answers(cloud, make_fault):
    fault = make_fault()
    path = cloud.make_path("small.vhd")
    vhd_writer.write_dynamic(path, [(0, b"small" + bytes(507))], 2 * MIB)
    cloud.service.faults.append(fault)
    leaf = cloud.call(cloud.service.add_image(pack_chain([path])))
    assert fault.hits and downloads.digest(cloud.sr, leaf) == vhd_reader.digest(path)


def test_without_any_digest(cloud, disk):
    fault = faults.NoDigest(times=None)
    cloud.service.faults.append(fault)
    leaf = cloud.call(cloud.service.add_image(pack_chain([disk])), api_version=1)
    assert fault.hits and downloads.digest(cloud.sr, leaf) == vhd_reader.digest(disk)
    assert any("announced no digest" in line for line in cloud.host.syslog_lines())


def test_a_redirect_to_a_store_that_must_not_see_the_token(cloud, disk):
    image = cloud.service.add_image(pack_chain([disk]))
    with downloads.ImageService() as store:
        cloud.service.faults.append(faults.Redirect(store.url + "/store/object?signature=x", path="/file$"))
        store.faults.append(faults.Refusal(200, [("Content-Length", str(image.size))], open(image.path, "rb").read()))
        leaf = cloud.call(image)
        assert "X-Auth-Token" not in store.requests[0].headers
        assert store.requests[0].target == "/store/object?signature=x"
    assert downloads.digest(cloud.sr, leaf) == vhd_reader.digest(disk)


@pytest.mark.parametrize("make_fault", [
    lambda: faults.HangUp(at=1000000, path="/file$"), lambda: faults.HangUp(at=0, path="/file$"),
    lambda: faults.HangUp(at=1000000, reset=True, path="/file$"), lambda: faults.BadChunk(at=1000000, path="/file$")],
    ids=["mid-body", "before the body", "reset", "chunk"])
def test_a_broken_transfer_is_continued(cloud, disk, make_fault):
    fault = make_fault()
    cloud.service.faults.append(fault)
    leaf = cloud.call(cloud.service.add_image(pack_chain([disk], compressed=False)))
    assert fault.hits == 1
    assert downloads.digest(cloud.sr, leaf) == vhd_reader.digest(disk)
    assert len(cloud.service.requests) == 3 and ("Range" in cloud.service.requests[2].headers) == (fault.at > 0)


def test_a_broken_transfer_from_a_service_without_ranges(cloud, disk):
    cloud.service.faults.append(faults.HangUp(at=1000000))
    leaf = cloud.call(cloud.service.add_image(pack_chain([disk], compressed=False)), api_version=1)
    assert downloads.digest(cloud.sr, leaf) == vhd_reader.digest(disk)
    assert [request.status for request in cloud.service.requests] == [200] * 3


def test_a_stalled_transfer_is_continued(cloud, disk):
    with open(cloud.host.root + "/etc/dom0-plugins.conf", "w") as settings:
        settings.write("[network]\nidle_timeout = 1\n")
    try:
        cloud.service.faults.append(faults.Stall(20, at=1000000, path="/file$"))
        leaf = cloud.call(cloud.service.add_image(pack_chain([disk], compressed=False)))
    finally:
        os.unlink(settings.name)
    assert downloads.digest(cloud.sr, leaf) == vhd_reader.digest(disk)
    assert any("made no progress for 1 s" in line for line in cloud.host.syslog_lines())
