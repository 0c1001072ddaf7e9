# SPDX-License-Identifier: Apache-2.0
"""upload_vhd2 on every dom0 Python: the data that the image service gets, their readers, and refusals."""

import http.server
import os
import shutil
import signal
import subprocess
import sys
import threading
import uuid

import pytest
import XenAPI

from tests.calls import calls
from tests.calls import sr_disks
from tests.calls.images import transfers
from tests.harness.image_service import service_faults as faults
from tests.harness.image_service import service_tokens as tokens
from tests.harness.image_service.service import ImageService
from tests.harness.pool import Pool
from tests.harness.system.prompt_server import PromptServer
from tests.harness.vhd import vhd_writer
from tests.run import environments

UPLOAD = "upload_vhd2"
READER_DEADLINE_S = 60


@pytest.fixture(scope="module")
def upload_pool(dom0_python):
    with Pool(python=dom0_python) as pool:
        yield pool


@pytest.fixture
def new_service():
    """Function(**options) -> a running ImageService."""
    services = []

    def start(**options):
        services.append(ImageService(**options))
        return services[-1].__enter__()
    yield start
    for service in services:
        service.__exit__(None, None, None)


@pytest.fixture
def site(upload_pool, new_service):
    return transfers.Site(upload_pool, new_service(has_v1=True), upload_pool.add_sr())


@pytest.fixture
def disk(site):
    """The uuid of a VDI in the SR."""
    return sr_disks.write_chain(site.sr.path)[0]


@pytest.mark.parametrize("is_legacy", [False, True], ids=["plain", "legacy"])
@pytest.mark.parametrize("depth", [1, 3])
def test_upload(site, depth, is_legacy):
    uuids = sr_disks.write_chain(site.sr.path, depth)
    image = site.service.add_image(container_format=None, disk_format=None)
    with sr_disks.unchanged(site.sr.path):
        assert site.upload(image.id, uuids, is_legacy) is None
    assert (image.status, image.container_format, image.disk_format, image.visibility) == ("active", "ovf", "vhd", "private")
    assert image.properties == transfers.PROPERTIES
    assert site.image_digests(image) == site.disk_digests(uuids)

    request = site.image_requests(image)[-2]
    assert (request.method, request.headers["Content-Type"]) == ("PUT", "application/octet-stream")
    assert request.headers["Transfer-Encoding"] == "chunked"


@pytest.mark.parametrize("is_legacy", [False, True], ids=["plain", "legacy"])
def test_upload_v1(site, is_legacy):
    uuids = sr_disks.write_chain(site.sr.path, 3)
    image = site.service.add_image(container_format=None, disk_format=None)
    with sr_disks.unchanged(site.sr.path):
        assert site.upload(image.id, uuids, is_legacy, api_version=None if is_legacy else 1) is None
    assert (image.status, image.container_format, image.disk_format, image.visibility) == ("active", "ovf", "vhd", "private")
    assert image.properties == transfers.PROPERTIES
    assert site.image_digests(image) == site.disk_digests(uuids)
    sent = {name.lower(): value for name, value in site.image_requests(image)[-2].headers.items()}
    assert sent["x-image-meta-property-os-type"] == "linux"
    assert all(request.path.startswith("/v1/") for request in site.image_requests(image))


@pytest.mark.parametrize("form", ["trailing slash", "sr_uuid"])
def test_other_ways_to_say_where(site, disk, form):
    image = site.service.add_image()
    changes = {"endpoint": site.service.url + "/"} if form == "trailing slash" else {"sr_path": None, "sr_uuid": site.sr.uuid}
    site.upload(image.id, [disk], **changes)
    assert image.status == "active"
    assert not [request.target for request in site.service.requests if "//" in request.target]


def test_empty_properties_leave_those_of_the_image(site, disk):
    image = site.service.add_image(os_type="windows")
    site.upload(image.id, [disk], properties={})
    assert (image.status, image.properties) == ("active", {"os_type": "windows"})


def test_upload_and_download_again(site):
    uuids = sr_disks.write_chain(site.sr.path, 3)
    image = site.service.add_image()
    site.upload(image.id, uuids)
    stack = calls.make_uuids(3)
    assert site.download(image.id, stack) == stack[-1]
    assert sr_disks.guest_digest(site.sr.path, stack[-1]) == sr_disks.guest_digest(site.sr.path, uuids[0])
    records = site.sr.scan()
    assert {stack[-1], uuids[0]} <= set(records)
    digest = sr_disks.guest_digest(site.sr.path, uuids[0])
    site.sr.collect_garbage()
    assert [sr_disks.guest_digest(site.sr.path, leaf) for leaf in (uuids[0], stack[-1])] == [digest, digest]


