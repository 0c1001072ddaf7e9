# SPDX-License-Identifier: Apache-2.0
"""The task of a transfer: its progress, and transfers whose task is cancelled, refused, slow or gone."""

import contextlib
import threading
import time
import uuid

import pytest
import XenAPI

from tests import patience
from tests.calls import calls
from tests.calls import pythons
from tests.calls import sr_disks
from tests.calls.images import transfers
from tests.harness.image_service import service_faults as faults
from tests.harness.image_service.service import ImageService
from tests.harness.pool import Pool

# A plug-in has begun to watch its task when it has been running for this long.
STARTED_S = 1.0
CALL_LIMIT_S = 100
# More than the sockets between plug-in and service hold.
BLOCKS = 10
PIECE = 1 << 19
DIRECTIONS = ("download", "upload")


@pytest.fixture(scope="module", params=pythons.ROTATION, ids=pythons.version_of)
def task_pool(request):
    with Pool(python=request.param) as pool:
        yield pool


@pytest.fixture(scope="module")
def newest_pool():
    with Pool(python=pythons.NEWEST) as pool:
        yield pool


@pytest.fixture
def transfer(task_pool):
    """On the oldest and the newest Pythons."""
    with ImageService() as service:
        yield Transfer(task_pool, service)
    task_pool.faults.clear()


@pytest.fixture
def newest(newest_pool):
    """The same on the newest Python alone, for tests that do not depend on it."""
    with ImageService() as service:
        yield Transfer(newest_pool, service)
    newest_pool.faults.clear()


class Transfer(object):
    """A download or an upload of a few megabytes with a task, in a thread of its own."""

    def __init__(self, pool, service):
        self.pool = pool
        self.service = service
        self.site = transfers.Site(pool, service, pool.add_sr())
        self.disks = sr_disks.write_chain(self.site.sr.path, blocks=BLOCKS)
        self.session = pool.login()
        self.task = self.session.xenapi.task.create("transfer", "of a test")
        self.progress = []
        self.failure = None
        self.took_s = None
        self._thread = None

    def start(self, direction, *planned):
        """Begin with the `planned` faults of the image service."""
        self.image = self.service.add_image(sr_disks.pack_vdis(self.site.sr.path, self.disks) if direction == "download" else None)
        self.before = sr_disks.describe_tree(self.site.sr.path)
        self.new_uuid = str(uuid.uuid4())
        self.service.faults.extend(planned)
        self._thread = threading.Thread(target=self._run, args=(direction,), daemon=True)
        self._thread.start()
        return self

    def _run(self, direction):
        started = time.monotonic()
        try:
            if direction == "download":
                self.site.download(self.image.id, [self.new_uuid], task=self.task)
            else:
                self.site.upload(self.image.id, self.disks, task=self.task)
        except XenAPI.Failure as failure:
            self.failure = failure.details
        self.took_s = time.monotonic() - started

    def wait_under_way(self):
        """Until data move and the watch has had time to begin."""
        calls.wait_until(lambda: any(
            request.sent_bytes or request.received_bytes > 4096 for request in self.site.image_requests(self.image)))
        time.sleep(STARTED_S)

    def cancel(self):
        """Cancel the task; seconds until the call has ended."""
        started = time.monotonic()
        self.session.xenapi.task.cancel(self.task)
        self.join()
        return time.monotonic() - started

    def join(self):
        self._thread.join(CALL_LIMIT_S)
        assert not self._thread.is_alive(), "the call did not end within %d s" % CALL_LIMIT_S

    def watch_progress(self):
        """Read the task's progress until the call has ended: [(seconds, value)] for each change."""
        started, seen = time.monotonic(), []
        while self._thread.is_alive():
            with contextlib.suppress(XenAPI.Failure):
                value = self.session.xenapi.task.get_progress(self.task)
                if not seen or seen[-1][1] != value:
                    seen.append((time.monotonic() - started, value))
            assert seen[-1:] == [] or seen[-1][0] < CALL_LIMIT_S
            time.sleep(0.02)
        return seen

    def expect_success(self, direction):
        self.join()
        assert self.failure is None
        if direction == "upload":
            assert self.image.status == "active"
            assert sr_disks.describe_tree(self.site.sr.path) == self.before
        else:
            digests = [sr_disks.guest_digest(self.site.sr.path, each) for each in (self.new_uuid, self.disks[0])]
            assert digests[0] == digests[1]

    def expect_cancelled(self):
        assert self.failure == ["TASK_CANCELLED", self.task]
        assert sr_disks.describe_tree(self.site.sr.path) == self.before
        assert calls.find_processes(self.site.sr.uuid) == []
        if not self.image.has_data:
            self.site.wait_settled(self.image)
            assert self.image.status == "queued"


def stall(direction, seconds=patience.ENDLESS_S, at=1 << 20):
    """The service falls silent in the middle of the data."""
    if direction == "download":
        return faults.Stall(seconds, at=at, path="/file$")
    return faults.UploadStall(seconds, at=at, method="PUT")


class SlowReading(faults.UploadStall):
    """The service takes an upload in pieces, with a pause before each."""

    def receive(self, request, wire):
        pieces = iter(range(PIECE, BLOCKS * sr_disks.BLOCK, PIECE))

        def pause_and_go_on():
            wire.pause(self.seconds)
            following = next(pieces, None)
            if following:
                request.body.break_at(following, pause_and_go_on)
        request.body.break_at(next(pieces), pause_and_go_on)


