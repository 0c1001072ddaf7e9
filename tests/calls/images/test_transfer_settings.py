# SPDX-License-Identifier: Apache-2.0
"""The settings of transfers in /etc/dom0-plugins.conf: TLS, proxies, timeouts, threads; and places that must not see the token."""

import contextlib
import http.server
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
import uuid

import pytest

from tests import patience
from tests.calls import calls
from tests.calls import pythons
from tests.calls import sr_disks
from tests.calls.images import transfers
from tests.harness.dom0 import plugin_reply
from tests.harness.image_service import service_faults as faults
from tests.harness.image_service.service import ImageService
from tests.harness.pool import Pool
from tests.harness.system.prompt_server import PromptServer
from tests.harness.xapi import xapi_xml

TOOL_DEADLINE_S = 60
SOCKET_TIMEOUT_S = 20
DOWNLOAD, UPLOAD = "download_vhd2", "upload_vhd2"


@pytest.fixture(scope="module", params=pythons.ROTATION, ids=pythons.version_of)
def settings_pool(request):
    with Pool(python=request.param, python36_locale=True) as pool:
        yield pool


@pytest.fixture
def site(settings_pool):
    with ImageService() as service:
        site = transfers.Site(settings_pool, service, settings_pool.add_sr())
        site.disks = sr_disks.write_chain(site.sr.path)
        site.image = service.add_image(sr_disks.pack_vdis(site.sr.path, site.disks))
        yield site
    calls.remove_settings(settings_pool.hosts[0])


def write_settings(site, text):
    calls.write_settings(site.pool.hosts[0], text)


def download(site, **changes):
    """One more disk from the site's image."""
    vdi_uuid = str(uuid.uuid4())
    site.download(site.image.id, [vdi_uuid], **changes)
    assert sr_disks.guest_digest(site.sr.path, vdi_uuid) == sr_disks.guest_digest(site.sr.path, site.disks[0])


def upload(site, **changes):
    image = site.service.add_image()
    site.upload(image.id, site.disks, **changes)
    assert image.status == "active"


class Relay(object):
    """A server that hands every connection on: to a fixed address, with TLS before it, or as a proxy to where it asks.

    heads: the first request on each connection of a proxy
    """

    def __init__(self, target=None, context=None):
        self._target = target
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.heads = []

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc_info):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                accepted = self._listener.accept()[0]
                threading.Thread(target=self._serve, args=(accepted,), daemon=True).start()

    def _serve(self, accepted):
        accepted.settimeout(SOCKET_TIMEOUT_S)
        with contextlib.suppress(OSError), accepted:
            client = self._context.wrap_socket(accepted, server_side=True) if self._context else accepted
            target, first = (self._target, b"") if self._target else self._read_target(client)
            with client, socket.create_connection(target, SOCKET_TIMEOUT_S) as server:
                server.sendall(first)
                back = threading.Thread(target=_copy, args=(server, client), daemon=True)
                back.start()
                _copy(client, server)
                back.join(SOCKET_TIMEOUT_S)

    def _read_target(self, client):
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(1)
        self.heads.append(head.decode("latin-1"))
        method, url = self.heads[-1].split()[:2]
        host, _, port = (url if method == "CONNECT" else url.split("/")[2]).partition(":")
        if method == "CONNECT":
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            head = b""
        return (host, int(port)), head


def _copy(source, target):
    with contextlib.suppress(OSError):
        for data in iter(lambda: source.recv(1 << 18), b""):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


# TLS

@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A directory with ca.pem, and server.pem for 127.0.0.1 that it has signed."""
    directory = tmp_path_factory.mktemp("authority")
    (directory / "extensions").write_text("subjectAltName=IP:127.0.0.1\n")
    new_key = ("-newkey", "rsa:2048", "-nodes", "-sha256")

    def openssl(*arguments):
        subprocess.run(("openssl",) + arguments, cwd=str(directory), check=True, capture_output=True, timeout=TOOL_DEADLINE_S)
    openssl("req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=the authority", "-days", "2",
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")
    openssl("req", *new_key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=the service")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-set_serial", "2", "-days", "2",
            "-sha256", "-extfile", "extensions", "-out", "server.pem")
    return directory


@pytest.fixture
def tls(site, authority):
    """The https endpoint of the site's service."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(authority / "server.pem"), str(authority / "server.key"))
    shutil.copy(str(authority / "ca.pem"), site.pool.hosts[0].dom0.locate("/etc/cloud-ca.pem"))
    with Relay(("127.0.0.1", int(site.service.url.split(":")[2])), context) as relay:
        yield "https://127.0.0.1:%d" % relay.port


