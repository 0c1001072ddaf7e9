# SPDX-License-Identifier: Apache-2.0
"""A small OpenStack Glance for tests, the demo and benchmarks: v2, v1 if wanted, real sockets, faults on request.

In a test, in the same process:

    with ImageService() as service:
        image = service.add_image("disk.tgz")
        service.faults.append(faults.HangUp(at=4096, path="/file$"))
        ... requests to service.url with X-Auth-Token: service.token ...
        service.requests[0].sent_bytes

On its own, so that it shares no interpreter lock with what is measured (image_service_process.py starts it so):

    python3 -m tests.harness.image_service.service --port 0 --image disk.tgz

What it answers was compared with Glance 33.0.0 case by case (tests/simulator/test_image_service_contract.py); v1
follows what was recorded from 15.0.2. GET of /_status, which Glance has not, tells how far each transfer is.
"""
from __future__ import absolute_import, division

import argparse
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback

from tests.harness.image_service import service_tokens as tokens
from tests.harness.image_service.glance_v1 import ApiV1
from tests.harness.image_service.glance_v2 import ApiV2
from tests.harness.image_service.service_faults import Faults
from tests.harness.image_service.service_http import BrokenMessage, HangUp, Response
from tests.harness.image_service.service_images import Images, Refused
from tests.harness.image_service.service_server import Server

WAIT_LIMIT_S = 60
V2_SEGMENT = r"^/v2(\.([0-9]|1[0-3]|15|17))?(/|$)"


class ImageService(object):
    """The service; a context manager: it answers from __enter__ to __exit__.

    port                0: any
    prefix              path before /v2, as clouds with one host name for all services have it ("/image")
    has_v1              true: as servers before 2018; false: /v1 gets 300, as since then
    keeps_alive         false: ends each connection after one answer, as Glance behind uWSGI often does
    directory           for uploaded data; None: a temporary one
    hashes_sha512, image_size_cap, user_storage_quota: see Images
    idle_timeout_s      between two requests of a connection; stall_timeout_s: between two pieces of a body
    """

    def __init__(self, port=0, prefix="", has_v1=False, keeps_alive=True, directory=None, hashes_sha512=True,
                 image_size_cap=None, user_storage_quota=None, idle_timeout_s=5, stall_timeout_s=30):
        self.token = tokens.MEMBER
        self.prefix = prefix
        self.keeps_alive = keeps_alive
        self.idle_timeout_s = idle_timeout_s
        self.stall_timeout_s = stall_timeout_s
        self.stopping = threading.Event()
        self.faults = Faults()
        self.requests = []
        self._server = Server(("127.0.0.1", port), self)
        self._own_directory = None
        if directory is None:
            directory = self._own_directory = tempfile.mkdtemp(prefix="image-service-")
        self.images = Images(directory, hashes_sha512, image_size_cap, user_storage_quota)
        self.url = "http://127.0.0.1:%d%s" % (self._server.server_address[1], prefix)
        self._v1 = ApiV1(self.images) if has_v1 else None
        self._v2 = ApiV2(self.images, self.url)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc_info):
        self.stopping.set()
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()
        self._server.end_connections()
        if self._own_directory:
            shutil.rmtree(self._own_directory, ignore_errors=True)

    def add_image(self, source=None, image_id=None, owner=tokens.TOKENS[tokens.MEMBER].project, **properties):
        """An image of the MEMBER token's project; active with a path's or bytes' content, queued without a source.

        A file is served from where it is. The formats are ovf and vhd unless `properties` says otherwise.
        """
        attributes = dict({"container_format": "ovf", "disk_format": "vhd"}, **properties)
        image = self.images.create(owner, attributes, image_id)
        if isinstance(source, bytes):
            path = os.path.join(self.images.directory, image.id)
            with open(path, "wb") as data:
                data.write(source)
            source = path
        if source is not None:
            self.images.fill(image, source)
        return image

    def lose_data(self, image_id):
        """The store loses an image's data; the record stays active."""
        self.images[image_id].path = None

    def wait_done(self, count, limit_s=WAIT_LIMIT_S):
        """The first `count` requests, once they have come and been dealt with; RuntimeError when that takes too long.

        A client that has its answer may be ahead of the service's own book-keeping.
        """
        deadline = time.monotonic() + limit_s
        while len(self.requests) < count or not all(record.done.is_set() for record in self.requests[:count]):
            if time.monotonic() > deadline:
                raise RuntimeError("%d requests expected, these came: %s" % (count, self.status()["requests"]))
            time.sleep(0.005)
        return self.requests[:count]

    def answer(self, request):
        """The Response to one request."""
        try:
            return self._dispatch(request)
        except Refused as refusal:
            return _refusal_response(refusal, request)
        except (HangUp, BrokenMessage):
            raise
        except Exception:
            traceback.print_exc()
            return _refusal_response(Refused(500), request)

    def status(self):
        """What /_status tells: totals and one entry per request, without headers."""
        entries = [record.summary() for record in list(self.requests)]
        return {"requests": entries,
                "sent_bytes": sum(entry["sent_bytes"] for entry in entries),
                "received_bytes": sum(entry["received_bytes"] for entry in entries)}

    def _dispatch(self, request):
        if not (request.path + "/").startswith(self.prefix + "/"):
            raise Refused(404, "The requested URL was not found on this server.")
        request.path = request.path[len(self.prefix):] or "/"
        if request.path.startswith("/versions"):
            return self._list_versions(200)
        is_v1 = self._v1 is not None and request.path.startswith("/v1/")
        if not is_v1 and not re.match(V2_SEGMENT, request.path):
            return self._list_versions(300)
        identity = tokens.find_identity(request.headers.get("X-Auth-Token", ""), time.time())
        if identity is None:
            raise Refused(401, "This server could not verify that you are authorized to access the document.",
                          [("WWW-Authenticate", 'Keystone uri="http://127.0.0.1:1"')])
        if is_v1:
            return self._v1.answer(request, identity)
        request.path = re.sub(V2_SEGMENT, "/v2/", request.path)
        return self._v2.answer(request, identity)

    def _list_versions(self, status):
        links = [{"rel": "self", "href": self.url + "/v2/"}]
        versions = {"versions": [{"id": "v2.17", "status": "CURRENT", "links": links}]}
        return Response(status, [("Content-Type", "application/json")], json.dumps(versions).encode("utf-8"))


