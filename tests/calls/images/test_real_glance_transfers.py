# SPDX-License-Identifier: Apache-2.0
"""Both transfers against the real Glance 33.0.0, under gunicorn and under uWSGI; the dom0 Pythons take turns.

Takes part when CI=true or DOM0_REAL_GLANCE=1.
"""

import collections
import contextlib
import hashlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import XenAPI

from tests.calls import calls
from tests.calls import sr_disks
from tests.calls.calls import refused, wait_until
from tests.calls import pythons
from tests.calls.images import transfers
from tests.calls.sr_disks import BLOCK, guest_digest, unchanged, write_chain
from tests.harness.image_service import glance_server
from tests.harness.image_service import service_tokens as tokens
from tests.harness.image_service.tcp_gate import Gate
from tests.harness.pool import Pool
from tests.run import environments

pytestmark = [
    pytest.mark.skipif(not environments.WANTS_GLANCE, reason="the real Glance: set DOM0_REAL_GLANCE=1"),
    pytest.mark.needs("openssl"),
]

GUNICORN, UWSGI, TLS = glance_server.GUNICORN, glance_server.UWSGI, "tls"
LIMITED = " with limits"
UPLOAD, DOWNLOAD = "upload_vhd2", "download_vhd2"
OCTETS = {"Content-Type": "application/octet-stream"}
# More than all buffers on the way take, and a place in its middle.
LONG_BLOCKS, MIDDLE_BYTES = 6, 2 * BLOCK
CAP_BYTES, QUOTA_BYTES = 5 * BLOCK // 2, 3 * BLOCK
LIMIT_S = 60
SOCKET_LIMIT_S = 4  # uWSGI's default
CA_FILE = "/etc/pki/private-ca.pem"

_TURNS = itertools.cycle(pythons.ROTATION)

Endpoint = collections.namedtuple("Endpoint", "url token")


def on(*servers):
    """The test runs on each of these servers, each time with the next dom0 Python."""
    params = []
    for server in servers:
        python = next(_TURNS, None)
        params.append(pytest.param((server, python), id="%s-%s" % (server.replace(" ", "-"), pythons.version_of(python))))
    return pytest.mark.parametrize("site", params, indirect=True)


class Servers(object):
    """The servers of this module, each started at its first use."""

    def __init__(self, stack, directory):
        self._stack = stack
        self._directory = directory
        self._started = {}

    def get(self, kind):
        if kind not in self._started:
            limits = {"image_size_cap": CAP_BYTES, "user_storage_quota": QUOTA_BYTES} if kind.endswith(LIMITED) else {}
            self._started[kind] = self._stack.enter_context(glance_server.GlanceServer(
                glance_server.find_python(), os.path.join(self._directory, kind), limits,
                UWSGI if kind.startswith(UWSGI) else GUNICORN, SOCKET_LIMIT_S,
                make_certificates(self._directory) if kind == TLS else None))
        return self._started[kind]

    @property
    def ca_path(self):
        return os.path.join(self._directory, "ca.pem")


def make_certificates(directory):
    """A private authority in ca.pem; returns the paths of a certificate for 127.0.0.1 that it has signed, and of its key."""
    def openssl(*arguments):
        subprocess.run(("openssl",) + arguments, cwd=directory, check=True, capture_output=True, timeout=60)

    new_key = ("-newkey", "rsa:2048", "-nodes")
    openssl("req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=private authority", "-days", "2",
            "-addext", "keyUsage = critical, keyCertSign, cRLSign")
    openssl("req", *new_key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=image service")
    with open(os.path.join(directory, "server.ext"), "w") as extensions:
        extensions.write("subjectAltName = IP:127.0.0.1\nauthorityKeyIdentifier = keyid\nbasicConstraints = CA:FALSE\n")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-set_serial", "2", "-days", "2",
            "-extfile", "server.ext", "-out", "server.pem")
    return os.path.join(directory, "server.pem"), os.path.join(directory, "server.key")


