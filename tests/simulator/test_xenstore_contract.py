# SPDX-License-Identifier: Apache-2.0
"""The contract of xenstored, on the wire and through our xenstore module: of the real daemons and of the stand-ins.

Differences between C's and OCaml's daemon are written down.
"""

import contextlib
import os

import pytest

from tests import patience
from tests.harness.guests import xenstored
from tests.harness.guests.xenstore_client import HEADER, Closed, Refused, Type

DOMID = 5
PATH = b"/local/domain/5"
DEADLINE_S = patience.LIMIT_S
SILENCE_S = 0.1

VALUES = [b"", b"x", b"two\nlines", b'say "hi"', b"a = b", b"\\", b"trail \0", bytes(range(256)), b"\xff\xfe", b"x" * 2048]


@pytest.fixture
def daemon(any_xenstored_kind, tmp_path_factory):
    """A Xenstored with one domain."""
    directory = tmp_path_factory.mktemp("xs")
    os.makedirs(str(directory / "var/run/xenstored"))
    running = xenstored.make(any_xenstored_kind, str(directory / "var/run/xenstored/socket"))
    running.root = str(directory)
    running.start()
    running.introduce(DOMID, "vm5")
    yield running
    running.stop()


@pytest.fixture
def client(daemon):
    with daemon.client() as connected:
        yield connected


@pytest.fixture
def guest(daemon):
    with daemon.guest(DOMID) as connected:
        yield connected


@contextlib.contextmanager
def refused(*names):
    with pytest.raises(Refused) as caught:
        yield
    assert caught.value.name in names


def drain(client):
    """All events that have come and will come soon."""
    events = []
    while True:
        event = client.event(SILENCE_S)
        if event is None:
            return events
        events.append(event)


# Records

@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_comes_back_as_it_was(client, value):
    client.write(PATH + b"/v", value)
    assert client.read(PATH + b"/v") == value


def test_what_lacks_above_is_made(client):
    client.write(PATH + b"/a/b/c", b"1")
    assert client.read(PATH + b"/a/b") == b""
    assert client.directory(PATH + b"/a") == [b"b"]


def test_mkdir_keeps_what_is_there(client):
    client.write(PATH + b"/v", b"1")
    client.mkdir(PATH + b"/v")
    client.mkdir(PATH + b"/new")
    assert (client.read(PATH + b"/v"), client.read(PATH + b"/new")) == (b"1", b"")


def test_a_record_that_is_not_there(client):
    for operation in (client.read, client.directory, client.get_perms):
        with refused("ENOENT"):
            operation(PATH + b"/nothing")
    with refused("ENOENT"):
        client.set_perms(PATH + b"/nothing", b"n0")


def test_rm_takes_what_is_below(client):
    client.write(PATH + b"/a/b/c", b"1")
    client.rm(PATH + b"/a")
    with refused("ENOENT"):
        client.read(PATH + b"/a/b/c")
    assert b"a" not in client.directory(PATH)


def test_rm_of_nothing(client):
    client.rm(PATH + b"/nothing")
    with refused("ENOENT"):
        client.rm(PATH + b"/nothing/below")


@pytest.mark.parametrize("path", [b"", b"/a b", b"/a.b", b"/a:b", b"/a/", b"//a", b"/a\xc3\xa9", b"/" + b"a" * 2100], ids=repr)
def test_a_path_that_is_none(client, path):
    with refused("EINVAL"):
        client.read(path)
    with refused("EINVAL"):
        client.write(path, b"1")


def test_every_character_of_a_path(client):
    path = PATH + b"/AZaz09-_@"
    client.write(path, b"1")
    assert client.read(path) == b"1"


def test_a_relative_path_is_of_the_domain_that_asks(client, guest):
    assert guest.read(b"name") == b"vm5"
    client.write(b"own", b"1")
    assert client.read(b"/local/domain/0/own") == b"1"