def _refusal_response(refusal, request):
    """The error in the form that the Accept header asks for; text without one."""
    response = Response(refusal.status, refusal.headers)
    title = "%d %s" % (response.status, response.reason)
    accept = request.headers.get("Accept", "")
    if "html" in accept or "*/*" in accept:
        kind = "text/html; charset=UTF-8"
        body = "<html>\n <head>\n  <title>%s</title>\n </head>\n <body>\n  <h1>%s</h1>\n  %s\n </body>\n</html>" % (
            title, title, refusal.text.replace("&", "&amp;").replace("<", "&lt;"))
    elif "json" in accept:
        kind = "application/json"
        body = json.dumps({"message": refusal.text, "code": title, "title": response.reason})
    else:
        kind = "text/plain; charset=UTF-8"
        body = "%s\n\n%s\n\n   " % (title, refusal.text)
    if request.method == "HEAD":
        body = ""
    return Response(refusal.status, refusal.headers + [("Content-Type", kind)], body.encode("utf-8"))


def main(arguments=None):
    options = _parse_arguments(arguments)
    # Waited for, not handled: a handler may not touch the lock of an Event, and a second signal must not disturb the end.
    signals = (signal.SIGTERM, signal.SIGINT)
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    with ImageService(port=options.port, prefix=options.prefix, has_v1=options.v1, directory=options.directory,
                      hashes_sha512=not options.no_sha512) as service:
        images = [dict(path=path, **_describe(service.add_image(path))) for path in options.image]
        images += [_describe(service.add_image()) for _ in range(options.queued)]
        print(json.dumps({"url": service.url, "token": service.token, "images": images}), flush=True)
        if options.with_stdin:
            threading.Thread(target=_wait_for_end, args=(sys.stdin.fileno(),), daemon=True).start()
        signal.sigwait(signals)


def _wait_for_end(descriptor):
    while os.read(descriptor, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _describe(image):
    return {"id": image.id, "size": image.size, "md5": image.md5, "status": image.status}


def _parse_arguments(arguments):
    parser = argparse.ArgumentParser(prog="python3 -m tests.harness.image_service.service",
                                     description="A small OpenStack Glance on 127.0.0.1. Prints its URL, a token and "
                                     "its images as one line of JSON, then serves until SIGTERM.")
    parser.add_argument("--port", type=int, default=0, help="0 (the default): any free one")
    parser.add_argument("--image", metavar="FILE", action="append", default=[], help="serve this file as an image")
    parser.add_argument("--queued", type=int, metavar="N", default=0, help="add N images without data, for uploads")
    parser.add_argument("--prefix", default="", help="path before /v2, such as /image")
    parser.add_argument("--v1", action="store_true", help="the v1 API as well")
    parser.add_argument("--directory", help="where uploads go; default: a temporary directory")
    parser.add_argument("--no-sha512", action="store_true", help="hash uploads with MD5 alone: less work per byte")
    parser.add_argument("--with-stdin", action="store_true", help="also end when standard input ends")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