def write_text_disk(site):
    """A disk that deflates better the longer one tries."""
    vdi_uuid = str(uuid.uuid4())
    words = ["%x" % (number * 2654435761 % (1 << 32)) for number in range(200)]
    text = " ".join(words[number * number * 7 % 200] for number in range(120000)).encode("ascii")
    vhd_writer.write_dynamic(sr_disks.vhd_path(site.sr.path, vdi_uuid), [(0, text[:512 * 1000])], size_bytes=sr_disks.DISK_BYTES)
    return vdi_uuid


def test_compression_level(site):
    vdi_uuid = write_text_disk(site)
    sizes = {}
    for level in (1, 9, None, 6):
        image = site.service.add_image()
        site.upload(image.id, [vdi_uuid], properties={"xenapi_image_compression_level": level} if level else {})
        assert site.image_digests(image) == site.disk_digests([vdi_uuid])
        sizes[level] = image.size
    assert sizes[1] > sizes[6] >= sizes[9]
    assert sizes[None] == sizes[6]


@pytest.mark.parametrize("level", [0, 10, "fast", ""])
def test_compression_level_that_is_none(site, disk, level):
    image = site.service.add_image()
    with calls.refused(UPLOAD, "ArgumentError", "properties", "xenapi_image_compression_level"):
        site.upload(image.id, [disk], properties={"xenapi_image_compression_level": level})
    assert site.service.requests == []


def test_same_disk_makes_same_data(site):
    uuids = sr_disks.write_chain(site.sr.path, 2)
    images = [site.service.add_image() for _ in range(2)]
    for image in images:
        site.upload(image.id, uuids)
    assert site.image_content(images[0]) == site.image_content(images[1])


# Readers of a stored image. One Python wrote it: a test below compares the data of all Pythons byte by byte.

@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """(path of an uploaded image, path of its one VHD, path of an uploaded chain of three)."""
    directory = tmp_path_factory.mktemp("stored")
    with Pool() as pool, ImageService(directory=str(directory)) as service:
        site = transfers.Site(pool, service, pool.srs[0])
        disk = sr_disks.write_chain(site.sr.path, blocks=3)
        copy = shutil.copy(sr_disks.vhd_path(site.sr.path, disk[0]), str(directory / "0.vhd"))
        images = [service.add_image(), service.add_image()]
        site.upload(images[0].id, disk)
        site.upload(images[1].id, sr_disks.write_chain(site.sr.path, 3))
        yield images[0].path, copy, images[1].path


def run(*command, **options):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=READER_DEADLINE_S,
                          env=environments.clean_environ(), **options)


@pytest.mark.needs("gzip", "pigz")
@pytest.mark.parametrize("program", ["gzip", "pigz"])
def test_read_by_programs(stored, tmp_path, program):
    image, disk, _ = stored
    checked = run(program, "--test", stdin=open(image, "rb"))
    assert (checked.returncode, checked.stderr) == (0, b"")
    with open(str(tmp_path / "tar"), "wb") as target:
        subprocess.run([program, "-dc"], stdin=open(image, "rb"), stdout=target, check=True, timeout=READER_DEADLINE_S)
    unpacked = run("tar", "-xf", str(tmp_path / "tar"), "-C", str(tmp_path))
    assert (unpacked.returncode, unpacked.stderr) == (0, b"")
    assert (tmp_path / "0.vhd").read_bytes() == open(disk, "rb").read()


READ_TAR = """
import hashlib, sys, tarfile
for mode in ('r|gz', 'r:gz'):
    archive = tarfile.open(sys.argv[1], mode)
    for member in archive:
        print('%s %s %d %s' % (mode, member.name, member.isfile(), hashlib.md5(archive.extractfile(member).read()).hexdigest()))
"""


def test_read_by_tarfile(stored, dom0_python):
    read = run(dom0_python, "-c", READ_TAR, stored[2], universal_newlines=True)
    assert read.returncode == 0, read.stderr
    modern = run(sys.executable, "-c", READ_TAR, stored[2], universal_newlines=True)
    assert read.stdout == modern.stdout
    lines = [line.split() for line in read.stdout.splitlines()]
    assert [line[:3] for line in lines] == [
        [mode, "%d.vhd" % number, "1"] for mode in ("r|gz", "r:gz") for number in range(3)]


