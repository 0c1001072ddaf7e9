# SPDX-License-Identifier: Apache-2.0
"""The xenstored of a simulated host: a real one, C's or OCaml's, or a stand-in; they behave alike as far as they are alike.

    kind                    what runs
    stand-in                a thread of this process that does as C's xenstored does
    stand-in-oxenstored     the same as OCaml's
    xenstored, oxenstored   Debian's own programs, which tests/run unpacks; xenstored_shim.c is their hypervisor
"""

import glob
import hashlib
import os
import shutil
import signal
import subprocess
import threading
import time

from tests.harness.guests import xenstore_client

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
PROGRAMS = os.path.join(CHECKOUT, ".venvs", "xenstored")
STAND_INS = ("stand-in", "stand-in-oxenstored")
REAL = ("xenstored", "oxenstored")
KINDS = STAND_INS + REAL

_SHIM_SOURCE = os.path.join(CHECKOUT, "tests", "harness", "guests", "xenstored_shim.c")
_DEADLINE_S = 60
_DOM_EXC_PORT = 1
_FIRST_DOMAIN_PORT = 100
# The shim redirects the files of /proc/xen.
_OXENSTORED_CONF = (b"pid-file = %s\npersistent = false\n"
                    b"xenstored-kva = /proc/xen/xsd_kva\nxenstored-port = /proc/xen/xsd_port\n")
# Directories that xenopsd makes for a guest and lets it write to.
_GUEST_DIRECTORIES = (b"attr", b"data", b"drivers", b"messages", b"vm-data")


def list_missing():
    """The parts that this machine lacks for the real daemons."""
    missing = [] if os.path.exists(os.path.join(PROGRAMS, ".ready")) else ["Debian's xenstored (made by python3 -m tests.run test)"]
    return missing + ([] if shutil.which("gcc") else ["gcc"])


def tool_environment(socket_path):
    """The environment in which xenstore-read and the other programs of tools_dir() reach a host's xenstored."""
    return {"XENSTORED_PATH": socket_path, "LD_LIBRARY_PATH": _library_dir()}


def tools_dir():
    return os.path.join(PROGRAMS, "root", "usr", "bin")


def make(kind, socket_path):
    """A Xenstored that has not been started, whose files are beside its socket. Raises ValueError for an unknown kind."""
    if kind in STAND_INS:
        from tests.harness.guests import xenstore_stand_in
        return xenstore_stand_in.StandIn(kind, socket_path)
    if kind in REAL:
        return RealXenstored(kind, socket_path)
    raise ValueError("xenstore: %s is none of %s" % (kind, ", ".join(KINDS)))


class Xenstored(object):
    """The interface of all kinds.

    kind        one of KINDS
    socket      the path of its socket, which is dom0's
    """

    def __init__(self, kind, socket_path):
        self.kind = kind
        self.socket = socket_path
        self._domains = {}
        self._lock = threading.RLock()

    @property
    def is_like_c(self):
        """Whether it behaves as C's xenstored where the two differ."""
        return self.kind in ("stand-in", "xenstored")

    def restart(self):
        """It ends, and one with an empty store begins, in which the toolstack makes the running domains known again."""
        with self._lock:
            self.stop()
            self.start()
            for domid, name in sorted(self._domains.items()):
                self._make_known(domid, name)

    def introduce(self, domid, name="guest"):
        """A domain begins: it can speak, and has the records that xenopsd makes for it."""
        with self._lock:
            self._domains[domid] = name
            self._begin_domain(domid)
            self._make_known(domid, name)

    def release(self, domid, keeps_records=False):
        """A domain has ended: the daemon removes the domain's records and tells watches on @releaseDomain.

        C's daemon also tells watches on the removed records. Then the toolstack removes the rest, unless told to keep it.
        """
        with self._lock:
            del self._domains[domid]
            with self.client() as client:
                client.watch(b"@releaseDomain", b"release")
                client.event()
                self._end_domain(domid)
                if client.event() is None:
                    raise TimeoutError("%s did not notice the end of domain %d" % (self.kind, domid))
                if not keeps_records:
                    client.rm(_domain_path(domid))

    def client(self):
        """A Client that is dom0."""
        return xenstore_client.Client(xenstore_client.SocketChannel(self.socket))

    def guest(self, domid):
        """A Client that is a domain that has been introduced; its paths may be relative."""
        return xenstore_client.Client(self._guest_channel(domid))

    def _make_known(self, domid, name):
        path = _domain_path(domid)
        with self.client() as client:
            transaction = client.begin()

            def add(path, value, owner):
                client.write(path, value, transaction)
                client.set_perms(path, *owner, transaction=transaction)
            readable, owned = (b"n0", b"r%d" % domid), (b"n%d" % domid,)
            add(path, b"", readable)
            add(path + b"/name", name.encode("utf-8"), readable)
            add(path + b"/domid", b"%d" % domid, readable)
            for directory in _GUEST_DIRECTORIES:
                add(path + b"/" + directory, b"", owned)
            client.end(transaction)
            client.introduce(domid)


