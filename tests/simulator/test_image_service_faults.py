# SPDX-License-Identifier: Apache-2.0
"""Every fault of the image service, judged on the wire by a plain socket."""
from __future__ import absolute_import, division

import contextlib
import hashlib
import http.client
import json
import socket
import threading
import time

import pytest

from tests import patience
from tests.harness.image_service import service_faults as faults
from tests.harness.image_service.service import ImageService

LIMIT_S = patience.LIMIT_S
DATA = bytes(bytearray(number * 7 % 251 for number in range(100000)))
MD5 = hashlib.md5(DATA).hexdigest()
FILE = "/file$"
RESET, CLOSED, OPEN = "reset", "closed", "open"


@pytest.fixture
def service():
    with ImageService() as service:
        yield service


@pytest.fixture
def image(service):
    return service.add_image(DATA)


class Exchange(object):
    """One request on a raw connection, and everything that came back.

    received   the bytes; arrivals: (seconds since the start, bytes until then)
    end        how the connection was after them: RESET, CLOSED, or OPEN: nothing came for `settle_s` after a message
               that is complete by its own Content-Length, or for LIMIT_S anywhere else
    """

    def __init__(self, service, method, path, headers=(), body=b"", settle_s=0.1):
        address = ("127.0.0.1", int(service.url.split(":")[2]))
        lines = ["%s %s HTTP/1.1" % (method, path), "Host: x", "X-Auth-Token: " + service.token]
        head = ("\r\n".join(lines + list(headers)) + "\r\n\r\n").encode("ascii")
        self.received, self.end, self.arrivals = b"", None, []
        started = time.monotonic()
        with contextlib.closing(socket.create_connection(address, timeout=LIMIT_S)) as connection:
            try:
                connection.sendall(head + body)
            except (BrokenPipeError, ConnectionResetError):
                pass
            while self.end is None:
                connection.settimeout(settle_s if self._is_complete() else LIMIT_S)
                self._receive(connection)
                self.arrivals.append((time.monotonic() - started, len(self.received)))

    def _receive(self, connection):
        try:
            data = connection.recv(65536)
            self.received += data
            self.end = None if data else CLOSED
        except socket.timeout:
            self.end = OPEN
        except ConnectionResetError:
            self.end = RESET

    def _is_complete(self):
        if b"\r\n\r\n" not in self.received:
            return False
        if self.header("Transfer-Encoding") == "chunked":
            return self.body.endswith(b"\r\n0\r\n\r\n")
        return len(self.body) >= int(self.header("Content-Length") or 0)

    @property
    def duration_s(self):
        """Until the last byte came."""
        return min(when for when, size in self.arrivals if size == len(self.received))

    @property
    def head(self):
        return self.received.partition(b"\r\n\r\n")[0].decode("latin-1")

    @property
    def body(self):
        return self.received.partition(b"\r\n\r\n")[2]

    @property
    def status(self):
        return int(self.head.split()[1])

    def header(self, name):
        for line in self.head.split("\r\n")[1:]:
            if line.lower().startswith(name.lower() + ":"):
                return line.partition(":")[2].strip()


def download(service, image, *headers, **options):
    return Exchange(service, "GET", "/v2/images/%s/file" % image.id, headers, **options)


def upload(service, image, data=DATA, **options):
    headers = ["Content-Type: application/octet-stream", "Content-Length: %d" % len(data)]
    return Exchange(service, "PUT", "/v2/images/%s/file" % image.id, headers, data, **options)


def upload_chunked(service, image, data=DATA, **options):
    headers = ["Content-Type: application/octet-stream", "Transfer-Encoding: chunked"]
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data)
    return Exchange(service, "PUT", "/v2/images/%s/file" % image.id, headers, body, **options)


def check_unharmed(service, image):
    """The next download has nothing wrong."""
    answer = download(service, image)
    assert (answer.status, answer.body, answer.end, answer.header("Content-MD5")) == (200, DATA, OPEN, MD5)


def test_no_fault(service, image):
    check_unharmed(service, image)


