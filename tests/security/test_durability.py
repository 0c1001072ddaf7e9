# SPDX-License-Identifier: Apache-2.0
"""The power is cut during a call or after its answer, and the disk has only the data that were synced (durability.py)."""

import contextlib
import json
import os
import shutil
import stat

import pytest

from tests.calls import calls
from tests.calls import pythons
from tests.calls.boot import iso_host as isos
from tests.calls.boot import kernel_host as kernels
from tests.calls.devices.disk_host import open_disk_host
from tests.contract import calls as contract_calls
from tests.harness.pool import Pool
from tests.security import sync_recorder
from tests.security.crash_host import open_crash_host
from tests.security.test_move_crashes import Mover

pytestmark = pytest.mark.needs("gcc")
# Directories that no call changes, or that a starting host makes anew.
_LEFT_OUT = ("/dev", "/etc/xapi.d", "/opt", "/proc", "/run", "/sys", "/tmp", "/var")
with_and_without_links = pytest.mark.parametrize("has_links", [True, False], ids=["links", "no_links"])


def read(path):
    with open(path, "rb") as source:
        return source.read()


@contextlib.contextmanager
def open_recorder(dom0, roots, tmp_path_factory, **options):
    recorder = sync_recorder.Recorder(dom0, roots, str(tmp_path_factory.mktemp("recorder")), **options)
    try:
        yield recorder
    finally:
        recorder.close()


def check_states(recording, check, has_links=True):
    """Call check() on each state that the disk may have after the power cut; it returns whether the call's work is there.

    After the call's answer the work must be there. In the end the files are as before the call.
    """
    outcomes = set()
    try:
        states = recording.list_states(moves_files=not has_links)
        for state in states:
            recording.replay(state)
            try:
                is_there = check()
            except BaseException:
                print("the disk has: " + state.name)
                raise
            outcomes.add((is_there, state.is_end))
            if state.is_end and not is_there:
                pytest.fail("the call has answered, and lost its work; the disk has: " + state.name)
    finally:
        recording.restore()
    return outcomes


# VDIs

class RecordedSr(object):
    """A CrashHost whose calls are recorded, and the chain that arrives there."""

    def __init__(self, host, directory, recorder):
        self.host = host
        self.recorder = recorder
        self.mover = Mover(host, directory)


@pytest.fixture(scope="module")
def sr(tmp_path_factory):
    directory = str(tmp_path_factory.mktemp("crash"))
    with open_crash_host(pythons.NEWEST, directory) as host:
        with open_recorder(host.dom0, [host.sr.path, host.dom0.locate("/images")], tmp_path_factory) as recorder:
            yield RecordedSr(host, directory, recorder)


@with_and_without_links
def test_an_import(sr, has_links):
    uuids = calls.make_uuids(3)
    with sr.recorder.recording(has_links) as recording:
        assert sr.host.download(uuids).details is None
    assert check_states(recording, lambda: sr.host.check(uuids), has_links) == {(False, False), (True, False), (True, True)}


@with_and_without_links
def test_an_import_that_is_undone(sr, has_links):
    uuids = calls.make_uuids(3)
    with sr.recorder.recording(has_links) as recording, sr.host.fault("publish.leaf_linked:eio"):
        assert sr.host.download(uuids).details[2] == "StorageError"

    def check():
        sr.host.check(uuids)
        return True
    check_states(recording, check, has_links)


@pytest.mark.parametrize("point, is_finished", [("publish.linked:kill:2", False), ("publish.leaf_linked:kill", True)])
def test_a_sweep_after_a_death(sr, point, is_finished):
    uuids = calls.make_uuids(3)
    with sr.recorder.recording() as recording:
        with sr.host.fault(point):
            assert sr.host.download(uuids).details
        assert sr.host.sweep().details is None
    check_states(recording, lambda: sr.host.check(uuids) or not is_finished)


def test_a_copy(sr):
    uuids = calls.make_uuids(3)
    with sr.recorder.recording() as recording:
        assert sr.mover.copy(uuids).details is None
    check_states(recording, lambda: sr.host.check(uuids))


