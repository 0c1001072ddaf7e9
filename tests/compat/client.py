# SPDX-License-Identifier: Apache-2.0
"""os-xenapi's client as a test sees it: a process under Python 2.7 (client_driver.py), over HTTP on port 80 as it must."""

import itertools
import json
import os
import subprocess
import threading

from tests.harness.pool import Pool
from tests.run import environments

PYTHON = environments.python_of("nova")
DEADLINE_S = 300
PORT = 80
_MOUNT = 'mount --make-rprivate / && mount --bind "$0" /dev && exec "$@"'
_numbers = itertools.count(1)


class ClientFailed(Exception):
    """An error that the client raised: `name` of the class, `details` of a XenAPI.Failure, `retries` before it."""

    def __init__(self, answer):
        super().__init__("%s: %s" % (answer["error"], answer["text"]))
        self.name = answer["error"]
        self.details = answer["details"]
        self.retries = answer["retries"]


class DriverProcess(object):
    """A program of this directory under Python 2.7, which answers each line of JSON with one."""

    def __init__(self, python, name, path=os.environ["PATH"], devices=None):
        """devices: a directory that is /dev for the program; needs root"""
        environ = {"PATH": path, "LANG": "C.UTF-8"}
        program = os.path.join(environments.CHECKOUT, "tests", "compat", name)
        command = [python, "-B", program]
        if devices:
            command = ["unshare", "--mount", "sh", "-c", _MOUNT, devices] + command
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ,
                                         universal_newlines=True, encoding="ascii")

    def close(self):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.kill()
        self._process.wait()

    def ask(self, call):
        killer = threading.Timer(DEADLINE_S, self._process.kill)
        killer.start()
        try:
            self._process.stdin.write(json.dumps(call) + "\n")
            self._process.stdin.flush()
            answer = json.loads(self._process.stdout.readline() or "null")
        finally:
            killer.cancel()
        if answer is None:
            raise RuntimeError("the client ended, or was killed after %d s: %s" % (DEADLINE_S, call))
        return answer


class Client(object):
    """One process with one session."""

    def __init__(self, url, username=Pool.username, password=Pool.password):
        self._process = DriverProcess(PYTHON, "client_driver.py")
        self.retries = []
        self.endpoint = None
        try:
            self.session = self._ask({"session": [url, username, password]})
        except BaseException:
            self.close()
            raise

    def close(self):
        self._process.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

    def call(self, function, *args, **kwargs):
        """A function of os_xenapi.client, "module.function", without its session. Raises ClientFailed."""
        return self._ask({"function": function, "args": args, "kwargs": kwargs, "endpoint": self.endpoint})

    def method(self, method, *args, **kwargs):
        """A method of the session. Raises ClientFailed."""
        return self._ask({"method": method, "args": args, "kwargs": kwargs, "endpoint": self.endpoint})

    def list_functions(self, modules):
        """["module.function"] of os_xenapi.client."""
        return self._ask({"list": modules})

    def _ask(self, call):
        answer = self._process.ask(call)
        self.retries = answer["retries"]
        if "error" in answer:
            raise ClientFailed(answer)
        return decode(answer["value"])


class Bytes(str):
    """A text that Python 2 had as a byte string, as nova expects its replies."""


def decode(value):
    if isinstance(value, list):
        return [decode(item) for item in value]
    if isinstance(value, dict):
        if "bytes" in value:
            return Bytes(value["bytes"])
        return {decode(key): decode(item) for key, item in value["items"]}
    return value


def make_pool(**options):
    """A Pool on port 80, as the client takes URLs without a port only; its addresses are no other's, of no other process either."""
    ip = "127.%d.%d.%d" % (100 + os.getpid() // 250 % 100, os.getpid() % 250, 10 * next(_numbers) % 240 + 1)
    return Pool(ip=ip, port=PORT, **options)