class TestMatching(object):
    def test_by_method_and_path(self, service, image):
        fault = faults.Refusal(503, method="GET", path=FILE, times=None)
        service.faults.append(fault)
        assert Exchange(service, "GET", "/v2/images/" + image.id).status == 200
        assert upload(service, service.add_image()).status == 204
        assert [download(service, image).status for _ in range(3)] == [503, 503, 503]
        assert fault.hits == 3

    def test_by_number(self, service, image):
        service.faults.append(faults.Refusal(503, path=FILE, nth=2, times=2))
        assert [download(service, image).status for _ in range(5)] == [200, 503, 503, 200, 200]

    def test_first_in_the_list_wins_and_all_count(self, service, image):
        service.faults += [faults.Refusal(503, nth=2), faults.Refusal(502, nth=2, times=2), faults.Refusal(500, nth=4)]
        assert [download(service, image).status for _ in range(5)] == [200, 503, 502, 500, 200]

    def test_the_record_names_the_fault(self, service, image):
        service.faults.append(faults.Refusal(503, nth=2))
        download(service, image)
        download(service, image)
        assert [record.fault for record in service.wait_done(2)] == [None, service.faults[0]]
        assert "nth=2" in repr(service.faults[0]) and repr(service.faults[0]).startswith("Refusal(")