def test_the_longest_value(daemon, client):
    client.write(PATH + b"/v", b"x" * 2048)
    if daemon.is_like_c:
        client.write(PATH + b"/v", b"x" * 2049)
    else:
        with refused("E2BIG"):
            client.write(PATH + b"/v", b"x" * 2049)


def test_a_directory_longer_than_a_message(daemon, client):
    names = [b"a-rather-long-name-%d" % number for number in range(400)]
    for name in names:
        client.write(PATH + b"/many/" + name, b"")
    if not daemon.is_like_c:
        assert client.directory(PATH + b"/many") == sorted(names)
        with refused("ENOSYS"):
            client.request(Type.DIRECTORY_PART, PATH + b"/many\0000\0")
        return
    with refused("E2BIG"):
        client.directory(PATH + b"/many")
    data, generations = b"", set()
    while not data.endswith(b"\0\0"):
        generation, part = client.request(Type.DIRECTORY_PART, PATH + b"/many\0%d\0" % len(data)).split(b"\0", 1)
        generations.add(generation)
        data += part
    assert sorted(data[:-2].split(b"\0")) == sorted(names) and len(generations) == 1
    client.write(PATH + b"/many/x", b"")
    assert client.request(Type.DIRECTORY_PART, PATH + b"/many\0000\0").split(b"\0", 1)[0] not in generations


# Permissions and quotas

def test_permissions(client, guest):
    assert client.get_perms(PATH) == [b"n0", b"r5"]
    assert client.get_perms(PATH + b"/data") == [b"n5"]
    client.write(PATH + b"/data/host/1", b"x")
    guest.write(b"data/guest/1", b"y")
    assert client.get_perms(PATH + b"/data/host/1") == client.get_perms(PATH + b"/data/guest/1") == [b"n5"]
    client.set_perms(PATH + b"/data/host/1", b"n0", b"r5")
    assert guest.read(b"data/host/1") == b"x"
    for change in (lambda: guest.write(b"data/host/1", b"z"), lambda: guest.write(b"name", b"z"), lambda: guest.rm(b"name"),
                   lambda: guest.read(b"/local/domain/0"), lambda: guest.set_perms(b"name", b"b5")):
        with refused("EACCES", "ENOENT"):
            change()


def test_a_guest_that_floods_its_directory(daemon, client, guest):
    """It has its quota, and dom0 can go on."""
    count = 0
    with refused("ENOSPC" if daemon.is_like_c else "EQUOTA"):
        while count < 2000:
            guest.write(b"data/flood-%d" % count, b"x")
            count += 1
    assert 100 < count < 1000
    client.write(PATH + b"/data/host/1", b"x")
    assert client.read(PATH + b"/data/host/1") == b"x"
    client.rm(PATH + b"/data")
    assert client.read(PATH + b"/name") == b"vm5"


# Transactions

def test_a_transaction_is_seen_at_its_end(daemon, client):
    transaction = client.begin()
    client.write(PATH + b"/v", b"1", transaction)
    assert client.read(PATH + b"/v", transaction) == b"1"
    with daemon.client() as other, refused("ENOENT"):
        other.read(PATH + b"/v")
    client.end(transaction)
    with daemon.client() as other:
        assert other.read(PATH + b"/v") == b"1"


def test_a_transaction_that_is_given_up(client):
    transaction = client.begin()
    client.write(PATH + b"/v", b"1", transaction)
    client.rm(PATH + b"/name", transaction)
    client.end(transaction, commits=False)
    assert b"v" not in client.directory(PATH) and client.read(PATH + b"/name") == b"vm5"


