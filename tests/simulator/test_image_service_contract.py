# SPDX-License-Identifier: Apache-2.0
"""The contract of Glance with its clients, tested on the stand-in and on the real Glance 33.0.0 alike.

The real one takes part when CI=true or DOM0_REAL_GLANCE=1 (it is installed into .venvs/glance first: a minute).
v1 is tested on the stand-in alone, against recordings of Glance 15.0.2.
"""
from __future__ import absolute_import, division

import contextlib
import hashlib
import http.client
import json
import os
import socket
import time
import uuid

import pytest

from tests import patience
from tests.harness.image_service import glance_server
from tests.harness.image_service import service_tokens as tokens
from tests.harness.image_service.service import ImageService
from tests.harness.image_service.service_process import ImageServiceProcess
from tests.run import environments

STAND_IN, GLANCE = "stand-in", "glance"

OCTETS = "application/octet-stream"
PATCH_TYPE = "application/openstack-images-v2.1-json-patch"
LIMIT_S = patience.LIMIT_S
CAP_BYTES = 1 << 20
QUOTA_BYTES = 100 * 1024
DATA = b"0123456789"
MD5 = hashlib.md5(DATA).hexdigest()


class Answer(object):
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    def json(self):
        return json.loads(self.body.decode("utf-8"))


def ask(url, method, path, body=None, token=tokens.MEMBER, **headers):
    """One request on its own connection; `body`: bytes, a tuple of chunks, or something to send as JSON."""
    scheme, rest = url.split("//")
    host, slash, prefix = rest.partition("/")
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if token is not None:
        headers["X-Auth-Token"] = token
    if isinstance(body, (dict, list)):
        body = json.dumps(body).encode("utf-8")
    is_chunked = isinstance(body, tuple)
    if is_chunked:
        headers["Transfer-Encoding"] = "chunked"
    with contextlib.closing(http.client.HTTPConnection(host, timeout=LIMIT_S)) as connection:
        try:
            connection.request(method, slash + prefix + path, body, headers, encode_chunked=is_chunked)
        except OSError:
            pass  # refused while it was being sent: the answer is there all the same
        return Answer(connection.getresponse())


class Client(object):
    """The requests of a cloud, made to one server."""

    def __init__(self, server):
        self.server = server
        self.url = server.url

    def ask(self, method, path, body=None, **options):
        return ask(self.url, method, path, body, **options)

    def create(self, token=tokens.MEMBER, **attributes):
        attributes = dict({"container_format": "ovf", "disk_format": "vhd"}, **attributes)
        answer = self.ask("POST", "/v2/images", attributes, token=token, Content_Type="application/json")
        assert answer.status == 201, answer.body
        return answer.json()["id"]

    def create_active(self, data=DATA, **attributes):
        image_id = self.create(**attributes)
        assert self.upload(image_id, data).status == 204
        return image_id

    def upload(self, image_id, data=DATA, **options):
        options.setdefault("Content_Type", OCTETS)
        return self.ask("PUT", "/v2/images/%s/file" % image_id, data, **options)

    def download(self, image_id, **options):
        return self.ask("GET", "/v2/images/%s/file" % image_id, **options)

    def patch(self, image_id, *operations, **options):
        options.setdefault("Content_Type", PATCH_TYPE)
        return self.ask("PATCH", "/v2/images/" + image_id, list(operations), **options)

    def delete(self, image_id, **options):
        return self.ask("DELETE", "/v2/images/" + image_id, **options)

    def record(self, image_id):
        return self.ask("GET", "/v2/images/" + image_id, token=tokens.ADMIN).json()

    def status(self, image_id):
        return self.record(image_id)["status"]

    def wait_status(self, image_id, status):
        deadline = time.monotonic() + LIMIT_S
        while self.status(image_id) != status:
            assert time.monotonic() < deadline, "still %s" % self.status(image_id)
            time.sleep(0.02)

    @contextlib.contextmanager
    def slow_upload(self, image_id, token=tokens.MEMBER, framing="Transfer-Encoding: chunked"):
        """A raw connection with the head of a PUT sent on it."""
        host, port = self.url.split("//")[1].split("/")[0].split(":")
        with contextlib.closing(socket.create_connection((host, int(port)), timeout=LIMIT_S)) as connection:
            head = ["PUT /v2/images/%s/file HTTP/1.1" % image_id, "Host: " + host, "X-Auth-Token: " + token,
                    "Content-Type: " + OCTETS, framing, "", ""]
            connection.sendall("\r\n".join(head).encode("ascii"))
            yield connection


def add(name, value):
    return {"op": "add", "path": "/" + name, "value": value}


def replace(name, value):
    return {"op": "replace", "path": "/" + name, "value": value}