class TestAnswers(object):
    def test_refusal(self, service, image):
        service.faults.append(faults.Refusal(503, {"Retry-After": "7"}, b"busy"))
        answer = download(service, image)
        assert (answer.status, answer.header("Retry-After"), answer.body) == (503, "7", b"busy")
        check_unharmed(service, image)

    def test_no_content(self, service, image):
        service.faults.append(faults.NoContent())
        answer = download(service, image)
        assert (answer.status, answer.header("Content-Length"), answer.body, answer.end) == (204, None, b"", OPEN)

    def test_redirect(self, service, image):
        service.faults.append(faults.Redirect("http://other.example/file", status=307))
        answer = download(service, image)
        assert (answer.status, answer.header("Location")) == (307, "http://other.example/file")

    def test_garbage_status(self, service, image):
        service.faults.append(faults.GarbageStatus(b"SSH-2.0-OpenSSH\r\n"))
        answer = download(service, image, settle_s=LIMIT_S)
        assert (answer.received, answer.end) == (b"SSH-2.0-OpenSSH\r\n", CLOSED)
        check_unharmed(service, image)

    @pytest.mark.parametrize("reset, end", [(False, CLOSED), (True, RESET)])
    def test_hang_up_before_the_headers(self, service, image, reset, end):
        service.faults.append(faults.HangUp(reset=reset))
        answer = download(service, image)
        assert (answer.received, answer.end) == (b"", end)
        check_unharmed(service, image)

    @pytest.mark.parametrize("at", [0, 1, 65536, len(DATA) - 1, len(DATA), len(DATA) + 1])
    def test_close_in_the_body(self, service, image, at):
        service.faults.append(faults.HangUp(at=at))
        answer = download(service, image, settle_s=LIMIT_S)
        assert (answer.header("Content-Length"), answer.body, answer.end) == (str(len(DATA)), DATA[:at], CLOSED)
        check_unharmed(service, image)

    @pytest.mark.parametrize("at", [0, 1, 1000, len(DATA)])
    def test_reset_in_the_body(self, service, image, at):
        service.faults.append(faults.HangUp(at=at, reset=True))
        answer = download(service, image, settle_s=LIMIT_S)
        assert answer.end == RESET
        assert DATA[:at].startswith(answer.body)
        check_unharmed(service, image)

    @pytest.mark.parametrize("at, early_bytes", [(None, 0), (0, 0), (5000, 5000)])
    def test_stall(self, service, image, at, early_bytes):
        service.faults.append(faults.Stall(3, at=at))
        answer = download(service, image)
        assert answer.body == DATA
        early = [size for when, size in answer.arrivals if when < 3]
        head_bytes = len(answer.received) - len(DATA)
        assert (early or [0])[-1] == (0 if at is None else head_bytes + early_bytes)
        assert 3 <= answer.duration_s < LIMIT_S

    def test_stall_ends_with_the_service(self):
        with ImageService() as service:
            service.faults.append(faults.Stall(patience.ENDLESS_S, at=10))
            thread = threading.Thread(target=download, args=(service, service.add_image(DATA)))
            thread.start()
            deadline = time.monotonic() + LIMIT_S
            while not (service.requests and service.requests[0].sent_bytes == 10):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            started = time.monotonic()
        assert time.monotonic() - started < LIMIT_S
        thread.join(LIMIT_S)
        assert not thread.is_alive()

    @pytest.mark.parametrize("at", [0, 1, len(DATA) - 1])
    def test_truncation_is_a_valid_message(self, service, image, at):
        service.faults.append(faults.Truncation(at))
        answer = download(service, image)
        assert (answer.header("Content-Length"), answer.body, answer.end) == (str(at), DATA[:at], OPEN)
        assert answer.header("Content-MD5") == MD5

    @pytest.mark.parametrize("difference", [-10, 10])
    def test_wrong_length(self, service, image, difference):
        service.faults.append(faults.WrongLength(difference))
        answer = download(service, image, settle_s=LIMIT_S)
        assert (answer.header("Content-Length"), answer.body, answer.end) == (
            str(len(DATA) + difference), DATA, CLOSED)

    @pytest.mark.parametrize("at", [0, 70000, len(DATA) - 1, len(DATA) + 5])
    def test_corruption(self, service, image, at):
        service.faults.append(faults.Corruption(at))
        body = download(service, image).body
        assert [number for number in range(len(DATA)) if body[number] != DATA[number]] == [min(at, len(DATA) - 1)]
        assert len(body) == len(DATA)
        check_unharmed(service, image)

    def test_chunking(self, service, image):
        service.faults.append(faults.Chunking(size=30000))
        answer = download(service, image)
        assert answer.end == OPEN
        assert (answer.header("Content-Length"), answer.header("Transfer-Encoding")) == (None, "chunked")
        assert answer.body == b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (
            DATA[:30000], DATA[30000:60000], DATA[60000:90000], DATA[90000:])) + b"0\r\n\r\n"
        assert service.wait_done(1)[0].sent_bytes == len(DATA)

    def test_bad_chunk(self, service, image):
        service.faults.append(faults.BadChunk(at=40000, size=30000))
        answer = download(service, image)
        assert answer.header("Transfer-Encoding") == "chunked"
        assert answer.body == (b"%x\r\n%s\r\n" % (30000, DATA[:30000]) + b"%x\r\n%s\r\n" % (10000, DATA[30000:40000])
                               + b"no size\r\n")
        assert answer.end == CLOSED

    def test_drip(self, service):
        image = service.add_image(DATA[:10])
        service.faults.append(faults.Drip(piece=3, interval_s=0.1))
        answer = download(service, image)
        assert answer.body == DATA[:10]
        assert len(answer.arrivals) >= 4 and answer.duration_s >= 0.3

    @pytest.mark.parametrize("fault, digest", [(faults.WrongDigest, "0" * 32), (faults.NoDigest, None)])
    def test_digest(self, service, image, fault, digest):
        service.faults.append(fault())
        answer = download(service, image)
        assert (answer.status, answer.header("Content-MD5"), answer.body) == (200, digest, DATA)

    @pytest.mark.parametrize("fault, digest", [(faults.WrongDigest, "0" * 32), (faults.NoDigest, None)])
    def test_digest_of_v1(self, fault, digest):
        with ImageService(has_v1=True) as service:
            service.faults.append(fault())
            answer = Exchange(service, "GET", "/v1/images/" + service.add_image(DATA).id)
        assert (answer.status, answer.header("ETag"), answer.header("x-image-meta-checksum")) == (200, digest, digest)

    def test_range_ignored(self, service, image):
        service.faults.append(faults.RangeIgnored())
        assert download(service, image, "Range: bytes=99990-").status == 200
        answer = download(service, image, "Range: bytes=99990-")
        assert (answer.status, answer.body) == (206, DATA[99990:])

    def test_offset_counts_from_the_start_of_a_part(self, service, image):
        service.faults.append(faults.HangUp(at=5))
        answer = download(service, image, "Range: bytes=1000-")
        assert (answer.status, answer.body, answer.end) == (206, DATA[1000:1005], CLOSED)

    def test_sent_bytes(self, service, image):
        service.faults.append(faults.HangUp(at=1234))
        download(service, image)
        record = service.wait_done(1)[0]
        assert (record.sent_bytes, record.status) == (1234, 200)


