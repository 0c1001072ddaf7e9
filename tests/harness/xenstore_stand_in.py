# SPDX-License-Identifier: Apache-2.0
"""A stand-in for xenstored: a thread that serves its protocol, for machines that cannot have a real one.

It passes the same tests (tests/integration/test_xenstore_contract.py). Not there: control commands, SET_TARGET, RESUME, live
update, OCaml's limits on how often a guest may make conflicts.
"""

import collections
import os
import queue
import selectors
import socket
import threading

from tests.harness import xenstore_client
from tests.harness import xenstored
from tests.harness import xenstore_tree
from tests.harness.xenstore_client import HEADER, PAYLOAD_MAX_BYTES, Refused, Type

_DOM0 = 0
_STOP_TIMEOUT_S = 20
_SPECIAL = (b"@introduceDomain", b"@releaseDomain")

Watch = collections.namedtuple("Watch", "path token sent_path")


class StandIn(xenstored.Xenstored):

    _server = None

    def start(self):
        self._server = _Server(self.is_like_c, self.socket, self._domains)

    def stop(self):
        server, self._server = self._server, None
        if server:
            server.stop()

    def pause(self, is_paused=True):
        """It answers nobody, until pause(False)."""
        if is_paused:
            self._server.resumes.clear()
        else:
            self._server.resumes.set()
        self._server.wake()

    def _begin_domain(self, domid):
        self._server.do(lambda: self._server.domains.setdefault(domid, False))

    def _end_domain(self, domid):
        self._server.do(lambda: self._server.end_domain(domid))

    def _guest_channel(self, domid):
        ours, theirs = socket.socketpair()
        self._server.do(lambda: self._server.add_connection(theirs, domid))
        return _PairChannel(ours)


class _PairChannel(xenstore_client.SocketChannel):

    def __init__(self, connected):
        self._socket = connected


class _Connection(object):

    def __init__(self, sock, domid):
        self.socket = sock
        self.domid = domid
        self.received = b""
        self.unsent = b""
        self.watches = []
        self.transactions = {}
        self.next_transaction = 1

    def queue(self, kind, request_id, transaction, payload):
        self.unsent += HEADER.pack(kind, request_id, transaction, len(payload)) + payload


