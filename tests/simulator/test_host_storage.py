# SPDX-License-Identifier: Apache-2.0
"""SRs of the simulated host: SM's rules for scans, its garbage collection and locks, and VDIs as devices."""

import fcntl
import hashlib
import os
import subprocess
import sys
import threading
import time
import uuid

import pytest
import XenAPI

from tests.harness.pool import Pool
from tests.harness.storage.garbage_collector import GarbageCollectorBusy
from tests.harness.storage.repository import SR_LOCK_TIMEOUT_S
from tests.harness.storage.sm_locks import LockTimeout, SmLocks
from tests.harness.vhd import vhd_reader
from tests.harness.vhd import vhd_writer

MIB = 1 << 20
SIZE = 8 * MIB


@pytest.fixture
def pool():
    with Pool(plugins=False) as pool:
        yield pool


@pytest.fixture
def sr(pool):
    return pool.srs[0]


@pytest.fixture
def session(pool):
    return pool.login()


def add_disk(sr, content=b"root", name=None, **options):
    name = name or str(uuid.uuid4())
    vhd_writer.write_dynamic(os.path.join(sr.path, name + ".vhd"), content.ljust(512, b"."), SIZE, **options)
    return name


def add_child(sr, parent, changes=(), name=None, **options):
    name = name or str(uuid.uuid4())
    vhd_writer.write_differencing(os.path.join(sr.path, name + ".vhd"), os.path.join(sr.path, parent + ".vhd"), list(changes),
                                  **options)
    return name


def change(offset, text):
    return offset, text.ljust(512, b".")


def digest(sr, name):
    return vhd_reader.digest(os.path.join(sr.path, name + ".vhd"))


def scan_failure(sr):
    with pytest.raises(XenAPI.Failure) as caught:
        sr.scan()
    assert caught.value.details[0] == "SR_BACKEND_FAILURE_40"
    return caught.value.details[2]


# SR.scan

def test_vdis_appear_and_vanish_with_their_files(sr, session):
    assert sr.scan() == {}
    name = add_disk(sr)
    assert sr.vdis() == {}
    record = sr.scan()[name]
    ref = session.xenapi.VDI.get_by_uuid(name)
    assert (record["virtual_size"], record["managed"], record["read_only"], record["location"]) == (SIZE, True, False, name)
    assert record["physical_utilisation"] == os.path.getsize(os.path.join(sr.path, name + ".vhd"))
    assert session.xenapi.VDI.get_virtual_size(ref) == str(SIZE)
    assert session.xenapi.VDI.get_SR(ref) == sr.ref
    session.xenapi.VDI.set_name_label(ref, "kept")
    assert sr.scan()[name]["name_label"] == "kept"
    os.unlink(os.path.join(sr.path, name + ".vhd"))
    assert sr.scan() == {}
    with pytest.raises(XenAPI.Failure):
        session.xenapi.VDI.get_uuid(ref)


def test_chain_is_seen_whole(sr):
    root = add_disk(sr, hidden=1)
    middle = add_child(sr, root, hidden=1)
    leaf = add_child(sr, middle)
    records = sr.scan()
    assert {name: (record["managed"], record["read_only"], record["sm_config"].get("vhd-parent"))
            for name, record in records.items()} == {
        root: (False, True, None), middle: (False, True, root), leaf: (True, False, middle)}


def test_missing_parent_fails_the_scan_of_everything(sr):
    fine = add_disk(sr)
    parent = add_disk(sr)
    child = add_child(sr, parent)
    assert set(sr.scan()) == {fine, parent, child}
    os.unlink(os.path.join(sr.path, parent + ".vhd"))
    assert scan_failure(sr) == "The SR scan failed  [opterr=uuid=%s]" % child
    assert set(sr.vdis()) == {fine, parent, child}
    os.unlink(os.path.join(sr.path, child + ".vhd"))
    assert set(sr.scan()) == {fine}


@pytest.mark.parametrize("content", [b"", b"text", b"\0" * 4096], ids=["empty", "text", "zeros"])
def test_file_that_is_no_vhd_fails_the_scan(sr, content):
    add_disk(sr)
    name = str(uuid.uuid4())
    with open(os.path.join(sr.path, name + ".vhd"), "wb") as target:
        target.write(content)
    assert name in scan_failure(sr)


