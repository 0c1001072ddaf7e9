# SPDX-License-Identifier: Apache-2.0
"""safe_copy_vdis: the content of a copy, its cost in space, and refusals."""

import os
import shutil
import subprocess
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

COPY = "safe_copy_vdis"
MIB = 1 << 20


def copy(pool, sr, vdi_uuids, uuids, is_legacy=False, **changes):
    """Copy a chain, leaf first, as the VDIs `uuids`, leaf first."""
    arguments = dict({"sr_path": calls.mount_path(sr), "vdi_uuids": vdi_uuids, "uuid_stack": uuids[::-1]}, **changes)
    return calls.call_form(pool, "workarounds.py", COPY, arguments, is_legacy)


@pytest.fixture(scope="module")
def newest():
    with Pool(python=pythons.NEWEST) as pool:
        calls.write_settings(pool.hosts[0], migrations.SETTINGS)
        yield pool


@pytest.fixture
def sr(newest):
    return newest.add_sr()


def test_copied(pool):
    calls.write_settings(pool.hosts[0], migrations.SETTINGS)
    for depth in (1, 3):
        check_copied(pool, pool.add_sr(), depth)


def check_copied(pool, sr, depth):
    originals, uuids = sr_disks.write_chain(sr.path, depth), calls.make_uuids(16)
    before = sr_disks.describe_tree(sr.path)
    assert copy(pool, sr, originals, uuids, is_legacy=depth == 3) == {"root": {"uuid": uuids[0]}}
    after = sr_disks.describe_tree(sr.path)
    assert {path: after[path] for path in before} == before
    assert len(after) == 2 * depth
    assert sr_disks.guest_digest(sr.path, uuids[0]) == sr_disks.guest_digest(sr.path, originals[0])
    for each in uuids[:depth]:
        vhd_written_here.expect_written_here(sr_disks.vhd_path(sr.path, each))
    records = sr.scan()
    assert [records[each]["managed"] for each in uuids[:depth]] == [True] + [False] * (depth - 1)


def test_holes_are_copied_as_holes(newest, sr):
    original, uuids = str(uuid.uuid4()), calls.make_uuids(1)
    # Each block is there, and almost nothing of it.
    vhd_writer.write_dynamic(sr_disks.vhd_path(sr.path, original), [(number * sr_disks.BLOCK, b"x" * 512) for number in range(16)],
                             sr_disks.DISK_BYTES)
    copy(newest, sr, [original], uuids)
    status = os.stat(sr_disks.vhd_path(sr.path, uuids[0]))
    assert status.st_size > 32 * MIB and status.st_blocks * 512 < 4 * MIB
    assert sr_disks.guest_digest(sr.path, uuids[0]) == sr_disks.guest_digest(sr.path, original)


@pytest.fixture
def reflink_sr(newest, sr):
    """An SR on a file system that shares blocks; XFS makes none below 300 MB."""
    directory = tempfile.mkdtemp()
    image = os.path.join(directory, "xfs")
    with open(image, "wb") as target:
        target.truncate(320 * MIB)
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", image], check=True, timeout=60)
    mounted = subprocess.run(["mount", "-o", "loop", image, sr.path], stderr=subprocess.PIPE, timeout=60)
    if mounted.returncode:
        shutil.rmtree(directory)
        pytest.skip("not applicable: no XFS can be mounted here: %s" % mounted.stderr.decode())
    yield sr
    subprocess.run(["umount", sr.path], check=True, timeout=60)
    shutil.rmtree(directory)


@pytest.mark.needs("mkfs.xfs")
def test_blocks_are_shared(newest, reflink_sr):
    sr = reflink_sr
    originals, uuids = sr_disks.write_chain(sr.path, blocks=15), calls.make_uuids(1)
    os.sync()
    before = os.statvfs(sr.path)
    copy(newest, sr, originals, uuids)
    os.sync()
    after = os.statvfs(sr.path)
    assert (before.f_bfree - after.f_bfree) * before.f_bsize < 2 * MIB, "30 MB were copied"
    assert sr_disks.guest_digest(sr.path, uuids[0]) == sr_disks.guest_digest(sr.path, originals[0])