def slow(direction):
    """The transfer takes about 5 s."""
    interval_s = 5.0 * PIECE / BLOCKS / sr_disks.BLOCK
    if direction == "download":
        return faults.Drip(piece=PIECE, interval_s=interval_s, path="/file$")
    return SlowReading(interval_s, method="PUT")


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_progress(transfer, direction):
    before = transfer.pool.faults.calls["task.set_progress"]
    transfer.start(direction, slow(direction))
    seen = transfer.watch_progress()
    transfer.expect_success(direction)
    values = [value for _, value in seen]
    assert values == sorted(values)
    assert values[0] == 0.0 and values[-1] <= 1.0
    assert len(values) >= 4, seen
    # One in a second, and the last.
    assert transfer.pool.faults.calls["task.set_progress"] - before <= transfer.took_s + 1


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_task_is_left_to_its_owner(newest, direction):
    newest.start(direction)
    newest.expect_success(direction)
    assert newest.session.xenapi.task.get_status(newest.task) == "pending"


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_cancel_while_the_service_is_silent(transfer, direction):
    transfer.start(direction, stall(direction))
    transfer.wait_under_way()
    assert transfer.cancel() < patience.LIMIT_S
    transfer.expect_cancelled()


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_cancel_while_data_flow(transfer, direction):
    transfer.start(direction, slow(direction))
    transfer.wait_under_way()
    assert transfer.cancel() < patience.LIMIT_S
    transfer.expect_cancelled()


@pytest.mark.parametrize("planned", [
    faults.Stall(patience.ENDLESS_S, method="GET", path="[0-9a-f]{12}$"), faults.Stall(patience.ENDLESS_S, method="PATCH"),
    faults.UploadStall(patience.ENDLESS_S, at=0, method="PUT")],
    ids=["the look before", "the properties", "the first byte"])
def test_cancel_early_in_an_upload(newest, planned):
    newest.start("upload", planned)
    calls.wait_until(lambda: planned.hits)
    time.sleep(STARTED_S)
    assert newest.cancel() < patience.LIMIT_S
    newest.expect_cancelled()


def test_cancel_while_a_download_waits_to_continue(newest):
    newest.start("download", faults.HangUp(at=1 << 20, path="/file$"), faults.Refusal(503, path="/file$", nth=2, times=None))
    # The waits are 0.5, 1, 2, 4 and 8 s.
    calls.wait_until(lambda: len([request for request in newest.service.requests if request.path.endswith("/file")]) >= 4)
    assert newest.cancel() < patience.LIMIT_S
    newest.expect_cancelled()


def test_cancel_before_the_call(newest):
    newest.session.xenapi.task.cancel(newest.task)
    newest.start("download", stall("download"))
    newest.join()
    assert newest.took_s < patience.LIMIT_S
    newest.expect_cancelled()


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_xapi_refuses_progress(newest, direction):
    """Before 8.2 there is no task.set_progress, and a role may lack it."""
    refusals = 5
    newest.pool.faults.fail("task.set_progress", "MESSAGE_METHOD_UNKNOWN", "task.set_progress", times=refusals)
    before = newest.pool.faults.calls["task.set_progress"]
    newest.start(direction, slow(direction))
    newest.expect_success(direction)
    assert newest.pool.faults.calls["task.set_progress"] == before + 1
    newest.pool.faults.clear()


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_xapi_refuses_progress_and_cancels(transfer, direction):
    transfer.pool.faults.fail("task.set_progress", "RBAC_PERMISSION_DENIED", "task.set_progress", times=1)
    transfer.start(direction, slow(direction))
    transfer.wait_under_way()
    assert transfer.cancel() < patience.LIMIT_S
    transfer.expect_cancelled()


@pytest.mark.parametrize("message", ["task.get_current_operations", "task.set_progress"])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_xapi_does_not_answer(transfer, direction, message):
    answering = threading.Event()
    transfer.pool.faults.wait(message, answering)
    try:
        transfer.start(direction)
        transfer.expect_success(direction)
        assert transfer.took_s < patience.LIMIT_S
    finally:
        answering.set()


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_xapi_is_slow_and_cancels(newest, direction):
    answering = threading.Event()
    newest.pool.faults.wait("task.get_current_operations", answering)
    newest.start(direction, stall(direction))
    newest.wait_under_way()
    newest.session.xenapi.task.cancel(newest.task)
    time.sleep(1)
    assert newest.took_s is None
    started = time.monotonic()
    answering.set()
    newest.join()
    assert time.monotonic() - started < patience.LIMIT_S
    newest.expect_cancelled()


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_task_is_destroyed_meanwhile(transfer, direction):
    transfer.start(direction, slow(direction))
    transfer.wait_under_way()
    transfer.session.xenapi.task.set_status(transfer.task, "success")
    transfer.session.xenapi.task.destroy(transfer.task)
    transfer.expect_success(direction)
    assert any("task of this call is gone" in line for line in transfer.pool.hosts[0].syslog_lines())


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_task_that_never_was(newest, direction):
    newest.task = "OpaqueRef:%s" % uuid.uuid4()
    newest.start(direction)
    newest.expect_success(direction)


@pytest.mark.parametrize("task", ["", "task", "OpaqueRef:", "OpaqueRef:a b", "OpaqueRef:NULL/x"])
def test_reference_that_is_none(newest, task):
    with calls.refused("download_vhd2", "ArgumentError", "task"):
        newest.site.download(str(uuid.uuid4()), [str(uuid.uuid4())], task=task)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_xapi_fails_now_and_then(newest, direction):
    newest.pool.faults.fail("task.get_current_operations", "INTERNAL_ERROR", "not now", times=2)
    newest.start(direction, stall(direction))
    newest.wait_under_way()
    time.sleep(1)
    assert newest.cancel() < patience.LIMIT_S
    newest.expect_cancelled()
