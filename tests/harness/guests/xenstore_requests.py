# SPDX-License-Identifier: Apache-2.0
"""The requests of the stand-in for xenstored, without sockets."""

import collections

from tests.harness.guests import xenstore_tree
from tests.harness.guests.xenstore_client import HEADER, PAYLOAD_MAX_BYTES, Refused, Type

DOM0 = 0

_SPECIAL = (b"@introduceDomain", b"@releaseDomain")

# sent_path: as the client wrote it, perhaps relative to the client's own directory
Watch = collections.namedtuple("Watch", "path token sent_path")


class Peer(object):
    """The client of one connection, domain `domid`. Replies and events gather in `unsent`; `is_over`: the domain has ended."""

    def __init__(self, domid):
        self.domid = domid
        self.unsent = b""
        self.is_over = False
        self.watches = []
        self.transactions = {}
        self.next_transaction = 1

    def send(self, kind, request_id, transaction, payload):
        self.unsent += HEADER.pack(kind, request_id, transaction, len(payload)) + payload


class Requests(object):
    """
    domids      of the domains that exist besides dom0
    peers       the present Peers, kept by the server
    """

    def __init__(self, is_like_c, domids):
        self.peers = []
        self._is_like_c = is_like_c
        self._no_transaction = "ENOENT" if is_like_c else "EIO"
        self._tree = xenstore_tree.Tree(is_like_c)
        # {number: whether it has been introduced}
        self._domains = dict.fromkeys(domids, False)

    def answer(self, peer, kind, request_id, transaction, payload):
        """Handle one request: change the store, answer, and tell watches."""
        tells = []
        try:
            if len(payload) > PAYLOAD_MAX_BYTES:
                raise Refused("EINVAL")
            if transaction and kind != Type.TRANSACTION_END and transaction not in peer.transactions:
                raise Refused(self._no_transaction)
            if kind not in _HANDLERS:
                raise Refused("ENOSYS")
            reply, tells = _HANDLERS[kind](self, peer, transaction, payload)
            peer.send(kind, request_id, transaction, reply)
        except Refused as error:
            peer.send(Type.ERROR, request_id, transaction, error.name.encode("ascii") + b"\0")
        for tell in tells:
            tell()

    # Each handler returns the payload of the reply, and functions that tell watches of the changes.

    def _path(self, peer, payload, count=1):
        """The absolute path and `count` - 1 further texts of a payload in which each ends with a NUL."""
        parts = payload.split(b"\0")
        if len(parts) != count + 1 or parts[-1]:
            raise Refused("EINVAL")
        return (xenstore_tree.check_path(parts[0], peer.domid),) + tuple(parts[1:-1])

    def _view(self, peer, transaction, path):
        """The tree to look into, here or in a transaction."""
        if not transaction:
            return self._tree
        peer.transactions[transaction].note(path)
        return peer.transactions[transaction].tree

    def _change(self, peer, transaction, path, step, has_gone=False):
        """step(tree) -> paths that have changed: here, or in a transaction and once more at its end."""
        def change(tree):
            paths = step(tree)
            return lambda: self._tell(paths, has_gone)

        if not transaction:
            return b"OK\0", [change(self._tree)]
        step(peer.transactions[transaction].tree)
        peer.transactions[transaction].note(path, change, has_gone)
        return b"OK\0", []

    def _directory_part(self, peer, transaction, payload):
        path, offset = self._path(peer, payload, 2)
        return self._view(peer, transaction, path).directory_part(path, peer.domid, self._number(offset)), []

    def _write(self, peer, transaction, payload):
        path, separator, value = payload.partition(b"\0")
        if not separator:
            raise Refused("EINVAL")
        path = xenstore_tree.check_path(path, peer.domid)
        return self._change(peer, transaction, path, lambda tree: tree.write(path, peer.domid, value))

    def _mkdir(self, peer, transaction, payload):
        path, = self._path(peer, payload)
        return self._change(peer, transaction, path, lambda tree: tree.write(path, peer.domid, b"", keeps_old=True))

    def _rm(self, peer, transaction, payload):
        path, = self._path(peer, payload)
        return self._change(peer, transaction, path, lambda tree: tree.remove(path, peer.domid), has_gone=True)

    def _set_perms(self, peer, transaction, payload):
        path, *perms = self._path(peer, payload, payload.count(b"\0"))
        known = {DOM0}.union(self._domains)
        return self._change(peer, transaction, path, lambda tree: tree.set_perms(path, peer.domid, perms, known))

    def _begin(self, peer, transaction, payload):
        if transaction:
            raise Refused("EBUSY")
        if peer.domid != DOM0 and len(peer.transactions) >= self._tree.quotas.transactions:
            raise Refused(self._tree.quotas.error)
        number, peer.next_transaction = peer.next_transaction, peer.next_transaction + 1
        peer.transactions[number] = self._tree.begin()
        return b"%d\0" % number, []

    def _end(self, peer, transaction, payload):
        if payload not in (b"T\0", b"F\0"):
            raise Refused("EINVAL")
        if transaction not in peer.transactions:
            raise Refused(self._no_transaction)
        ended = peer.transactions.pop(transaction)
        return b"OK\0", ended.commit() if payload == b"T\0" else []

    def _watch(self, peer, transaction, payload):
        path, token = payload.split(b"\0")[:2] if payload.count(b"\0") == 2 else (b"", b"")
        absolute = path if path in _SPECIAL else xenstore_tree.check_path(path, peer.domid)
        watch = Watch(absolute, token, path)
        if watch in peer.watches:
            raise Refused("EEXIST")
        if peer.domid != DOM0 and len(peer.watches) >= self._tree.quotas.watches:
            raise Refused("E2BIG" if self._is_like_c else self._tree.quotas.error)
        peer.watches.append(watch)
        # The first event comes at once, after the reply.
        return b"OK\0", [lambda: self._send_event(peer, watch, absolute)]

    def _unwatch(self, peer, transaction, payload):
        path, token = payload.split(b"\0")[:2] if payload.count(b"\0") == 2 else (b"", b"")
        found = [watch for watch in peer.watches if (watch.sent_path, watch.token) == (path, token)]
        if not found:
            raise Refused("ENOENT")
        peer.watches.remove(found[0])
        return b"OK\0", []

    def _reset_watches(self, peer, transaction, payload):
        peer.watches, peer.transactions = [], {}
        return b"OK\0", []

    def _introduce(self, peer, transaction, payload):
        self._check_dom0(peer)
        domid = self._domid(payload, 3)
        if domid not in self._domains:
            raise Refused("ENOENT" if self._is_like_c else "EINVAL")
        was_introduced, self._domains[domid] = self._domains[domid], True
        return b"OK\0", [] if was_introduced else [lambda: self._tell([b"@introduceDomain"], False)]

    def _release(self, peer, transaction, payload):
        self._check_dom0(peer)
        domid = self._domid(payload, 1)
        if not self._domains.get(domid):
            raise Refused("ENOENT")
        self.end_domain(domid)
        return b"OK\0", []

    def _is_introduced(self, peer, transaction, payload):
        domid = self._domid(payload, 1)
        return (b"T\0" if domid == DOM0 or self._domains.get(domid) else b"F\0"), []

    def _domain_path(self, peer, transaction, payload):
        return b"/local/domain/%d\0" % self._domid(payload, 1), []

    def _check_dom0(self, peer):
        if peer.domid != DOM0:
            raise Refused("EACCES")

    def _domid(self, payload, count):
        parts = payload.split(b"\0")[:-1]
        if len(parts) != count:
            raise Refused("EINVAL")
        return self._number(parts[0])

    def _number(self, text):
        if not text.isdigit():
            raise Refused("EINVAL")
        return int(text)

    # Domains and watches

    def begin_domain(self, domid):
        """A domain exists, and may be introduced."""
        self._domains.setdefault(domid, False)

    def end_domain(self, domid):
        """The end of a domain, as the daemon handles it."""
        self._domains.pop(domid, None)
        for peer in self.peers:
            peer.is_over = peer.is_over or peer.domid == domid
        for path in self._tree.list_owned(domid):
            gone = self._tree.remove(path, DOM0)
            if self._is_like_c:
                self._tell(gone, True)
        self._tell([b"@releaseDomain"], False)

    def _tell(self, paths, has_gone):
        """Tell watches of a change. In a removal the last path is the removed record, and those before it were below it."""
        for peer in self.peers:
            for watch in peer.watches:
                for path in self._list_events(watch, paths, has_gone):
                    self._send_event(peer, watch, path)

    def _list_events(self, watch, paths, has_gone):
        """Paths that a watch tells of."""
        below, top = (paths[:-1], paths[-1:]) if has_gone else ([], paths)
        told = [path for path in below if path == watch.path]
        told += [path for path in top if path == watch.path or _is_above(watch.path, path)]
        # OCaml's daemon also tells watches on records that do not exist.
        if not told and not self._is_like_c and has_gone and any(_is_above(path, watch.path) for path in top):
            told.append(watch.path)
        return told

    def _send_event(self, peer, watch, path):
        if peer.domid != DOM0 and path not in _SPECIAL and not self._may_hear(peer, path):
            return
        if watch.path != watch.sent_path:
            path = watch.sent_path + path[len(watch.path):]
        peer.send(Type.WATCH_EVENT, 0, 0, path + b"\0" + watch.token + b"\0")

    def _may_hear(self, peer, path):
        try:
            self._tree.read(path, peer.domid)
        except Refused as error:
            return error.name == "ENOENT"
        return True