def test_a_chain_that_arrives(sr):
    """It stays where it is, to be had again, until it is in the SR; then it may be seen there once more."""
    uuids, tried = calls.make_uuids(3), set()
    sr.mover.arrive()
    with sr.recorder.recording() as recording:
        assert sr.mover.receive(uuids).details is None

    def check():
        if sr.host.check(uuids):
            return True
        assert sr.mover.list_arrived() == ["0.vhd", "1.vhd", "2.vhd"]
        contents = tuple(hash(read(os.path.join(sr.mover.arrived, name))) for name in sr.mover.list_arrived())
        if contents not in tried:
            tried.add(contents)
            assert sr.mover.receive(uuids).details is None
            assert sr.mover.check_received(uuids)
        return False
    check_states(recording, check)
    shutil.rmtree(sr.mover.arrived)


# Kernels

@pytest.fixture(scope="module")
def kernel_host(tmp_path_factory):
    with kernels.open_kernel_host(pythons.NEWEST) as host:
        with open_recorder(host.host.dom0, [os.path.dirname(host.directory)], tmp_path_factory) as recorder:
            host.recorder = recorder
            yield host


def check_kernels(host, names):
    host.sweep()
    there = set(os.listdir(host.directory))
    assert there <= set(names), "left in /boot/guest: %s" % sorted(there)
    assert all(host.read_kernel(name) == kernels.KERNEL for name in there)
    return len(there) == len(names)


@with_and_without_links
def test_a_kernel_that_is_copied(kernel_host, has_links):
    vdi_uuid, ref = kernel_host.add_disk()
    names = [vdi_uuid] + calls.make_uuids(1)
    os.rmdir(kernel_host.directory)
    with kernel_host.recorder.recording(has_links) as recording:
        kernel_host.copy(ref, cached_image=names[1])
    check_states(recording, lambda: check_kernels(kernel_host, names), has_links)
    os.mkdir(kernel_host.directory)


@with_and_without_links
def test_a_kernel_that_gets_another_name(kernel_host, has_links):
    names = calls.make_uuids(2)
    with open(os.path.join(kernel_host.directory, names[0]), "wb") as target:
        target.write(kernels.KERNEL)
    with kernel_host.recorder.recording(has_links) as recording:
        kernel_host.call("create_kernel_ramdisk", cached_image=names[0], new_image_uuid=names[1])

    def check():
        assert kernel_host.read_kernel(names[0]) == kernels.KERNEL
        return check_kernels(kernel_host, names)
    check_states(recording, check, has_links)
    os.unlink(os.path.join(kernel_host.directory, names[0]))


# Files of dom0

@pytest.fixture(scope="module")
def dom0_pool(tmp_path_factory):
    with Pool(python=pythons.NEWEST, is_prepared=False) as pool:
        dom0 = pool.hosts[0].dom0
        with open_recorder(dom0, [pool.srs[0].path, dom0.root], tmp_path_factory, programs=("ssh-keygen",),
                           left_out=[dom0.locate(path) for path in _LEFT_OUT]) as recorder:
            pool.recorder = recorder
            yield pool


def call(pool, function, **arguments):
    return json.loads(pool.call("dom0_host.py", function, {
        name: value if isinstance(value, str) else json.dumps(value) for name, value in arguments.items()}))


def outcomes_of(steps):
    return {step["outcome"] for step in steps}


@pytest.mark.parametrize("old", [None, {"zone": "a"}])
def test_a_setting(dom0_pool, old):
    if old:
        calls.write_file(dom0_pool.hosts[0], "/usr/etc/xenhost.conf", json.dumps(old).encode("ascii"))
    with dom0_pool.recorder.recording() as recording:
        calls.call_json(dom0_pool, "xenhost.py", "set_config", params='{"key": "zone", "value": "b"}')

    def check():
        found = calls.call_json(dom0_pool, "xenhost.py", "get_config", params='{"key": "zone"}')
        assert found in (str((old or {}).get("zone")), "b")
        return found == "b"
    check_states(recording, check)


