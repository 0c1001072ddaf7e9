# SPDX-License-Identifier: Apache-2.0
"""dom0_lib.guests.xenstore with every xenstored: the same contract as on the wire, and the client's own additions."""

import itertools
import os
import subprocess
import threading
import time

import pytest

from dom0_lib import errors
from dom0_lib.guests import xenstore
from tests import patience
from tests.conftest import CHECKOUT, DOM0_PYTHONS
from tests.simulator.test_xenstore_contract import DOMID, VALUES, client, daemon, guest  # noqa: F401

PATH = "/local/domain/5"
DATA = b"/local/domain/5/data"
DEADLINE_S = patience.LIMIT_S
WAIT_S = 10
# A process that sleeps has no context switches, however busy the machine is.  One that never sleeps has processor time on an idle
# machine, and is switched away from on a busy one.
WAIT_SWITCHES = 20
WAIT_CPU_S = 3


@pytest.fixture
def store(daemon, monkeypatch):  # noqa: F811
    monkeypatch.setenv("DOM0_ROOT", daemon.root)
    with xenstore.Connection(DEADLINE_S) as connected:
        yield connected


def list_threads(*functions):
    return [threading.Thread(target=function, daemon=True) for function in functions]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_comes_back_as_it_was(store, value):
    store.write(PATH + "/v", value)
    assert store.read(PATH + "/v") == store.read(PATH.encode("ascii") + b"/v") == value


def test_what_is_not_there(store):
    for operation in (store.read, store.list, store.remove, store.get_permissions,
                      lambda path: store.set_permissions(path, [b"n0"]), lambda path: store.unwatch(path, b"x")):
        with pytest.raises(xenstore.NotFound) as caught:
            operation(PATH + "/nothing")
        assert caught.value.name == "ENOENT" and PATH + "/nothing" in str(caught.value)
    with pytest.raises(xenstore.NotFound):
        store.remove(PATH + "/nothing/below")
    assert store.read_all([PATH + "/name", PATH + "/nothing", PATH]) == [b"vm5", None, b""]
    with xenstore.Connection(DEADLINE_S) as helper:
        paths = [PATH + "/nothing", PATH + "/name"]
        assert sorted(store.survey(helper, paths)) == [(paths[1], b"vm5", []), (paths[0], None, None)]


def test_remove(store):
    store.write(PATH + "/a/b", b"1")
    store.remove(PATH + "/a")
    assert b"a" not in store.list(PATH)


@pytest.mark.parametrize("count, name", [(0, b"%d"), (1, b"%d"), (3, b"%d"), (400, b"a-rather-long-name-%d"), (2000, b"%04d"),
                                         (70, b"x" * 1000 + b"-%d")], ids=lambda value: repr(value)[:20])
def test_a_directory_of_any_length(store, count, name):
    store.write(DATA + b"/many", b"")
    names = [name % number if b"%" in name else name for number in range(count)]
    for item in names:
        store.write(DATA + b"/many/" + item, b"")
    assert sorted(store.list(DATA + b"/many")) == sorted(names)
    with xenstore.Connection(DEADLINE_S) as helper:
        found = dict((path, sorted(below)) for path, _, below in store.survey(helper, [DATA + b"/many", PATH + "/name"]))
    assert found == {DATA + b"/many": sorted(names), PATH + "/name": []}


def test_a_long_directory_that_changes_while_it_is_listed(store, daemon):  # noqa: F811
    """One name goes from the beginning to the end, so that of a list in parts all others move."""
    names = [b"a-rather-long-name-%d" % number for number in range(400)]
    for item in names:
        store.write(DATA + b"/many/" + item, b"")
    ended = threading.Event()

    def change():
        with daemon.client() as other:
            for number in itertools.cycle(range(400)):
                if ended.is_set():
                    return
                other.rm(DATA + b"/many/" + names[number])
                other.write(DATA + b"/many/" + names[number], b"")
                time.sleep(0.002)
    thread, = list_threads(change)
    thread.start()
    try:
        for _ in range(50):
            found = store.list(DATA + b"/many")
            assert len(found) == len(set(found)) >= 399 and set(found) <= set(names)
    finally:
        ended.set()
        thread.join(DEADLINE_S)


