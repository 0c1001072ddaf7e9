# SPDX-License-Identifier: Apache-2.0
"""Migrations and copies die at any place: the chain is whole in the SR, or still where it was, for another attempt."""

import contextlib
import json
import os
import random
import shutil
import tempfile
import uuid

import pytest

from tests import fault_points
from tests.calls import pythons
from tests.harness.vhd import vhd_reader
from tests.security.crash_host import open_crash_host
from tests.security.random_kills import RandomKills

pytestmark = pytest.mark.needs("rsync")

_STAGING = ["staging.made", "staging.renamed", "staging.cleaning", "staging.cleaned"]
_COPYING = ["staging.file_made", "staging.written", "staging.file_finished", "disk.copied"]
_PUBLISHING = [name for name in fault_points.NAMES if name.startswith(("chain.", "publish."))]
_ARRIVING = ["arrival.taken", "arrival.forgotten"]
_TRANSFERRING = ["staging.made", "staging.linked", "transfer.held", "transfer.sent", "staging.cleaning", "staging.cleaned"]
# The first migration is left alone, to be measured.
_RANDOM_KILLS = 4
_KILLED = ["XENAPI_PLUGIN_FAILURE", "signal: SIGKILL"]


class Mover(object):
    """A CrashHost that receives and sends disks; `directory` has a chain, 0.vhd to 2.vhd."""

    def __init__(self, host, directory):
        self.host = host
        self._directory = directory
        self.label = str(uuid.uuid4())
        self.images = host.dom0.locate("/images")

    @property
    def arrived(self):
        return os.path.join(self.images, "instance" + self.label)

    def arrive(self):
        os.mkdir(self.arrived)
        for number in range(3):
            shutil.copy(os.path.join(self._directory, "%d.vhd" % number), self.arrived)

    def list_arrived(self):
        """Names of whole files; None if there is no directory."""
        if not os.path.isdir(self.arrived):
            return None
        return sorted(name for name in os.listdir(self.arrived) if name.endswith(".vhd") and name[0] != ".")

    def call(self, plugin, function, **arguments):
        return self.host.attempt(lambda: self.host.pool.call(plugin, function, dict(arguments, sr_uuid=self.host.sr.uuid)))

    def receive(self, uuids):
        return self.call("migration.py", "move_vhds_into_sr", instance_uuid=self.label, uuid_stack=json.dumps(uuids[::-1]))

    def copy(self, uuids):
        return self.call("workarounds.py", "safe_copy_vdis", vdi_uuids=json.dumps(self.host.uploaded),
                         uuid_stack=json.dumps(uuids[::-1]))

    def transfer(self, place):
        return self.call("migration.py", "transfer_vhd", instance_uuid=self.label, host="localhost",
                         vdi_uuid=self.host.uploaded[place], seq_num=str(place))

    def check_received(self, uuids):
        """After a call that died and a sweep the chain is whole in one place, and no part of it in the other. True: in the SR."""
        is_there = self.host.check(uuids)
        # rsync's unfinished file keeps the directory: another rsync may still be writing it.
        assert (self.list_arrived() or None) == (None if is_there else ["0.vhd", "1.vhd", "2.vhd"])
        return is_there


@pytest.fixture(scope="module")
def newest(tmp_path_factory):
    directory = str(tmp_path_factory.mktemp("crash"))
    with open_crash_host(pythons.NEWEST, directory) as host:
        yield host, directory


@pytest.fixture(scope="module", params=pythons.EDGES, ids=pythons.version_of)
def edge(request, tmp_path_factory):
    directory = str(tmp_path_factory.mktemp("crash"))
    with open_crash_host(request.param, directory) as host:
        yield host, directory


@contextlib.contextmanager
def mover_on(host, directory):
    mover = Mover(host, directory)
    yield mover
    shutil.rmtree(mover.arrived, ignore_errors=True)


@pytest.fixture
def mover(newest):
    with mover_on(*newest) as mover:
        yield mover


@pytest.fixture
def uuids(newest):
    names = [str(uuid.uuid4()) for _ in range(3)]
    yield names
    newest[0].remove(names)


@contextlib.contextmanager
def images_elsewhere(mover):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        os.rmdir(mover.images)
        os.symlink(directory, mover.images)
        try:
            yield
        finally:
            os.unlink(mover.images)
            os.mkdir(mover.images)


def die_and_look(mover, uuids, point, passes, call, check):
    with mover.host.fault("%s:kill:%d" % (point, passes)):
        outcome = call(uuids)
    assert outcome.details is None or outcome.details[:2] == _KILLED
    assert outcome.details or passes > 1, "%s is not passed" % point
    is_there = check(uuids)
    if outcome.details is None:
        assert is_there, "the point is passed less than %d times, and the call succeeded" % passes
    elif not is_there:
        assert call(uuids).details is None, "the same call again must succeed"
        assert check(uuids)