@pytest.mark.parametrize("case", ["read and changed", "read and removed", "listed and added to", "missed and made"])
def test_a_conflict(daemon, client, case):
    client.write(PATH + b"/v", b"1")
    transaction = client.begin()
    with daemon.client() as other:
        if case == "listed and added to":
            client.directory(PATH + b"/data", transaction)
            other.write(PATH + b"/data/new", b"1")
        elif case == "missed and made":
            with refused("ENOENT"):
                client.read(PATH + b"/data/new", transaction)
            other.write(PATH + b"/data/new", b"1")
        else:
            client.read(PATH + b"/v", transaction)
            other.rm(PATH + b"/v") if case == "read and removed" else other.write(PATH + b"/v", b"2")
    client.write(PATH + b"/mine", b"1", transaction)
    with refused("EAGAIN"):
        client.end(transaction)
    assert b"mine" not in client.directory(PATH)


@pytest.mark.parametrize("path", [b"/name", b"/data/new"], ids=["a record", "a directory"])
def test_both_write_what_neither_has_read(daemon, client, path):
    """A conflict for C's daemon; OCaml's does the one after the other."""
    transaction = client.begin()
    client.write(PATH + path, b"2", transaction)
    with daemon.client() as other:
        other.write(PATH + (path if path == b"/name" else b"/data/other"), b"3")
    if daemon.is_like_c:
        with refused("EAGAIN"):
            client.end(transaction)
    else:
        client.end(transaction)
        assert client.read(PATH + path) == b"2"


def test_no_conflict_with_changes_elsewhere(daemon, client):
    transaction = client.begin()
    client.write(PATH + b"/data/mine", b"1", transaction)
    with daemon.client() as other:
        other.write(PATH + b"/attr/other", b"1")
    client.end(transaction)
    assert client.read(PATH + b"/data/mine") == b"1"


def test_transactions_that_there_are_not(daemon, client):
    for operation in (lambda: client.read(PATH, 4711), lambda: client.write(PATH, b"", 4711), lambda: client.end(4711)):
        with refused("ENOENT" if daemon.is_like_c else "EIO"):
            operation()
    transaction = client.begin()
    with refused("EBUSY"):
        client.request(Type.TRANSACTION_START, b"\0", transaction)


# Watches

def test_a_watch_tells_at_once_and_then_of_changes(client, daemon):
    client.watch(PATH + b"/data", b"token")
    assert client.event() == (PATH + b"/data", b"token")
    with daemon.client() as other:
        other.write(PATH + b"/data/a", b"1")
        assert client.event() == (PATH + b"/data/a", b"token")
        other.rm(PATH + b"/data/a")
        assert client.event() == (PATH + b"/data/a", b"token")
        other.write(PATH + b"/attr/a", b"1")
        other.write(PATH + b"/database", b"1")
        assert client.event(SILENCE_S) is None
        client.unwatch(PATH + b"/data", b"token")
        other.write(PATH + b"/data/a", b"1")
        assert client.event(SILENCE_S) is None


def test_a_watch_of_what_is_not_there_yet(client, guest):
    client.watch(PATH + b"/data/guest/7", b"token")
    assert client.event() == (PATH + b"/data/guest/7", b"token")
    guest.write(b"data/guest/7", b"answer")
    assert client.event() == (PATH + b"/data/guest/7", b"token")


def test_a_watch_of_what_goes_with_its_parent(client, daemon):
    client.write(PATH + b"/data/a/b", b"1")
    client.watch(PATH + b"/data/a/b", b"token")
    client.event()
    with daemon.client() as other:
        other.rm(PATH + b"/data")
    assert client.event() == (PATH + b"/data/a/b", b"token")


def test_a_transaction_tells_at_its_end(client, daemon):
    client.watch(PATH + b"/data", b"token")
    client.event()
    with daemon.client() as other:
        transaction = other.begin()
        other.write(PATH + b"/data/a", b"1", transaction)
        assert client.event(SILENCE_S) is None
        other.end(transaction)
    assert client.event() == (PATH + b"/data/a", b"token")


def test_watches_are_told_apart_by_path_and_token(client):
    client.watch(PATH + b"/data", b"1")
    client.watch(PATH + b"/data", b"2")
    with refused("EEXIST"):
        client.watch(PATH + b"/data", b"1")
    with refused("ENOENT"):
        client.unwatch(PATH + b"/data", b"3")
    assert sorted(drain(client)) == [(PATH + b"/data", b"1"), (PATH + b"/data", b"2")]
    client.write(PATH + b"/data/a", b"1")
    assert sorted(drain(client)) == [(PATH + b"/data/a", b"1"), (PATH + b"/data/a", b"2")]