class GlanceSite(transfers.Site):
    """A real image service, a host, and calls between them."""

    def __init__(self, pool, server):
        super().__init__(pool, Endpoint(server.url, tokens.MEMBER))
        self.server = server

    def through(self, gate):
        """Calls go through this gate from now on."""
        self.service = Endpoint(gate.url, tokens.MEMBER)

    def ask(self, method, path, body=None, headers=None, token=tokens.MEMBER):
        """A request of the image's owner, past any gate; (status, body)."""
        with contextlib.closing(self.server.connect()) as connection:
            connection.request(method, "/v2/images" + path, body, dict(headers or {}, **{"X-Auth-Token": token}))
            response = connection.getresponse()
            return response.status, response.read()

    def create(self):
        """The id of a new, queued image."""
        status, body = self.ask("POST", "", b'{"name": "disk"}', {"Content-Type": "application/json"})
        assert status == 201, body
        return json.loads(body)["id"]

    def create_active(self, data):
        image_id = self.create()
        formats = [{"op": "replace", "path": "/container_format", "value": "ovf"},
                   {"op": "replace", "path": "/disk_format", "value": "vhd"}]
        assert self.ask("PATCH", "/" + image_id, json.dumps(formats), {
            "Content-Type": "application/openstack-images-v2.1-json-patch"})[0] == 200
        assert self.ask("PUT", "/%s/file" % image_id, data, OCTETS)[0] == 204
        return image_id

    def create_disk(self, blocks=1, depth=1):
        """An active image of a chain that is no longer in the SR, and the digest of the disk."""
        uuids = write_chain(self.sr.path, depth, blocks)
        digest = guest_digest(self.sr.path, uuids[0])
        data = sr_disks.pack_vdis(self.sr.path, uuids)
        self.clear_sr()
        return self.create_active(data), digest

    def record(self, image_id):
        status, body = self.ask("GET", "/" + image_id)
        return json.loads(body) if status == 200 else {"status": status}

    def status(self, image_id):
        return self.record(image_id)["status"]

    def clear_sr(self):
        for name in os.listdir(self.sr.path):
            assert name.endswith(".vhd"), name
            os.unlink(os.path.join(self.sr.path, name))

    @contextlib.contextmanager
    def refuses(self, function, class_name, *parts):
        """The call in the block must fail so, and leave the SR as it was."""
        with unchanged(self.sr.path), refused(function, class_name, *parts) as messages:
            yield messages
        wait_until(lambda: not calls.find_processes(self.sr.uuid))


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    with contextlib.ExitStack() as stack:
        yield Servers(stack, str(tmp_path_factory.mktemp("glance")))


@pytest.fixture(scope="module")
def pools():
    """Function(interpreter) -> a Pool whose plug-ins it runs."""
    started = {}
    with contextlib.ExitStack() as stack:
        def get(python):
            if python not in started:
                started[python] = stack.enter_context(Pool(python=python))
            return started[python]
        yield get


@pytest.fixture
def site(request, servers, pools):
    kind, python = request.param
    site = GlanceSite(pools(python), servers.get(kind))
    yield site
    calls.remove_settings(site.pool.hosts[0])
    site.clear_sr()


# Transfers that succeed

@on(GUNICORN, UWSGI)
def test_a_disk_there_and_back(site):
    check_round_trip(site, depth=1)


@on(GUNICORN, UWSGI)
def test_a_chain_there_and_back(site):
    check_round_trip(site, depth=3, is_legacy=True)


def check_round_trip(site, depth, is_legacy=False):
    uuids = write_chain(site.sr.path, depth, blocks=2)
    image_id = site.create()
    properties = {"os_type": "linux", "auto_disk_config": True, "xenapi_image_compression_level": 3}
    assert site.upload(image_id, uuids, is_legacy, properties=properties) is None
    check_record(site, image_id)
    with tarfile.open(site.server.data_path(image_id), "r:gz") as archive:
        members = [(member.name, hashlib.md5(archive.extractfile(member).read()).hexdigest()) for member in archive]
    assert members == site.disk_digests(uuids)

    copies = calls.make_uuids(depth)
    assert site.download(image_id, copies, is_legacy) == copies[-1]
    assert guest_digest(site.sr.path, copies[-1]) == guest_digest(site.sr.path, uuids[0])
    scanned = site.sr.scan()
    assert [scanned[copy]["sm_config"].get("vhd-parent") for copy in copies[::-1]] == copies[:-1][::-1] + [None]


def check_record(site, image_id):
    """The image as the service tells of it, and its data as the service keeps them."""
    record = site.record(image_id)
    with open(site.server.data_path(image_id), "rb") as opened:
        data = opened.read()
    assert {name: record[name] for name in ("status", "size", "checksum", "os_hash_algo", "os_hash_value")} == {
        "status": "active", "size": len(data), "checksum": hashlib.md5(data).hexdigest(),
        "os_hash_algo": "sha512", "os_hash_value": hashlib.sha512(data).hexdigest()}
    assert (record["container_format"], record["disk_format"], record["visibility"]) == ("ovf", "vhd", "private")
    assert (record["os_type"], record["auto_disk_config"], record["xenapi_image_compression_level"]) == ("linux", "True", "3")
    assert not [name for name in record if "-" in name]


# Where the connection, or the service, goes away