@pytest.mark.needs("openssl")
def test_private_authority(site, tls):
    write_settings(site, "[tls]\nca_file = /etc/cloud-ca.pem\n")
    download(site, endpoint=tls)
    upload(site, endpoint=tls)


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("settings", ["", "[tls]\nverify = yes\n"], ids=["no file", "verify"])
def test_unknown_authority(site, tls, settings):
    if settings:
        write_settings(site, settings)
    for function, call in ((DOWNLOAD, download), (UPLOAD, upload)):
        with sr_disks.unchanged(site.sr.path), calls.refused(
                function, "PluginError", "certificate", "ca_file", "[tls]", calls.SETTINGS):
            call(site, endpoint=tls)
    assert site.service.requests == []


@pytest.mark.needs("openssl")
def test_certificate_of_another_host(site, tls):
    write_settings(site, "[tls]\nca_file = /etc/cloud-ca.pem\n")
    with calls.refused(DOWNLOAD, "PluginError", "certificate", "ca_file"):
        download(site, endpoint=tls.replace("127.0.0.1", "localhost"))
    assert site.service.requests == []


@pytest.mark.needs("openssl")
def test_no_verification(site, tls):
    write_settings(site, "[tls]\nverify = no\n")
    download(site, endpoint=tls)
    upload(site, endpoint=tls.replace("127.0.0.1", "localhost"))


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("content", [None, "no certificate"], ids=["missing", "damaged"])
def test_ca_file_that_cannot_be_used(site, tls, content):
    if content:
        with open(site.pool.hosts[0].dom0.locate("/etc/broken.pem"), "w") as target:
            target.write(content)
    write_settings(site, "[tls]\nca_file = /etc/%s.pem\n" % ("broken" if content else "missing"))
    with calls.refused(DOWNLOAD, "PluginError", "ca_file", "[tls]"):
        download(site, endpoint=tls)


def test_server_that_does_not_speak_tls(site):
    with calls.refused(DOWNLOAD, "RetryableError", "TLS"):
        download(site, endpoint=site.service.url.replace("http:", "https:"))


# Proxies

@pytest.fixture
def proxy():
    with Relay() as relay:
        yield relay


def test_proxy(site, proxy):
    write_settings(site, "[network]\nproxy = http://127.0.0.1:%d\n" % proxy.port)
    download(site)
    upload(site)
    assert len(proxy.heads) == len(site.service.requests)
    assert all(head.split()[1].startswith(site.service.url + "/v2/images/") for head in proxy.heads)


@pytest.mark.needs("openssl")
def test_proxy_of_tls(site, proxy, tls):
    write_settings(site, "[network]\nproxy = http://127.0.0.1:%d/\n[tls]\nca_file = /etc/cloud-ca.pem\n" % proxy.port)
    download(site, endpoint=tls)
    assert [head.split("\r\n")[0] for head in proxy.heads] == ["CONNECT %s HTTP/1.1" % tls[len("https://"):]] * 2
    assert not any(site.service.token in head for head in proxy.heads)


def test_proxy_that_is_not_there(site):
    write_settings(site, "[network]\nproxy = http://127.0.0.1:1\n")
    with calls.refused(DOWNLOAD, "RetryableError", "127.0.0.1:1"):
        download(site)
    assert site.service.requests == []


@pytest.mark.parametrize("setting", ["", "proxy =\n"], ids=["not set", "empty"])
def test_environment_names_a_proxy(site, proxy, setting):
    """XAPI gives plug-ins no such environment; a wrapper might."""
    write_settings(site, "[network]\n" + setting)
    vdi_uuid = str(uuid.uuid4())
    arguments = calls.encode_plain(site.complete({"image_id": site.image.id, "uuid_stack": [vdi_uuid]}))
    address = "http://127.0.0.1:%d" % proxy.port
    dom0 = site.pool.hosts[0].dom0
    environment = {"PATH": "%s:%s" % (dom0.bin_dir, os.environ["PATH"]), "DOM0_ROOT": dom0.root}
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
        environment[name] = address
    answer = subprocess.run(
        [os.path.join(dom0.plugin_dir, transfers.PLUGIN), xapi_xml.encode_call(DOWNLOAD, "OpaqueRef:none", arguments)],
        env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=TOOL_DEADLINE_S)
    assert vdi_uuid in plugin_reply.decode(answer.stdout)
    assert proxy.heads == []