@pytest.mark.parametrize("send", [upload, upload_chunked])
class TestUploads(object):
    @pytest.mark.parametrize("at", [0, 1, 5000, len(DATA)])
    @pytest.mark.parametrize("reset, ends", [(False, (CLOSED, RESET)), (True, (RESET,))])
    def test_hang_up(self, service, send, at, reset, ends):
        image = service.add_image()
        service.faults.append(faults.UploadHangUp(at, reset=reset))
        answer = send(service, image)
        assert answer.received == b"" and answer.end in ends
        record = service.wait_done(1)[0]
        assert (record.received_bytes, record.status) == (at, None)
        assert (image.status, image.size, image.has_data) == ("queued", None, False)
        assert send(service, image).status == 204
        assert (image.status, image.md5) == ("active", MD5)

    def test_stall(self, service, send):
        image = service.add_image()
        service.faults.append(faults.UploadStall(0.5, at=5000))
        answer = send(service, image)
        assert answer.status == 204 and answer.duration_s >= 0.5
        assert (image.status, image.md5) == ("active", MD5)

    def test_truncation_makes_a_short_active_image(self, service, send):
        image = service.add_image()
        service.faults.append(faults.UploadTruncation(5000))
        answer = send(service, image)
        assert (answer.status, answer.end) == (204, OPEN)
        assert (image.status, image.size) == ("active", 5000)
        assert image.md5 == hashlib.md5(DATA[:5000]).hexdigest()

    def test_answer_lost(self, service, send):
        image = service.add_image()
        service.faults.append(faults.AnswerLost(reset=True))
        answer = send(service, image)
        assert (answer.received, answer.end) == (b"", RESET)
        assert (image.status, image.md5) == ("active", MD5)

    @pytest.mark.parametrize("after", [0, 5000, len(DATA)])
    def test_refusal_in_the_middle(self, service, send, after):
        image = service.add_image()
        service.faults.append(faults.Refusal(503, after=after))
        answer = send(service, image)
        assert answer.status == 503
        assert service.wait_done(1)[0].received_bytes >= after
        assert image.status == "queued"


def test_refusal_of_a_large_upload_ends_the_connection(service):
    """The rest is not read: the sender sees EPIPE or ECONNRESET, and can read the answer nevertheless."""
    service.faults.append(faults.Refusal(413, after=1000))
    answer = upload(service, service.add_image(), bytes(20 << 20), settle_s=LIMIT_S)
    assert answer.status == 413
    assert answer.end in (RESET, CLOSED)
    assert service.wait_done(1)[0].received_bytes < 1 << 20


def test_record_can_be_falsified(service, image):
    """A wrong sha512 needs no fault: the image is at the test's hands."""
    image.os_hash_value = "0" * 128
    answer = Exchange(service, "GET", "/v2/images/" + image.id)
    assert json.loads(answer.body.decode("ascii"))["os_hash_value"] == "0" * 128


def test_connection_goes_on_after_a_fault_that_keeps_it(service, image):
    service.faults.append(faults.Refusal(500))
    connection = http.client.HTTPConnection("127.0.0.1", int(service.url.split(":")[2]), timeout=LIMIT_S)
    with contextlib.closing(connection):
        for status, body in ((500, b""), (200, DATA)):
            connection.request("GET", "/v2/images/%s/file" % image.id, headers={"X-Auth-Token": service.token})
            response = connection.getresponse()
            assert (response.status, response.read()) == (status, body)