def test_permissions(store, guest):  # noqa: F811
    assert store.get_permissions(PATH) == [b"n0", b"r5"]
    store.write(PATH + "/secret", b"x")
    store.set_permissions(PATH + "/secret", [b"n0"])
    assert store.get_permissions(PATH + "/secret") == [b"n0"]
    with pytest.raises(Exception, match="EACCES"):
        guest.read(b"secret")


def test_a_transaction(store, client):  # noqa: F811
    with store.transaction() as changes:
        changes.write(PATH + "/a", b"1")
        assert changes.read(PATH + "/a") == b"1" and b"a" in changes.list(PATH)
        assert b"a" not in client.directory(PATH.encode("ascii"))
    assert client.read(b"/local/domain/5/a") == b"1"


def test_a_transaction_that_fails(store):
    with pytest.raises(KeyError):
        with store.transaction() as changes:
            changes.write(PATH + "/a", b"1")
            raise KeyError("a")
    assert b"a" not in store.list(PATH)
    with store.transaction() as changes:
        changes.remove(PATH + "/name")
    assert b"name" not in store.list(PATH)


def test_a_conflict(store, client):  # noqa: F811
    with pytest.raises(xenstore.Conflict):
        with store.transaction() as changes:
            changes.read(PATH + "/name")
            client.write(b"/local/domain/5/name", b"other")
            changes.write(PATH + "/a", b"1")
    assert store.read(PATH + "/name") == b"other" and b"a" not in store.list(PATH)


def test_conflicts_are_repeated(store, client):  # noqa: F811
    client.write(b"/local/domain/5/count", b"0")
    rivals = iter(range(3))

    def increase(changes):
        value = int(changes.read(PATH + "/count"))
        if next(rivals, None) is not None:
            client.write(b"/local/domain/5/count", b"%d" % (value + 10))
        changes.write(PATH + "/count", b"%d" % (value + 1))
        return value
    assert store.transact(increase, DEADLINE_S) == 30
    assert store.read(PATH + "/count") == b"31"


def test_counting_side_by_side(store, daemon):  # noqa: F811
    store.write(PATH + "/count", b"0")

    def increase(changes):
        changes.write(PATH + "/count", b"%d" % (int(changes.read(PATH + "/count")) + 1))

    def run():
        with xenstore.Connection(DEADLINE_S) as own:
            for _ in range(10):
                own.transact(increase, DEADLINE_S)
    threads = list_threads(*[run] * 5)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert store.read(PATH + "/count") == b"50"


def test_watches(store, guest):  # noqa: F811
    answer = DATA + b"/guest/7"
    store.watch(answer, b"answer")
    assert store.wait_event(DEADLINE_S) == (answer, b"answer")
    assert store.wait_event(0) is None
    started = time.monotonic()
    assert store.wait_event(0.2) is None
    assert 0.15 < time.monotonic() - started < DEADLINE_S
    timer = threading.Timer(0.2, guest.write, (b"data/guest/7", b"x"))
    timer.start()
    assert store.wait_event(DEADLINE_S) == (answer, b"answer") and store.read(answer) == b"x"
    timer.join(DEADLINE_S)
    store.unwatch(answer, b"answer")
    guest.write(b"data/guest/7", b"y")
    assert store.wait_event(0.1) is None


def test_the_end_of_a_domain(store, daemon):  # noqa: F811
    """A watch of @releaseDomain, or of a record that the toolstack removes, fires on either daemon."""
    store.watch("@releaseDomain", b"ended")
    store.watch(PATH + "/name", b"gone")
    for _ in range(2):
        store.wait_event(DEADLINE_S)
    daemon.release(DOMID)
    assert {store.wait_event(DEADLINE_S)[1] for _ in range(2)} == {b"ended", b"gone"}
    with pytest.raises(xenstore.NotFound):
        store.read(PATH + "/name")


