# SPDX-License-Identifier: Apache-2.0
"""The real OpenStack Glance from PyPI on a loopback port: SQLite, a file store, gunicorn, no Keystone.

`environment()` makes the virtual environment (a minute, 258 MB); `GlanceServer` runs one server in a directory.
It is the reference that image_service.py is held to.
"""
from __future__ import absolute_import, division

import fcntl
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

REQUIREMENTS = ("glance==33.0.0", "gunicorn==27.0.1")
OLDEST_PYTHON = (3, 11)  # what glance 33.0.0 declares
PREFIX = "/image"  # every request works under this path as well
INSTALL_LIMIT_S = 900
START_LIMIT_S = 60
STOP_LIMIT_S = 15

PASTE = """\
[composite:glance-api-table]
paste.composite_factory = glance.api:root_app_factory
/: api
%s: api

[pipeline:api]
pipeline = versionnegotiation tableauth context rootapp

[composite:rootapp]
paste.composite_factory = glance.api:root_app_factory
/: versions
/v2: v2

[app:versions]
paste.app_factory = glance.api.versions:create_resource

[app:v2]
paste.app_factory = glance.api.v2.router:API.factory

[filter:versionnegotiation]
paste.filter_factory = glance.api.middleware.version_negotiation:VersionNegotiationFilter.factory

[filter:context]
paste.filter_factory = glance.api.middleware.context:ContextMiddleware.factory

[filter:tableauth]
paste.filter_factory = glance_auth:filter_factory
delay_auth_decision = true
""" % PREFIX

# keystone_authtoken names addresses that nothing ever contacts: glance_auth answers first.
SETTINGS = """\
[DEFAULT]
public_endpoint = {url}
worker_self_reference_url = {url}
log_file = {directory}/api.log
enabled_backends = files:file
transport_url = fake://
{options}
[database]
connection = sqlite:///{directory}/glance.sqlite
[glance_store]
default_backend = files
[files]
filesystem_store_datadir = {directory}/store
[os_glance_staging_store]
filesystem_store_datadir = {directory}/staging
[os_glance_tasks_store]
filesystem_store_datadir = {directory}/tasks
[paste_deploy]
config_file = {directory}/paste.ini
flavor = table
[oslo_concurrency]
lock_path = {directory}/locks
[keystone_authtoken]
www_authenticate_uri = http://127.0.0.1:1
auth_url = http://127.0.0.1:1
auth_type = password
username = glance
password = unused
user_domain_id = default
project_name = service
project_domain_id = default
"""


def environment(directory):
    """Path of a virtual environment's python that has Glance; made in `directory` when it is not there yet."""
    python = os.path.join(directory, "bin", "python")
    stamp = os.path.join(directory, "requirements.installed")
    wanted = "\n".join(REQUIREMENTS)
    os.makedirs(os.path.dirname(os.path.abspath(directory)), exist_ok=True)
    with open(directory + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another test run may be making it
        if os.path.exists(stamp):
            with open(stamp) as installed:
                if installed.read() == wanted:
                    return python
        shutil.rmtree(directory, ignore_errors=True)
        subprocess.check_call([_find_base_python(), "-m", "venv", directory], timeout=INSTALL_LIMIT_S)
        subprocess.check_call([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
                              + list(REQUIREMENTS), timeout=INSTALL_LIMIT_S)
        with open(stamp, "w") as installed:
            installed.write(wanted)
    return python


def _find_base_python():
    if sys.version_info >= OLDEST_PYTHON:
        return sys.executable
    for name in ("python3.13", "python3.12", "python3.11"):
        path = shutil.which(name)
        if path and subprocess.call([path, "-c", ""]) == 0:  # a pyenv shim may exist without its Python
            return path
    raise RuntimeError("Glance needs Python %d.%d or newer: none on PATH" % OLDEST_PYTHON)


class GlanceServer(object):
    """One Glance on 127.0.0.1, a context manager.

    python     interpreter that has Glance (see environment())
    directory  empty directory for its database, images and logs
    options    lines for glance-api.conf's [DEFAULT], such as {"image_size_cap": 4194304}
    """

    def __init__(self, python, directory, options=None):
        self.python = python
        self.directory = os.path.abspath(directory)
        self.options = dict(options or {})
        self.url = None
        self._process = None

    def __enter__(self):
        listener = socket.socket()
        try:
            listener.bind(("127.0.0.1", 0))
            listener.listen(64)
            self.url = "http://127.0.0.1:%d" % listener.getsockname()[1]
            self._configure()
            self._run("-m", "glance.cmd.manage", "--config-file", self._path("glance-api.conf"), "db_sync")
            self._process = self._spawn(listener.fileno())
        finally:
            listener.close()
        try:
            self._wait_ready()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *exc_info):
        group = self._process.pid
        self._process.terminate()
        try:
            self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(group, signal.SIGKILL)
            self._process.wait()

    def lose_data(self, image_id):
        """Remove an image's data behind Glance's back."""
        os.unlink(self._path("store", image_id))

    def _path(self, *names):
        return os.path.join(self.directory, *names)

    def _configure(self):
        for name in ("store", "staging", "tasks", "locks"):
            os.makedirs(self._path(name))
        with open(self._path("paste.ini"), "w") as paste:
            paste.write(PASTE)
        lines = "".join("%s = %s\n" % item for item in sorted(self.options.items()))
        with open(self._path("glance-api.conf"), "w") as settings:
            settings.write(SETTINGS.format(url=self.url, directory=self.directory, options=lines))

    def _environ(self):
        return dict(os.environ, OS_GLANCE_CONFIG_DIR=self.directory, PYTHONWARNINGS="ignore",
                    PYTHONPATH=os.path.dirname(os.path.abspath(__file__)))

    def _run(self, *arguments):
        done = subprocess.run([self.python] + list(arguments), env=self._environ(), stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=START_LIMIT_S)
        if done.returncode != 0:
            raise RuntimeError("%s: %s" % (" ".join(arguments), done.stdout.decode(errors="replace")[-2000:]))

    def _spawn(self, listener):
        with open(self._path("server.log"), "wb") as log:
            return subprocess.Popen(
                [self.python, "-m", "gunicorn", "--bind", "fd://%d" % listener, "--workers", "1",
                 "--worker-class", "gthread", "--threads", "8", "--timeout", "0", "--keep-alive", "5",
                 "--graceful-timeout", "3", "--no-control-socket", "glance.wsgi.api:application"],
                env=self._environ(), pass_fds=(listener,), cwd=self.directory, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True)

    def _wait_ready(self):
        deadline = time.monotonic() + START_LIMIT_S
        address = self.url.split("//")[1]
        while True:
            if self._process.poll() is not None or time.monotonic() > deadline:
                with open(self._path("server.log"), errors="replace") as log:
                    raise RuntimeError("Glance did not start: %s" % log.read()[-2000:])
            connection = http.client.HTTPConnection(address, timeout=START_LIMIT_S)
            try:
                connection.request("GET", "/versions")
                connection.getresponse().read()
                return
            except OSError:
                time.sleep(0.1)
            finally:
                connection.close()