def test_every_python_writes_the_same(stored, upload_pool, new_service):
    site = transfers.Site(upload_pool, new_service(), upload_pool.add_sr())
    vdi_uuid = str(uuid.uuid4())
    shutil.copy(stored[1], sr_disks.vhd_path(site.sr.path, vdi_uuid))
    image = site.service.add_image()
    site.upload(image.id, [vdi_uuid])
    assert site.image_content(image) == open(stored[0], "rb").read()


# os-xenapi's own reader of images, on the Python that it was made for. What it imports but does not need here (green
# threads, oslo) is replaced; its parser, its tar reader and its way to XAPI's VHD import are its own.
READ_AS_OS_XENAPI = """
import imp, logging, sys
def add(name, **members):
    module = sys.modules[name] = imp.new_module(name)
    module.__dict__.update(members)
    return module
library, image, url = sys.argv[1:]
add('eventlet', greenio=None)
add('oslo_log', log=logging)
class TranslatorFactory(object):
    def __init__(self, domain): pass
    def __getattr__(self, name): return lambda text: text
add('oslo_i18n', TranslatorFactory=TranslatorFactory)
for name in ('os_xenapi', 'os_xenapi.client', 'os_xenapi.client.image'):
    add(name).__path__ = [library + '/' + name.replace('.', '/')]
from os_xenapi.client.image import vdi_handler
class Api(object):
    def __getattr__(self, name): return Api()
    def __call__(self, *arguments): return 'value'
reader = vdi_handler.ImageStreamToVDIs(None, Api(), {'name': 'guest', 'uuid': 'uuid'}, url, 'sr', open(image, 'rb'))
reader.start()
print(reader.vdis)
"""


class _VdiImport(http.server.BaseHTTPRequestHandler):
    """XAPI's /import_raw_vdi, which keeps the data that it gets."""

    def do_PUT(self):
        self.server.imported = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args):
        pass


class _VdiImportServer(PromptServer, http.server.HTTPServer):
    pass


def test_read_by_os_xenapi(stored):
    with _VdiImportServer(("127.0.0.1", 0), _VdiImport) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        read = run(environments.python_of("2.7"), "-c", READ_AS_OS_XENAPI, os.path.join(environments.ENVIRONMENTS, "os-xenapi"),
                   stored[0], "http://127.0.0.1:%d" % server.server_address[1], universal_newlines=True)
        server.shutdown()
    assert read.returncode == 0, read.stderr
    assert read.stdout.strip() == "{'root': {'uuid': 'value'}}"
    assert server.imported == open(stored[1], "rb").read()


# Refusals. The SR is as before, and the image is not active unless it was.

def expect_refusal(site, image_id, uuids, class_name, *parts, **changes):
    with sr_disks.unchanged(site.sr.path), calls.refused(UPLOAD, class_name, *parts) as messages:
        site.upload(image_id, uuids, **changes)
    return messages[0]


def test_bad_token(site, disk):
    image = site.service.add_image()
    expect_refusal(site, image.id, [disk], "PluginError", "token", extra_headers={"X-Auth-Token": "nobody"})
    expect_refusal(site, image.id, [disk], "PluginError", "token", extra_headers={})
    assert image.status == "queued"


def test_reader_role(site, disk):
    image = site.service.add_image(container_format=None, disk_format=None)
    expect_refusal(site, image.id, [disk], "PluginError", "403", extra_headers={"X-Auth-Token": tokens.READER})
    assert (image.status, image.properties, image.disk_format) == ("queued", {}, None)


@pytest.mark.parametrize("api_version", [1, 2])
@pytest.mark.parametrize("case", ["absent", "deleted", "of another project"])
def test_image_that_is_not_there(site, disk, case, api_version):
    image = site.service.add_image(owner="project-b" if case == "of another project" else "project-a")
    if case == "deleted":
        site.service.images.delete(image)
    image_id = str(uuid.uuid4()) if case == "absent" else image.id
    assert expect_refusal(site, image_id, [disk], "ImageNotFound", api_version=api_version) == "ImageNotFound"


def test_image_deleted_between_look_and_upload(site, disk):
    image = site.service.add_image()
    site.service.faults.append(faults.Refusal(404, method="PUT", path=image.id))
    assert expect_refusal(site, image.id, [disk], "ImageNotFound") == "ImageNotFound"


