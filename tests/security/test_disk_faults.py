# SPDX-License-Identifier: Apache-2.0
"""The disk fails, or the power is cut, at any operation of a plug-in or its programs on the SR's files.

test_crashes uses named points; here every operation counts, and the first number of a case is the operation's.
"""

import contextlib
import os
import random
import subprocess
import threading
import time

import pytest

from tests.calls import calls
from tests.calls import pythons
from tests.harness.vhd import vhd_writer
from tests.security import disk_faults
from tests.security import hostile_archives
from tests.security.crash_host import open_crash_host
from tests.security.disk_faults import DEATH, EIO, ENOSPC

_NAMES = {DEATH: "death", EIO: "eio", ENOSPC: "enospc"}
# The fewest and the most operations of an import, of an upload, and of a sweep after a death during publication.
_IMPORT, _UPLOAD, _SWEEP = (75, 84), (9, 11), (8, 18)
_MIB = 1 << 20

needs_gcc = pytest.mark.needs("gcc")
generator = random.Random(17)


def number_of(case):
    return "%d-%s-%d" % (case[0], _NAMES[case[1]], case[2])


def sample(count, highest, *failures):
    """(number of the first operation that fails, how, how many fail in a row)."""
    return [(generator.randint(1, highest), generator.choice(failures), generator.choice((2, 3, 5, disk_faults.FOR_EVER)))
            for _ in range(count)]


EACH_IMPORT = [(number, generator.choice((EIO, ENOSPC)), 1) for number in range(1, _IMPORT[1])]
BURSTS = sample(25, _IMPORT[0], EIO, ENOSPC)
DEATHS = [(number, DEATH, 1) for number in range(1, _IMPORT[1], 3)]
UPLOADS = [(number, failure, 1) for number in range(1, _UPLOAD[1]) for failure in (EIO, DEATH)] + sample(3, _UPLOAD[0], ENOSPC)
SWEEPS = [(number, generator.choice((EIO, ENOSPC, DEATH)), 1) for number in range(1, _SWEEP[1])]
UNLINKED = [(number, generator.choice((EIO, DEATH)), generator.choice((1, 2, 3))) for number in range(2, _IMPORT[1], 5)]
# Operations during publication: after a failure there the plug-in undoes its work, in five operations.
DEATHS_IN_UNDO = [(number, dies_after) for number in (63, 65, 67, 71) for dies_after in (1, 2, 3)]
OLD = sample(8, _IMPORT[0], EIO, ENOSPC, DEATH)


class FaultyHost(object):
    """A crash host whose disk fails."""

    def __init__(self, host, directory):
        self.host = host
        self.faults = disk_faults.DiskFaults(host.dom0, host.sr.path, directory)

    def meet(self, case, call):
        """Make a call that meets a fault: it succeeds, dies of the fault, or reports it. Returns whether it succeeded."""
        number, failure, count = case
        with self.faults.armed(number, failure, count):
            outcome = call()
        if outcome.details is None:
            return True
        assert self.faults.passed >= number
        if failure == DEATH:
            assert outcome.details[:2] == ["XENAPI_PLUGIN_FAILURE", "signal: SIGKILL"]
        else:
            assert outcome.details[2] == "StorageError", outcome.details
            # A single failure leaves the clean-up whole.
            assert count > 1 or self.host.list_staging() == []
        return False

    def check_import(self, case):
        uuids = calls.make_uuids(3)
        arrived = self.meet(case, lambda: self.host.download(uuids))
        is_there = self.host.check(uuids)
        if arrived:
            assert is_there
        elif case[1] != DEATH and case[2] == 1:
            assert not is_there
        if not is_there:
            assert self.host.download(uuids).details is None, "the same call again must succeed"
            assert self.host.check(uuids)
        self.host.remove(uuids)


@contextlib.contextmanager
def open_faulty_host(python, tmp_path_factory):
    with open_crash_host(python, str(tmp_path_factory.mktemp("crash"))) as host:
        yield FaultyHost(host, str(tmp_path_factory.mktemp("faults")))