def read_status(connection):
    """Status of the answer on a raw connection."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status


@contextlib.contextmanager
def run_server(kind, directory, **limits):
    if kind == STAND_IN:
        with ImageService(**limits) as service:
            yield service
    else:
        with glance_server.GlanceServer(glance_server.find_python(), str(directory), limits) as glance:
            yield glance


@pytest.fixture(scope="module", params=[STAND_IN, GLANCE] if environments.WANTS_GLANCE else [STAND_IN])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def client(kind, tmp_path_factory):
    with run_server(kind, tmp_path_factory.mktemp("server"), image_size_cap=CAP_BYTES) as server:
        yield Client(server)


@pytest.fixture(scope="module")
def quota_client(kind, tmp_path_factory):
    with run_server(kind, tmp_path_factory.mktemp("quota"), user_storage_quota=QUOTA_BYTES) as server:
        yield Client(server)


class TestRecord(object):
    def test_new_image_is_queued(self, client):
        record = client.record(client.create(os_type="linux", name="disk"))
        assert (record["status"], record["size"], record["checksum"], record["os_hash_value"]) == (
            "queued", None, None, None)
        assert (record["name"], record["os_type"], record["owner"], record["visibility"]) == (
            "disk", "linux", "project-a", "shared")
        assert record["file"] == "/v2/images/%s/file" % record["id"]

    def test_chosen_id_is_kept_and_never_free_again(self, client):
        chosen = str(uuid.uuid4())
        assert client.create(id=chosen) == chosen
        again = client.ask("POST", "/v2/images", {"id": chosen}, Content_Type="application/json")
        assert again.status == 409
        assert client.delete(chosen).status == 204
        again = client.ask("POST", "/v2/images", {"id": chosen}, Content_Type="application/json")
        assert again.status == 409

    @pytest.mark.parametrize("attributes, status", [
        ({"auto_disk_config": True}, 400),
        ({"disk_format": "bogus"}, 400),
        ({"id": "not-a-uuid"}, 400),
        ({"status": "active"}, 403),
        ({"checksum": MD5}, 403),
        ({"owner": "someone-else"}, 403),
        ({"visibility": "public"}, 403),
        (b"no json", 400),
        ([], 500),
    ])
    def test_create_refuses(self, client, attributes, status):
        assert client.ask("POST", "/v2/images", attributes, Content_Type="application/json").status == status

    @pytest.mark.parametrize("token, status", [
        (tokens.MEMBER, 200), (tokens.READER, 200), (tokens.ADMIN, 200), (tokens.OTHER, 404), ("bad", 401), (None, 401),
    ])
    def test_who_may_see_it(self, client, token, status):
        answer = client.ask("GET", "/v2/images/" + client.create(), token=token)
        assert answer.status == status
        assert ("WWW-Authenticate" in answer.headers) == (status == 401)

    @pytest.mark.parametrize("token, status", [
        (tokens.MEMBER, 200), (tokens.OTHER, 200), (tokens.ADMIN, 200), (tokens.READER, 403),
    ])
    def test_who_may_have_a_public_image(self, client, token, status):
        image_id = client.create(token=tokens.ADMIN, visibility="public")
        assert client.upload(image_id, token=tokens.ADMIN).status == 204
        assert client.ask("GET", "/v2/images/" + image_id, token=token).status == 200
        assert client.download(image_id, token=token).status == status
        if token != tokens.ADMIN:
            assert client.upload(image_id, token=token).status == 403
            assert client.patch(image_id, add("os_type", "linux"), token=token).status == 403

    def test_list_shows_what_the_caller_may_see(self, client):
        image_id = client.create()
        for token, is_shown in ((tokens.MEMBER, True), (tokens.OTHER, False)):
            listed = client.ask("GET", "/v2/images?limit=1000", token=token).json()["images"]
            assert (image_id in [image["id"] for image in listed]) == is_shown


class TestSchema(object):
    def test_the_names_of_a_record_are_told_from_properties(self, client):
        schema = client.ask("GET", "/v2/schemas/image").json()
        record = client.record(client.create(os_type="linux", kept="as it is"))
        # A store is named in records of active images, by servers that know several.
        assert (schema["name"], schema["additionalProperties"]) == ("image", {"type": "string"})
        assert set(record) - set(schema["properties"]) - {"os_type"} == {"kept"}


class TestPatch(object):
    @pytest.mark.parametrize("operations, status", [
        ([add("os_type", "linux")], 200),
        ([replace("os_type", "linux")], 409),
        ([add("os_type", "linux"), replace("os_type", "windows")], 200),
        ([add("os_type", "linux"), add("os_type", "windows")], 200),
        ([add("os_type", "linux"), {"op": "remove", "path": "/os_type"}], 200),
        ([{"op": "remove", "path": "/os_type"}], 409),
        ([replace("container_format", "bare"), replace("disk_format", "raw"), replace("visibility", "private")], 200),
        ([add("container_format", "bare")], 200),
        ([replace("container_format", "bogus")], 400),
        ([replace("visibility", "public")], 403),
        ([replace("name", "other")], 200),
        ([{"op": "remove", "path": "/name"}], 403),
        ([replace("min_disk", 3)], 200),
        ([replace("min_disk", "3")], 400),
        ([add("auto_disk_config", True)], 400),
        ([add("os_type", None)], 400),
        ([add("a/b", "x")], 400),
        ([{"op": "add", "path": "/os_type"}], 400),
        ([{"op": "add", "path": "os_type", "value": "x"}], 400),
        ([{"op": "test", "path": "/os_type", "value": "x"}], 400),
        ([], 200),
    ] + [([replace(name, "x")], 403) for name in (
        "id", "status", "size", "checksum", "os_hash_algo", "os_hash_value", "created_at", "updated_at", "file", "self",
        "schema", "virtual_size", "direct_url")])
    def test_operations(self, client, operations, status):
        image_id = client.create()
        assert client.patch(image_id, *operations).status == status

    def test_values_are_kept(self, client):
        image_id = client.create()
        client.patch(image_id, add("os_type", "linux"), replace("container_format", "bare"))
        record = client.record(image_id)
        assert (record["os_type"], record["container_format"]) == ("linux", "bare")

    def test_nothing_is_kept_when_one_operation_fails(self, client):
        image_id = client.create()
        assert client.patch(image_id, add("os_type", "linux"), replace("absent", "x")).status == 409
        assert "os_type" not in client.record(image_id)

    @pytest.mark.parametrize("content_type, status", [
        ("application/openstack-images-v2.0-json-patch", 200), ("application/json", 415),
        ("application/json-patch+json", 415), ("text/plain", 415),
    ])
    def test_media_type(self, client, content_type, status):
        operation = {"add": "/os_type", "value": "linux"}
        assert client.patch(client.create(), operation, Content_Type=content_type).status == status

    @pytest.mark.parametrize("token, status", [
        (tokens.ADMIN, 200), (tokens.READER, 403), (tokens.OTHER, 404), ("bad", 401),
    ])
    def test_who_may(self, client, token, status):
        assert client.patch(client.create(), add("os_type", "linux"), token=token).status == status

    @pytest.mark.parametrize("name, value, status", [
        ("container_format", "bare", 403), ("container_format", "ovf", 403), ("disk_format", "raw", 403),
        ("name", "other", 200),
    ])
    def test_formats_are_fixed_once_active(self, client, name, value, status):
        assert client.patch(client.create_active(), replace(name, value)).status == status


class TestUpload(object):
    @pytest.mark.parametrize("data", [DATA, (DATA[:3], DATA[3:])], ids=["length", "chunks"])
    def test_makes_it_active(self, client, data):
        image_id = client.create()
        assert client.upload(image_id, data).status == 204
        record = client.record(image_id)
        assert (record["status"], record["size"], record["checksum"]) == ("active", len(DATA), MD5)
        assert (record["os_hash_algo"], record["os_hash_value"]) == ("sha512", hashlib.sha512(DATA).hexdigest())
        assert record["stores"]
        assert client.download(image_id).body == DATA

    def test_empty(self, client):
        image_id = client.create()
        assert client.upload(image_id, b"").status == 204
        record = client.record(image_id)
        assert (record["status"], record["size"]) == ("active", 0)
        empty = client.download(image_id)
        assert (empty.status, empty.body, empty.headers["Content-Length"]) == (200, b"", "0")

    def test_active_image(self, client):
        assert client.upload(client.create_active()).status == 409

    def test_deactivated_image(self, client):
        image_id = client.create_active()
        client.ask("POST", "/v2/images/%s/actions/deactivate" % image_id)
        assert client.upload(image_id).status == 409

    def test_uploading_image(self, client):
        image_id = client.create()
        assert client.ask("PUT", "/v2/images/%s/stage" % image_id, DATA, Content_Type=OCTETS).status == 204
        assert client.status(image_id) == "uploading"
        assert client.upload(image_id).status == 409
        assert client.download(image_id).status == 204

    def test_saving_image(self, client):
        image_id = client.create()
        with client.slow_upload(image_id) as connection:
            connection.sendall(b"5\r\nhello\r\n")
            client.wait_status(image_id, "saving")
            assert client.upload(image_id).status == 409
            assert client.download(image_id).status == 204
            assert client.patch(image_id, add("os_type", "linux")).status == 200
            assert client.patch(image_id, replace("container_format", "bare")).status == 403
            connection.sendall(b"5\r\nworld\r\n0\r\n\r\n")
            assert read_status(connection) == 204
        assert client.download(image_id).body == b"helloworld"

    def test_missing_image(self, client):
        assert client.upload(str(uuid.uuid4())).status == 404

    def test_deleted_image(self, client):
        image_id = client.create()
        assert client.delete(image_id).status == 204
        assert client.upload(image_id).status == 404

    @pytest.mark.parametrize("token, status", [
        ("bad", 401), (None, 401), (tokens.READER, 403), (tokens.OTHER, 404), (tokens.ADMIN, 204),
    ])
    def test_who_may(self, client, token, status):
        image_id = client.create()
        answer = client.upload(image_id, token=token)
        assert answer.status == status
        assert ("WWW-Authenticate" in answer.headers) == (status == 401)
        assert client.status(image_id) == ("active" if status == 204 else "queued")

    @pytest.mark.parametrize("content_type, status", [
        ("application/octet-stream", 204), ("application/octet-stream; x=y", 204), ("text/plain", 415),
        ("application/gzip", 415),
    ])
    def test_media_type(self, client, content_type, status):
        assert client.upload(client.create(), Content_Type=content_type).status == status

    @pytest.mark.parametrize("attributes", [
        {"container_format": None}, {"disk_format": None}, {"container_format": None, "disk_format": None},
    ])
    def test_formats_not_set(self, client, attributes):
        image_id = client.create(**attributes)
        assert client.upload(image_id).status == 400
        assert client.status(image_id) == "queued"

    @pytest.mark.parametrize("size, status", [(CAP_BYTES, 204), (CAP_BYTES + 1, 413), (3 * CAP_BYTES, 413)])
    @pytest.mark.parametrize("framing", ["length", "chunks"])
    def test_size_cap(self, client, size, status, framing):
        image_id = client.create()
        data = b"x" * size
        pieces = tuple(data[at:at + 65536] for at in range(0, size, 65536))
        assert client.upload(image_id, data if framing == "length" else pieces).status == status
        assert client.status(image_id) == ("active" if status == 204 else "queued")
        client.delete(image_id)

    def test_refusal_can_be_read_though_the_image_is_still_being_sent(self, client):
        image_id = client.create()
        with client.slow_upload(image_id, token="bad", framing="Content-Length: 900000000") as connection:
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                for _ in range(900):
                    connection.sendall(b"x" * 1000000)
            assert read_status(connection) == 401
        assert client.status(image_id) == "queued"

    @pytest.mark.parametrize("framing, part", [
        ("Transfer-Encoding: chunked", b"5\r\nhello\r\n"),
        ("Transfer-Encoding: chunked", b"5\r\nhel"),
        ("Content-Length: 10", b"hello"),
    ])
    def test_disconnect_puts_it_back(self, client, framing, part):
        image_id = client.create()
        with client.slow_upload(image_id, framing=framing) as connection:
            connection.sendall(part)
            client.wait_status(image_id, "saving")
        client.wait_status(image_id, "queued")
        assert client.upload(image_id).status == 204
        assert client.download(image_id).body == DATA

    @pytest.mark.parametrize("rest", [b"zz\r\nworld\r\n0\r\n\r\n", b"5\r\nworldX5\r\n0\r\n\r\n"])
    def test_malformed_chunks(self, client, rest):
        image_id = client.create()
        with client.slow_upload(image_id) as connection:
            connection.sendall(b"5\r\nhello\r\n")
            client.wait_status(image_id, "saving")
            connection.sendall(rest)
            assert read_status(connection) == 500
        assert client.status(image_id) == "queued"

    def test_chunk_extensions_and_trailers(self, client):
        image_id = client.create()
        with client.slow_upload(image_id) as connection:
            connection.sendall(b"5;a=b\r\nhello\r\n0\r\nX-Trailer: 1\r\n\r\n")
            assert read_status(connection) == 204
        assert client.download(image_id).body == b"hello"

    def test_expect_continue(self, client):
        image_id = client.create()
        with client.slow_upload(image_id, framing="Content-Length: 5\r\nExpect: 100-continue") as connection:
            assert connection.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(b"hello")
            assert read_status(connection) == 204

    def test_delete_meanwhile(self, client):
        image_id = client.create()
        with client.slow_upload(image_id) as connection:
            connection.sendall(b"5\r\nhello\r\n")
            client.wait_status(image_id, "saving")
            assert client.delete(image_id).status == 204
            connection.sendall(b"5\r\nworld\r\n0\r\n\r\n")
            assert read_status(connection) == 410
        assert client.ask("GET", "/v2/images/" + image_id).status == 404

    def test_token_expires_meanwhile(self, client):
        image_id = client.create()
        expires = time.time() + 5
        with client.slow_upload(image_id, token=tokens.EXPIRING + repr(expires)) as connection:
            connection.sendall(b"5\r\nhello\r\n")
            client.wait_status(image_id, "saving")
            time.sleep(max(0, expires - time.time()) + 0.2)
            assert client.download(image_id, token=tokens.EXPIRING + repr(expires)).status == 401
            connection.sendall(b"0\r\n\r\n")
            assert read_status(connection) == 204

    @pytest.mark.parametrize("disk_format, data, status", [
        ("vhd", b"conectix" + bytes(1000), 204),
        ("vhd", b"\x1f\x8b\x08\x00" + bytes(1000), 415),
        ("vhd", bytes(1000), 415),
        ("raw", b"\x1f\x8b\x08\x00" + bytes(1000), 204),
        ("raw", b"QFI\xfb" + bytes(1000), 415),
        ("qcow2", bytes(1000), 415),
    ])
    def test_bare_image_is_inspected(self, client, disk_format, data, status):
        image_id = client.create(container_format="bare", disk_format=disk_format)
        assert client.upload(image_id, data).status == status
        if status == 415:
            assert client.status(image_id) == "queued"
            client.patch(image_id, replace("container_format", "ovf"))
            assert client.upload(image_id).status == 500

    def test_ovf_image_is_not_inspected(self, client):
        assert client.upload(client.create(container_format="ovf"), b"\x1f\x8b\x08\x00" + bytes(1000)).status == 204


class TestQuota(object):
    @pytest.fixture
    def image_id(self, quota_client):
        """A queued image of a project that has 40 % of its quota left."""
        used, image_id = quota_client.create_active(b"x" * (QUOTA_BYTES * 6 // 10)), quota_client.create()
        yield image_id
        quota_client.delete(used)
        quota_client.delete(image_id)

    def test_with_length(self, quota_client, image_id):
        assert quota_client.upload(image_id, b"x" * (QUOTA_BYTES // 2)).status == 413
        assert quota_client.status(image_id) == "queued"
        assert quota_client.upload(image_id, DATA).status == 204

    def test_chunked_leaves_it_saving(self, quota_client, image_id):
        assert quota_client.upload(image_id, (b"x" * (QUOTA_BYTES // 4),) * 2).status == 413
        assert quota_client.status(image_id) == "saving"
        assert quota_client.upload(image_id, DATA).status == 409
        assert quota_client.download(image_id).status == 204


class TestDownload(object):
    @pytest.fixture
    def image_id(self, client):
        return client.create_active()

    def test_whole(self, client, image_id):
        answer = client.download(image_id)
        assert (answer.status, answer.body) == (200, DATA)
        assert (answer.headers["Content-Length"], answer.headers["Content-MD5"]) == ("10", MD5)
        assert answer.headers["Content-Type"] == OCTETS
        assert "ETag" not in answer.headers

    @pytest.mark.parametrize("token, status", [
        (tokens.MEMBER, 200), (tokens.ADMIN, 200), (tokens.READER, 403), (tokens.OTHER, 404), ("bad", 401), (None, 401),
    ])
    def test_who_may(self, client, image_id, token, status):
        assert client.download(image_id, token=token).status == status

    @pytest.mark.parametrize("value, expected", [
        ("bytes=2-5", "2-5"), ("bytes=3-", "3-9"), ("bytes=-3", "7-9"), ("bytes=0-", "0-9"), ("bytes=9-", "9-9"),
        ("bytes=0-0", "0-0"), ("bytes=0-100", "0-9"), ("bytes=-100", "0-9"), ("bytes=-0", "0-9"), ("Bytes = 1-2", "1-2"),
    ])
    def test_range(self, client, image_id, value, expected):
        answer = client.download(image_id, Range=value)
        first, last = (int(number) for number in expected.split("-"))
        assert (answer.status, answer.body) == (206, DATA[first:last + 1])
        assert answer.headers["Content-Range"] == "bytes %s/10" % expected
        assert answer.headers["Content-Length"] == str(last + 1 - first)
        assert answer.headers["Content-MD5"] == MD5  # of the whole image

    @pytest.mark.parametrize("value, status", [
        ("bytes=10-", 416), ("bytes=20-30", 416), ("bytes=5-2", 416), ("bytes=x", 416), ("bytes=", 416),
        ("items=0-1", 416), ("bytes 0-1", 416), ("bytes=0-1,3-4", 400),
    ])
    def test_range_refused(self, client, image_id, value, status):
        assert client.download(image_id, Range=value).status == status

    def test_if_range_is_ignored(self, client, image_id):
        answer = client.download(image_id, Range="bytes=2-", If_Range='"other"')
        assert (answer.status, answer.body) == (206, DATA[2:])

    def test_range_of_empty_image(self, client):
        assert client.download(client.create_active(b""), Range="bytes=0-").status == 416

    def test_accept_encoding_is_ignored(self, client, image_id):
        answer = client.download(image_id, Accept_Encoding="gzip")
        assert (answer.body, answer.headers["Content-Encoding"]) == (DATA, None)

    def test_queued_image_is_204(self, client):
        answer = client.download(client.create())
        assert (answer.status, answer.body, answer.headers["Content-Length"]) == (204, b"", None)

    def test_range_of_queued_image_is_an_error_of_the_server(self, client):
        assert client.download(client.create(), Range="bytes=0-").status == 500

    def test_lost_data_is_204(self, client):
        image_id = client.create_active()
        client.server.lose_data(image_id)
        assert client.download(image_id).status == 204
        assert client.download(image_id, Range="bytes=2-").status == 204
        assert client.status(image_id) == "active"

    def test_deactivated(self, client):
        image_id = client.create_active()
        assert client.ask("POST", "/v2/images/%s/actions/deactivate" % image_id).status == 204
        assert client.status(image_id) == "deactivated"
        assert client.download(image_id).status == 403
        assert client.download(image_id, token=tokens.ADMIN).status == 200
        assert client.ask("POST", "/v2/images/%s/actions/reactivate" % image_id).status == 204
        assert client.download(image_id).status == 200

    def test_only_data_can_be_deactivated(self, client):
        assert client.ask("POST", "/v2/images/%s/actions/deactivate" % client.create()).status == 403

    def test_deleted(self, client):
        image_id = client.create_active()
        assert client.delete(image_id).status == 204
        assert client.download(image_id).status == 404
        assert client.patch(image_id, add("os_type", "linux")).status == 404
        assert client.delete(image_id).status == 404

    def test_delete_is_refused(self, client):
        image_id = client.create(protected=True)
        for token, status in ((tokens.MEMBER, 403), (tokens.READER, 403), (tokens.OTHER, 404), ("bad", 401)):
            assert client.delete(image_id, token=token).status == status


class TestProtocol(object):
    @pytest.mark.parametrize("method, path, allowed", [
        ("HEAD", "/v2/images/{id}/file", "GET, PUT"), ("DELETE", "/v2/images/{id}/file", "GET, PUT"),
        ("POST", "/v2/images/{id}/file", "GET, PUT"), ("HEAD", "/v2/images/{id}", "GET, PATCH, DELETE"),
        ("PUT", "/v2/images/{id}", "GET, PATCH, DELETE"), ("DELETE", "/v2/images", "GET, POST"),
        ("GET", "/v2/images/{id}/actions/deactivate", "POST"),
    ])
    def test_method_not_allowed(self, client, method, path, allowed):
        answer = client.ask(method, path.format(id=client.create()))
        assert (answer.status, answer.headers["Allow"]) == (405, allowed)
        assert not (method == "HEAD" and answer.body)

    @pytest.mark.parametrize("path", ["/v1", "/v1/images", "/v1/images/{id}", "/v3/images/{id}", "/images/{id}",
                                      "/V2/images", "/v2.99/images", "//v1/images", "/"])
    @pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
    def test_other_versions(self, client, method, path):
        answer = client.ask(method, path.format(id=client.create()), token=None)
        assert answer.status == 300
        if method != "HEAD":
            assert "v2.17" in [version["id"] for version in answer.json()["versions"]]

    def test_versions(self, client):
        assert client.ask("GET", "/versions", token=None).status == 200

    @pytest.mark.parametrize("path", ["/v2/images/{id}/file", "//v2/images/{id}/file", "///v2/images/{id}/file",
                                      "/v2//images/{id}/file", "/v2/images//{id}//file", "/v2.0/images/{id}/file",
                                      "/v2.15/images/{id}/file", "http://other.example/v2/images/{id}/file"])
    def test_path_that_works(self, client, path):
        assert client.ask("GET", path.format(id=client.create_active())).body == DATA

    @pytest.mark.parametrize("path", ["/v2/images/", "/v2/images/{id}/", "/v2/images/{id}/file/", "/v2/nothing", "/v2/",
                                      "/v2/images/{id}/actions", "/v2/images/no-such-image"])
    def test_path_that_does_not(self, client, path):
        assert client.ask("GET", path.format(id=client.create_active())).status == 404

    def test_id_is_case_sensitive(self, client):
        image_id = client.create_active(id="ABCDEF" + str(uuid.uuid4())[6:])
        assert client.download(image_id).status == 200
        assert client.download(image_id.lower()).status == 404

    @pytest.mark.parametrize("accept, content_type, beginning", [
        (None, "text/plain", b"404 Not Found"), ("text/plain", "text/plain", b"404 Not Found"),
        ("*/*", "text/html", b"<html>"), ("text/html", "text/html", b"<html>"),
        ("application/json", "application/json", b'{"message": "'),
    ])
    def test_error_body_follows_accept(self, client, accept, content_type, beginning):
        answer = client.ask("GET", "/v2/images/none", **({"Accept": accept} if accept else {}))
        assert answer.headers["Content-Type"].split(";")[0] == content_type
        assert answer.body.startswith(beginning)
        assert b"No image found with ID none" in answer.body

    @pytest.mark.parametrize("method, path, body, token, status", [
        ("GET", "/v2/images/{id}/file", None, tokens.MEMBER, 200),
        ("HEAD", "/versions", None, None, 200),
        ("GET", "/v2/images/none", None, tokens.MEMBER, 404),
        ("PUT", "/v2/images/{id}/file", b"not read by who refuses it", "bad", 401),
        ("PUT", "/v2/images/{id}/file", b"not read by who refuses it", tokens.MEMBER, 409),
    ])
    def test_connection_is_kept(self, client, method, path, body, token, status):
        image_id = client.create_active()
        connection = http.client.HTTPConnection(client.url.split("//")[1], timeout=LIMIT_S)
        with contextlib.closing(connection):
            connection.connect()
            kept = connection.sock
            for _ in range(3):
                headers = {"Content-Type": OCTETS, "X-Auth-Token": token} if token else {}
                connection.request(method, path.format(id=image_id), body, headers)
                response = connection.getresponse()
                response.read()
                assert response.status == status
                assert connection.sock is kept

    def ask_raw(self, client, request_line, *headers):
        """All that comes on a connection until the server ends it."""
        host, port = client.url.split("//")[1].split(":")
        lines = (request_line, "Host: x", "X-Auth-Token: " + tokens.MEMBER) + headers
        with contextlib.closing(socket.create_connection((host, int(port)), timeout=LIMIT_S)) as connection:
            connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("ascii"))
            return b"".join(iter(lambda: connection.recv(65536), b""))

    @pytest.mark.parametrize("version, headers", [("HTTP/1.0", ()), ("HTTP/1.1", ("Connection: close",))])
    def test_connection_is_closed(self, client, version, headers):
        answer = self.ask_raw(client, "GET /v2/images/%s/file %s" % (client.create_active(), version), *headers)
        assert answer.startswith(("%s 200" % version).encode("ascii")) and answer.endswith(b"\r\n\r\n" + DATA)
        assert b"\r\nConnection: close\r\n" in answer

    @pytest.mark.parametrize("path", ["/versions", "/v2/images"])
    def test_head_has_no_body(self, client, path):
        answer = self.ask_raw(client, "HEAD %s HTTP/1.1" % path, "Connection: close")
        assert answer.startswith(b"HTTP/1.1 ") and answer.endswith(b"\r\n\r\n") and answer.count(b"\r\n\r\n") == 1

    def test_length_and_chunks_together_are_refused(self, client):
        with client.slow_upload(client.create(), framing="Content-Length: 3\r\nTransfer-Encoding: chunked") as connection:
            assert read_status(connection) == 400


@pytest.mark.parametrize("path", ["/v2/images", "//v2/images"])
def test_prefix(kind, client, path):
    if kind == GLANCE:
        assert ask(client.url + glance_server.PREFIX, "GET", path).status == 200
    else:
        with ImageService(prefix=glance_server.PREFIX) as service:
            assert ask(service.url, "GET", path).status == 200
            outside = ask(service.url[:-len(service.prefix)], "GET", path)
            assert outside.status == 404


class TestV1(object):
    """Recorded from Glance 15.0.2; the stand-in alone."""

    @pytest.fixture
    def service(self):
        with ImageService(has_v1=True) as service:
            yield service

    def ask(self, service, method, image, body=None, **headers):
        return ask(service.url, method, "/v1/images/" + image.id, body, **headers)

    def test_head(self, service):
        answer = self.ask(service, "HEAD", service.add_image(DATA, os_type="linux"))
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["x-image-meta-status"] == "active"
        assert answer.headers["x-image-meta-size"] == "10"
        assert answer.headers["x-image-meta-checksum"] == MD5
        assert answer.headers["x-image-meta-property-os_type"] == "linux"

    def test_get_has_etag_and_ignores_range(self, service):
        answer = self.ask(service, "GET", service.add_image(DATA), Range="bytes=3-")
        assert (answer.status, answer.body) == (200, DATA)
        assert (answer.headers["ETag"], answer.headers["Content-MD5"]) == (MD5, None)

    def test_put(self, service):
        image = service.add_image()
        answer = self.ask(service, "PUT", image, (DATA,), x_image_meta_container_format="ovf",
                          x_image_meta_property_os_type="linux", Content_Type=OCTETS)
        assert (answer.status, image.status, image.md5) == (200, "active", MD5)
        assert image.properties == {"os_type": "linux"}  # sent with hyphens

    def test_put_to_active_image(self, service):
        assert self.ask(service, "PUT", service.add_image(DATA), DATA, Content_Type=OCTETS).status == 409

    def test_interrupted_put_kills_it(self, service):
        image = service.add_image()
        with contextlib.closing(socket.create_connection(("127.0.0.1", int(service.url.split(":")[2])))) as connection:
            connection.sendall(("PUT /v1/images/%s HTTP/1.1\r\nX-Auth-Token: %s\r\nTransfer-Encoding: chunked\r\n\r\n"
                                "5\r\nhello\r\n" % (image.id, service.token)).encode("ascii"))
        service.wait_done(1)
        assert image.status == "killed"

    @pytest.mark.parametrize("token, status", [("bad", 401), (None, 401), (tokens.OTHER, 404)])
    def test_who_may(self, service, token, status):
        assert self.ask(service, "GET", service.add_image(DATA), token=token).status == status

    def test_v2_is_there_as_well(self, service):
        image = service.add_image(DATA)
        assert ask(service.url, "GET", "/v2/images/%s/file" % image.id).body == DATA


class TestService(object):
    """Extras of the stand-in, which Glance does not have."""

    def test_requests_are_recorded(self):
        with ImageService() as service:
            image = service.add_image(DATA)
            ask(service.url, "GET", "/v2/images/%s/file" % image.id, X_User_Id="alice")
            ask(service.url, "PUT", "/v2/images/%s/file" % service.add_image().id, DATA, Content_Type=OCTETS)
            get, put = service.wait_done(2)
            assert (get.method, get.path, get.status, get.sent_bytes) == ("GET", "/v2/images/%s/file" % image.id, 200, 10)
            assert (get.headers["X-Auth-Token"], get.headers["X-User-Id"]) == (service.token, "alice")
            assert (put.status, put.received_bytes) == (204, 10)

    def test_status_has_no_token(self):
        with ImageService(prefix="/image") as service:
            ask(service.url, "GET", "/v2/images/%s/file" % service.add_image(DATA).id)
            service.wait_done(1)
            answer = ask(service.url[:-len("/image")], "GET", "/_status", token=None)
            assert answer.json()["sent_bytes"] == len(DATA)
            assert answer.json()["requests"][0]["done"] is True
            assert service.token.encode("ascii") not in answer.body
            assert len(service.requests) == 1

    def test_file_is_served_from_where_it_is(self, tmp_path):
        data = os.urandom(3 * 1024 * 1024 + 17)
        (tmp_path / "disk.tgz").write_bytes(data)
        with ImageService() as service:
            image = service.add_image(str(tmp_path / "disk.tgz"), image_id=str(uuid.uuid4()))
            assert (image.size, image.md5) == (len(data), hashlib.md5(data).hexdigest())
            assert ask(service.url, "GET", "/v2/images/%s/file" % image.id).body == data
            ask(service.url, "DELETE", "/v2/images/" + image.id)
        assert (tmp_path / "disk.tgz").read_bytes() == data

    def test_without_keep_alive(self):
        with ImageService(keeps_alive=False) as service:
            assert ask(service.url, "GET", "/v2/images").headers["Connection"] == "close"

    def test_md5_alone(self):
        with ImageService(hashes_sha512=False) as service:
            image = service.add_image(DATA)
            assert (image.md5, image.os_hash_algo, image.os_hash_value) == (MD5, None, None)

    def test_stop_ends_connections(self):
        with ImageService(idle_timeout_s=60) as service:
            idle = socket.create_connection(("127.0.0.1", int(service.url.split(":")[2])), timeout=LIMIT_S)
            ask(service.url, "GET", "/v2/images")
        with contextlib.closing(idle):
            assert idle.recv(1) == b""

    def test_own_process(self, tmp_path):
        (tmp_path / "disk.tgz").write_bytes(DATA)
        with ImageServiceProcess("--image", str(tmp_path / "disk.tgz"), "--queued", "1") as service:
            image, queued = service.images
            assert (image["size"], image["md5"], queued["status"]) == (10, MD5, "queued")
            assert ask(service.url, "GET", "/v2/images/%s/file" % image["id"], token=service.token).body == DATA
            assert ask(service.url, "PUT", "/v2/images/%s/file" % queued["id"], DATA, Content_Type=OCTETS).status == 204
            status = service.status()
            assert (status["sent_bytes"], status["received_bytes"]) == (10, 10)
