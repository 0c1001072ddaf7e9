# SPDX-License-Identifier: Apache-2.0
"""kernel.py: kernels from disks and from the cache, VBDs that will not go, and a sweep that takes nothing in use."""

import errno
import http.client
import os
import shutil
import signal
import threading
import time
import uuid

import pytest

from tests.calls import calls
from tests.calls import plugin_memory
from tests.calls import pythons
from tests.calls import sr_disks
from tests.calls.boot.kernel_host import BOOT_GUEST, DETACH_WAIT_S, DISK_BYTES, KERNEL, MIB, PLUGIN, open_kernel_host

COPY = "copy_vdi"
MAX_CALL_S = 60
REFUSED = "DEVICE_DETACH_REJECTED"
# As long as an own file takes to be older than a grace of 1 s.
AGING_S = 2.1
# Of the files of the fixture: those that records name themselves.
USED = ("halted", "halted ramdisk", "running", "template", "template ramdisk", "snapshot", "snapshot ramdisk", "ramdisk alone")


@pytest.fixture(scope="module")
def any_host(dom0_python):
    """On every dom0 Python in turn."""
    with open_kernel_host(dom0_python) as host:
        yield host


@pytest.fixture(scope="module")
def kernel_host():
    """On the oldest dom0 Python: its reads are cut short by signals, and its os.listdir gives bytes."""
    with open_kernel_host(pythons.OLDEST) as host:
        yield host


@pytest.fixture
def disk(kernel_host):
    """The reference of a VDI with a kernel; nothing goes wrong unless the test says so."""
    kernel_host.pool.faults.clear()
    kernel_host.pool.faults.calls.clear()
    return kernel_host.add_disk()[1]


@pytest.mark.parametrize("is_vhd", [False, True], ids=["raw", "vhd"])
def test_copy(any_host, is_vhd):
    vdi_uuid, ref = any_host.add_disk(is_vhd=is_vhd)
    image_id = str(uuid.uuid4())
    with sr_disks.unchanged(any_host.sr.path):
        assert any_host.copy(ref, cached_image=image_id) == "%s/%s" % (BOOT_GUEST, vdi_uuid)
    assert any_host.read_kernel(vdi_uuid) == any_host.read_kernel(image_id) == KERNEL
    any_host.check_nothing_plugged()
    assert not [name for name in os.listdir(any_host.directory) if name.startswith(".")]

    new_uuid = str(uuid.uuid4())
    created = {"cached_image": image_id, "new_image_uuid": new_uuid}
    assert any_host.call("create_kernel_ramdisk", **created) == "%s/%s" % (BOOT_GUEST, new_uuid)
    paths = {"kernel_file": "%s/%s" % (BOOT_GUEST, vdi_uuid), "ramdisk_file": "%s/%s" % (BOOT_GUEST, image_id)}
    assert any_host.call("remove_kernel_ramdisk", **paths) == "ok"
    assert not os.path.exists(os.path.join(any_host.directory, vdi_uuid))
    assert any_host.read_kernel(new_uuid) == KERNEL, "a guest's kernel stays when the cache is emptied"
    assert any_host.call("create_kernel_ramdisk", **created) == ""
    assert any_host.call("remove_kernel_ramdisk", **paths) == "ok"


def test_legacy_form(any_host):
    vdi_uuid, ref = any_host.add_disk()

    def call(function, **arguments):
        return calls.decode_legacy(any_host.pool.call(PLUGIN, function, calls.encode_legacy(
            {name.replace("_", "-"): value for name, value in arguments.items()})))
    assert call(COPY, vdi_ref=ref, image_size=len(KERNEL), cached_image=None) == "%s/%s" % (BOOT_GUEST, vdi_uuid)
    assert any_host.read_kernel(vdi_uuid) == KERNEL
    assert call("create_kernel_ramdisk", cached_image=str(uuid.uuid4()), new_image_uuid=str(uuid.uuid4())) == ""
    assert call("remove_kernel_ramdisk", kernel_file="%s/%s" % (BOOT_GUEST, vdi_uuid)) == "ok"
    assert sorted(call("sweep")) == ["kept", "removed", "staging_removed", "still_plugged", "unplugged", "unused"]


