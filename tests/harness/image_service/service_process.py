# SPDX-License-Identifier: Apache-2.0
"""The image service in a process of its own, for the demo and benchmarks."""
from __future__ import absolute_import, division

import json
import os
import select
import subprocess
import sys
import urllib.request

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
START_LIMIT_S = 300  # hashing large images takes a while
STOP_LIMIT_S = 60


class ImageServiceProcess(object):
    """`with ImageServiceProcess("--image", path) as service:` arguments are those of the command line.

    url, token; images: a list of {"id", "path", "size", "md5", "status"}. It ends with this process, whatever happens.
    """

    def __init__(self, *arguments):
        self._arguments = list(arguments)
        self._process = None

    def __enter__(self):
        self._process = subprocess.Popen([sys.executable, "-m", "tests.harness.image_service.service", "--with-stdin"]
                                         + self._arguments,
                                         cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         # Ctrl-C is for this process, which then ends that one.
                                         start_new_session=True)
        try:
            ready = select.select([self._process.stdout], [], [], START_LIMIT_S)[0]
            line = self._process.stdout.readline() if ready else b""
            if not line:
                raise RuntimeError("the image service did not start: see its message above")
            started = json.loads(line.decode("utf-8"))
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self.url, self.token, self.images = started["url"], started["token"], started["images"]
        return self

    def __exit__(self, *exc_info):
        self._process.terminate()
        try:
            self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()

    def status(self):
        """The service's /_status: totals and one entry per request."""
        host = "/".join(self.url.split("/")[:3])
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(host + "/_status", timeout=STOP_LIMIT_S) as answer:
            return json.loads(answer.read().decode("utf-8"))
