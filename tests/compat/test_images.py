# SPDX-License-Identifier: Apache-2.0
"""host_glance of os-xenapi's client: images both ways, and the failures that it tells apart."""

import os
import signal
import threading
import time
import uuid

import pytest

from tests.calls import sr_disks
from tests.calls.images import transfers
from tests.compat.client import ClientFailed
from tests.harness.image_service import service_faults
from tests.harness.image_service.service import ImageService

PROPERTIES = {"os_type": "linux", "auto_disk_config": True, "xenapi_image_compression_level": 1}


@pytest.fixture(scope="module")
def service():
    with ImageService(has_v1=True) as service:
        yield service


@pytest.fixture
def site(compat_pool, client, service):
    service.faults.clear()
    client.endpoint = service.url + "/"
    return transfers.Site(compat_pool, service, compat_pool.srs[0])


def headers_of(service):
    """The headers that nova sends, with one that has no value."""
    return {"X-Auth-Token": service.token, "X-User-Id": "u", "X-Tenant-Id": None, "X-Roles": "admin,member",
            "X-Identity-Status": "Confirmed"}


def sr_path(sr):
    return "/var/run/sr-mount/" + sr.uuid


def download(client, site, image_id, retries=0):
    return client.call("host_glance.download_vhd", retries, "<callback>", "<retry callback>", image_id, sr_path(site.sr),
                       headers_of(site.service), uuid_stack=[str(uuid.uuid4()) for _ in range(16)])


def upload(client, site, image_id, uuids, retries=0):
    return client.call("host_glance.upload_vhd", retries, "<callback>", "<retry callback>", image_id, sr_path(site.sr),
                       headers_of(site.service), vdi_uuids=uuids, properties=PROPERTIES)


@pytest.fixture
def image(site, tmp_path):
    uuids = sr_disks.write_chain(str(tmp_path), 2)
    image = site.service.add_image(sr_disks.pack_vdis(str(tmp_path), uuids))
    image.digest = sr_disks.guest_digest(str(tmp_path), uuids[0])
    return image


def test_an_image_becomes_a_disk(client, site, image):
    found = download(client, site, image.id)
    assert list(found) == ["root"] and found["root"]["uuid"] in site.sr.scan()
    assert sr_disks.guest_digest(site.sr.path, found["root"]["uuid"]) == image.digest


def test_a_disk_becomes_an_image(client, site):
    uuids = sr_disks.write_chain(site.sr.path, 2)
    image = site.service.add_image(container_format=None, disk_format=None)
    assert upload(client, site, image.id, uuids) is None
    assert image.status == "active" and site.image_digests(image) == site.disk_digests(uuids)
    assert image.properties == {name: str(value) for name, value in PROPERTIES.items()}


def test_what_may_succeed_later_is_tried_again(client, site, image):
    """By the name of the class alone, with a wait that doubles."""
    site.service.faults.append(service_faults.Refusal(503, path=image.id, method="GET", times=2))
    assert download(client, site, image.id, retries=2)["root"]["uuid"] in site.sr.scan()
    assert [details[:3] for details in client.retries] == [
        ["XENAPI_PLUGIN_FAILURE", "download_vhd2", "RetryableError"]] * len(client.retries)
    assert client.retries


def test_it_is_not_tried_for_ever(client, site, image):
    site.service.faults.append(service_faults.Refusal(503, path=image.id, method="GET", times=1000))
    with sr_disks.unchanged(site.sr.path), pytest.raises(ClientFailed) as caught:
        download(client, site, image.id, retries=1)
    assert caught.value.name == "PluginRetriesExceeded" and len(caught.value.retries) == 2


def test_what_cannot_succeed_is_not_tried_again(client, site, tmp_path):
    image = site.service.add_image(b"no archive")
    with pytest.raises(ClientFailed) as caught:
        download(client, site, image.id, retries=3)
    assert (caught.value.name, caught.value.retries) == ("Failure", [])
    assert caught.value.details[:3] == ["XENAPI_PLUGIN_FAILURE", "download_vhd2", "InvalidImage"]


def test_a_plugin_that_dies_of_a_signal_is_called_again(client, site, image, compat_pool):
    """XAPI says so in the second of the details."""
    processes = compat_pool.hosts[0].dom0.processes
    site.service.faults.append(service_faults.Stall(60, at=1000, path=image.id + "/file"))
    ended = threading.Event()

    def kill_first():
        while not ended.wait(0.01):
            if any(image.id in request.path and request.path.endswith("/file") for request in list(site.service.requests)):
                time.sleep(0.2)
                for pid in processes.running_pids():
                    os.kill(pid, signal.SIGTERM)
                return
    thread = threading.Thread(target=kill_first)
    thread.start()
    try:
        found = download(client, site, image.id, retries=1)
    finally:
        ended.set()
        thread.join()
    assert [details[:2] for details in client.retries] == [["XENAPI_PLUGIN_FAILURE", "signal: SIGTERM"]]
    assert sr_disks.guest_digest(site.sr.path, found["root"]["uuid"]) == image.digest


def test_a_plugin_that_is_always_killed(client, site, image):
    with site.fault("staging.written:kill"), pytest.raises(ClientFailed) as caught:
        download(client, site, image.id, retries=1)
    assert caught.value.name == "PluginRetriesExceeded"
    assert [details[:2] for details in caught.value.retries] == [["XENAPI_PLUGIN_FAILURE", "signal: SIGKILL"]] * 2


def test_an_image_that_is_gone(client, site):
    """nova makes nothing of a snapshot whose image was deleted: the message alone tells."""
    uuids = sr_disks.write_chain(site.sr.path)
    with pytest.raises(ClientFailed) as caught:
        upload(client, site, str(uuid.uuid4()), uuids, retries=2)
    assert (caught.value.name, caught.value.retries) == ("PluginImageNotFound", [])


def test_an_image_that_is_gone_before_its_download(client, site):
    """The client has no name for it here; nova gets the error after one attempt."""
    with pytest.raises(ClientFailed) as caught:
        download(client, site, str(uuid.uuid4()), retries=0)
    assert caught.value.name in ("Failure", "PluginRetriesExceeded")
