# SPDX-License-Identifier: Apache-2.0
"""move_vhds_into_sr: what may lie in /images, what becomes of it, and what is refused."""

import os
import shutil
import tempfile
import uuid

import pytest

from tests.calls import calls
from tests.calls.background import Background
from tests.calls import pythons
from tests.calls import sr_disks
from tests.calls.migration import migrations
from tests.harness.pool import Pool
from tests.harness.vhd import vhd_writer
from tests.harness.vhd import vhd_written_here

RECEIVE = "move_vhds_into_sr"
MIB = 1 << 20


class Receiver(migrations.Pair):
    """One host on which disks have arrived."""

    def __init__(self, pool):
        super().__init__(pool, None)
        calls.write_settings(self.target, migrations.SETTINGS)

    def arrive(self, depth=3, **options):
        """(label, uuids of the VDIs to be, leaf first, digest) of a chain that has arrived."""
        label = migrations.make_label()
        directory = self.directory(label)
        os.makedirs(directory)
        uuids = sr_disks.write_chain(directory, depth, **options)
        digest = sr_disks.guest_digest(directory, uuids[0])
        for number, vdi_uuid in enumerate(uuids):
            os.rename(sr_disks.vhd_path(directory, vdi_uuid), os.path.join(directory, "%d.vhd" % number))
        return label, calls.make_uuids(depth), digest

    def directory(self, label):
        return self.target.dom0.locate("/images/instance" + label)

    def expect_received(self, label, uuids, digest):
        assert sr_disks.guest_digest(self.target_sr.path, uuids[0]) == digest
        for each in uuids:
            vhd_written_here.expect_written_here(sr_disks.vhd_path(self.target_sr.path, each))
        records = self.target_sr.scan()
        assert [records[each]["managed"] for each in uuids] == [True] + [False] * (len(uuids) - 1)
        assert not os.path.lexists(self.directory(label))

    def expect_refused(self, label, uuids, class_name, *parts, is_kept=False, **changes):
        with sr_disks.unchanged(self.target_sr.path), calls.refused(RECEIVE, class_name, *parts):
            self.receive(label, uuids, **changes)
        assert os.path.lexists(self.directory(label)) == is_kept


@pytest.fixture(scope="module")
def receiver():
    with Pool(python=pythons.NEWEST) as pool:
        yield Receiver(pool)


@pytest.fixture
def elsewhere(receiver):
    """/images is on another file system than the SR."""
    images = receiver.target.dom0.locate("/images")
    directory = tempfile.mkdtemp(dir="/dev/shm")
    if os.stat(directory).st_dev == os.stat(receiver.target_sr.path).st_dev:
        pytest.skip("not applicable: /dev/shm and the SR are one file system")
    shutil.rmtree(images)
    os.symlink(directory, images)
    yield directory
    os.unlink(images)
    os.mkdir(images)
    shutil.rmtree(directory)


@pytest.fixture(params=["in the SR", "elsewhere"])
def images(request, receiver):
    """Where /images is; in the SR it is usually a link to a directory there."""
    if request.param == "elsewhere":
        request.getfixturevalue("elsewhere")
    return request.param


@pytest.mark.parametrize("depth", [1, 3])
def test_received(receiver, images, depth):
    label, uuids, digest = receiver.arrive(depth)
    assert receiver.receive(label, uuids) == {"root": {"uuid": uuids[0]}}
    receiver.expect_received(label, uuids, digest)
    for each in uuids:
        assert os.stat(sr_disks.vhd_path(receiver.target_sr.path, each)).st_nlink == 1


def test_images_is_a_link_into_the_sr(receiver):
    images = receiver.target.dom0.locate("/images")
    os.rmdir(images)
    os.mkdir(receiver.target_sr.path + "/os-images")
    os.symlink(receiver.target_sr.path + "/os-images", images)
    label, uuids, digest = receiver.arrive()
    receiver.receive(label, uuids)
    receiver.expect_received(label, uuids, digest)
    os.unlink(images)
    os.mkdir(images)
    os.rmdir(receiver.target_sr.path + "/os-images")


def test_what_a_crashed_transfer_left_is_no_hindrance(receiver, images):
    """rsync's own file, if this host crashed while it was written; nothing is left of it either."""
    label, uuids, digest = receiver.arrive()
    for name in (".0.vhd.Ab12Cd", ".2.vhd.xY34zw"):
        with open(os.path.join(receiver.directory(label), name), "w") as target:
            target.write("half")
    os.mkdir(os.path.join(receiver.directory(label), ".dom0-plugins-partial"))
    receiver.receive(label, uuids)
    receiver.expect_received(label, uuids, digest)