def test_fixed_disk_fails_the_scan(sr):
    name = str(uuid.uuid4())
    vhd_writer.write_fixed(os.path.join(sr.path, name + ".vhd"), b"x" * 512, SIZE)
    assert name in scan_failure(sr)


def test_hidden_leaf_is_no_vdi(sr):
    name = add_disk(sr, hidden=1)
    assert sr.scan() == {}
    assert os.path.exists(os.path.join(sr.path, name + ".vhd"))


def test_only_files_of_the_sr_itself_count(sr):
    os.mkdir(os.path.join(sr.path, "os-images"))
    vhd_writer.write_dynamic(os.path.join(sr.path, "os-images", "0.vhd"), b"x" * 512, SIZE)
    vhd_writer.write_dynamic(os.path.join(sr.path, ".staged.vhd"), b"x" * 512, SIZE)
    with open(os.path.join(sr.path, "notes.txt"), "w") as notes:
        notes.write("x")
    assert sr.scan() == {}


def test_raw_disk_is_a_vdi(sr):
    name = str(uuid.uuid4())
    with open(os.path.join(sr.path, name + ".raw"), "wb") as raw:
        raw.truncate(3 * MIB)
    record = sr.scan()[name]
    assert (record["virtual_size"], record["sm_config"]) == (3 * MIB, {"image-format": "raw"})


def test_unplugged_sr_cannot_be_scanned(pool, sr, session):
    pbd, = session.xenapi.SR.get_PBDs(sr.ref)
    pool.database.update("PBD", pbd, currently_attached=False)
    with pytest.raises(XenAPI.Failure) as caught:
        sr.scan()
    assert caught.value.details == ["SR_HAS_NO_PBDS", sr.ref]


def test_every_host_has_an_sr_of_its_own():
    with Pool(hosts=2, plugins=False) as pool:
        assert len(pool.srs) == 2
        for host, sr in zip(pool.hosts, pool.srs):
            assert sr.path == "%s/var/run/sr-mount/%s" % (host.root, sr.uuid)
            add_disk(sr)
            assert len(sr.scan()) == 1


# VDI.create, destroy, snapshot, clone

def test_vdi_is_made_and_destroyed_with_its_file(sr, session):
    vdi = session.xenapi.VDI.create({"SR": sr.ref, "name_label": "new", "virtual_size": str(5 * MIB + 1), "type": "user",
                                     "sharable": False, "read_only": False, "other_config": {"key": "value"}})
    record = session.xenapi.VDI.get_record(vdi)
    path = os.path.join(sr.path, record["uuid"] + ".vhd")
    assert (record["virtual_size"], record["name_label"], record["other_config"]) == (str(6 * MIB), "new", {"key": "value"})
    assert os.path.exists(path)
    session.xenapi.VDI.destroy(vdi)
    assert not os.path.exists(path)
    assert sr.vdis() == {}


def test_vdi_record_must_be_complete(sr, session):
    with pytest.raises(XenAPI.Failure) as caught:
        session.xenapi.VDI.create({"SR": sr.ref})
    assert caught.value.details == ["INTERNAL_ERROR", 'Server_helpers.Dispatcher_FieldNotFound("virtual_size")']


def test_snapshot_keeps_the_content_and_leaves_a_hidden_base(sr, session):
    name = add_disk(sr, b"before")
    inode = os.stat(os.path.join(sr.path, name + ".vhd")).st_ino
    before = digest(sr, name)
    sr.scan()
    vdi = session.xenapi.VDI.get_by_uuid(name)
    snapshot = session.xenapi.VDI.get_record(session.xenapi.VDI.snapshot(vdi))
    base, = set(sr.vdis()) - {name, snapshot["uuid"]}
    assert (snapshot["is_a_snapshot"], snapshot["snapshot_of"]) == (True, vdi)
    assert [digest(sr, disk) for disk in (name, snapshot["uuid"])] == [before] * 2
    # The old file became the base under a new name: a process that had it open reads the base now.
    assert os.stat(os.path.join(sr.path, base + ".vhd")).st_ino == inode
    records = sr.vdis()
    assert not records[base]["managed"]
    assert [records[disk]["sm_config"]["vhd-parent"] for disk in (name, snapshot["uuid"])] == [base] * 2


def test_clone_is_no_snapshot(sr, session):
    name = add_disk(sr)
    sr.scan()
    clone = session.xenapi.VDI.get_record(session.xenapi.VDI.clone(session.xenapi.VDI.get_by_uuid(name)))
    assert not clone["is_a_snapshot"]
    assert digest(sr, clone["uuid"]) == digest(sr, name)