@pytest.mark.parametrize("point, passes", [(point, 1) for point in _STAGING + _ARRIVING + _PUBLISHING] + [
    (point, 3) for point in _ARRIVING + ["publish.linked"]])
def test_killed_while_receiving(mover, uuids, point, passes):
    mover.arrive()
    die_and_look(mover, uuids, point, passes, mover.receive, mover.check_received)


@pytest.mark.parametrize("point", _STAGING[:1] + _ARRIVING + _COPYING + ["chain.synced", "publish.linked", "publish.synced"])
def test_killed_while_receiving_from_elsewhere(mover, uuids, point):
    with images_elsewhere(mover):
        mover.arrive()
        die_and_look(mover, uuids, point, 2 if point != "staging.made" else 1, mover.receive, mover.check_received)


@pytest.mark.parametrize("first", ["publish.linked", "publish.leaf_linked", "arrival.forgotten"])
@pytest.mark.parametrize("point", ["sweep.undone", "sweep.finished", "arrival.forgotten"])
def test_killed_while_sweeping_after_a_kill(mover, uuids, first, point):
    mover.arrive()
    with mover.host.fault(first + ":kill"):
        assert mover.receive(uuids).details
    with mover.host.fault(point + ":kill"):
        mover.host.sweep()
    assert mover.check_received(uuids) == (first in ("publish.leaf_linked", "arrival.forgotten"))


@pytest.mark.parametrize("point", ["arrival.refused", "arrival.removed"])
def test_killed_while_refusing(mover, uuids, point):
    """Both ends of it: what was refused is refused again, or gone."""
    mover.arrive()
    os.truncate(os.path.join(mover.arrived, "1.vhd"), 1000)
    with mover.host.fault(point + ":kill"):
        assert mover.receive(uuids).details[:2] == _KILLED
    assert mover.receive(uuids).details[2] in ("InvalidImage", "StorageError")
    assert mover.list_arrived() is None
    assert not mover.host.check(uuids)


def test_what_has_come_since_is_not_removed(mover, uuids):
    """A crash, and then a new migration of the same guest before anybody sweeps: its files have other inodes."""
    mover.arrive()
    with mover.host.fault("publish.leaf_linked:kill"):
        mover.receive(uuids)
    for name in os.listdir(mover.arrived):
        if name.endswith(".vhd"):
            path = os.path.join(mover.arrived, name)
            shutil.copy(path, path + ".new")
            os.rename(path + ".new", path)
    assert mover.host.check(uuids)
    assert mover.list_arrived() == ["0.vhd", "1.vhd", "2.vhd"]


@pytest.mark.parametrize("point", _STAGING + _COPYING + ["chain.synced", "publish.linked", "publish.leaf_linked"])
def test_killed_while_copying(mover, uuids, point):
    die_and_look(mover, uuids, point, 1, mover.copy, mover.host.check)


@pytest.mark.parametrize("point", _TRANSFERRING)
def test_killed_while_transferring(mover, uuids, point):
    assert mover.transfer(1).details is None
    with mover.host.fault(point + ":kill"):
        assert mover.transfer(2).details[:2] == _KILLED
    mover.host.check([])
    for place in (2, 0):
        assert mover.transfer(place).details is None
    assert vhd_reader.digest([os.path.join(mover.arrived, "%d.vhd" % number) for number in range(3)]) == mover.host.guest_digest
    assert mover.receive(uuids).details is None
    assert mover.check_received(uuids)


def test_killed_at_random_moments(edge):
    """A whole migration within one host, each call of which may die; and a copy of the same chain."""
    host, directory = edge
    generator = random.Random(17)
    transfers, receptions, copies = [RandomKills(host.dom0.processes, generator) for _ in range(3)]
    for _ in range(_RANDOM_KILLS):
        uuids = [[str(uuid.uuid4()) for _ in range(3)] for _ in range(2)]
        with mover_on(host, directory) as mover:
            for place in (1, 2, 0):
                transfers.meet(lambda mover=mover, place=place: mover.transfer(place))
                host.check([])
                assert mover.transfer(place).details is None
            receptions.meet(lambda mover=mover, uuids=uuids: mover.receive(uuids[0]))
            if not mover.check_received(uuids[0]):
                assert mover.receive(uuids[0]).details is None
                assert mover.check_received(uuids[0])
            host.remove(uuids[0])
            copies.meet(lambda mover=mover, uuids=uuids: mover.copy(uuids[1]))
            host.check(uuids[1])
            host.remove(uuids[1])