@on(GUNICORN)
def test_a_service_that_is_killed_and_started_again(site):
    image_id, digest = site.create_disk(LONG_BLOCKS)
    with Gate(site.server.url, MIDDLE_BYTES) as gate, ThreadPoolExecutor(1) as thread:
        site.through(gate)
        call = thread.submit(site.download, image_id, calls.make_uuids(1))
        assert gate.shut.wait(LIMIT_S)
        site.server.kill()
        gate.open()
        site.server.start()
        leaf = call.result(LIMIT_S)
    assert guest_digest(site.sr.path, leaf) == digest
    assert len(find_ranges(gate)) > 0


@on(UWSGI, GUNICORN)
def test_a_download_that_stalls(site):
    """uWSGI gives up after a while and ends the body short, without an error; gunicorn waits."""
    image_id, digest = site.create_disk(LONG_BLOCKS)
    with Gate(site.server.url, MIDDLE_BYTES) as gate, ThreadPoolExecutor(1) as thread:
        site.through(gate)
        call = thread.submit(site.download, image_id, calls.make_uuids(1))
        assert gate.shut.wait(LIMIT_S)
        time.sleep(SOCKET_LIMIT_S + 2)
        gate.open()
        leaf = call.result(LIMIT_S)
    assert guest_digest(site.sr.path, leaf) == digest
    assert (len(find_ranges(gate)) > 0) == (site.server.kind == UWSGI)


@on(UWSGI)
def test_an_upload_that_stalls(site):
    """uWSGI gives up; the data that have arrived must not become the image."""
    uuids = write_chain(site.sr.path, blocks=LONG_BLOCKS)
    image_id = site.create()
    with Gate(site.server.url, MIDDLE_BYTES) as gate, ThreadPoolExecutor(1) as thread:
        site.through(gate)
        with site.refuses(UPLOAD, "RetryableError"):
            call = thread.submit(site.upload, image_id, uuids)
            assert gate.shut.wait(LIMIT_S)
            time.sleep(SOCKET_LIMIT_S + 2)
            gate.open()
            call.result(LIMIT_S)
    assert site.status(image_id) == "queued"


@on(UWSGI, GUNICORN)
def test_an_upload_that_is_told_to_end(site):
    uuids = write_chain(site.sr.path, blocks=LONG_BLOCKS)
    image_id = site.create()
    with Gate(site.server.url, MIDDLE_BYTES) as gate, ThreadPoolExecutor(1) as thread:
        site.through(gate)
        with unchanged(site.sr.path), pytest.raises(XenAPI.Failure) as caught:
            call = thread.submit(site.upload, image_id, uuids)
            assert gate.shut.wait(LIMIT_S)
            for pid in calls.find_processes(site.sr.uuid):
                os.kill(pid, signal.SIGTERM)
            wait_until(lambda: not calls.find_processes(site.sr.uuid))
            gate.open()
            call.result(LIMIT_S)
    assert caught.value.details[:2] == ["XENAPI_PLUGIN_FAILURE", "signal: SIGTERM"]
    # Not at once: the service still has to notice that nothing comes any more.
    wait_until(lambda: site.status(image_id) != "saving", LIMIT_S)
    assert site.status(image_id) == "queued"


@on(GUNICORN, UWSGI)
def test_an_image_that_is_deleted_during_its_upload(site):
    uuids = write_chain(site.sr.path, blocks=LONG_BLOCKS)
    image_id = site.create()
    with Gate(site.server.url, MIDDLE_BYTES) as gate, ThreadPoolExecutor(1) as thread:
        site.through(gate)
        with site.refuses(UPLOAD, "PluginError", "status 410"):
            call = thread.submit(site.upload, image_id, uuids)
            assert gate.shut.wait(LIMIT_S)
            wait_until(lambda: site.status(image_id) == "saving")
            assert site.ask("DELETE", "/" + image_id)[0] == 204
            gate.open()
            call.result(LIMIT_S)
    assert site.status(image_id) == 404


def find_ranges(gate):
    """The requests for a part of the data that went through the gate."""
    return [head for head in gate.heads if re.search(rb"\r\nRange: bytes=[1-9]\d*-\r\n", head)]


# Refusals of the service

@on(GUNICORN, UWSGI)
@pytest.mark.parametrize("token, status", [("token-of-nobody", 401), (tokens.READER, 403)], ids=["unknown", "reader"])
def test_a_token_that_may_not_upload(site, token, status):
    uuids = write_chain(site.sr.path)
    image_id = site.create()
    with site.refuses(UPLOAD, "PluginError", "(status %d)" % status, "token"):
        site.upload(image_id, uuids, extra_headers={"X-Auth-Token": token})
    assert site.status(image_id) == "queued"