def expect_refusal(newest, sr, vdi_uuids, uuids, class_name, *parts, **changes):
    with sr_disks.unchanged(sr.path), calls.refused(COPY, class_name, *parts):
        copy(newest, sr, vdi_uuids, uuids, **changes)


def test_refused(newest, sr):
    leaf, parent, base = sr_disks.write_chain(sr.path, 3)
    missing = str(uuid.uuid4())
    expect_refusal(newest, sr, [missing], calls.make_uuids(1), "StorageError", missing)
    expect_refusal(newest, sr, [leaf, parent], calls.make_uuids(2), "StorageError", "not a chain")
    expect_refusal(newest, sr, [leaf, parent, base], calls.make_uuids(2), "ArgumentError", "has 2 uuids")
    expect_refusal(newest, sr, [leaf, parent, base], [base] + calls.make_uuids(2), "StorageError", "already has a VDI " + base)
    expect_refusal(newest, sr, [leaf], calls.make_uuids(1), "StorageError", sr_path="/var/run/sr-mount/" + missing)


def test_no_room(newest, sr):
    originals = sr_disks.write_chain(sr.path)
    calls.write_settings(newest.hosts[0], "[transfer]\nreserve = 16777216\n")
    expect_refusal(newest, sr, originals, calls.make_uuids(1), "StorageError", "MiB free")
    calls.write_settings(newest.hosts[0], migrations.SETTINGS)


def test_a_damaged_parent(newest, sr):
    """Its footer can be read, so that it is held."""
    leaf, parent = sr_disks.write_chain(sr.path, 2)
    vhd_writer.edit_header(sr_disks.vhd_path(sr.path, parent), reseal=False, reserved1=1)
    expect_refusal(newest, sr, [leaf, parent], calls.make_uuids(2), "InvalidImage", "VDI %s: the header" % parent)


def test_the_garbage_collection_is_kept_out_and_comes_back(newest, sr):
    originals, uuids = sr_disks.write_chain(sr.path, 2), calls.make_uuids(2)
    locks = newest.hosts[0].sm_locks
    with locks.hold(sr.uuid, "gc_active", 0):
        call = Background(copy, newest, sr, originals, uuids)
        calls.wait_until(lambda: [name for name in os.listdir(sr.path) if name.startswith(".dom0-plugins-")])
    assert call.join().failure is None
    with locks.hold(sr.uuid, "gc_active", 0), locks.hold(sr.uuid, "running", 0):
        pass
    assert sr_disks.guest_digest(sr.path, uuids[0]) == sr_disks.guest_digest(sr.path, originals[0])


def test_a_collection_that_does_not_end(newest, sr):
    originals = sr_disks.write_chain(sr.path, 2)
    locks = newest.hosts[0].sm_locks
    calls.write_settings(newest.hosts[0], "[transfer]\nreserve = 1\ncollection_wait = 1\n")
    with locks.hold(sr.uuid, "gc_active", 0):
        expect_refusal(newest, sr, originals, calls.make_uuids(2), "RetryableError", "gc_active")
    calls.write_settings(newest.hosts[0], migrations.SETTINGS)


def test_cancelled(newest, sr):
    originals, uuids = sr_disks.write_chain(sr.path, 2), calls.make_uuids(2)
    session = newest.login()
    task = session.xenapi.task.create("copy", "")
    with newest.hosts[0].sm_locks.hold(sr.uuid, "gc_active", 0), sr_disks.unchanged(sr.path):
        call = Background(copy, newest, sr, originals, uuids, task=task)
        calls.wait_until(lambda: [name for name in os.listdir(sr.path) if name.startswith(".dom0-plugins-")])
        session.xenapi.task.cancel(task)
        assert call.join(5).failure == ["TASK_CANCELLED", task]