class RealXenstored(Xenstored):

    def __init__(self, kind, socket_path):
        super().__init__(kind, socket_path)
        self._process = None

    def start(self):
        missing = list_missing()
        if missing:
            raise FileNotFoundError("%s needs %s" % (self.kind, ", ".join(missing)))
        self._write("xsd_kva", bytes(4096))
        self._write("xsd_port", b"1")
        if not os.path.exists(self._path("events")):
            os.mkfifo(self._path("events"))
        program = glob.glob(os.path.join(PROGRAMS, "root/usr/lib/xen-*/bin", self.kind))[0]
        if self.kind == "xenstored":
            command = [program, "--no-fork", "--pid-file", self._path("pid")]
        else:
            self._write("conf", _OXENSTORED_CONF % os.fsencode(self._path("pid")))
            command = [program, "--no-fork", "--config-file", self._path("conf")]
        lifeline, self._lifeline = os.pipe()
        environment = dict(os.environ, DOM0_XENSTORED_DIR=self._path(""), DOM0_XENSTORED_LIFELINE=str(lifeline),
                           LD_PRELOAD=_build_shim(), LD_LIBRARY_PATH=_library_dir())
        with open(self._path("log"), "ab") as log:
            self._process = subprocess.Popen(command, env=environment, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                             pass_fds=[lifeline], start_new_session=True)
        os.close(lifeline)
        self._wait_until_it_listens()

    def _wait_until_it_listens(self):
        deadline = time.monotonic() + _DEADLINE_S
        while True:
            try:
                self.client().close()
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    with open(self._path("log"), errors="replace") as log:
                        raise RuntimeError("%s did not start: %s" % (self.kind, log.read().strip()))
            time.sleep(0.002)

    def stop(self):
        if self._process and self._process.poll() is None:
            self._process.kill()
        if self._process:
            self._process.wait(_DEADLINE_S)
            os.close(self._lifeline)
        self._process = None
        for name in ("socket", "pid"):
            if os.path.exists(self._path(name)):
                os.unlink(self._path(name))

    def pause(self, is_paused=True):
        """It answers nobody, until pause(False)."""
        self._process.send_signal(signal.SIGSTOP if is_paused else signal.SIGCONT)

    def _begin_domain(self, domid):
        self._write("domain-%d" % domid, bytes(4096))
        os.mkfifo(self._path("domain-%d.notify" % domid))

    def _end_domain(self, domid):
        os.unlink(self._path("domain-%d" % domid))
        os.unlink(self._path("domain-%d.notify" % domid))
        xenstore_client.raise_event(self._path("events"), _DOM_EXC_PORT)

    def _guest_channel(self, domid):
        page = self._path("domain-%d" % domid)
        return xenstore_client.PageChannel(page, page + ".notify", self._path("events"), _FIRST_DOMAIN_PORT + domid)

    def _path(self, name):
        return os.path.join(os.path.dirname(self.socket), name)

    def _write(self, name, data):
        with open(self._path(name), "wb") as target:
            target.write(data)


def _domain_path(domid):
    return b"/local/domain/%d" % domid


def _library_dir():
    return glob.glob(os.path.join(PROGRAMS, "root/usr/lib/*/libxenstore.so.*"))[0].rpartition("/")[0]


def _build_shim():
    """The path of the compiled xenstored_shim.c, made when it is not there or is not of this source."""
    with open(_SHIM_SOURCE, "rb") as source:
        digest = hashlib.sha256(source.read()).hexdigest()[:16]
    path = os.path.join(PROGRAMS, "shim-%s.so" % digest)
    if not os.path.exists(path):
        # Two test processes may do this at once.
        unfinished = "%s.%d" % (path, os.getpid())
        subprocess.run(["gcc", "-O2", "-Wall", "-shared", "-fPIC", "-pthread", "-o", unfinished, _SHIM_SOURCE, "-ldl"], check=True,
                       timeout=_DEADLINE_S)
        os.replace(unfinished, path)
    return path
