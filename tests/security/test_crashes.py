# SPDX-License-Identifier: Apache-2.0
"""A call that dies, or meets a full or broken disk, anywhere: after the next call the SR has the whole chain or nothing of it."""

import os
import random
import uuid

import pytest

from tests import fault_points
from tests.calls import pythons
from tests.harness.vhd import vhd_reader
from tests.security.crash_host import open_crash_host
from tests.security.random_kills import RandomKills

_SWEEPING = [name for name in fault_points.NAMES if name.startswith("sweep.")]
_IMPORTING = [name for name in fault_points.NAMES if name.startswith(("staging.", "chain.", "publish."))
              and name != "staging.linked"]
_UPLOADING = ["staging.made", "staging.linked", "staging.cleaning", "staging.cleaned"]
_RANDOM_KILLS = 25


@pytest.fixture(scope="module")
def any_crash_host(dom0_python, tmp_path_factory):
    """On every dom0 Python in turn."""
    with open_crash_host(dom0_python, str(tmp_path_factory.mktemp("crash"))) as host:
        yield host


@pytest.fixture(scope="module")
def crash_host(tmp_path_factory):
    """On the newest dom0 Python: a crash at a point has the same effect on all Pythons."""
    with open_crash_host(pythons.NEWEST, str(tmp_path_factory.mktemp("crash"))) as host:
        yield host


@pytest.fixture
def uuids(crash_host):
    names = [str(uuid.uuid4()) for _ in range(3)]
    yield names
    crash_host.remove(names)


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("point", _IMPORTING)
def test_killed_while_importing(crash_host, uuids, point, passes):
    with crash_host.fault("%s:kill:%d" % (point, passes)):
        outcome = crash_host.download(uuids)
    if outcome.details:
        assert outcome.details[:2] == ["XENAPI_PLUGIN_FAILURE", "signal: SIGKILL"]
    is_there = crash_host.check(uuids)
    if outcome.details is None:
        assert is_there, "the point is passed less than %d times, and the call succeeded" % passes
    elif not is_there:
        assert crash_host.download(uuids).details is None, "the same call again must succeed"
        assert crash_host.check(uuids)


@pytest.mark.parametrize("error", ["enospc", "eio"])
@pytest.mark.parametrize("point", [name for name in _IMPORTING if name not in ("staging.cleaning", "staging.cleaned")])
def test_a_disk_that_fails_while_importing(crash_host, uuids, point, error):
    with crash_host.fault("%s:%s" % (point, error)):
        outcome = crash_host.download(uuids)
    assert outcome.details, "%s is not passed" % point
    assert outcome.details[2] in ("StorageError", "OSError", "IOError")
    assert not crash_host.check(uuids)


@pytest.mark.parametrize("point", _UPLOADING)
def test_killed_while_uploading(crash_host, point):
    with crash_host.fault(point + ":kill"):
        outcome, image = crash_host.upload()
    assert outcome.details[1] == "signal: SIGKILL"
    if point in ("staging.made", "staging.linked"):
        assert image.status == "queued"
    crash_host.check([])


@pytest.mark.parametrize("point", _SWEEPING)
@pytest.mark.parametrize("first", ["publish.journalled", "publish.linked", "publish.leaf_linked", "publish.hidden"])
def test_killed_while_sweeping_after_a_kill(crash_host, uuids, first, point):
    with crash_host.fault(first + ":kill"):
        assert crash_host.download(uuids).details
    with crash_host.fault(point + ":kill"):
        outcome = crash_host.sweep()
    # A sweep undoes an unpublished import, or finishes a published one, so it passes only some of the points.
    assert outcome.details is None or outcome.details[1] == "signal: SIGKILL"
    assert crash_host.check(uuids) == (first in ("publish.leaf_linked", "publish.hidden"))


@pytest.mark.parametrize("seed", [11, 12])
def test_killed_at_random_moments(any_crash_host, seed):
    crash_host = any_crash_host
    kills = RandomKills(crash_host.dom0.processes, random.Random(seed))
    outcomes = []
    for _ in range(_RANDOM_KILLS):
        uuids = [str(uuid.uuid4()) for _ in range(3)]
        outcome = kills.meet(lambda uuids=uuids: crash_host.download(uuids))
        assert outcome.details is None or outcome.details[:2] == ["XENAPI_PLUGIN_FAILURE", "signal: SIGKILL"]
        is_there = crash_host.check(uuids)
        assert is_there or outcome.details, "the call answered, and the disks are not there"
        outcomes.append(outcome)
        crash_host.remove(uuids)
    assert any(outcome.details for outcome in outcomes)


@pytest.mark.parametrize("point, passes", [
    ("publish.linked", 1), ("publish.linked", 2), ("publish.leaf_linked", 1), ("publish.hidden", 1), ("publish.hidden", 2),
    ("publish.synced", 1)])
def test_another_host_between_two_steps(tmp_path, point, passes):
    """Off the SR's master our locks exclude nobody there: its scans and its collection meet a publication at any step."""
    names = [str(uuid.uuid4()) for _ in range(3)]
    with open_crash_host(pythons.NEWEST, str(tmp_path)) as host:
        with host.fault("%s:kill:%d" % (point, passes)):
            assert host.download(names).details
        host.sr.scan()
        host.sr.collect_garbage()
        assert host.sweep().details is None
        host.sr.scan()
        host.sr.collect_garbage()
        assert host.list_staging() == []
        left = set(os.listdir(host.sr.path)) & set("%s.vhd" % name for name in names)
        if point == "publish.linked":
            assert not left
        else:
            # The collection has made one disk of the chain by now.
            assert left == {"%s.vhd" % names[0]}
            assert vhd_reader.digest(os.path.join(host.sr.path, left.pop())) == host.guest_digest