def test_a_guest_that_writes_without_a_pause(store, guest):  # noqa: F811
    """Events of the same record do not pile up, and answers come between them."""
    store.watch(DATA, b"data")
    ended = threading.Event()

    def write():
        while not ended.is_set():
            guest.write(b"data/x", b"x" * 100)
    thread, = list_threads(write)
    thread.start()
    try:
        for _ in range(300):
            assert store.read(PATH + "/name") == b"vm5"
    finally:
        ended.set()
        thread.join(DEADLINE_S)
    events = 0
    while store.wait_event(0.1):
        events += 1
    assert 1 <= events < 10000


def test_what_is_too_long_is_refused_before_it_is_sent(store):
    with pytest.raises(xenstore.TooLong, match="2048"):
        store.write(PATH + "/v", b"x" * 2049)
    with pytest.raises(xenstore.TooLong, match="4096"):
        store.write(b"/" + b"x" * 2047, b"x" * 2048)
    assert b"v" not in store.list(PATH)


def test_the_daemon_ends_during_a_wait(store, daemon):  # noqa: F811
    store.watch(DATA, b"data")
    store.wait_event(DEADLINE_S)
    timer = threading.Timer(0.3, daemon.restart)
    timer.start()
    started = time.monotonic()
    with pytest.raises(errors.RetryableError, match="xenstored"):
        store.wait_event(patience.ENDLESS_S)
    assert time.monotonic() - started < DEADLINE_S
    timer.join(DEADLINE_S)
    with xenstore.Connection(DEADLINE_S) as other:
        assert other.read(PATH + "/name") == b"vm5"


def test_a_daemon_that_stands_still(daemon, monkeypatch):  # noqa: F811
    monkeypatch.setenv("DOM0_ROOT", daemon.root)
    with pytest.raises(errors.RetryableError, match="did not answer within 0.5 s"):
        with xenstore.Connection(0.5) as store:
            daemon.pause()
            try:
                store.read(PATH + "/name")
            finally:
                daemon.pause(False)


def test_a_daemon_that_is_not_there(daemon, monkeypatch):  # noqa: F811
    monkeypatch.setenv("DOM0_ROOT", daemon.root)
    daemon.stop()
    try:
        with pytest.raises(errors.RetryableError, match="/var/run/xenstored/socket"):
            xenstore.Connection(DEADLINE_S)
    finally:
        daemon.start()


def test_many_at_once(daemon, monkeypatch):  # noqa: F811
    """OCaml's daemon lets two clients wait to be accepted."""
    monkeypatch.setenv("DOM0_ROOT", daemon.root)
    answers = []

    def read():
        with xenstore.Connection(DEADLINE_S) as store:
            answers.append(store.read(PATH + "/name"))
    threads = list_threads(*[read] * 100)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert answers == [b"vm5"] * 100


WAIT = """
import resource, sys
from dom0_lib.guests import xenstore

def read_work():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_nvcsw + usage.ru_nivcsw, usage.ru_utime + usage.ru_stime

with xenstore.Connection(60) as store:
    store.watch('/local/domain/5/data', b'data')
    store.wait_event(60)
    before = read_work()
    assert store.wait_event(float(sys.argv[1])) is None
    sys.stdout.write('%d %f' % tuple(new - old for old, new in zip(before, read_work())))
"""


@pytest.mark.parametrize("any_xenstored_kind", ["stand-in"], indirect=True)
def test_a_wait_costs_nothing(daemon):  # noqa: F811
    waits = [(version, subprocess.Popen([python, "-B", "-c", WAIT, str(WAIT_S)], cwd=CHECKOUT, stdout=subprocess.PIPE,
                                        env=dict(os.environ, DOM0_ROOT=daemon.root)))
             for version, python in DOM0_PYTHONS]
    work = {version: process.communicate(timeout=WAIT_S + patience.LIMIT_S)[0].split() for version, process in waits}
    assert [switches for switches, _ in work.values() if int(switches) > WAIT_SWITCHES] == [], work
    assert [cpu_s for _, cpu_s in work.values() if float(cpu_s) > WAIT_CPU_S] == [], work
