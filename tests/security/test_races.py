# SPDX-License-Identifier: Apache-2.0
"""Imports and uploads beside one another and beside a garbage collection that never rests, on one SR.

The collection takes SM's locks as SM does, in a process of its own; a dom0 that is short of processors stops a call for a while
at any moment.  Whatever the collection makes of the chains, the guest's content is what it was, each call ends in time, and one
that fails says that it may be repeated.  Nothing of this depends on luck: without our locks the same races are lost.
"""

import collections
import contextlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import threading
import time
import uuid

import pytest
import XenAPI

from tests import conftest
from tests.calls import calls
from tests.calls import pythons
from tests.calls.scene import Scene
from tests.harness.image_service.service import ImageService
from tests.harness.pool import Pool
from tests.harness.vhd import vhd_reader
from tests.harness.vhd import vhd_writer

_DISK_BYTES = 6 << 20
# 200 calls: each round has an import and an upload.
_RACES, _ROUNDS = 4, 25
_UNLOCKED_ROUNDS = 150
_WORKERS = 2
# For one call, with all that it may wait for.
_CALL_LIMIT_S = 120
_DEADLINE_S = 580


class RaceHost(Scene):
    """An SR with work for the collection: everything imported has hidden parents that it may coalesce."""

    plugin = "glance.py"

    def __init__(self, pool, service, directory):
        super().__init__(pool)
        self.service = service
        self.outcomes = collections.Counter()
        # Answers that no caller may get.
        self.losses = []
        generator = random.Random(3)
        chain = [os.path.join(directory, "%d.vhd" % number) for number in range(2)]
        vhd_writer.write_dynamic(chain[1], [(0, generator.randbytes(300000))], _DISK_BYTES, hidden=1)
        vhd_writer.write_differencing(chain[0], chain[1], [(4 << 20, generator.randbytes(30000))])
        self.guest_digest = vhd_reader.digest(chain)
        archive = os.path.join(directory, "image.tgz")
        with tarfile.open(archive, "w:gz", compresslevel=1) as target:
            for path in chain:
                target.add(path, os.path.basename(path))
        self.image = service.add_image(archive)

    def call(self, function, **arguments):
        """The answer of a call, or the details of its failure."""
        begun_at = time.monotonic()
        try:
            return super().call(function, endpoint=self.service.url, sr_uuid=self.sr.uuid,
                                extra_headers={"X-Auth-Token": self.service.token}, **arguments)
        except XenAPI.Failure as failure:
            return failure.details
        finally:
            assert time.monotonic() - begun_at < _CALL_LIMIT_S

    def download(self):
        """Import the image. Returns the uuids of the VDIs, leaf first, or None. A failed import can lose nothing."""
        uuids = calls.make_uuids(2)
        answer = self.call("download_vhd2", image_id=self.image.id, uuid_stack=uuids[::-1])
        return uuids if self._account("download", answer) else None

    def upload(self, uuids):
        """Upload a chain. Returns the image, or None.

        The collection may have coalesced the chain before: then the call fails with StorageError. From the moment that the call
        holds the chain, nobody may change it.
        """
        image = self.service.add_image(None)
        answer = self.call("upload_vhd2", image_id=image.id, vdi_uuids=uuids)
        return image if self._account("upload", answer, "StorageError") else None

    def _account(self, what, answer, *allowed):
        if isinstance(answer, str):
            self.outcomes[what] += 1
            return True
        if answer[2] not in ("RetryableError",) + allowed or "was changed while it was read" in answer[3]:
            self.losses.append([what] + answer)
        self.outcomes["%s: %s" % (what, answer[2])] += 1
        return False

    def add_sibling(self, parent_uuid):
        """A second child, as a clone is, so that the collection leaves the parent alone; None if it is gone already."""
        sibling = str(uuid.uuid4())
        with self._sm_lock():
            if not os.path.exists(self.path(parent_uuid)):
                return None
            vhd_writer.write_differencing(self.path(sibling), self.path(parent_uuid), [(0, b"a clone".ljust(512))])
        return sibling

    def destroy(self, vdi_uuid):
        """Remove the VDI as VDI.destroy does."""
        if vdi_uuid:
            with self._sm_lock():
                os.unlink(self.path(vdi_uuid))

    def _sm_lock(self):
        return self.pool.hosts[0].sm_locks.hold(self.sr.uuid, "sr", _CALL_LIMIT_S)

    def path(self, vdi_uuid):
        return os.path.join(self.sr.path, "%s.vhd" % vdi_uuid)

    def check_image(self, image, directory):
        """The chain in an image must have the guest's content."""
        with open(image.path, "rb") as source, tarfile.open(fileobj=io.BytesIO(source.read()), mode="r:gz") as archive:
            names = archive.getnames()
            archive.extractall(directory)
        assert vhd_reader.digest([os.path.join(directory, name) for name in names]) == self.guest_digest


@pytest.fixture
def race_host(tmp_path):
    # The newest Python alone: the outcome of a race does not depend on it.
    with ImageService() as service, Pool(python=pythons.NEWEST) as pool:
        calls.write_settings(pool.hosts[0], "[transfer]\nreserve = 1\ncollection_wait = 5\nthreads = 1\nnice = 0\n")
        yield RaceHost(pool, service, str(tmp_path))


