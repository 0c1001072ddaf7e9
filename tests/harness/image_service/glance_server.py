# SPDX-License-Identifier: Apache-2.0
"""The real OpenStack Glance from PyPI on a loopback port: SQLite, a file store, no Keystone.

`find_python()` names the interpreter that has it (made on first use: a minute, 260 MB); `GlanceServer` runs one server in a
directory, under gunicorn or uWSGI.  It is the reference that image_service.py is held to.
"""
from __future__ import absolute_import, division

import http.client
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time

from tests.run import environments

GUNICORN, UWSGI = "gunicorn", "uwsgi"
PREFIX = "/image"  # every request works under this path as well
START_LIMIT_S = 60
STOP_LIMIT_S = 60
APPLICATION = "glance.wsgi.api:application"

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


def find_python():
    """The interpreter that has Glance; its environment is made first when it is not there yet."""
    with environments.locked():
        if not environments.prepare_glance():
            raise RuntimeError("Glance needs one of Python %s" % ", ".join(environments.GLANCE_PYTHONS))
    return environments.python_of("glance")


class GlanceServer(object):
    """One Glance on 127.0.0.1, a context manager.

    python           interpreter that has Glance (see find_python())
    directory        empty directory for its database, images and logs
    options          lines for glance-api.conf's [DEFAULT], such as {"image_size_cap": 4194304}
    kind             what runs it: GUNICORN, or UWSGI as devstack has it
    socket_limit_s   uWSGI's --socket-timeout
    certificate      paths of a certificate and its key, in PEM: serve https (GUNICORN alone)
    """

    def __init__(self, python, directory, options=None, kind=GUNICORN, socket_limit_s=30, certificate=None):
        self.python = python
        self.directory = os.path.abspath(directory)
        self.options = dict(options or {})
        self.kind = kind
        self.url = None
        self._command = {GUNICORN: self._gunicorn, UWSGI: self._uwsgi}[kind]
        self._socket_limit_s = socket_limit_s
        self._certificate = certificate
        self._port = 0
        self._process = None

    def __enter__(self):
        with self._listen() as listener:
            self.url = "%s://127.0.0.1:%d" % ("https" if self._certificate else "http", self._port)
            self._configure()
            self._make_database()
            self._spawn(listener.fileno())
        try:
            self._wait_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *exc_info):
        self.stop()

    def stop(self):
        """End it as its administrator would."""
        self._process.terminate()
        try:
            self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self):
        """SIGKILL, to the workers as well."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def start(self):
        """Serve again, on the same port and with the same images."""
        with self._listen() as listener:
            self._spawn(listener.fileno())
        self._wait_ready()

    def connect(self):
        """A http.client connection, on which certificates are not verified."""
        address = "127.0.0.1:%d" % self._port
        if self._certificate:
            return http.client.HTTPSConnection(address, timeout=START_LIMIT_S, context=ssl._create_unverified_context())
        return http.client.HTTPConnection(address, timeout=START_LIMIT_S)

    def lose_data(self, image_id):
        """Remove an image's data behind Glance's back."""
        os.unlink(self.data_path(image_id))

    def data_path(self, image_id):
        """The file with an image's data."""
        return self._path("store", image_id)

    def _path(self, *names):
        return os.path.join(self.directory, *names)

    def _listen(self):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        deadline = time.monotonic() + STOP_LIMIT_S
        while True:
            try:
                listener.bind(("127.0.0.1", self._port))
                break
            except OSError:  # a killed worker takes a moment to go
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        listener.listen(64)
        self._port = listener.getsockname()[1]
        return listener

    def _configure(self):
        for name in ("store", "staging", "tasks", "locks"):
            os.makedirs(self._path(name))
        with open(self._path("paste.ini"), "w") as paste:
            paste.write(PASTE)
        lines = "".join("%s = %s\n" % item for item in sorted(self.options.items()))
        with open(self._path("glance-api.conf"), "w") as settings:
            settings.write(SETTINGS.format(url=self.url, directory=self.directory, options=lines))

    def _make_database(self):
        """An empty one, copied: making it takes longer than all the rest of a start."""
        template = os.path.join(os.path.dirname(os.path.dirname(self.python)), "empty.sqlite")
        if not os.path.exists(template):
            self._run("-m", "glance.cmd.manage", "--config-file", self._path("glance-api.conf"), "db_sync")
            unfinished = "%s.%d" % (template, os.getpid())  # other test processes look at it
            shutil.copy(self._path("glance.sqlite"), unfinished)
            os.rename(unfinished, template)
        shutil.copy(template, self._path("glance.sqlite"))

    def _environ(self):
        return dict(os.environ, OS_GLANCE_CONFIG_DIR=self.directory, PYTHONWARNINGS="ignore",
                    PYTHONPATH=os.path.dirname(os.path.abspath(__file__)))

    def _run(self, *arguments):
        done = subprocess.run([self.python] + list(arguments), env=self._environ(), stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=START_LIMIT_S)
        if done.returncode != 0:
            raise RuntimeError("%s: %s" % (" ".join(arguments), done.stdout.decode(errors="replace")[-2000:]))

    def _spawn(self, listener):
        with open(self._path("server.log"), "ab") as log:
            self._process = subprocess.Popen(
                self._command("fd://%d" % listener), env=self._environ(), pass_fds=(listener,), cwd=self.directory,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def _gunicorn(self, address):
        tls = ["--certfile", self._certificate[0], "--keyfile", self._certificate[1]] if self._certificate else []
        return [self.python, "-m", "gunicorn", "--bind", address, "--workers", "1", "--worker-class", "gthread", "--threads", "8",
                "--timeout", "0", "--keep-alive", "5", "--graceful-timeout", "3", "--no-control-socket"] + tls + [APPLICATION]

    def _uwsgi(self, address):
        return [self.python, "-c", "import pyuwsgi; pyuwsgi.run()", "--http-socket", address, "--http-chunked-input",
                "--http-auto-chunked", "--http-raw-body", "--add-header", "Connection: close", "--master", "--die-on-term",
                "--lazy-apps", "--processes", "1", "--threads", "8", "--enable-threads", "--buffer-size", "65535",
                "--socket-timeout", "%d" % self._socket_limit_s, "--module", APPLICATION]

    def _wait_ready(self):
        deadline = time.monotonic() + START_LIMIT_S
        while True:
            if self._process.poll() is not None or time.monotonic() > deadline:
                with open(self._path("server.log"), errors="replace") as log:
                    raise RuntimeError("Glance did not start: %s" % log.read()[-2000:])
            connection = self.connect()
            try:
                connection.request("GET", "/versions")
                connection.getresponse().read()
                return
            except OSError:
                time.sleep(0.1)
            finally:
                connection.close()