@pytest.mark.parametrize("size_bytes", [1, 511, MIB, MIB + 1, DISK_BYTES])
def test_sizes(kernel_host, size_bytes):
    vdi_uuid, ref = kernel_host.add_disk()
    kernel_host.copy(ref, size_bytes, cached_image="")
    assert kernel_host.read_kernel(vdi_uuid) == KERNEL.ljust(DISK_BYTES, b"\0")[:size_bytes]


def test_memory_does_not_grow_with_the_size(any_host):
    task = any_host.pool.login().xenapi.task.create("copy", "")
    ref = any_host.add_disk(size_bytes=100 * MIB)[1]
    with plugin_memory.watched(any_host.host) as peak:
        any_host.copy(ref, 100 * MIB, task=task)
    assert 0 < peak.kib < 32 * 1024


def test_larger_than_the_disk(kernel_host, disk):
    with kernel_host.unchanged(), calls.refused(COPY, "ArgumentError", "image-size", str(DISK_BYTES)):
        kernel_host.copy(disk, DISK_BYTES + 1)


def test_larger_than_the_room(kernel_host, disk):
    with kernel_host.settings("reserve = %d" % (1 << 24)):
        with kernel_host.unchanged(), calls.refused(COPY, "StorageError", BOOT_GUEST, "MiB free"):
            kernel_host.copy(disk)


def test_no_such_disk(kernel_host, disk):
    with kernel_host.unchanged(), calls.refused(COPY, "PluginError", "HANDLE_INVALID"):
        kernel_host.copy("OpaqueRef:%s" % uuid.uuid4())


def test_the_same_again(kernel_host):
    vdi_uuid, ref = kernel_host.add_disk()
    for image_id in ("first", "second", "first"):
        kernel_host.copy(ref, cached_image=image_id)
        assert kernel_host.read_kernel(vdi_uuid) == kernel_host.read_kernel(image_id) == KERNEL


def test_a_file_that_takes_no_more_links(kernel_host):
    """As on file systems that know no hard links; ext4 counts to 65,000."""
    image_id, new_uuid = str(uuid.uuid4()), str(uuid.uuid4())
    cached = os.path.join(kernel_host.directory, image_id)
    write(cached, KERNEL)
    links = os.path.join(kernel_host.host.root, "links")
    os.mkdir(links)
    try:
        for number in range(70000):
            os.link(cached, os.path.join(links, str(number)))
        pytest.skip("not applicable: this file system lets a file have any number of names")
    except OSError as error:
        assert error.errno == errno.EMLINK
    created = {"cached_image": image_id, "new_image_uuid": new_uuid}
    assert kernel_host.call("create_kernel_ramdisk", **created) == "%s/%s" % (BOOT_GUEST, new_uuid)
    assert kernel_host.read_kernel(new_uuid) == KERNEL
    assert os.stat(os.path.join(kernel_host.directory, new_uuid)).st_nlink == 1
    # Once more: the name is taken, by the same content.
    assert kernel_host.call("create_kernel_ramdisk", **created) == "%s/%s" % (BOOT_GUEST, new_uuid)
    write(os.path.join(kernel_host.directory, new_uuid), b"another")
    with calls.refused("create_kernel_ramdisk", "StorageError", new_uuid, "other content"):
        kernel_host.call("create_kernel_ramdisk", **created)
    shutil.rmtree(links)


@pytest.mark.parametrize("taken", ["kernel", "cache"])
@pytest.mark.parametrize("content", ["shorter", "other", "link", "directory"])
def test_a_name_that_is_taken(kernel_host, taken, content):
    vdi_uuid, ref = kernel_host.add_disk()
    image_id = str(uuid.uuid4())
    name = vdi_uuid if taken == "kernel" else image_id
    path = os.path.join(kernel_host.directory, name)
    target = os.path.join(kernel_host.host.root, "victim")
    make = {"shorter": lambda: write(path, KERNEL[:-1]), "other": lambda: write(path, KERNEL[:-1] + b"x"),
            "link": lambda: (write(target, KERNEL), os.symlink(target, path)), "directory": lambda: os.mkdir(path)}
    make[content]()
    before, names = os.lstat(path), set(os.listdir(kernel_host.directory))
    with calls.refused(COPY, "StorageError", name):
        kernel_host.copy(ref, cached_image=image_id)
    after = os.lstat(path)
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)
    assert set(os.listdir(kernel_host.directory)) == names, "neither name is given when one is taken"
    kernel_host.check_nothing_plugged()