# Garbage collection

def test_hidden_leaves_are_deleted_root_last(sr):
    root = add_disk(sr, hidden=1)
    leaf = add_child(sr, root, hidden=1)
    visible = add_disk(sr)
    assert sr.collect_garbage() == [("delete", leaf), ("delete", root)]
    assert set(sr.scan()) == {visible}


def test_hidden_only_child_is_coalesced_into_its_parent(sr):
    root = add_disk(sr, b"root", hidden=1)
    middle = add_child(sr, root, [change(4 * MIB, b"middle")], hidden=1)
    leaves = [add_child(sr, middle, [change(6 * MIB, text)]) for text in (b"one", b"two")]
    before = [digest(sr, leaf) for leaf in leaves]
    root_inode = os.stat(os.path.join(sr.path, root + ".vhd")).st_ino
    assert sr.collect_garbage() == [("coalesce", middle)]
    assert set(sr.scan()) == {root, *leaves}
    assert [digest(sr, leaf) for leaf in leaves] == before
    # In place: a reader of the old chain sees the root change under it.
    assert os.stat(os.path.join(sr.path, root + ".vhd")).st_ino == root_inode


def test_leaf_takes_over_its_parents_file(sr):
    root = add_disk(sr, b"root", hidden=1)
    leaf = add_child(sr, root, [change(4 * MIB, b"leaf")])
    before = digest(sr, leaf)
    root_inode = os.stat(os.path.join(sr.path, root + ".vhd")).st_ino
    assert sr.collect_garbage() == [("leaf-coalesce", leaf)]
    record, = sr.scan().values()
    assert (record["uuid"], record["managed"], "vhd-parent" in record["sm_config"]) == (leaf, True, False)
    assert digest(sr, leaf) == before
    assert os.stat(os.path.join(sr.path, leaf + ".vhd")).st_ino == root_inode


def test_leaf_in_use_stays(pool, sr, session):
    root = add_disk(sr, hidden=1)
    leaf = add_child(sr, root)
    sr.scan()
    vbd = create_vbd(session, pool, leaf)
    session.xenapi.VBD.plug(vbd)
    assert sr.collect_garbage() == []
    session.xenapi.VBD.unplug(vbd)
    assert sr.collect_garbage() == [("leaf-coalesce", leaf)]


def test_siblings_stay(sr):
    root = add_disk(sr, hidden=1)
    for _ in range(2):
        add_child(sr, root)
    assert sr.collect_garbage() == []


def test_missing_parent_stops_the_collection(sr):
    garbage = add_disk(sr, hidden=1)
    parent = add_disk(sr)
    add_child(sr, parent)
    os.unlink(os.path.join(sr.path, parent + ".vhd"))
    with pytest.raises(Exception, match="SR_BACKEND_FAILURE_40"):
        sr.collect_garbage()
    assert os.path.exists(os.path.join(sr.path, garbage + ".vhd"))


# Locks: taken by another process, as a plug-in takes them.

