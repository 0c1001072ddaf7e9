# SPDX-License-Identifier: Apache-2.0
"""safe_copy_vdis: what a copy is, what it costs in space, and what is refused."""

import json
import os
import shutil
import subprocess
import tempfile
import uuid

import pytest

from tests import conftest
from tests.calls.images import transfer_cases as cases
from tests.calls.migration import migrations
from tests.harness.pool import Pool
from tests.harness.vhd import vhd_writer

COPY = "safe_copy_vdis"
MIB = 1 << 20


def make_uuids(count):
    return [str(uuid.uuid4()) for _ in range(count)]


def copy(pool, sr, vdi_uuids, uuids, is_legacy=False, **changes):
    """Copy a chain, leaf first, as the VDIs `uuids`, leaf first."""
    arguments = dict({"sr_path": "/var/run/sr-mount/" + sr.uuid, "vdi_uuids": vdi_uuids, "uuid_stack": uuids[::-1]}, **changes)
    encode, decode = (cases.encode_legacy, cases.decode_legacy) if is_legacy else (cases.encode_plain, json.loads)
    return decode(pool.call("workarounds.py", COPY, encode(arguments)))


@pytest.fixture(scope="module")
def newest():
    with Pool(python=conftest.DOM0_PYTHONS[-1][1]) as pool:
        cases.write_settings(pool.hosts[0], migrations.SETTINGS)
        yield pool


@pytest.fixture
def sr(newest):
    return newest.add_sr()


def digest(sr, leaf):
    return cases.guest_digest(sr.path, leaf)


def test_copied(pool):
    cases.write_settings(pool.hosts[0], migrations.SETTINGS)
    for depth in (1, 3):
        check_copied(pool, pool.add_sr(), depth)


def check_copied(pool, sr, depth):
    originals, uuids = cases.write_chain(sr.path, depth), make_uuids(16)
    before = cases.read_tree(sr.path)
    assert copy(pool, sr, originals, uuids, is_legacy=depth == 3) == {"root": {"uuid": uuids[0]}}
    after = cases.read_tree(sr.path)
    assert {path: after[path] for path in before} == before
    assert len(after) == 2 * depth
    assert digest(sr, uuids[0]) == digest(sr, originals[0])
    records = sr.scan()
    assert [records[each]["managed"] for each in uuids[:depth]] == [True] + [False] * (depth - 1)


def test_holes_are_copied_as_holes(newest, sr):
    original, uuids = str(uuid.uuid4()), make_uuids(1)
    # Each block is there, and almost nothing of it.
    vhd_writer.write_dynamic(cases.vhd_path(sr.path, original), [(number * cases.BLOCK, b"x" * 512) for number in range(16)],
                             cases.DISK_BYTES)
    copy(newest, sr, [original], uuids)
    status = os.stat(cases.vhd_path(sr.path, uuids[0]))
    assert status.st_size > 32 * MIB and status.st_blocks * 512 < 4 * MIB
    assert digest(sr, uuids[0]) == digest(sr, original)


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
    originals, uuids = cases.write_chain(sr.path, blocks=15), make_uuids(1)
    os.sync()
    before = os.statvfs(sr.path)
    copy(newest, sr, originals, uuids)
    os.sync()
    after = os.statvfs(sr.path)
    assert (before.f_bfree - after.f_bfree) * before.f_bsize < 2 * MIB, "30 MB were copied"
    assert digest(sr, uuids[0]) == digest(sr, originals[0])


def expect_refusal(newest, sr, vdi_uuids, uuids, class_name, *parts, **changes):
    with cases.unchanged(sr.path), cases.refused(COPY, class_name, *parts):
        copy(newest, sr, vdi_uuids, uuids, **changes)


def test_refused(newest, sr):
    leaf, parent, base = cases.write_chain(sr.path, 3)
    missing = str(uuid.uuid4())
    expect_refusal(newest, sr, [missing], make_uuids(1), "StorageError", missing)
    expect_refusal(newest, sr, [leaf, parent], make_uuids(2), "StorageError", "not a chain")
    expect_refusal(newest, sr, [leaf, parent, base], make_uuids(2), "ArgumentError", "has 2 uuids")
    expect_refusal(newest, sr, [leaf, parent, base], [base] + make_uuids(2), "StorageError", "already has a VDI " + base)
    expect_refusal(newest, sr, [leaf], make_uuids(1), "StorageError", sr_path="/var/run/sr-mount/" + missing)


def test_no_room(newest, sr):
    originals = cases.write_chain(sr.path)
    cases.write_settings(newest.hosts[0], "[transfer]\nreserve = 16777216\n")
    expect_refusal(newest, sr, originals, make_uuids(1), "StorageError", "MiB free")
    cases.write_settings(newest.hosts[0], migrations.SETTINGS)


def test_a_damaged_parent(newest, sr):
    """Its metadata can be read, so that it is copied, but the copy is not let in."""
    leaf, parent = cases.write_chain(sr.path, 2)
    vhd_writer.edit_header(cases.vhd_path(sr.path, parent), reseal=False, reserved1=1)
    expect_refusal(newest, sr, [leaf, parent], make_uuids(2), "UnsafeImage", "header")


def test_the_garbage_collection_is_kept_out_and_comes_back(newest, sr):
    originals, uuids = cases.write_chain(sr.path, 2), make_uuids(2)
    locks = newest.hosts[0].sm_locks
    with locks.hold(sr.uuid, "gc_active", 0):
        call = migrations.Background(copy, newest, sr, originals, uuids)
        cases.wait_until(lambda: [name for name in os.listdir(sr.path) if name.startswith(".dom0-plugins-")])
    assert call.join() is None
    with locks.hold(sr.uuid, "gc_active", 0), locks.hold(sr.uuid, "running", 0):
        pass
    assert digest(sr, uuids[0]) == digest(sr, originals[0])


def test_a_collection_that_does_not_end(newest, sr):
    originals = cases.write_chain(sr.path, 2)
    locks = newest.hosts[0].sm_locks
    cases.write_settings(newest.hosts[0], "[transfer]\nreserve = 1\ncollection_wait = 1\n")
    with locks.hold(sr.uuid, "gc_active", 0):
        expect_refusal(newest, sr, originals, make_uuids(2), "RetryableError", "gc_active")
    cases.write_settings(newest.hosts[0], migrations.SETTINGS)


def test_cancelled(newest, sr):
    originals, uuids = cases.write_chain(sr.path, 2), make_uuids(2)
    session = newest.login()
    task = session.xenapi.task.create("copy", "")
    with newest.hosts[0].sm_locks.hold(sr.uuid, "gc_active", 0), cases.unchanged(sr.path):
        call = migrations.Background(copy, newest, sr, originals, uuids, task=task)
        cases.wait_until(lambda: [name for name in os.listdir(sr.path) if name.startswith(".dom0-plugins-")])
        session.xenapi.task.cancel(task)
        assert call.join(5) == ["TASK_CANCELLED", task]