def write(path, content):
    with open(path, "wb") as target:
        target.write(content)


def test_boot_guest_in_an_sr(any_host):
    """As the guide for administrators sets it up; and the files of a VM stay within reach by either path."""
    inside = os.path.join(any_host.sr.path, "os-guest-kernels")
    outside, moved = any_host.directory, any_host.host.dom0.locate(BOOT_GUEST)
    os.mkdir(inside)
    os.rename(moved, moved + ".real")
    os.symlink(inside, moved)
    try:
        any_host.directory = inside
        vdi_uuid, ref = any_host.add_disk()
        assert any_host.copy(ref) == "%s/%s" % (BOOT_GUEST, vdi_uuid)
        assert any_host.read_kernel(vdi_uuid) == KERNEL
        path = "/var/run/sr-mount/%s/os-guest-kernels/%s" % (any_host.sr.uuid, vdi_uuid)
        assert any_host.call("remove_kernel_ramdisk", kernel_file=path) == "ok"
        assert os.listdir(inside) == []
        os.rmdir(inside)
        with calls.refused(COPY, "StorageError", "is the SR attached"):
            any_host.copy(ref)
    finally:
        any_host.directory = outside
        os.unlink(moved)
        os.rename(moved + ".real", moved)


def test_remove_refuses_what_is_elsewhere(kernel_host):
    root = kernel_host.host.root
    victim = os.path.join(root, "boot", "vmlinuz")
    write(victim, b"dom0's own")
    name = str(uuid.uuid4())
    os.makedirs(os.path.join(kernel_host.directory, "deeper"), exist_ok=True)
    write(os.path.join(kernel_host.directory, name), b"a kernel")
    os.symlink("../vmlinuz", os.path.join(kernel_host.directory, "link"))
    os.symlink(".", os.path.join(kernel_host.directory, "here"))
    os.makedirs(root + BOOT_GUEST + "2")
    write(root + BOOT_GUEST + "2/x", b"a sibling's")
    remove = "remove_kernel_ramdisk"
    for path in ("/boot/vmlinuz", "/etc/passwd", BOOT_GUEST + "2/x", BOOT_GUEST + "/deeper/x", BOOT_GUEST):
        # Neither goes when one is refused.
        with calls.refused(remove, "ArgumentError", "ramdisk-file", "leads out of /boot/guest"):
            kernel_host.call(remove, kernel_file="%s/%s" % (BOOT_GUEST, name), ramdisk_file=path)
    for bad in ("link", "deeper"):
        with calls.refused(remove, "StorageError", bad):
            kernel_host.call(remove, kernel_file="%s/%s" % (BOOT_GUEST, name), ramdisk_file="%s/%s" % (BOOT_GUEST, bad))
    assert kernel_host.read_kernel(name) == b"a kernel" and os.path.exists(victim)
    assert kernel_host.call(remove, kernel_file="", ramdisk_file="") == "ok"
    # A path through a link that leads back here is in here.
    assert kernel_host.call(remove, kernel_file="%s/here/%s" % (BOOT_GUEST, name)) == "ok"
    assert not os.path.exists(os.path.join(kernel_host.directory, name))
    for name in ("link", "here"):
        os.unlink(os.path.join(kernel_host.directory, name))


# The VBD.

def test_busy_for_a_while(kernel_host, disk):
    kernel_host.pool.faults.fail("VBD.unplug", REFUSED, "VBD", "OpaqueRef:x", "busy", times=3)
    assert kernel_host.copy(disk).startswith(BOOT_GUEST)
    kernel_host.check_nothing_plugged()
    assert kernel_host.pool.faults.calls["VBD.unplug"] == 4