@pytest.fixture
def collection(race_host):
    """The process of the collection; the test ends it and reads its counts."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.security.collection_loop", race_host.pool.hosts[0].root, race_host.sr.uuid],
        cwd=conftest.CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, universal_newlines=True)
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


def end_collection(process):
    output, _ = process.communicate("end\n", timeout=60)
    assert process.returncode == 0
    return collections.Counter(json.loads(output))


class Workers(object):
    """Threads that do rounds until there have been enough of them together, or one fails."""

    def __init__(self, count, rounds):
        self._left = rounds
        self._guard = threading.Lock()
        self._failures = []
        self._threads = [threading.Thread(target=self._work, args=(number,), daemon=True) for number in range(count)]

    def run(self, do_round):
        self._do_round = do_round
        ends_at = time.monotonic() + _DEADLINE_S
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            thread.join(max(0, ends_at - time.monotonic()))
            assert not thread.is_alive(), "a call does not end"
        if self._failures:
            raise self._failures[0]

    def _work(self, number):
        while not self._failures:
            with self._guard:
                if not self._left:
                    return
                self._left -= 1
                current = self._left
            try:
                self._do_round(number, current)
            except BaseException as error:
                self._failures.append(error)


@contextlib.contextmanager
def pauses(race_host, chance):
    """Within, calls are stopped, now this one and now that one, and go on a moment later; each import in its last step."""
    ended = threading.Event()

    def pause():
        while not ended.wait(0.003):
            for pid in race_host.pool.hosts[0].dom0.processes.running_pids():
                with contextlib.suppress(OSError):
                    is_late = is_hiding(pid)
                    if is_late or chance.random() < 0.007:
                        os.kill(pid, signal.SIGSTOP)
                        ended.wait(chance.uniform(0.05, 0.5 if is_late else 0.2))
                        os.kill(pid, signal.SIGCONT)
    thread = threading.Thread(target=pause)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def is_hiding(pid):
    """Whether a plug-in is having vhd-util hide a parent that has just been published."""
    for child in read("/proc/%d/task/%d/children" % (pid, pid)).split():
        if read("/proc/%s/cmdline" % child).endswith("\0hidden\0-v\x001\0"):
            return True
    return False


def read(path):
    with open(path) as source:
        return source.read()


def run_rounds(race_host, rounds, directory, seed, is_over=lambda: False):
    """Import, upload and destroy; the VDIs that are left.  Each chain may be coalesced from the moment it is uploaded."""
    chance = random.Random(seed)
    kept = []

    def do_round(_, number):
        uuids = None if is_over() else race_host.download()
        if not uuids:
            return
        sibling = race_host.add_sibling(uuids[1])
        destruction = threading.Timer(chance.uniform(0, 0.4), race_host.destroy, [sibling])
        destruction.start()
        # The collection may be done with the chain already: then there is one disk, and the caller has looked again.
        image = race_host.upload(uuids) or race_host.upload(uuids[:1])
        destruction.join()
        if image:
            race_host.check_image(image, os.path.join(directory, str(number)))
        kept.append(uuids[0])
        if len(kept) > 4:
            race_host.destroy(kept.pop(0))
    with pauses(race_host, random.Random(seed)):
        Workers(_WORKERS, rounds).run(do_round)
    return kept


@pytest.mark.parametrize("seed", range(_RACES))
def test_imports_and_uploads_beside_a_collection(race_host, collection, tmp_path, seed):
    """Two processes at once on one SR, and the same image twice."""
    kept = run_rounds(race_host, _ROUNDS, str(tmp_path), seed)
    counts = end_collection(collection)
    race_host.sr.collect_garbage()
    race_host.sr.scan()
    seen = (race_host.outcomes, counts)
    assert not race_host.losses, seen
    # How many of each there are is the machine's affair. That the locks decide is shown below, without them.
    assert race_host.outcomes["download"] and race_host.outcomes["upload"] and counts["leaf-coalesce"], seen
    for leaf in kept:
        assert vhd_reader.digest(race_host.path(leaf)) == race_host.guest_digest
    assert sorted(os.listdir(race_host.sr.path)) == sorted("%s.vhd" % leaf for leaf in kept), "what has no owner"


# Code that is appended to sr_lock.py of the plug-ins under test, and the loss that follows.
_UNLOCKED = {
    "publication": ("Lock.__enter__ = lambda self: self\n", "download"),
    "chains that are read": ("Stillness.__enter__ = lambda self: self\n", "upload"),
}


@pytest.mark.parametrize("what", sorted(_UNLOCKED))
def test_the_race_is_lost_without_our_locks(race_host, collection, tmp_path, what):
    code, call = _UNLOCKED[what]
    with open(os.path.join(race_host.pool.hosts[0].plugin_dir, "dom0_lib", "storage", "sr_lock.py"), "a") as source:
        source.write(code)
    lost = lambda: [loss for loss in race_host.losses if loss[0] == call]  # noqa: E731
    run_rounds(race_host, _UNLOCKED_ROUNDS, str(tmp_path), seed=9, is_over=lost)
    assert lost(), (race_host.outcomes, end_collection(collection))
