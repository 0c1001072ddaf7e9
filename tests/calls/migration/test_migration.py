# SPDX-License-Identifier: Apache-2.0
"""Guests move between two hosts, over a real rsync and a real sshd."""

import os
import shutil
import signal
import time
import uuid

import pytest

from tests import conftest
from tests import patience
from tests.calls import calls
from tests.calls.background import Background
from tests.calls import pythons
from tests.calls import sr_disks
from tests.calls.migration import migrations
from tests.harness.storage.sm_locks import LockTimeout
from tests.harness.vhd import vhd_writer

pytestmark = pytest.mark.needs("rsync", "ssh", "sshd", "ssh-keygen")

# A disk of 30 MB: more than the sockets on the way hold.
BLOCKS = 15
MIB = 1 << 20


@pytest.fixture(scope="module")
def pair():
    """Two hosts on the newest Python, for what does not depend on it."""
    with migrations.open_pair(pythons.NEWEST) as pair:
        yield pair


@pytest.fixture(scope="module", params=pythons.EDGES, ids=pythons.version_of)
def edge_pair(request):
    """The same on the oldest and the newest, for what processes and signals are asked for."""
    with migrations.open_pair(request.param) as pair:
        yield pair


# A whole migration on every Python, between hosts of different ones.

def test_a_guest_moves(dom0_python):
    other = pythons.ALL[pythons.ALL.index(dom0_python) - 1]
    with migrations.open_pair([dom0_python, other]) as pair:
        root_label, label = migrations.make_label(), migrations.make_label(ephemeral=1)
        disks = [(root_label, 3, True), (label, 1, False)]
        before = {}
        for name, depth, _ in disks:
            before[name] = pair.write_guest(depth, seed=name)
        with sr_disks.unchanged(pair.source_sr.path):
            for name, _, is_legacy in disks:
                pair.transfer_chain(name, before[name][0], is_legacy=is_legacy)
        assert set(pair.arrived(root_label)) == {"0.vhd", "1.vhd", "2.vhd"}
        for name, depth, is_legacy in disks:
            stack = calls.make_uuids(16)
            assert pair.receive(name, stack, is_legacy) == {"root": {"uuid": stack[0]}}
            records = pair.target_sr.scan()
            assert sr_disks.guest_digest(pair.target_sr.path, stack[0]) == before[name][1]
            assert [records[each]["managed"] for each in stack[:depth]] == [True] + [False] * (depth - 1)
        assert os.listdir(pair.target.dom0.locate("/images")) == []
        assert len(os.listdir(pair.target_sr.path)) == 4
        pair.source_sr.scan()
        pair.expect_idle()


# What interrupts a transfer, and the next one that continues it.

@pytest.fixture
def large(edge_pair):
    """(pair, uuid, label) of a disk that takes long, on its own in the SR."""
    uuids, _ = edge_pair.write_guest(1, blocks=BLOCKS, seed="large")
    yield edge_pair, uuids[0], migrations.make_label()
    os.unlink(sr_disks.vhd_path(edge_pair.source_sr.path, uuids[0]))


def kill_in_the_middle(pair, vdi_uuid, label, number, limit_bytes=12 << 20):
    """Send a signal to the plug-in alone when so much has passed; Failure.details."""
    with migrations.gate_to(pair, limit_bytes) as gate:
        call = Background(pair.transfer, label, vdi_uuid, 0)
        assert gate.shut.wait(30)
        pid, = pair.source.dom0.processes.running_pids()
        os.kill(pid, number)
        failure = call.join().failure
        # The gate is still shut: they end because the plug-in has, not because the other side does.
        calls.wait_until(lambda: not pair.find_programs("ssh -o"), 5)
    calls.wait_until(lambda: not pair.find_programs(), 10)
    return failure


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_and_continued(large, number):
    pair, vdi_uuid, label = large
    size = os.path.getsize(sr_disks.vhd_path(pair.source_sr.path, vdi_uuid))
    with sr_disks.unchanged(sr_disks.vhd_path(pair.source_sr.path, vdi_uuid)):
        failure = kill_in_the_middle(pair, vdi_uuid, label, number)
    assert failure[1] == "signal: " + number.name
    (name, present), = pair.arrived(label).items()
    assert name == ".dom0-plugins-partial/0.vhd", "an unfinished file has the name of a whole one"
    assert 4 << 20 < present < size
    with migrations.gate_to(pair) as gate:
        assert pair.transfer(label, vdi_uuid, 0) is None
        assert gate.passed_bytes <= 1.05 * (size - present)
    assert pair.arrived(label) == {"0.vhd": size}
    stack = calls.make_uuids(1)
    pair.receive(label, stack)
    assert sr_disks.guest_digest(pair.target_sr.path, stack[0]) == sr_disks.guest_digest(pair.source_sr.path, vdi_uuid)
    pair.expect_idle()