@pytest.mark.parametrize("api_version", [1, 2])
@pytest.mark.parametrize("status", ["active", "saving", "deactivated"])
def test_image_that_takes_no_data(site, disk, status, api_version):
    image = site.service.add_image(b"something else")
    image.status = status
    before = dict(vars(image))
    expect_refusal(site, image.id, [disk], "PluginError", status, api_version=api_version)
    assert vars(image) == before
    assert [request.method for request in site.service.requests] in (["GET"], ["HEAD"])


@pytest.mark.parametrize("size", [b"\xb2", b"-1", b"9" * 19, b"9" * 5000])
def test_size_that_is_no_number(site, disk, size):
    """isdigit() takes \xb2, a superscript two in Latin-1, and int() does not."""
    image = site.service.add_image()
    answer = b"HTTP/1.1 200 OK\r\nx-image-meta-status: queued\r\nx-image-meta-size: %s\r\n\r\n" % size
    site.service.faults.append(faults.GarbageStatus(answer, method="HEAD", path=image.id))
    expect_refusal(site, image.id, [disk], "RetryableError", "a size that is no number", api_version=1)
    assert image.status == "queued"
    assert [request.method for request in site.service.requests] == ["HEAD"]


@pytest.mark.parametrize("limits", [{"image_size_cap": 1 << 20}, {"user_storage_quota": 1 << 20}], ids=["cap", "quota"])
def test_too_big(upload_pool, new_service, limits):
    site = transfers.Site(upload_pool, new_service(**limits), upload_pool.add_sr())
    uuids = sr_disks.write_chain(site.sr.path, blocks=4)
    image = site.service.add_image()
    expect_refusal(site, image.id, uuids, "PluginError", "413")
    assert image.status != "active"


def test_image_deleted_during_upload(site):
    uuids = sr_disks.write_chain(site.sr.path, blocks=4)
    image = site.service.add_image()
    site.service.faults.append(faults.UploadStall(1, at=1 << 20, method="PUT"))

    def delete():
        calls.wait_until(lambda: any(request.received_bytes >= 1 << 20 for request in site.image_requests(image)))
        site.service.images.delete(image)
    thread = threading.Thread(target=delete)
    thread.start()
    expect_refusal(site, image.id, uuids, "PluginError", "410")
    thread.join(10)
    assert image.status == "deleted"


def test_a_disk_that_is_written_to_meanwhile(site):
    uuids = sr_disks.write_chain(site.sr.path, depth=2, blocks=4)
    image = site.service.add_image()
    site.service.faults.append(faults.UploadStall(1, at=1 << 20, method="PUT"))

    def write():
        calls.wait_until(lambda: any(request.received_bytes >= 1 << 20 for request in site.image_requests(image)))
        os.utime(sr_disks.vhd_path(site.sr.path, uuids[1]))
    thread = threading.Thread(target=write)
    thread.start()
    with calls.refused(UPLOAD, "RetryableError", "the VHD of VDI %s was changed while it was read" % uuids[1]):
        site.upload(image.id, uuids)
    thread.join(10)
    site.wait_settled(image)
    assert image.status != "active"


def test_missing_disk(site, disk):
    image = site.service.add_image()
    missing = str(uuid.uuid4())
    expect_refusal(site, image.id, [missing], "StorageError", missing)
    expect_refusal(site, image.id, [disk, missing], "StorageError", missing)
    assert site.service.requests == []


@pytest.mark.parametrize("case", ["strangers", "child first", "base missing", "base alone", "hidden leaf"])
def test_disks_that_are_no_chain(site, disk, case):
    leaf, parent, base = sr_disks.write_chain(site.sr.path, 3)
    uuids, text = {
        "strangers": ([leaf, disk], "not a chain"),
        "child first": ([parent, leaf, base], "not a chain"),
        "base missing": ([leaf, parent], "not in the image"),
        "base alone": ([base], "hidden"),
        "hidden leaf": ([parent, base], "hidden")}[case]
    image = site.service.add_image()
    expect_refusal(site, image.id, uuids, "StorageError", text)
    assert image.status == "queued"
    assert site.service.requests == []


def test_damaged_disk(site, disk):
    vhd_writer.patch(sr_disks.vhd_path(site.sr.path, disk), 0, bytes(2048))
    vhd_writer.patch(sr_disks.vhd_path(site.sr.path, disk), -512, bytes(512))
    image = site.service.add_image()
    expect_refusal(site, image.id, [disk], "StorageError", disk)
    assert site.service.requests == []