def test_busy_for_ever(kernel_host, disk):
    kernel_host.pool.faults.fail("VBD.unplug", REFUSED, "VBD", "OpaqueRef:x", "busy", times=1000)
    started = time.monotonic()
    with sr_disks.unchanged(kernel_host.directory), calls.refused(COPY, "PluginError", "unplug", REFUSED):
        kernel_host.copy(disk)
    assert DETACH_WAIT_S - 1.1 < time.monotonic() - started < DETACH_WAIT_S + MAX_CALL_S
    assert len(kernel_host.list_vbds()) == 1
    # The call succeeds though the disk cannot be unplugged; the next copy, of another disk, cleans up.
    assert kernel_host.sweep()["still_plugged"] == [disk]
    kernel_host.pool.faults.clear()
    kernel_host.copy(kernel_host.add_disk()[1])
    kernel_host.check_nothing_plugged()


def test_the_first_error_is_kept(kernel_host, disk):
    kernel_host.pool.faults.fail("VBD.unplug", REFUSED, "VBD", "OpaqueRef:x", "busy", times=1000)
    with sr_disks.unchanged(kernel_host.directory), calls.refused(COPY, "ArgumentError", "image-size"):
        kernel_host.copy(disk, DISK_BYTES + 1)
    assert any(REFUSED in line for line in kernel_host.host.syslog_lines())
    kernel_host.pool.faults.clear()
    assert kernel_host.sweep()["unplugged"] == [disk]
    kernel_host.check_nothing_plugged()


def test_unplugged_by_somebody_else(kernel_host, disk):
    """DEVICE_ALREADY_DETACHED is as good as success."""
    go = threading.Event()
    unplug = kernel_host.pool.login().xenapi.VBD.unplug
    kernel_host.pool.faults.wait("VBD.unplug", go)
    results = []
    thread = threading.Thread(target=lambda: results.append(kernel_host.copy(disk)))
    thread.start()
    calls.wait_until(lambda: kernel_host.pool.faults.calls["VBD.unplug"] == 1)
    unplug(kernel_host.pool.database.refs("VBD")[0])
    go.set()
    thread.join(MAX_CALL_S)
    assert results
    kernel_host.check_nothing_plugged()


@pytest.mark.parametrize("message, code", [
    ("VBD.create", "DEVICE_ALREADY_EXISTS"), ("VBD.plug", "SR_BACKEND_FAILURE_46"), ("VBD.plug", "VDI_IN_USE"),
    ("VBD.get_device", "INTERNAL_ERROR"), ("VM.get_by_uuid", "INTERNAL_ERROR"), ("VBD.destroy", "OPERATION_NOT_ALLOWED")])
def test_xapi_refuses(kernel_host, disk, message, code):
    kernel_host.pool.faults.fail(message, code, "a secret")
    with sr_disks.unchanged(kernel_host.directory), calls.refused(COPY, "PluginError", code) as messages:
        kernel_host.copy(disk)
    assert "a secret" not in messages[0]
    kernel_host.pool.faults.clear()
    kernel_host.sweep()
    kernel_host.check_nothing_plugged()


@pytest.mark.parametrize("message", ["VDI.get_uuid", "VBD.create", "VBD.plug", "VBD.get_device", "VBD.unplug", "VBD.destroy"])
def test_xapi_dies(kernel_host, disk, message):
    """The client's own call is lost with it; the plug-in ends in bounded time, and the next call cleans up."""
    kernel_host.pool.faults.die(message)
    with sr_disks.unchanged(kernel_host.directory):
        with pytest.raises((OSError, http.client.HTTPException)):
            kernel_host.copy(disk)
        calls.wait_until(lambda: not kernel_host.host.dom0.processes.running_pids(), limit_s=MAX_CALL_S)
    lines = [line for line in kernel_host.host.syslog_lines() if "copy_vdi failed" in line]
    assert "RetryableError" in lines[-1] and "XAPI cannot be reached" in lines[-1]
    kernel_host.pool.start_xapi()
    kernel_host.sweep()
    kernel_host.check_nothing_plugged()
    kernel_host.copy(disk)