def test_cancelled(large):
    pair, vdi_uuid, label = large
    session = pair.pool.login()
    task = session.xenapi.task.create("migration", "")
    with migrations.gate_to(pair, 4 << 20) as gate:
        call = Background(pair.transfer, label, vdi_uuid, 0, task=task)
        assert gate.shut.wait(30)
        time.sleep(1.1)  # rsync tells its progress once in a second
        gate.pass_more(12 << 20)
        calls.wait_until(lambda: 0.1 < session.xenapi.task.get_progress(task) < 0.9)
        session.xenapi.task.cancel(task)
        cancelled_at = time.monotonic()
        assert call.join().failure == ["TASK_CANCELLED", task]
        assert time.monotonic() - cancelled_at < patience.LIMIT_S
        assert not pair.find_programs("ssh -o")
    pair.expect_idle()


def test_a_connection_that_breaks_is_made_again(large):
    pair, vdi_uuid, label = large
    size = os.path.getsize(sr_disks.vhd_path(pair.source_sr.path, vdi_uuid))
    with migrations.gate_to(pair, 12 << 20) as gate:
        call = Background(pair.transfer, label, vdi_uuid, 0)
        assert gate.shut.wait(30)
        gate.cut()
        assert call.join().failure is None
        assert len(gate.heads) == 2
        assert gate.passed_bytes <= 1.05 * size + (8 << 20), "what was on its way is lost, and no more"
    assert pair.arrived(label) == {"0.vhd": size}
    assert any("continuing" in line for line in pair.source.syslog_lines())


@pytest.mark.parametrize("limits, text", [("idle_timeout = 2\ntotal_timeout = 5", "did not end within 5 s"),
                                          ("idle_timeout = 20\ntotal_timeout = 3", "did not end within 3 s")])
def test_nothing_moves(large, limits, text):
    pair, vdi_uuid, label = large
    calls.write_settings(pair.source, migrations.SETTINGS + "[network]\n%s\n" % limits)
    started = time.monotonic()
    with migrations.gate_to(pair, 12 << 20), calls.refused("transfer_vhd", "RetryableError", text):
        pair.transfer(label, vdi_uuid, 0)
    assert time.monotonic() - started < patience.LIMIT_S
    calls.write_settings(pair.source, migrations.SETTINGS)
    pair.expect_idle()


def test_a_disk_that_is_written_to_meanwhile(large):
    pair, vdi_uuid, label = large
    with migrations.gate_to(pair, 12 << 20) as gate:
        call = Background(pair.transfer, label, vdi_uuid, 0)
        assert gate.shut.wait(30)
        os.utime(sr_disks.vhd_path(pair.source_sr.path, vdi_uuid))
        gate.open()
        assert call.join().failure[2:] == ["RetryableError", "the VHD of VDI %s was changed while it was read" % vdi_uuid]


def test_the_garbage_collection_is_kept_out(large):
    pair, vdi_uuid, label = large
    with migrations.gate_to(pair, 12 << 20) as gate:
        call = Background(pair.transfer, label, vdi_uuid, 0)
        assert gate.shut.wait(30)
        for name in ("gc_active", "running"):
            with pytest.raises(LockTimeout), pair.source.sm_locks.hold(pair.source_sr.uuid, name, 0):
                pass
        gate.open()
        assert call.join().failure is None
    pair.expect_idle()