def test_holes_stay_holes(receiver, elsewhere):
    label, uuids, digest = receiver.arrive(1)
    path = os.path.join(receiver.directory(label), "0.vhd")
    vhd_writer.write_dynamic(path, [(number * sr_disks.BLOCK, b"x" * 512) for number in range(16)], sr_disks.DISK_BYTES)
    receiver.receive(label, uuids)
    status = os.stat(sr_disks.vhd_path(receiver.target_sr.path, uuids[0]))
    assert status.st_size > 32 * MIB and status.st_blocks * 512 < 4 * MIB


# What is refused: the SR is as it was; only files that will be refused again are removed.

def _add(name, content=b"x"):
    def change(directory):
        with open(os.path.join(directory, name), "wb") as target:
            target.write(content)
    return change


def _remove(*names):
    def change(directory):
        for name in names:
            os.unlink(os.path.join(directory, name))
    return change


def _replace(name, make):
    def change(directory):
        path = os.path.join(directory, name)
        os.rename(path, os.path.join(os.path.dirname(directory), "aside"))
        make(path, os.path.join(os.path.dirname(directory), "aside"))
    return change


def _leave_unfinished(directory):
    os.mkdir(os.path.join(directory, ".dom0-plugins-partial"))
    _add(".dom0-plugins-partial/1.vhd")(directory)


def _leave_another_chain(first):
    """From `first` on the files are of another guest's chain."""
    def change(directory):
        other = os.path.join(os.path.dirname(directory), "other")
        os.mkdir(other)
        uuids = sr_disks.write_chain(other, 3, seed="other")
        for number in range(first, 3):
            os.rename(sr_disks.vhd_path(other, uuids[number]), os.path.join(directory, "%d.vhd" % number))
        shutil.rmtree(other)
    return change


def _shorten(directory):
    """Of an earlier attempt: since then the chain was coalesced into one disk."""
    _remove("0.vhd")(directory)
    vhd_writer.write_dynamic(os.path.join(directory, "0.vhd"), [(0, b"y" * 512)], sr_disks.DISK_BYTES)


def _truncate(directory):
    os.truncate(os.path.join(directory, "1.vhd"), 1 << 20)


def _add_many(directory):
    for number in range(3, 31):
        shutil.copy(os.path.join(directory, "2.vhd"), os.path.join(directory, "%d.vhd" % number))


REFUSED = {
    "nothing": (_remove("0.vhd", "1.vhd", "2.vhd"), "InvalidImage", ["it holds nothing"]),
    "a gap": (_remove("1.vhd"), "InvalidImage", ["0.vhd, 2.vhd", "missing"]),
    "no leaf": (_remove("0.vhd", "1.vhd"), "InvalidImage", ["it holds 2.vhd"]),
    "a parent alone": (_remove("0.vhd", "2.vhd"), "InvalidImage", ["it holds 1.vhd"]),
    "no base": (_remove("2.vhd"), "UnsafeImage", ["1.vhd", "parent"]),
    "another name": (_add("snap.vhd"), "InvalidImage", ["snap.vhd"]),
    "no VHD": (_add("3.vhd", b"z" * 4096), "InvalidImage", ["3.vhd: no VHD"]),
    "an unfinished transfer": (_leave_unfinished, "InvalidImage", ["transfer of 1.vhd was not finished"]),
    "parents of another guest": (_leave_another_chain(1), "UnsafeImage", ["0.vhd: made on parent", "but the next file is"]),
    "the base of another guest": (_leave_another_chain(2), "UnsafeImage", ["1.vhd: made on parent"]),
    "left-over parents": (_shorten, "UnsafeImage", ["0.vhd: not differencing, but 1.vhd, 2.vhd follow it"]),
    "a file cut off": (_truncate, "InvalidImage", ["1.vhd: the file has data up to byte"]),
    "too many": (_add_many, "InvalidImage", ["at most 30"]),
    "a link": (_replace("1.vhd", lambda path, aside: os.symlink(aside, path)), "UnsafeImage", ["'1.vhd' is not a file"]),
    "a hard link": (_replace("1.vhd", lambda path, aside: os.link(aside, path)), "UnsafeImage", ["another name"]),
    "a directory": (_replace("1.vhd", lambda path, aside: os.mkdir(path)), "UnsafeImage", ["'1.vhd' is not a file"]),
    "a FIFO": (_replace("1.vhd", lambda path, aside: os.mkfifo(path)), "UnsafeImage", ["'1.vhd' is not a file"]),
}


# These will be refused again, whatever else arrives.
HOPELESS = ("no VHD", "parents of another guest", "the base of another guest", "left-over parents", "a file cut off")
NO_FILES = ("a link", "a hard link", "a directory", "a FIFO")


@pytest.mark.parametrize("case, where", [(case, "in the SR") for case in sorted(REFUSED)]
                         + [(case, "elsewhere") for case in NO_FILES])