@pytest.mark.parametrize("message", ["VBD.create", "VBD.plug", "VBD.unplug", "VBD.destroy"])
def test_a_signal_while_xapi_is_slow(any_host, message):
    any_host.pool.faults.clear()
    any_host.pool.faults.calls.clear()
    ref = any_host.add_disk()[1]
    go = threading.Event()
    any_host.pool.faults.wait(message, go)
    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(any_host.attempt(lambda: any_host.copy(ref))))
    with sr_disks.unchanged(any_host.directory):
        thread.start()
        calls.wait_until(lambda: any_host.pool.faults.calls[message] == 1)
        for pid in any_host.host.dom0.processes.running_pids():
            os.kill(pid, signal.SIGTERM)
        time.sleep(0.2)
        go.set()
        thread.join(MAX_CALL_S + DETACH_WAIT_S)
    assert outcomes[0][:2] == ["XENAPI_PLUGIN_FAILURE", "signal: SIGTERM"]
    # Python 2 loses the answer that the signal interrupts, and with it the VBD's reference.
    any_host.sweep()
    any_host.check_nothing_plugged()


def test_cancelled(kernel_host, disk):
    session = kernel_host.pool.login()
    task = session.xenapi.task.create("copy", "")
    session.xenapi.task.cancel(task)
    go = threading.Event()
    kernel_host.pool.faults.wait("VBD.get_device", go)
    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(kernel_host.attempt(lambda: kernel_host.copy(disk, task=task))))
    with kernel_host.unchanged():
        thread.start()
        calls.wait_until(lambda: kernel_host.pool.faults.calls["task.get_current_operations"])
        time.sleep(0.5)  # until the plug-in has read the answer
        go.set()
        thread.join(MAX_CALL_S)
    assert outcomes == [["TASK_CANCELLED", task]]


def test_two_copies_at_once(kernel_host):
    """The sweep of one call does not touch the disk and the staged file of the other."""
    disks = [kernel_host.add_disk() for _ in range(4)]
    outcomes = []
    threads = [threading.Thread(target=lambda ref=ref: outcomes.append(kernel_host.attempt(
        lambda: kernel_host.copy(ref, cached_image="shared")))) for _, ref in disks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert outcomes == [None] * 4
    assert all(kernel_host.read_kernel(name) == KERNEL for name in [name for name, _ in disks] + ["shared"])
    kernel_host.check_nothing_plugged()


def test_a_sweep_leaves_the_living_alone(kernel_host, disk):
    """A sweep does not touch the disk and the file that another process has plugged and staged."""
    go = threading.Event()
    kernel_host.pool.faults.wait("VBD.get_device", go)
    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(kernel_host.attempt(lambda: kernel_host.copy(disk))))
    thread.start()
    calls.wait_until(lambda: kernel_host.pool.faults.calls["VBD.get_device"] == 1)
    swept = kernel_host.sweep()
    assert (swept["unplugged"], swept["still_plugged"], swept["staging_removed"]) == ([], [], [])
    kernel_host.copy(kernel_host.add_disk()[1])
    assert [vbd["VDI"] for vbd in kernel_host.list_vbds()] == [disk]
    go.set()
    thread.join(MAX_CALL_S)
    assert outcomes == [None]
    kernel_host.check_nothing_plugged()


# The sweep.