@pytest.fixture(scope="module")
def faulty_host(tmp_path_factory):
    with open_faulty_host(pythons.NEWEST, tmp_path_factory) as host:
        yield host


@pytest.fixture(scope="module")
def old_faulty_host(tmp_path_factory):
    with open_faulty_host(pythons.OLDEST, tmp_path_factory) as host:
        yield host


@needs_gcc
def test_no_operation_is_left_out(faulty_host):
    """The cases below reach as far as the calls do."""
    uuids = calls.make_uuids(3)
    host = faulty_host.host
    for call, (fewest, most) in ((lambda: host.download(uuids), _IMPORT), (lambda: host.upload()[0], _UPLOAD)):
        with faulty_host.faults.armed(disk_faults.FOR_EVER, EIO):
            assert call().details is None
        assert fewest <= faulty_host.faults.passed < most
    host.remove(uuids)


@needs_gcc
@pytest.mark.parametrize("case", EACH_IMPORT + BURSTS + DEATHS, ids=number_of)
def test_an_import(faulty_host, case):
    faulty_host.check_import(case)


@needs_gcc
@pytest.mark.parametrize("case", OLD, ids=number_of)
def test_an_import_on_the_oldest_python(old_faulty_host, case):
    old_faulty_host.check_import(case)


@needs_gcc
@pytest.mark.parametrize("case", UNLINKED, ids=number_of)
def test_an_import_where_there_are_no_hard_links(faulty_host, case):
    with faulty_host.faults.denied(disk_faults.NO_LINKS):
        faulty_host.check_import(case)


@needs_gcc
@pytest.mark.parametrize("denied", [0, disk_faults.NO_LINKS], ids=["links", "no_links"])
@pytest.mark.parametrize("number, dies_after", DEATHS_IN_UNDO)
def test_a_death_while_a_failed_import_is_undone(faulty_host, number, dies_after, denied):
    uuids = calls.make_uuids(3)
    with faulty_host.faults.denied(denied), faulty_host.faults.armed(number, EIO, 1, dies_after):
        details = faulty_host.host.download(uuids).details
    # Near its end there is nothing to undo any more.
    assert details is None or details[1] == "signal: SIGKILL" or faulty_host.faults.passed < number + dies_after
    if not faulty_host.host.check(uuids):
        assert faulty_host.host.download(uuids).details is None
        assert faulty_host.host.check(uuids)
    faulty_host.host.remove(uuids)


@needs_gcc
@pytest.mark.parametrize("case", UPLOADS, ids=number_of)
def test_an_upload(faulty_host, case):
    faulty_host.meet(case, lambda: faulty_host.host.upload()[0])
    faulty_host.host.check([])


@needs_gcc
@pytest.mark.parametrize("case", SWEEPS, ids=number_of)
@pytest.mark.parametrize("point", ["publish.linked", "publish.leaf_linked"])
def test_a_sweep_after_a_death(faulty_host, point, case):
    uuids = calls.make_uuids(3)
    with faulty_host.host.fault(point + ":kill"):
        faulty_host.host.download(uuids)
    faulty_host.meet((case[0], case[1], max(2, case[2])), faulty_host.host.sweep)
    assert faulty_host.host.check(uuids) == (point == "publish.leaf_linked")
    faulty_host.host.remove(uuids)


@needs_gcc
def test_an_sr_without_hard_links(faulty_host):
    """Import moves the files, upload holds them by symbolic links."""
    uuids = calls.make_uuids(3)
    with faulty_host.faults.denied(disk_faults.NO_LINKS):
        assert faulty_host.host.download(uuids).details is None
        outcome, image = faulty_host.host.upload()
    assert outcome.details is None and image.status == "active"
    assert faulty_host.host.check(uuids)
    taken = faulty_host.host.download(uuids).details
    assert taken[2] == "StorageError" and "already has a VDI" in taken[3]
    faulty_host.host.remove(uuids)


