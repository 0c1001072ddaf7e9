# SPDX-License-Identifier: Apache-2.0
"""The records of the stand-in for xenstored: permissions, quotas, transactions; no sockets and no watches.

Permissions are as on the wire: the first names the owner and the rights of all others, the rest the rights of single domains:
n none, r read, w write, b both.
"""

import collections
import copy
import itertools

from tests.harness.guests.xenstore_client import PAYLOAD_MAX_BYTES, Refused

PATH_MAX_BYTES = 2048
VALUE_MAX_BYTES = 2048

_CHARACTERS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-/_@")
_DOM0 = 0
_MAY_READ, _MAY_WRITE = b"rb", b"wb"

# Never changed, only replaced, so that a transaction's copy of the dictionary is one of the whole store.
Node = collections.namedtuple("Node", "value perms children generation")

# A guest's quota: records, bytes in one record, watches, transactions; and the name of the error beyond.
Quotas = collections.namedtuple("Quotas", "nodes node_bytes watches transactions error")
C_QUOTAS = Quotas(1000, 2048, 128, 10, "ENOSPC")
OCAML_QUOTAS = Quotas(1000, None, 100, 10, "EQUOTA")


class Tree(object):
    """nodes: {absolute path: Node}. The methods take the number of the domain that asks. All raise Refused."""

    def __init__(self, is_like_c):
        self.is_like_c = is_like_c
        self.quotas = C_QUOTAS if is_like_c else OCAML_QUOTAS
        self._generations = itertools.count(1)
        self.nodes = {}
        for path in (b"/", b"/tool", b"/tool/xenstored"):
            self._make(path, b"", (b"n0",))

    def begin(self):
        return Transaction(self)

    def next_generation(self):
        return next(self._generations)

    def look_up(self, path, domid, letters):
        """The Node, if the domain may."""
        node = self.nodes.get(path)
        if node is None:
            # A domain without the right to read does not learn whether a record exists.
            while path not in self.nodes:
                path = parent_of(path)
            raise Refused("ENOENT" if _may(self.nodes[path].perms, domid, letters) else "EACCES")
        if not _may(node.perms, domid, letters):
            raise Refused("EACCES")
        return node

    def read(self, path, domid):
        return self.look_up(path, domid, _MAY_READ)

    def write(self, path, domid, value, keeps_old=False):
        """Paths that have changed."""
        if not self.is_like_c and len(value) > VALUE_MAX_BYTES:
            raise Refused("E2BIG")
        node = self.nodes.get(path)
        if node is None:
            return self._create(path, domid, value)
        if not _may(node.perms, domid, _MAY_WRITE):
            raise Refused("EACCES")
        if keeps_old:
            return []
        self._check_size(node._replace(value=value), domid)
        self.nodes[path] = node._replace(value=value, generation=self.next_generation())
        return [path]

    def _create(self, path, domid, value):
        missing = []
        place = path
        while place not in self.nodes:
            missing.append(place)
            place = parent_of(place)
        if not _may(self.nodes[place].perms, domid, _MAY_WRITE):
            raise Refused("EACCES")
        perms = self.nodes[place].perms
        if domid != _DOM0:
            perms = (perms[0][:1] + b"%d" % domid,) + perms[1:]
            owned = sum(1 for node in self.nodes.values() if node.perms[0][1:] == b"%d" % domid)
            if owned + len(missing) > self.quotas.nodes:
                raise Refused(self.quotas.error)
        self._check_size(Node(value, perms, (), 0), domid)
        parent = self.nodes[place]
        self._check_size(parent._replace(children=parent.children + (_name_of(missing[-1]),)), domid)
        for place in reversed(missing):
            self._make(place, value if place == path else b"", perms)
        return [path]

    def _make(self, path, value, perms):
        self.nodes[path] = Node(value, perms, (), self.next_generation())
        if path != b"/":
            self._change_children(path, lambda children: children + (_name_of(path),))

    def _change_children(self, path, change):
        parent = parent_of(path)
        node = self.nodes[parent]
        self.nodes[parent] = node._replace(children=change(node.children), generation=self.next_generation())

    def _check_size(self, node, domid):
        """C counts the names of the children in, and asks guests only."""
        if domid == _DOM0 or not self.quotas.node_bytes:
            return
        size = len(node.value) + sum(len(name) + 1 for name in node.children) + 8 * len(node.perms)
        if size >= self.quotas.node_bytes:
            raise Refused(self.quotas.error)

    def remove(self, path, domid):
        """Paths that have gone, the removed one last; nothing if it was not there but there is one above it."""
        if path == b"/":
            raise Refused("EINVAL")
        if path not in self.nodes:
            if parent_of(path) not in self.nodes:
                raise Refused("ENOENT")
            return []
        self.look_up(path, domid, _MAY_WRITE)
        gone = self.list_below(path) + [path]
        for place in gone:
            del self.nodes[place]
        self._change_children(path, lambda children: tuple(name for name in children if name != _name_of(path)))
        return gone

    def list_below(self, path):
        """All paths below, the deepest first."""
        found = []
        for name in self.nodes[path].children:
            child = join(path, name)
            found += self.list_below(child) + [child]
        return found

    def set_perms(self, path, domid, perms, known_domids):
        node = self.look_up(path, domid, _MAY_WRITE)
        if not perms or not all(item[:1] in (b"n", b"r", b"w", b"b") and item[1:].isdigit() for item in perms):
            raise Refused("EINVAL")
        if domid != _DOM0 and (node.perms[0][1:] != b"%d" % domid or perms[0][1:] != b"%d" % domid):
            raise Refused("EPERM")
        # C wants the domains to be there.
        if self.is_like_c and any(int(item[1:]) not in known_domids for item in perms):
            raise Refused("ENOENT")
        self.nodes[path] = node._replace(perms=tuple(perms), generation=self.next_generation())
        return [path]

    def list_owned(self, domid):
        """The topmost paths of all that a domain owns."""
        owned = sorted(path for path, node in self.nodes.items() if node.perms[0][1:] == b"%d" % domid)
        return [path for path in owned if not any(path.startswith(other + b"/") for other in owned)]

    def directory(self, path, domid):
        payload = self._list_names(self.read(path, domid))
        if self.is_like_c and len(payload) > PAYLOAD_MAX_BYTES:
            raise Refused("E2BIG")
        return payload

    def directory_part(self, path, domid, offset):
        """C's answer for a directory of any length: its generation and as many names as go into a message."""
        if not self.is_like_c:
            raise Refused("ENOSYS")
        node = self.read(path, domid)
        generation = b"%d\0" % node.generation
        names = self._list_names(node)
        part = names[offset:][:PAYLOAD_MAX_BYTES - len(generation) - 1]
        if offset + len(part) >= len(names):
            return generation + part + b"\0"
        return generation + part[:part.rindex(b"\0") + 1]

    def _list_names(self, node):
        # OCaml's come in alphabetical order.
        return b"".join(name + b"\0" for name in (node.children if self.is_like_c else sorted(node.children)))