@on(GUNICORN, UWSGI)
def test_a_token_that_may_not_download(site):
    image_id, _ = site.create_disk()
    with site.refuses(DOWNLOAD, "PluginError", "(status 401)", "token"):
        site.download(image_id, calls.make_uuids(1), extra_headers={"X-Auth-Token": "token-of-nobody"})


@on(GUNICORN, UWSGI)
def test_a_deleted_image(site):
    uuids = write_chain(site.sr.path)
    image_id = site.create()
    assert site.ask("DELETE", "/" + image_id)[0] == 204
    with site.refuses(UPLOAD, "ImageNotFound") as messages:
        site.upload(image_id, uuids)
    assert messages == ["ImageNotFound"]
    with site.refuses(DOWNLOAD, "ImageNotFound", image_id):
        site.download(image_id, calls.make_uuids(1))


@on(GUNICORN, UWSGI)
def test_an_active_image_takes_no_data(site):
    uuids = write_chain(site.sr.path)
    image_id = site.create_active(b"what it has")
    with site.refuses(UPLOAD, "PluginError", "'active', not 'queued'"):
        site.upload(image_id, uuids)
    assert site.ask("GET", "/%s/file" % image_id)[1] == b"what it has"


@on(GUNICORN, UWSGI)
@pytest.mark.parametrize("prepare", ["leave queued", "lose"])
def test_an_image_without_data(site, prepare):
    if prepare == "lose":
        image_id, _ = site.create_disk()
        site.server.lose_data(image_id)
    else:
        image_id = site.create()
    with site.refuses(DOWNLOAD, "RetryableError", "status 204"):
        site.download(image_id, calls.make_uuids(1))


@on(GUNICORN, UWSGI)
def test_a_deactivated_image(site):
    image_id, _ = site.create_disk()
    assert site.ask("POST", "/%s/actions/deactivate" % image_id, token=tokens.ADMIN)[0] == 204
    with site.refuses(DOWNLOAD, "PluginError", "(status 403)"):
        site.download(image_id, calls.make_uuids(1))


@on(GUNICORN, UWSGI)
def test_data_that_are_not_what_was_uploaded(site):
    image_id, _ = site.create_disk()
    with open(site.server.data_path(image_id), "r+b") as opened:
        opened.seek(BLOCK // 2)
        byte = opened.read(1)
        opened.seek(BLOCK // 2)
        opened.write(bytes([byte[0] ^ 1]))
    with site.refuses(DOWNLOAD, "RetryableError", "SHA512"):
        site.download(image_id, calls.make_uuids(1))


@on(GUNICORN + LIMITED, UWSGI + LIMITED)
def test_an_image_over_the_size_cap(site):
    uuids = write_chain(site.sr.path, blocks=3)
    image_id = site.create()
    with site.refuses(UPLOAD, "PluginError", "status 413"):
        site.upload(image_id, uuids)
    assert site.status(image_id) == "queued"


@on(GUNICORN + LIMITED, UWSGI + LIMITED)
def test_an_image_over_the_quota(site):
    """Nobody can upload to it again: this Glance leaves the image as if its data were still coming."""
    full = site.create_active(os.urandom(QUOTA_BYTES - BLOCK))
    uuids = write_chain(site.sr.path, blocks=2)
    image_id = site.create()
    with site.refuses(UPLOAD, "PluginError", "status 413"):
        site.upload(image_id, uuids)
    assert site.status(image_id) == "saving"
    for each in (image_id, full):
        assert site.ask("DELETE", "/" + each)[0] == 204


# TLS

@on(TLS, TLS, TLS)
def test_a_private_authority(site, servers):
    uuids, copies = write_chain(site.sr.path), calls.make_uuids(1)
    image_id = site.create()
    for function, call in [(UPLOAD, lambda: site.upload(image_id, uuids)), (DOWNLOAD, lambda: site.download(image_id, copies))]:
        with site.refuses(function, "PluginError", "is not trusted", "ca_file", calls.SETTINGS):
            call()
    assert site.status(image_id) == "queued"

    host = site.pool.hosts[0]
    os.makedirs(os.path.dirname(host.dom0.locate(CA_FILE)), exist_ok=True)
    shutil.copy(servers.ca_path, host.dom0.locate(CA_FILE))
    calls.write_settings(host, "[tls]\nca_file = %s\n" % CA_FILE)
    site.upload(image_id, uuids)
    assert site.status(image_id) == "active"
    site.download(image_id, copies)
    assert guest_digest(site.sr.path, copies[0]) == guest_digest(site.sr.path, uuids[0])