@needs_gcc
def test_an_sr_without_locks(faulty_host):
    """Where nobody can tell the dead from the living, nothing is swept, and the rest works."""
    uuids = calls.make_uuids(3)
    with faulty_host.faults.denied(disk_faults.NO_LOCKS):
        assert faulty_host.host.download(uuids).details is None
        assert faulty_host.host.upload()[0].details is None
        with faulty_host.host.fault("staging.written:kill"):
            assert faulty_host.host.download(calls.make_uuids(3)).details
        assert faulty_host.host.sweep().details is None
        assert len(faulty_host.host.list_staging()) == 1
    assert faulty_host.host.check(uuids)
    faulty_host.host.remove(uuids)


class SmallSr(object):
    """A crash host whose SR is a small file system of its own."""

    def __init__(self, host):
        self.host = host

    def limit(self, option):
        """Remount the SR with another limit, such as size=1m."""
        subprocess.run(["mount", "-o", "remount," + option, self.host.sr.path], check=True, timeout=60)

    @property
    def files(self):
        """The number of files and links in the SR."""
        status = os.statvfs(self.host.sr.path)
        return status.f_files - status.f_ffree


@pytest.fixture(scope="module")
def small_sr(tmp_path_factory):
    with contextlib.ExitStack() as stack:
        def mount(path):
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256m", "none", path], check=True, timeout=60)
            stack.callback(subprocess.run, ["umount", "--lazy", path], check=True, timeout=60)
        python, directory = pythons.NEWEST, str(tmp_path_factory.mktemp("small"))
        with open_crash_host(python, directory, mount) as host:
            yield SmallSr(host)
            stack.close()


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")


@needs_root
@pytest.mark.parametrize("free_files", range(12))
def test_an_sr_that_runs_out_of_files(small_sr, free_files):
    """tmpfs counts each hard link, so this meets every step that makes a name."""
    uuids = calls.make_uuids(3)
    small_sr.limit("nr_inodes=%d" % (small_sr.files + free_files))
    try:
        outcome = small_sr.host.download(uuids)
        if outcome.details:
            assert outcome.details[2] == "StorageError" and "it is full" in outcome.details[3]
            assert small_sr.host.list_staging() == []
        # Directory, owner, three files, journal, three links.
        assert (outcome.details is None) == (free_files >= 9)
        assert small_sr.host.check(uuids) == (outcome.details is None)
    finally:
        small_sr.limit("nr_inodes=10000")
    small_sr.host.remove(uuids)


@needs_root
def test_an_sr_that_fills_up_while_an_image_arrives(small_sr, tmp_path):
    """There was room when the file was begun; then another writer takes it."""
    vhd_writer.write_dynamic(str(tmp_path / "disk"), random.Random(5).randbytes(96 * _MIB))
    image = small_sr.host.add_image(hostile_archives.pack([(tmp_path / "disk").read_bytes()]))
    filled = []

    def fill():
        ends_at = time.monotonic() + 60
        while time.monotonic() < ends_at and not filled:
            for name in small_sr.host.list_staging():
                with contextlib.suppress(FileNotFoundError, subprocess.CalledProcessError):
                    if os.path.getsize(os.path.join(small_sr.host.sr.path, name, "0.vhd")) > _MIB:
                        small_sr.limit("size=%dk" % (used_kib(small_sr) + 4096))
                        filled.append(name)
    thread = threading.Thread(target=fill)
    thread.start()
    try:
        outcome = small_sr.host.download(calls.make_uuids(3)[:1], image)
    finally:
        thread.join()
        small_sr.limit("size=256m")
    assert filled and outcome.details[2:] == ["StorageError", "cannot write to the SR: it is full"]
    assert small_sr.host.list_staging() == []
    small_sr.host.check([])


def used_kib(small_sr):
    status = os.statvfs(small_sr.host.sr.path)
    return (status.f_blocks - status.f_bfree) * status.f_frsize >> 10