class Transaction(object):
    """A copy of the store, and the operations on it."""

    def __init__(self, tree):
        self._tree = tree
        self._before = dict(tree.nodes)
        self.tree = copy.copy(tree)
        self.tree.nodes = dict(tree.nodes)
        self._touched = set()
        self._steps = []

    def note(self, path, step=None, has_gone=False):
        """An operation on `path`; step(tree) does it again, and commit() returns what that returns."""
        if step:
            self._steps.append(step)
            # OCaml's daemon does the operation again, even if a record changed that the transaction had not read.
            if not self._tree.is_like_c:
                return
            # A record that is made or removed changes its parent, too.
            while has_gone or path not in self._before:
                has_gone = False
                self._touched.add(path)
                path = parent_of(path)
        self._touched.add(path)

    def commit(self):
        """Do all operations on the store itself; returns the list of their results."""
        for path in self._touched:
            before, now = self._before.get(path), self._tree.nodes.get(path)
            if (before and before.generation) != (now and now.generation):
                raise Refused("EAGAIN")
        return [step(self._tree) for step in self._steps]


def check_path(path, domid):
    """The absolute path of one that was sent. Raises Refused."""
    absolute = path if path.startswith(b"/") else b"/local/domain/%d/%s" % (domid, path)
    if not path or len(path) > PATH_MAX_BYTES or not _CHARACTERS.issuperset(path) or b"//" in path or (
            path.endswith(b"/") and path != b"/"):
        raise Refused("EINVAL")
    return absolute


def parent_of(path):
    return path.rpartition(b"/")[0] or b"/"


def join(path, name):
    return (b"/" if path == b"/" else path + b"/") + name


def _name_of(path):
    return path.rpartition(b"/")[2]


def _may(perms, domid, letters):
    if domid == _DOM0 or perms[0][1:] == b"%d" % domid:
        return True
    for item in perms[1:]:
        if item[1:] == b"%d" % domid:
            return item[:1] in letters
    return perms[0][:1] in letters