class _Server(object):
    """domids: of the domains that exist besides dom0."""

    def __init__(self, is_like_c, socket_path, domids):
        self._is_like_c = is_like_c
        self._no_transaction = "ENOENT" if is_like_c else "EIO"
        self._tree = xenstore_tree.Tree(is_like_c)
        # {number: whether it has been introduced}
        self.domains = dict.fromkeys(domids, False)
        self._connections = []
        self._jobs = queue.Queue()
        self.resumes = threading.Event()
        self.resumes.set()
        self._is_stopping = False
        self._socket_path = socket_path
        if os.path.lexists(socket_path):
            os.unlink(socket_path)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(socket_path)
        self._listener.listen(16)
        self._listener.setblocking(False)
        self._wake_read, self._wake_write = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._run_jobs)
        self._thread = threading.Thread(target=self._serve, name="xenstored", daemon=True)
        self._thread.start()

    # From other threads

    def do(self, function):
        """Run it in the server's thread, and wait until it has."""
        done = threading.Event()
        self._jobs.put(lambda: (function(), done.set()))
        self.wake()
        if not done.wait(_STOP_TIMEOUT_S):
            raise TimeoutError("the stand-in for xenstored does not answer")

    def wake(self):
        self._wake_write.send(b"\0")

    def stop(self):
        self._is_stopping = True
        self.resumes.set()
        self.wake()
        self._thread.join(_STOP_TIMEOUT_S)
        for connection in list(self._connections):
            self._drop(connection)
        for item in (self._selector, self._listener, self._wake_read, self._wake_write):
            item.close()
        os.unlink(self._socket_path)

    # The thread

    def _serve(self):
        while not self._is_stopping:
            for key, _ in self._selector.select():
                self.resumes.wait()
                key.data()
            for connection in list(self._connections):
                self._flush(connection)

    def _run_jobs(self):
        self._wake_read.recv(4096)
        while not self._jobs.empty():
            self._jobs.get()()

    def _accept(self):
        self.add_connection(self._listener.accept()[0], _DOM0)

    def add_connection(self, sock, domid):
        sock.setblocking(False)
        connection = _Connection(sock, domid)
        self._connections.append(connection)
        self._selector.register(sock, selectors.EVENT_READ, lambda: self._receive(connection))

    def _drop(self, connection):
        if connection in self._connections:
            self._connections.remove(connection)
            self._selector.unregister(connection.socket)
            connection.socket.close()

    def _receive(self, connection):
        if connection not in self._connections:
            return
        try:
            data = connection.socket.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(connection)
            return
        connection.received += data
        while len(connection.received) >= HEADER.size and connection in self._connections:
            kind, request_id, transaction, length = HEADER.unpack_from(connection.received)
            if length > PAYLOAD_MAX_BYTES and self._is_like_c:
                self._drop(connection)
                return
            end = HEADER.size + length
            if len(connection.received) < end:
                return
            payload, connection.received = connection.received[HEADER.size:end], connection.received[end:]
            self._answer(connection, kind, request_id, transaction, payload)

    def _flush(self, connection):
        if connection.unsent:
            try:
                connection.unsent = connection.unsent[connection.socket.send(connection.unsent):]
            except BlockingIOError:
                pass
            except OSError:
                self._drop(connection)
                return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.unsent else 0)
        key = self._selector.get_key(connection.socket)
        if key.events != wanted:
            self._selector.modify(connection.socket, wanted, key.data)

    # Requests

    def _answer(self, connection, kind, request_id, transaction, payload):
        changes = []
        try:
            if transaction and kind != Type.TRANSACTION_END and transaction not in connection.transactions:
                raise Refused(self._no_transaction)
            if len(payload) > PAYLOAD_MAX_BYTES:
                raise Refused("EINVAL")
            handler = _HANDLERS.get(kind)
            if handler is None:
                raise Refused("ENOSYS")
            reply, changes = handler(self, connection, transaction, payload)
            connection.queue(kind, request_id, transaction, reply)
        except Refused as error:
            connection.queue(Type.ERROR, request_id, transaction, error.name.encode("ascii") + b"\0")
        for paths, has_gone in changes:
            self._tell(paths, has_gone)

    def _path(self, connection, payload, count=1):
        """The absolute path and `count` - 1 further texts of a payload in which each ends with a NUL."""
        parts = payload.split(b"\0")
        if len(parts) != count + 1 or parts[-1]:
            raise Refused("EINVAL")
        return (xenstore_tree.check_path(parts[0], connection.domid),) + tuple(parts[1:-1])

    def _view(self, connection, transaction, path):
        """The tree to look into, here or in a transaction."""
        if not transaction:
            return self._tree
        connection.transactions[transaction].note(path)
        return connection.transactions[transaction].tree

    def _change(self, connection, transaction, path, step, has_gone=False):
        """step(tree) -> paths that have changed: here, or in a transaction and once more at its end."""
        if not transaction:
            return b"OK\0", [(step(self._tree), has_gone)]
        step(connection.transactions[transaction].tree)
        connection.transactions[transaction].note(path, lambda tree: (step(tree), has_gone), has_gone)
        return b"OK\0", []

    def _directory_part(self, connection, transaction, payload):
        path, offset = self._path(connection, payload, 2)
        return self._view(connection, transaction, path).directory_part(path, connection.domid, int(offset)), []

    def _write(self, connection, transaction, payload):
        path, separator, value = payload.partition(b"\0")
        if not separator:
            raise Refused("EINVAL")
        path = xenstore_tree.check_path(path, connection.domid)
        return self._change(connection, transaction, path, lambda tree: tree.write(path, connection.domid, value))

    def _mkdir(self, connection, transaction, payload):
        path, = self._path(connection, payload)
        return self._change(connection, transaction, path, lambda tree: tree.write(path, connection.domid, b"", keeps_old=True))

    def _rm(self, connection, transaction, payload):
        path, = self._path(connection, payload)
        return self._change(connection, transaction, path, lambda tree: tree.remove(path, connection.domid), has_gone=True)

    def _set_perms(self, connection, transaction, payload):
        path, *perms = self._path(connection, payload, payload.count(b"\0"))
        known = {_DOM0}.union(self.domains)
        return self._change(connection, transaction, path, lambda tree: tree.set_perms(path, connection.domid, perms, known))

    def _begin(self, connection, transaction, payload):
        if transaction:
            raise Refused("EBUSY")
        if connection.domid != _DOM0 and len(connection.transactions) >= self._tree.quotas.transactions:
            raise Refused(self._tree.quotas.error)
        number, connection.next_transaction = connection.next_transaction, connection.next_transaction + 1
        connection.transactions[number] = self._tree.begin()
        return b"%d\0" % number, []

    def _end(self, connection, transaction, payload):
        if payload not in (b"T\0", b"F\0"):
            raise Refused("EINVAL")
        if transaction not in connection.transactions:
            raise Refused(self._no_transaction)
        ended = connection.transactions.pop(transaction)
        return b"OK\0", ended.commit() if payload == b"T\0" else []

    def _watch(self, connection, transaction, payload):
        path, token = payload.split(b"\0")[:2] if payload.count(b"\0") == 2 else (b"", b"")
        absolute = path if path in _SPECIAL else xenstore_tree.check_path(path, connection.domid)
        watch = Watch(absolute, token, path)
        if watch in connection.watches:
            raise Refused("EEXIST")
        if connection.domid != _DOM0 and len(connection.watches) >= self._tree.quotas.watches:
            raise Refused("E2BIG" if self._is_like_c else self._tree.quotas.error)
        connection.watches.append(watch)
        # The first event comes at once, after the reply.
        return b"OK\0", [([_OneWatch(connection, watch)], False)]

    def _unwatch(self, connection, transaction, payload):
        path, token = payload.split(b"\0")[:2] if payload.count(b"\0") == 2 else (b"", b"")
        found = [watch for watch in connection.watches if (watch.sent_path, watch.token) == (path, token)]
        if not found:
            raise Refused("ENOENT")
        connection.watches.remove(found[0])
        return b"OK\0", []

    def _reset_watches(self, connection, transaction, payload):
        connection.watches, connection.transactions = [], {}
        return b"OK\0", []

    def _introduce(self, connection, transaction, payload):
        domid = self._domid(connection, payload, 3)
        if domid not in self.domains:
            raise Refused("EINVAL")
        was_introduced, self.domains[domid] = self.domains[domid], True
        return b"OK\0", [] if was_introduced else [([b"@introduceDomain"], False)]

    def _release(self, connection, transaction, payload):
        domid = self._domid(connection, payload, 1)
        if not self.domains.get(domid):
            raise Refused("ENOENT")
        self.end_domain(domid)
        return b"OK\0", []

    def _is_introduced(self, connection, transaction, payload):
        domid = self._domid(connection, payload, 1)
        return (b"T\0" if domid == _DOM0 or self.domains.get(domid) else b"F\0"), []

    def _domain_path(self, connection, transaction, payload):
        return b"/local/domain/%d\0" % self._domid(connection, payload, 1), []

    def _domid(self, connection, payload, count):
        parts = payload.split(b"\0")[:-1]
        if len(parts) != count or not parts[0].isdigit():
            raise Refused("EINVAL")
        if connection.domid != _DOM0 and count == 3:
            raise Refused("EACCES")
        return int(parts[0])

    # Domains and watches

    def end_domain(self, domid):
        """What the daemon does when it hears of a domain's end."""
        self.domains.pop(domid, None)
        for connection in [connection for connection in self._connections if connection.domid == domid]:
            self._drop(connection)
        for path in self._tree.list_owned(domid):
            gone = self._tree.remove(path, _DOM0)
            if self._is_like_c:
                self._tell(gone, True)
        self._tell([b"@releaseDomain"], False)

    def _tell(self, paths, has_gone):
        """Tell watches of a change. Of a removal the last path is what was removed, those before were below it."""
        for connection in self._connections:
            for watch in connection.watches:
                for number, path in enumerate(paths):
                    if isinstance(path, _OneWatch):
                        if path != (connection, watch):
                            continue
                        path = watch.path
                    is_below = has_gone and number < len(paths) - 1
                    if watch.path == path or not is_below and _is_above(watch.path, path):
                        self._send_event(connection, watch, path)
                # OCaml tells also who waits for a record below that was never there.
                if has_gone and paths and not self._is_like_c and watch.path not in paths and _is_above(paths[-1], watch.path):
                    self._send_event(connection, watch, watch.path)

    def _send_event(self, connection, watch, path):
        if connection.domid != _DOM0 and path not in _SPECIAL and not self._may_hear(connection, path):
            return
        if watch.path != watch.sent_path:
            path = watch.sent_path + path[len(watch.path):]
        connection.queue(Type.WATCH_EVENT, 0, 0, path + b"\0" + watch.token + b"\0")

    def _may_hear(self, connection, path):
        try:
            self._tree.read(path, connection.domid)
        except Refused as error:
            return error.name == "ENOENT"
        return True