def test_sr_that_is_not_there(site, disk):
    image = site.service.add_image()
    expect_refusal(site, image.id, [disk], "StorageError", sr_path="/var/run/sr-mount/" + str(uuid.uuid4()))


def test_properties_may_be_refused(site, disk):
    image = site.service.add_image(container_format=None, disk_format=None)
    site.service.faults.append(faults.Refusal(403, method="PATCH", nth=2))
    assert site.upload(image.id, [disk]) is None
    assert (image.status, image.disk_format, image.properties) == ("active", "vhd", {})
    assert any("properties" in line for line in site.pool.hosts[0].syslog_lines() if image.id in line)


def test_formats_may_not_be_refused(site, disk):
    image = site.service.add_image()
    site.service.faults.append(faults.Refusal(403, method="PATCH"))
    expect_refusal(site, image.id, [disk], "PluginError", "403")
    assert image.status == "queued"


def test_service_without_the_version(upload_pool, new_service):
    site = transfers.Site(upload_pool, new_service(), upload_pool.add_sr())
    image = site.service.add_image()
    expect_refusal(site, image.id, sr_disks.write_chain(site.sr.path), "PluginError", "api_version", api_version=1)


def test_truncated_upload_that_the_service_calls_complete(site):
    """uWSGI takes a chunk that it cannot read for the end of the body."""
    uuids = sr_disks.write_chain(site.sr.path, blocks=2)
    image = site.service.add_image()
    site.service.faults.append(faults.UploadTruncation(100000, method="PUT"))
    expect_refusal(site, image.id, uuids, "PluginError", "damaged", "100000", "delete it")


def test_other_data_of_the_same_size(site, disk, monkeypatch):
    image = site.service.add_image()
    change = image.set_digests

    def set_wrong_checksum(digests, size_bytes):
        change(digests, size_bytes)
        image.checksum = "0" * 32
    monkeypatch.setattr(image, "set_digests", set_wrong_checksum)
    expect_refusal(site, image.id, [disk], "PluginError", "damaged", "0" * 32)


def test_answer_before_the_end(site):
    """A success that comes when a part has been sent is none."""
    uuids = sr_disks.write_chain(site.sr.path, blocks=6)
    image = site.service.add_image()
    site.service.faults.append(faults.Refusal(204, after=1 << 20, method="PUT"))
    expect_refusal(site, image.id, uuids, "PluginError", "part")
    assert image.status == "queued"


@pytest.mark.parametrize("status, class_name", [
    (status, "PluginError") for status in (301, 400, 401, 402, 403, 405, 406, 407, 409, 410, 411, 412, 413, 415, 417, 422, 501)
    ] + [(404, "ImageNotFound")] + [(status, "RetryableError") for status in (408, 418, 429, 500, 502, 503, 504)])
def test_statuses(stored_site, status, class_name):
    site, disk = stored_site
    image = site.service.add_image()
    site.service.faults.append(faults.Refusal(status, method="PUT", path=image.id))
    message = expect_refusal(site, image.id, [disk], class_name)
    assert message == "ImageNotFound" if status == 404 else str(status) in message
    assert image.status == "queued"


@pytest.fixture(scope="module")
def stored_site():
    """One site on this Python, for tests that do not depend on it."""
    with Pool() as pool, ImageService() as service:
        yield transfers.Site(pool, service, pool.srs[0]), sr_disks.write_chain(pool.srs[0].path)[0]


def test_signal_during_upload(site):
    uuids = sr_disks.write_chain(site.sr.path, blocks=6)
    image = site.service.add_image()
    site.service.faults.append(faults.UploadStall(3, at=1 << 20, method="PUT"))

    def terminate():
        calls.wait_until(lambda: any(request.received_bytes >= 1 << 20 for request in site.image_requests(image)))
        for pid in calls.find_processes(site.sr.uuid):
            os.kill(pid, signal.SIGTERM)
    thread = threading.Thread(target=terminate)
    thread.start()
    with sr_disks.unchanged(site.sr.path), pytest.raises(XenAPI.Failure) as caught:
        site.upload(image.id, uuids)
    thread.join(10)
    assert caught.value.details[1] == "signal: SIGTERM"
    site.wait_settled(image)
    assert image.status == "queued"