# The token

class _Store(http.server.BaseHTTPRequestHandler):
    """An object store, where image services may send clients: no token, ranges."""

    def do_GET(self):
        self.server.seen.append(self.headers)
        start = int(self.headers.get("Range", "bytes=0-").split("=")[1].rstrip("-"))
        data = self.server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data)))
        if start:
            self.send_header("Content-Range", "bytes %d-%d/%d" % (start, start + len(data) - 1, start + len(data)))
        self.end_headers()
        if len(self.server.seen) == 1:
            data = data[:self.server.first_bytes]
        with contextlib.suppress(OSError):
            self.wfile.write(data)

    def log_message(self, *args):
        pass


class _StoreServer(PromptServer, http.server.ThreadingHTTPServer):
    pass


@pytest.fixture
def store(site):
    with _StoreServer(("127.0.0.1", 0), _Store) as server:
        server.seen, server.content, server.first_bytes = [], site.image_content(site.image), None
        server.url = "http://127.0.0.1:%d/object?signature=1" % server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def expect_no_token(site, headers):
    assert not [value for value in headers.values() if site.service.token in value]
    assert not [name for name in headers if name.lower().startswith("x-")]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_to_another_server(site, store, status):
    site.service.faults.append(faults.Redirect(store.url, status=status, path="/file$"))
    download(site, extra_headers={"X-Auth-Token": site.service.token, "X-Roles": "member"})
    assert len(store.seen) == 1
    expect_no_token(site, store.seen[0])


def test_redirected_download_is_continued(site, store):
    store.first_bytes = 100000
    site.service.faults.append(faults.Redirect(store.url, path="/file$", times=None))
    download(site)
    assert [headers.get("Range") for headers in store.seen] == [None, "bytes=100000-"]
    for headers in store.seen:
        expect_no_token(site, headers)


def test_redirect_to_another_name_of_the_server(site):
    location = "%s/v2/images/%s/file" % (site.service.url.replace("127.0.0.1", "localhost"), site.image.id)
    site.service.faults.append(faults.Redirect(location, path="/file$"))
    with calls.refused(DOWNLOAD, "PluginError", "token"):
        download(site)
    expect_no_token(site, site.service.requests[-1].headers)


def test_redirect_on_the_server(site):
    location = "/v2/images/%s/file" % site.image.id
    site.service.faults.append(faults.Redirect(location, path="/file$"))
    download(site)


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_redirect_of_an_upload(site, store, method):
    site.service.faults.append(faults.Redirect(store.url, method=method, status=307))
    with sr_disks.unchanged(site.sr.path), calls.refused(UPLOAD, "PluginError", "307"):
        upload(site)
    assert store.seen == []


def test_redirects_without_end(site):
    site.service.faults.append(faults.Redirect("/v2/images/%s/file" % site.image.id, path="/file$", times=None))
    with calls.refused(DOWNLOAD, "RetryableError", "redirected"):
        download(site)
    assert len(site.service.requests) < 20


# Waits

def test_idle_timeout(site):
    write_settings(site, "[network]\nidle_timeout = 1\n")
    site.service.faults.append(faults.Stall(patience.ENDLESS_S, path="/file$"))
    started = time.monotonic()
    with calls.refused(DOWNLOAD, "RetryableError", "no progress for 1 s"):
        download(site)
    assert time.monotonic() - started < patience.LIMIT_S


@pytest.mark.parametrize("direction", ["download", "upload"])
def test_total_timeout(site, direction):
    """A byte now and then is progress, but not for ever; and it is the transfer's time, not that of each attempt."""
    write_settings(site, "[network]\ntotal_timeout = 3\n")
    started = time.monotonic()
    if direction == "download":
        site.service.faults.append(faults.Drip(piece=1024, interval_s=0.1, path="/file$", times=None))
        with sr_disks.unchanged(site.sr.path), calls.refused(DOWNLOAD, "RetryableError", "longer than 3 s"):
            download(site)
    else:
        site.service.faults.append(faults.UploadStall(patience.ENDLESS_S, method="PUT"))
        with sr_disks.unchanged(site.sr.path), calls.refused(UPLOAD, "RetryableError", "longer than 3 s"):
            upload(site)
    assert 2.5 < time.monotonic() - started < patience.LIMIT_S