@pytest.fixture
def files(kernel_host):
    """{kind: name} of one file of each kind, all older than the grace; nothing else is in /boot/guest."""
    kernel_host.pool.faults.clear()
    directory = kernel_host.directory
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        os.rmdir(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)
    names = {what: str(uuid.uuid4()) for what in USED + ("unused", "linked", "pair", "kept")}
    for what, name in names.items():
        write(os.path.join(directory, name), what.encode("ascii"))
    names["linked again"] = str(uuid.uuid4())
    os.link(os.path.join(directory, names["running"]), os.path.join(directory, names["linked again"]))
    names["pair again"] = str(uuid.uuid4())
    os.link(os.path.join(directory, names["pair"]), os.path.join(directory, names["pair again"]))
    os.link(os.path.join(directory, names["linked"]), os.path.join(kernel_host.host.root, "link-%s" % names["linked"]))
    for name in ("vmlinuz-of-the-admin", names["unused"].upper(), names["unused"] + ".old"):
        write(os.path.join(directory, name), b"not ours")
    os.symlink("vmlinuz-of-the-admin", os.path.join(directory, str(uuid.uuid4())))
    os.mkdir(os.path.join(directory, str(uuid.uuid4())))
    def name_in_record(label, kernel=None, ramdisk=None, where=BOOT_GUEST, **fields):
        paths = {field: "%s/%s" % (where, names[name]) for field, name in (("PV_kernel", kernel), ("PV_ramdisk", ramdisk)) if name}
        return kernel_host.pool.add_vm(label, **dict(paths, **fields))

    halted = name_in_record("a", "halted", "halted ramdisk", power_state="Halted")
    name_in_record("b", "running")
    name_in_record("c", "template", "template ramdisk", "/run/sr-mount/x/kernels", is_a_template=True, power_state="Halted")
    name_in_record("d", "snapshot", "snapshot ramdisk", is_a_snapshot=True, snapshot_of=halted, power_state="Halted")
    name_in_record("e", ramdisk="ramdisk alone", power_state="Suspended")
    time.sleep(AGING_S)
    return names


def test_sweep(kernel_host, files):
    unused = sorted([files["unused"], files["pair"], files["pair again"]])
    with kernel_host.unchanged():
        assert kernel_host.sweep()["unused"] == [], "a day has not passed"
        listed = kernel_host.sweep(grace="1", keep=[files["kept"]])
    assert [entry["name"] for entry in listed["unused"]] == unused and listed["removed"] == []
    assert all(entry["why"] and entry["age_s"] >= 1 and entry["size_bytes"] > 0 for entry in listed["unused"])
    why = {entry["name"]: entry["why"] for entry in listed["kept"]}
    assert files["running"] in why[files["linked again"]]
    assert "elsewhere" in why[files["linked"]] and "caller" in why[files["kept"]]

    used = [files[what] for what in USED]
    assert all("names it" in why[name] for name in used)

    before = set(os.listdir(kernel_host.directory))
    assert kernel_host.sweep(grace="1", keep=[files["kept"]], remove="true")["removed"] == unused
    assert before - set(os.listdir(kernel_host.directory)) == set(unused)
    assert kernel_host.sweep(grace="1", keep=[files["kept"]], remove="true")["removed"] == []


def test_a_new_name_is_young(kernel_host, files):
    """nova names a kernel in a VM's record only after this call has answered."""
    new_uuid = str(uuid.uuid4())
    kernel_host.call("create_kernel_ramdisk", cached_image=files["unused"], new_image_uuid=new_uuid)
    # The content is older than that; its name is not.
    assert not {files["unused"], new_uuid} & set(kernel_host.sweep(grace="2", remove="true")["removed"])
    time.sleep(AGING_S)
    kernel_host.call("create_kernel_ramdisk", cached_image=files["unused"], new_image_uuid=new_uuid)
    kept = kernel_host.sweep(grace="2", remove="true")["kept"]
    assert {files["unused"], new_uuid} <= {entry["name"] for entry in kept}


def test_sweep_removes_nothing_when_it_cannot_ask(kernel_host, files):
    faults = kernel_host.pool.faults
    with kernel_host.unchanged():
        for message in ("VM.get_by_uuid", "VBD.get_all_records_where", "VM.get_all_records"):
            faults.fail(message, "INTERNAL_ERROR")
            with calls.refused("sweep", "PluginError", "INTERNAL_ERROR"):
                kernel_host.sweep(grace="1", remove="true")


def test_sweep_is_for_pool_administrators(kernel_host):
    kernel_host.pool.faults.clear()
    vm = kernel_host.pool.add_vm("guest")
    session = kernel_host.pool.login(kernel_host.pool.operator_username, kernel_host.pool.operator_password)
    with kernel_host.unchanged(), calls.refused("sweep", "Denied", "pool administrator"):
        session.xenapi.VM.call_host_plugin(vm, PLUGIN, "sweep", {"grace": "1", "remove": "true"})
    assert session.xenapi.VM.call_host_plugin(vm, PLUGIN, "remove_kernel_ramdisk", {}) == "ok"