def _is_above(path, other):
    return path == b"/" and other.startswith(b"/") or other.startswith(path + b"/")


def _look(operation):
    def handler(server, peer, transaction, payload):
        path, = server._path(peer, payload)
        return operation(server._view(peer, transaction, path), path, peer.domid), []
    return handler


_HANDLERS = {
    Type.DIRECTORY: _look(lambda tree, path, domid: tree.directory(path, domid)),
    Type.READ: _look(lambda tree, path, domid: tree.read(path, domid).value),
    Type.GET_PERMS: _look(lambda tree, path, domid: b"".join(item + b"\0" for item in tree.read(path, domid).perms)),
    Type.DIRECTORY_PART: Requests._directory_part,
    Type.WRITE: Requests._write,
    Type.MKDIR: Requests._mkdir,
    Type.RM: Requests._rm,
    Type.SET_PERMS: Requests._set_perms,
    Type.TRANSACTION_START: Requests._begin,
    Type.TRANSACTION_END: Requests._end,
    Type.WATCH: Requests._watch,
    Type.UNWATCH: Requests._unwatch,
    Type.RESET_WATCHES: Requests._reset_watches,
    Type.INTRODUCE: Requests._introduce,
    Type.RELEASE: Requests._release,
    Type.IS_DOMAIN_INTRODUCED: Requests._is_introduced,
    Type.GET_DOMAIN_PATH: Requests._domain_path,
}