HOLD = """
import fcntl, sys
files = [open(path, "w") for path in sys.argv[1:]]
for lock_file in files:
    fcntl.lockf(lock_file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


class Holder(object):
    """Another process that holds locks of an SR."""

    def __init__(self, pool, sr, *names):
        directory = pool.hosts[0].dom0.locate("/var/lock/sm/%s" % sr.uuid)
        os.makedirs(directory, exist_ok=True)
        self._process = subprocess.Popen([sys.executable, "-c", HOLD] + [os.path.join(directory, name) for name in names],
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout.readline() == b"held\n"

    def release(self):
        self._process.communicate(timeout=10)


@pytest.mark.parametrize("name", ["gc_active", "running"])
def test_collection_gives_way_to_who_reads_a_chain(pool, sr, name):
    garbage = add_disk(sr, hidden=1)
    holder = Holder(pool, sr, name)
    with pytest.raises(GarbageCollectorBusy):
        sr.collect_garbage()
    assert os.path.exists(os.path.join(sr.path, garbage + ".vhd"))
    holder.release()
    assert sr.collect_garbage() == [("delete", garbage)]


def test_scan_waits_for_the_sr_lock(pool, sr):
    holder = Holder(pool, sr, "sr")
    done = []
    scan = threading.Thread(target=lambda: done.append(sr.scan()))
    scan.start()
    time.sleep(0.3)
    assert done == []
    holder.release()
    scan.join(10)
    assert done == [{}]


def test_collection_holds_gc_active_and_running(pool, sr):
    # The slow step is a coalesce: while it runs another process finds both locks taken and `sr` free.
    root = add_disk(sr, b"root", hidden=1)
    middle = add_child(sr, root, hidden=1)
    for _ in range(2):
        add_child(sr, middle)
    dom0 = pool.hosts[0].dom0
    real = os.path.join(dom0.bin_dir, "vhd-util.real")
    os.rename(os.path.join(dom0.bin_dir, "vhd-util"), real)
    probe = ("import fcntl, os, sys\n"
             "for name in ('sr', 'gc_active', 'running'):\n"
             "    with open(os.path.join('%s', name), 'w') as lock_file:\n"
             "        try:\n"
             "            fcntl.lockf(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
             "            print(name, 'free')\n"
             "        except OSError:\n"
             "            print(name, 'held')\n" % dom0.locate("/var/lock/sm/%s" % sr.uuid))
    with open(os.path.join(dom0.bin_dir, "vhd-util"), "w") as wrapper:
        wrapper.write("#!/bin/sh\nif [ \"$1\" = coalesce ]; then %s -c \"%s\" > '%s/locks'; fi\nexec %s \"$@\"\n"
                      % (sys.executable, probe, pool.root, real))
    os.chmod(os.path.join(dom0.bin_dir, "vhd-util"), 0o755)
    assert sr.collect_garbage() == [("coalesce", middle)]
    with open(os.path.join(pool.root, "locks")) as locks:
        assert locks.read().split("\n")[:3] == ["sr free", "gc_active held", "running held"]


def test_lock_excludes_threads_and_processes(tmp_path):
    locks = SmLocks(str(tmp_path))
    with locks.hold("object", "sr", 0):
        with pytest.raises(LockTimeout):
            with locks.hold("object", "sr", 0.1):
                pass
        code = ("import fcntl, sys; f = open(sys.argv[1], 'r+'); fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)")
        path = str(tmp_path / "object" / "sr")
        assert subprocess.run([sys.executable, "-c", code, path], stderr=subprocess.DEVNULL, timeout=60).returncode != 0
    assert subprocess.run([sys.executable, "-c", code, path], timeout=60).returncode == 0
    locks.close()
    assert SR_LOCK_TIMEOUT_S >= 60 and fcntl.LOCK_EX


# VBDs: a VDI as a device of dom0

def create_vbd(session, pool, vdi_uuid, mode="RO", **fields):
    """As os-xenapi and nova make one."""
    record = {"VM": pool.hosts[0].control_domain_ref, "VDI": session.xenapi.VDI.get_by_uuid(vdi_uuid), "userdevice": "autodetect",
              "bootable": False, "mode": mode, "type": "disk", "unpluggable": True, "empty": False, "other_config": {},
              "qos_algorithm_type": "", "qos_algorithm_params": {}, "qos_supported_algorithms": []}
    return session.xenapi.VBD.create(dict(record, **fields))


def device_path(pool, session, vbd):
    return pool.hosts[0].dom0.locate("/dev/" + session.xenapi.VBD.get_device(vbd))


def hash_file(path):
    with open(path, "rb") as source:
        return hashlib.sha256(source.read()).hexdigest()


def test_plugged_chain_reads_as_the_guest_would(pool, sr, session):
    root = add_disk(sr, b"root", hidden=1)
    leaf = add_child(sr, root, [change(4 * MIB, b"leaf")])
    sr.scan()
    vbd = create_vbd(session, pool, leaf)
    assert session.xenapi.VBD.get_device(vbd) == ""
    session.xenapi.VBD.plug(vbd)
    path = device_path(pool, session, vbd)
    assert path.endswith("/dev/xvda")
    assert os.path.getsize(path) == SIZE
    assert hash_file(path) == digest(sr, leaf)
    with open(path, "rb") as device:
        assert device.read(4) == b"root"
        device.seek(4 * MIB)
        assert device.read(4) == b"leaf"
    session.xenapi.VBD.unplug(vbd)
    assert not os.path.exists(path)
    assert session.xenapi.VBD.get_device(vbd) == ""
    session.xenapi.VBD.destroy(vbd)
    assert session.xenapi.VBD.get_all() == []


def test_what_is_written_to_the_device_is_in_the_vdi_after_unplugging(pool, sr, session):
    root = add_disk(sr, b"root", hidden=1)
    leaf = add_child(sr, root, [change(4 * MIB, b"leaf")])
    root_before = digest(sr, root)
    sr.scan()
    vbd = create_vbd(session, pool, leaf, "RW")
    session.xenapi.VBD.plug(vbd)
    path = device_path(pool, session, vbd)
    with open(path, "r+b") as device:
        for offset in (0, 4 * MIB, SIZE - 512):
            device.seek(offset)
            device.write(b"written")
    expected = hash_file(path)
    session.xenapi.VBD.unplug(vbd)
    assert digest(sr, leaf) == expected
    assert digest(sr, root) == root_before
    sr.scan()


def test_writes_to_a_device_plugged_for_reading_are_lost(pool, sr, session):
    name = add_disk(sr)
    before = digest(sr, name)
    sr.scan()
    vbd = create_vbd(session, pool, name)
    session.xenapi.VBD.plug(vbd)
    with open(device_path(pool, session, vbd), "r+b") as device:
        device.write(b"written")
    session.xenapi.VBD.unplug(vbd)
    assert digest(sr, name) == before


def test_raw_vdi_is_its_own_device(pool, sr, session):
    name = str(uuid.uuid4())
    raw_path = os.path.join(sr.path, name + ".raw")
    with open(raw_path, "wb") as raw:
        raw.write(b"raw".ljust(MIB, b"."))
    sr.scan()
    vbd = create_vbd(session, pool, name, "RW")
    session.xenapi.VBD.plug(vbd)
    assert os.path.realpath(device_path(pool, session, vbd)) == os.path.realpath(raw_path)
    session.xenapi.VBD.unplug(vbd)
    assert os.path.getsize(raw_path) == MIB


def details_of(call, *arguments):
    with pytest.raises(XenAPI.Failure) as caught:
        call(*arguments)
    return caught.value.details


def test_states_a_vbd_is_in(pool, sr, session):
    name = add_disk(sr)
    sr.scan()
    vbd = create_vbd(session, pool, name)
    assert details_of(session.xenapi.VBD.unplug, vbd) == ["DEVICE_ALREADY_DETACHED", vbd]
    session.xenapi.VBD.plug(vbd)
    assert details_of(session.xenapi.VBD.plug, vbd) == ["DEVICE_ALREADY_ATTACHED", vbd]
    assert details_of(session.xenapi.VBD.destroy, vbd)[0] == "OPERATION_NOT_ALLOWED"
    vdi = session.xenapi.VDI.get_by_uuid(name)
    assert details_of(session.xenapi.VDI.destroy, vdi) == ["VDI_IN_USE", vdi, "destroy"]


def test_who_writes_is_alone(pool, sr, session):
    name = add_disk(sr)
    sr.scan()
    readers = [create_vbd(session, pool, name) for _ in range(2)]
    writer = create_vbd(session, pool, name, "RW")
    for vbd in readers:
        session.xenapi.VBD.plug(vbd)
    assert [session.xenapi.VBD.get_device(vbd) for vbd in readers] == ["xvda", "xvdb"]
    assert details_of(session.xenapi.VBD.plug, writer)[:2] == ["VDI_IN_USE", session.xenapi.VDI.get_by_uuid(name)]
    for vbd in readers:
        session.xenapi.VBD.unplug(vbd)
    session.xenapi.VBD.plug(writer)


def test_device_number_taken_twice(pool, sr, session):
    name = add_disk(sr)
    sr.scan()
    create_vbd(session, pool, name, userdevice="3")
    with pytest.raises(XenAPI.Failure) as caught:
        create_vbd(session, pool, name, userdevice="3")
    assert caught.value.details == ["DEVICE_ALREADY_EXISTS", "3"]


def test_device_busy_for_a_while(pool, sr, session):
    name = add_disk(sr)
    sr.scan()
    vbd = create_vbd(session, pool, name)
    session.xenapi.VBD.plug(vbd)
    pool.faults.fail("VBD.unplug", "DEVICE_DETACH_REJECTED", "VBD", vbd, "device is busy", times=3)
    for _ in range(3):
        assert details_of(session.xenapi.VBD.unplug, vbd)[0] == "DEVICE_DETACH_REJECTED"
    session.xenapi.VBD.unplug(vbd)