_OneWatch = collections.namedtuple("_OneWatch", "connection watch")


def _is_above(path, other):
    return path == b"/" and other.startswith(b"/") or other.startswith(path + b"/")


def _look(operation):
    def handler(server, connection, transaction, payload):
        path, = server._path(connection, payload)
        return operation(server._view(connection, transaction, path), path, connection.domid), []
    return handler


_HANDLERS = {
    Type.DIRECTORY: _look(lambda tree, path, domid: tree.directory(path, domid)),
    Type.READ: _look(lambda tree, path, domid: tree.read(path, domid).value),
    Type.GET_PERMS: _look(lambda tree, path, domid: b"".join(item + b"\0" for item in tree.read(path, domid).perms)),
    Type.DIRECTORY_PART: _Server._directory_part,
    Type.WRITE: _Server._write,
    Type.MKDIR: _Server._mkdir,
    Type.RM: _Server._rm,
    Type.SET_PERMS: _Server._set_perms,
    Type.TRANSACTION_START: _Server._begin,
    Type.TRANSACTION_END: _Server._end,
    Type.WATCH: _Server._watch,
    Type.UNWATCH: _Server._unwatch,
    Type.RESET_WATCHES: _Server._reset_watches,
    Type.INTRODUCE: _Server._introduce,
    Type.RELEASE: _Server._release,
    Type.IS_DOMAIN_INTRODUCED: _Server._is_introduced,
    Type.GET_DOMAIN_PATH: _Server._domain_path,
}