@pytest.mark.parametrize("is_new", [True, False], ids=["new", "more"])
def test_keys_that_are_trusted(dom0_pool, is_new):
    """A line that was there before stays, and in each file a host has all of its lines or none."""
    entry = {"public_key": contract_calls.PUBLIC_KEY, "addresses": ["10.0.0.7"], "host_keys": [contract_calls.PUBLIC_KEY]}
    names = calls.make_uuids(2)
    paths = [dom0_pool.hosts[0].dom0.locate("/root/.ssh/" + name) for name in ("authorized_keys", "known_hosts")]
    if is_new:
        shutil.rmtree(os.path.dirname(paths[0]))
    else:
        assert outcomes_of(call(dom0_pool, "trust_keys", keys={names[0]: entry})) == {"done"}
        before = [read_lines(path) for path in paths]
    with dom0_pool.recorder.recording() as recording:
        assert outcomes_of(call(dom0_pool, "trust_keys", keys={names[1]: entry})) == {"done"}
    after = [read_lines(path) for path in paths]

    def check():
        found = [read_lines(path) for path in paths]
        for lines, old, new in zip(found, [[], []] if is_new else before, after):
            assert lines in (old, new)
        return found == after
    check_states(recording, check)
    os.makedirs(os.path.dirname(paths[0]), exist_ok=True)


def read_lines(path):
    if not os.path.exists(path):
        return []
    with open(path) as source:
        return source.read().splitlines()


@pytest.mark.needs("ssh-keygen")
def test_a_key_that_is_made(dom0_pool):
    path = dom0_pool.hosts[0].dom0.locate("/root/.ssh")
    shutil.rmtree(path)
    with dom0_pool.recorder.recording() as recording:
        key = call(dom0_pool, "ssh_key")["public_key"]

    def check():
        found = call(dom0_pool, "ssh_key", dry_run=True)["public_key"]
        assert found in (None, key)
        if not found:
            assert call(dom0_pool, "ssh_key")["public_key"]
        assert stat.S_IMODE(os.stat(os.path.join(path, "id_ed25519")).st_mode) == 0o600
        return found == key
    check_states(recording, check)
    os.makedirs(path, exist_ok=True)


PREPARED = {"bridge": "true", "console_log": "true"}


def test_a_host_that_is_prepared_and_what_takes_it_back(dom0_pool):
    calls.write_file(dom0_pool.hosts[0], "/etc/modprobe.d/blacklist-bridge.conf", b"install bridge /bin/true\n")
    with dom0_pool.recorder.recording() as preparing:
        assert outcomes_of(call(dom0_pool, "prepare", **PREPARED)) == {"done"}
    with dom0_pool.recorder.recording() as undoing:
        assert outcomes_of(call(dom0_pool, "undo_prepare")) == {"done"}

    def check(function, arguments):
        outcomes = outcomes_of(call(dom0_pool, function, **arguments))
        assert outcomes <= {"done", "already"}
        return outcomes == {"already"}
    check_states(undoing, lambda: check("undo_prepare", {}))
    check_states(preparing, lambda: check("prepare", PREPARED))


# Boot ISOs

@pytest.mark.needs("genisoimage")
def test_an_iso_that_gets_settings(tmp_path_factory):
    original = isos.make_iso(str(tmp_path_factory.mktemp("iso")))
    with isos.open_iso_host(pythons.NEWEST) as host:
        name, path = host.add(original)
        old = isos.read_iso(path)
        with open_recorder(host.pool.hosts[0].dom0, [host.directory], tmp_path_factory, programs=("mkisofs",)) as recorder:
            with recorder.recording() as recording:
                host.inject(name)
            new = isos.read_iso(path)
            seen = set()

            def check():
                found = isos.read_iso(path)
                assert found in (old, new)
                if (found == new, len(os.listdir(host.directory))) not in seen:
                    seen.add((found == new, len(os.listdir(host.directory))))
                    host.inject(name)
                    assert isos.read_iso(path) == new and os.listdir(host.directory) == [os.path.basename(path)]
                return found == new
            check_states(recording, check)


# Disks of guests

@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for loop devices")
@pytest.mark.needs("sfdisk", "mkswap")
def test_a_disk_that_is_partitioned_and_formatted(tmp_path_factory):
    with open_disk_host(pythons.NEWEST) as host:
        device, _ = host.plug(size_bytes=4 << 20)
        with open_recorder(host.host.dom0, [host.sr.path], tmp_path_factory, programs=()) as recorder:
            for call_it in (lambda: host.ask("make_partition", device, "2048", "-"),
                            lambda: host.ask("mkfs", device, "1", "swap", None)):
                before = host.read_device(device)
                with recorder.recording() as recording:
                    call_it()
                after = host.read_device(device)
                assert before != after == recording.read_synced(host.node(device))
        host.unplug_all()