@contextlib.contextmanager
def deaf_address():
    """An address that answers no connection: its queue is full."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            client = stack.enter_context(contextlib.closing(socket.socket()))
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield "127.0.0.1:%d" % listener.getsockname()[1]


def test_connect_timeout(site):
    write_settings(site, "[network]\nconnect_timeout = 1\n")
    with deaf_address() as address:
        started = time.monotonic()
        with calls.refused(DOWNLOAD, "RetryableError", "connect", address):
            download(site, endpoint="http://" + address, api_version=1)
        assert time.monotonic() - started < patience.LIMIT_S


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_cancel_while_connecting(site, scheme):
    session = site.pool.login()
    task = session.xenapi.task.create("transfer", "")
    failures = []

    def call():
        try:
            download(site, endpoint="%s://%s" % (scheme, address), task=task)
        except Exception as failure:
            failures.append(failure.details)
    with deaf_address() if scheme == "http" else silent_address() as address:
        thread = threading.Thread(target=call, daemon=True)
        thread.start()
        time.sleep(2)
        session.xenapi.task.cancel(task)
        thread.join(patience.LIMIT_S)
    assert failures == [["TASK_CANCELLED", task]]


@contextlib.contextmanager
def silent_address():
    """An address that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield "127.0.0.1:%d" % listener.getsockname()[1]


# The settings themselves

@pytest.mark.parametrize("section, line", [
    ("network", "connect_timeout = soon"), ("network", "idle_timeout = 0"), ("network", "idle_timeout = -1"),
    ("network", "total_timeout = 1.5"), ("network", "idle_timeout = 9999999999"), ("tls", "verify = perhaps"),
    ("transfer", "threads = 65"), ("transfer", "threads = many"), ("transfer", "nice = 20"), ("transfer", "nice = -5"),
    ("network", "proxy = proxy:3128"), ("network", "proxy = ftp://proxy")])
def test_bad_setting(site, section, line):
    name = line.split()[0]
    write_settings(site, "[%s]\n%s\n" % (section, line))
    for function, call in ((DOWNLOAD, download), (UPLOAD, upload)):
        with sr_disks.unchanged(site.sr.path), calls.refused(function, "PluginError", calls.SETTINGS, name, "[%s]" % section):
            call(site)
    assert site.service.requests == []


@pytest.mark.parametrize("text", ["idle_timeout = 1\n", "[network\n", "[network]\nidle_timeout\n"])
def test_settings_that_are_no_settings(site, text):
    write_settings(site, text)
    with calls.refused(DOWNLOAD, "PluginError", calls.SETTINGS):
        download(site)


def test_settings_that_are_no_file(site):
    os.mkdir(site.pool.hosts[0].dom0.locate(calls.SETTINGS))
    try:
        with calls.refused(DOWNLOAD, "PluginError", calls.SETTINGS):
            download(site)
    finally:
        os.rmdir(site.pool.hosts[0].dom0.locate(calls.SETTINGS))


def test_comments_in_any_language(site):
    path = site.pool.hosts[0].dom0.locate(calls.SETTINGS)
    with open(path, "w", encoding="utf-8") as settings:
        settings.write(u"# f\u00fcr die Wolke \u96f2\n[network]\nidle_timeout = 5\n")
    download(site)


# The processors belong to the guests

def observe_upload(site):
    """(niceness, threads) of an upload under way."""
    disks = sr_disks.write_chain(site.sr.path, blocks=10)
    image = site.service.add_image()
    fault = faults.UploadStall(2, at=1 << 20, path=image.id, method="PUT")
    site.service.faults.append(fault)
    thread = threading.Thread(target=lambda: site.upload(image.id, disks), daemon=True)
    thread.start()
    calls.wait_until(lambda: any(request.received_bytes >= 1 << 20 for request in site.image_requests(image)))
    pid = calls.find_processes(site.sr.uuid)[0]
    with open("/proc/%d/stat" % pid) as stat:
        fields = stat.read().rpartition(")")[2].split()
    thread.join(60)
    assert image.status == "active"
    return int(fields[16]), int(fields[17])


def test_threads_and_niceness(site):
    own = os.nice(0)
    write_settings(site, "[transfer]\nthreads = 1\nnice = 3\n")
    niceness, few = observe_upload(site)
    assert niceness == min(19, own + 3)
    assert few <= 3
    write_settings(site, "[transfer]\nthreads = 5\nnice = 0\n")
    niceness, more = observe_upload(site)
    assert (niceness, more - few) == (own, 4)
    calls.remove_settings(site.pool.hosts[0])
    niceness, usual = observe_upload(site)
    assert (niceness, usual - few) == (min(19, own + 10), os.sysconf("SC_NPROCESSORS_ONLN") - 1)