# Holes

def write_sparse(path, size_mib, data_mib):
    """A disk of which every block is there, most of them with one sector: the file is as large as the disk, and mostly holes."""
    blocks = size_mib * MIB // sr_disks.BLOCK
    full = data_mib * MIB // sr_disks.BLOCK
    vhd_writer.write_dynamic(path, ((number * sr_disks.BLOCK, os.urandom(sr_disks.BLOCK if number % (blocks // full) == 0 else 512))
                                    for number in range(blocks)), size_mib * MIB)


def test_holes_stay_holes_and_do_not_travel(pair):
    """One eighth of a disk of 5 GB with 300 MB of data, as the rest would only take longer."""
    vdi_uuid, label = str(uuid.uuid4()), migrations.make_label()
    path = sr_disks.vhd_path(pair.source_sr.path, vdi_uuid)
    write_sparse(path, 640, 38)
    size, used = os.path.getsize(path), os.stat(path).st_blocks * 512
    assert size > 640 * MIB and used < 45 * MIB
    with migrations.gate_to(pair) as gate:
        pair.transfer(label, vdi_uuid, 0)
        assert gate.passed_bytes < 1.1 * 38 * MIB
    arrived = os.stat(pair.arrived_path(label, "0.vhd"))
    assert arrived.st_size == size and arrived.st_blocks * 512 < 1.2 * used
    stack = calls.make_uuids(1)
    pair.receive(label, stack)
    assert os.stat(sr_disks.vhd_path(pair.target_sr.path, stack[0])).st_blocks * 512 < 1.2 * used
    assert sr_disks.guest_digest(pair.target_sr.path, stack[0]) == sr_disks.guest_digest(pair.source_sr.path, vdi_uuid)
    os.unlink(path)


# The other end has os-xenapi's plug-ins.

OS_XENAPI = os.path.join(conftest.ENVIRONMENTS, "os-xenapi", "os_xenapi", "dom0", "etc", "xapi.d", "plugins")


@pytest.mark.parametrize("number", [0, 1], ids=["it sends", "it receives"])
def test_os_xenapi_at_the_other_end(number):
    if not os.path.isdir(OS_XENAPI):
        pytest.skip("needs .venvs/os-xenapi, which `make test` makes")
    python27 = dict(conftest.DOM0_PYTHONS)["2.7"]
    with migrations.open_pair([python27, pythons.NEWEST] if number == 0 else [pythons.NEWEST, python27]) as pair:
        theirs = pair.pool.hosts[number]
        shutil.rmtree(theirs.plugin_dir)
        os.mkdir(theirs.plugin_dir)
        theirs.dom0.add_plugins(OS_XENAPI)
        # Its ssh asks no port: it is in root's configuration.
        with open(pair.source.dom0.locate("/root/.ssh/config"), "w") as config:
            config.write("Host *\nPort %d\nBatchMode yes\n" % pair.daemon.port)
        # As devstack makes it: os-xenapi renames files from there into the SR.
        os.rmdir(pair.target.dom0.locate("/images"))
        os.mkdir(pair.target_sr.path + "/os-images")
        os.symlink("/run/sr-mount/%s/os-images" % pair.target_sr.uuid, pair.target.dom0.locate("/images"))
        for host in pair.pool.hosts:
            host.dom0.open_namespace()
        pair.daemon.stop()
        pair.daemon.start()
        label, stack = migrations.make_label(), calls.make_uuids(3)
        uuids, digest = pair.write_guest(3)
        pair.host = pair.target.ip
        pair.transfer_chain(label, uuids, is_legacy=True)
        assert pair.receive(label, stack, is_legacy=True) == {"root": {"uuid": stack[0]}}
        assert sr_disks.guest_digest(pair.target_sr.path, stack[0]) == digest
        assert os.listdir(pair.target_sr.path + "/os-images") == []