def test_refused(request, receiver, case, where):
    if where == "elsewhere":
        request.getfixturevalue("elsewhere")
    change, class_name, parts = REFUSED[case]
    label, uuids, _ = receiver.arrive()
    directory = receiver.directory(label)
    change(directory)
    aside = os.path.join(os.path.dirname(directory), "aside")
    before = sr_disks.describe_tree(aside) if os.path.isdir(aside) else os.path.lexists(aside) and open(aside, "rb").read()
    is_kept = case not in HOPELESS
    arrived = sorted(os.listdir(directory))
    verdict = "instance%s were refused%s: " % (label, "" if is_kept else " and removed")
    receiver.expect_refused(label, uuids + calls.make_uuids(28), class_name, verdict, *parts, is_kept=is_kept)
    if is_kept:
        assert sorted(set(os.listdir(directory)) - {"owner"}) == arrived
    if before:
        with open(aside, "rb") as kept:
            assert kept.read() == before, "what a link leads to is another's"
        os.unlink(aside)


def test_a_directory_that_is_a_link(receiver):
    """It may lead to anything: neither read nor removed."""
    label, uuids, _ = receiver.arrive()
    os.rename(receiver.directory(label), receiver.target.dom0.locate("/tmp/elsewhere"))
    os.symlink(receiver.target.dom0.locate("/tmp/elsewhere"), receiver.directory(label))
    with sr_disks.unchanged(receiver.target.dom0.locate("/tmp/elsewhere")):
        receiver.expect_refused(label, uuids, "UnsafeImage", "is not a directory", is_kept=True)
    os.unlink(receiver.directory(label))


def test_nothing_has_arrived(receiver):
    receiver.expect_refused(migrations.make_label(), [str(uuid.uuid4())], "StorageError", "nothing has arrived")


# What may go better the next time leaves all as it was.

def test_what_can_be_repeated(receiver, images):
    label, uuids, digest = receiver.arrive()
    directory = receiver.directory(label)

    def expect_kept(class_name, text, chosen=uuids, **changes):
        receiver.expect_refused(label, chosen, class_name, text, is_kept=True, **changes)
        assert sorted(name for name in os.listdir(directory) if name != "owner") == ["0.vhd", "1.vhd", "2.vhd"]
    expect_kept("ArgumentError", "has 2 uuids", uuids[:2])
    expect_kept("StorageError", "is not there", sr_path="/var/run/sr-mount/" + str(uuid.uuid4()))
    taken, _, _ = sr_disks.write_chain(receiver.target_sr.path, 3)
    expect_kept("StorageError", "already has a VDI " + taken, uuids[:2] + [taken])
    calls.write_settings(receiver.target, "[transfer]\nreserve = 16777216\n")
    expect_kept("StorageError", "free")
    calls.write_settings(receiver.target, migrations.SETTINGS)
    receiver.receive(label, uuids)
    receiver.expect_received(label, uuids, digest)


def test_two_calls_for_one_label(receiver):
    """One makes the VDIs; the other says that it may be repeated, or that nothing is there any more."""
    label, uuids, digest = receiver.arrive()
    others = [str(uuid.uuid4()) for _ in uuids]
    with receiver.target.sm_locks.hold(receiver.target_sr.uuid, "sr", 0):
        first = Background(receiver.receive, label, uuids)
        calls.wait_until(lambda: [name for name in os.listdir(receiver.target_sr.path) if name.startswith(".dom0-plugins-")])
        with calls.refused(RECEIVE, "RetryableError", "another call"):
            receiver.receive(label, others)
    assert first.join().failure is None
    receiver.expect_received(label, uuids, digest)
    receiver.expect_refused(label, others, "StorageError", "nothing has arrived")


def test_cancelled_while_it_waits(receiver):
    label, uuids, digest = receiver.arrive()
    session = receiver.pool.login()
    task = session.xenapi.task.create("migration", "")
    with receiver.target.sm_locks.hold(receiver.target_sr.uuid, "sr", 0):
        call = Background(receiver.receive, label, uuids, task=task)
        calls.wait_until(lambda: [name for name in os.listdir(receiver.target_sr.path) if name.startswith(".dom0-plugins-")])
        session.xenapi.task.cancel(task)
        assert call.join(10).failure == ["TASK_CANCELLED", task]
    receiver.receive(label, uuids)
    receiver.expect_received(label, uuids, digest)


@pytest.mark.parametrize("python", pythons.ALL, ids=pythons.version_of)
def test_from_another_file_system_on_every_python(python):
    with Pool(python=python) as pool, tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        receiver = Receiver(pool)
        os.rmdir(receiver.target.dom0.locate("/images"))
        os.symlink(directory, receiver.target.dom0.locate("/images"))
        label, uuids, digest = receiver.arrive(2)
        receiver.receive(label, uuids, is_legacy=True)
        receiver.expect_received(label, uuids, digest)