def test_a_guest_watches_by_relative_paths(client, guest):
    guest.watch(b"data/host", b"token")
    assert guest.event() == (b"data/host", b"token")
    client.write(PATH + b"/data/host/1", b"x")
    assert guest.event() == (b"data/host/1", b"token")


# Domains

def test_a_domain_begins(daemon, client):
    client.watch(b"@introduceDomain", b"token")
    client.event()
    assert client.is_introduced(DOMID) and not client.is_introduced(6)
    daemon.introduce(6, "vm6")
    assert client.event() == (b"@introduceDomain", b"token")
    assert client.is_introduced(6) and client.read(b"/local/domain/6/name") == b"vm6"


def test_a_domain_ends(daemon, client, guest):
    """The domain's records go. C's daemon tells watches on them, OCaml's does not."""
    guest.write(b"data/guest/1", b"x")
    watched = [b"@releaseDomain", PATH + b"/data/guest/1", PATH + b"/data", PATH + b"/name"]
    for path in watched:
        client.watch(path, b"token")
    drain(client)
    daemon.release(DOMID, keeps_records=True)
    told = sorted(path for path, _ in drain(client))
    assert told == sorted(watched[:3] if daemon.is_like_c else watched[:1])
    assert sorted(client.directory(PATH)) == [b"domid", b"name"]
    assert not client.is_introduced(DOMID)


def test_a_guest_has_no_say_in_what_domains_there_are(daemon, client, guest):
    for kind, payload in ((Type.INTRODUCE, b"6\0001\0001\0"), (Type.RELEASE, b"5\0")):
        with refused("EACCES"):
            guest.request(kind, payload)
    assert client.is_introduced(DOMID)


def test_the_toolstack_removes_what_a_domain_leaves(daemon, client):
    client.watch(PATH + b"/name", b"token")
    client.event()
    daemon.release(DOMID)
    assert drain(client) == [(PATH + b"/name", b"token")]
    with refused("ENOENT"):
        client.read(PATH)


def test_a_restart_loses_all_but_what_the_toolstack_writes_again(daemon, client):
    client.write(PATH + b"/data/host/1", b"x")
    daemon.restart()
    with pytest.raises(Closed):
        client.read(PATH)
    with daemon.client() as other, daemon.guest(DOMID) as guest:
        assert other.directory(PATH + b"/data") == [] and other.is_introduced(DOMID)
        assert guest.read(b"name") == b"vm5"


# Requests that no client should send

@pytest.mark.parametrize("kind, payload", [
    (Type.READ, PATH), (Type.READ, b"\0"), (Type.WRITE, PATH), (Type.WATCH, PATH + b"\0"), (Type.TRANSACTION_END, b"X\0"),
    (Type.SET_PERMS, PATH + b"\0" b"x5\0")], ids=repr)
def test_a_broken_request_is_refused(client, kind, payload):
    with refused("EINVAL", "ENOENT"):
        client.request(kind, payload)
    assert client.read(PATH + b"/name") == b"vm5"


def test_a_type_that_there_is_not(client):
    with refused("ENOSYS"):
        client.request(99, b"x\0")


def test_a_request_that_is_too_long(daemon):
    """C's daemon ends the connection, OCaml's refuses the request."""
    with daemon.client() as client:
        client.send_raw(HEADER.pack(Type.READ, 1, 0, 4097) + b"x" * 4097)
        if daemon.is_like_c:
            with pytest.raises(Closed):
                client.receive_reply()
        else:
            assert client.receive_reply() == (Type.ERROR, 1, 0, b"EINVAL\0")
    with daemon.client() as other:
        assert other.read(PATH + b"/name") == b"vm5"
