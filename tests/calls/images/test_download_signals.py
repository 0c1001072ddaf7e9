# SPDX-License-Identifier: Apache-2.0
"""SIGTERM at any moment of a download: XAPI reports the signal and the SR is as before, or the disk is there, whole.

And the memory of the process, whatever the image's size.
"""

import os
import random
import re
import signal
import threading
import time

import pytest
import XenAPI

from tests import patience
from tests.calls.images import downloads
from tests.calls.images.downloads import MIB, make_uuids, pack_chain
from tests.harness.image_service import service_faults as faults
from tests.harness.system import programs
from tests.harness.vhd import vhd_reader
from tests.harness.vhd import vhd_writer

DEADLINE_S = patience.LIMIT_S
MEMORY_LIMIT_MIB = 64

pytestmark = pytest.mark.usefixtures("nothing_is_left")


@pytest.fixture(scope="module", params=downloads.EDGE_PYTHONS, ids=downloads.describe_python)
def dom0_python(request):
    return request.param[1]


@pytest.fixture(scope="module")
def chain(cloud):
    """(archive, digest) of three disks."""
    paths = downloads.make_chain(cloud.directory, 3, 9 * MIB, seed=3)
    return pack_chain(paths), vhd_reader.digest(paths[0])


@pytest.fixture
def sr(cloud):
    """Each test's own, and empty: one that grows takes longer and longer to compare."""
    return cloud.pool.add_sr()


class Call(threading.Thread):
    """A download in the background; `failure` holds Failure.details when it has ended with one."""

    def __init__(self, cloud, sr, image):
        super().__init__(daemon=True)
        self._cloud = cloud
        self._sr = sr
        self._image = image
        self.uuids = make_uuids(16)
        self.failure = None
        self.before = downloads.describe_sr(sr)
        self.start()

    def run(self):
        try:
            self._cloud.call(self._image, self.uuids, sr_path=self._cloud.sr_path(self._sr))
        except XenAPI.Failure as failure:
            self.failure = failure.details

    def wait_for(self, condition):
        ends_at = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < ends_at and self.is_alive(), self.failure
            time.sleep(0.005)

    def find_pid(self):
        """The plug-in's process."""
        processes = self._cloud.host.dom0.processes
        self.wait_for(processes.running_pids)
        return processes.running_pids()[0]

    def end(self):
        started = time.monotonic()
        self.join(DEADLINE_S)
        assert not self.is_alive(), "the call did not end within %d s" % DEADLINE_S
        return time.monotonic() - started

    def check_signal(self, name="SIGTERM"):
        """It has died of the signal and left nothing."""
        assert self.failure == ["XENAPI_PLUGIN_FAILURE", "signal: " + name, "", ""]
        assert downloads.describe_sr(self._sr) == self.before

    def check_success(self, depth, digest):
        assert self.failure is None
        assert set(downloads.describe_sr(self._sr)) - set(self.before) == {
            vdi_uuid + ".vhd" for vdi_uuid in self.uuids[-depth:]}
        assert downloads.digest(self._sr, self.uuids[-1]) == digest


# Waits for the network

def asks_for(cloud, count):
    return lambda: len(cloud.service.requests) >= count


def has_sent(cloud, size_bytes):
    return lambda: len(cloud.service.requests) == 2 and cloud.service.requests[1].sent_bytes >= size_bytes


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
@pytest.mark.parametrize("make_fault, requests", [
    (lambda: faults.Stall(patience.ENDLESS_S), 1), (lambda: faults.Stall(patience.ENDLESS_S, path="/file$"), 2),
    (lambda: faults.Stall(patience.ENDLESS_S, at=0, path="/file$"), 2),
    (lambda: faults.Stall(patience.ENDLESS_S, at=300000, path="/file$"), 2),
    (lambda: faults.HangUp(at=1000, path="/file$", times=None), 4)],
    ids=["record", "answer", "first byte", "body", "pause before the next try"])
def test_while_it_waits_for_the_service(cloud, sr, chain, make_fault, requests, number):
    cloud.service.faults.append(make_fault())
    call = Call(cloud, sr, cloud.service.add_image(chain[0]))
    pid = call.find_pid()
    call.wait_for(asks_for(cloud, requests))
    time.sleep(0.3)
    os.kill(pid, number)
    call.end()
    call.check_signal(number.name)


def test_while_data_stream(cloud, sr, large_image):
    """All three threads at work, the queues between them full."""
    chance = random.Random(2)
    image = cloud.service.add_image(large_image("noise"))
    for _ in range(5):
        del cloud.service.requests[:]
        call = Call(cloud, sr, image)
        pid = call.find_pid()
        call.wait_for(has_sent(cloud, chance.randrange(1 << 20, 150 << 20)))
        os.kill(pid, signal.SIGTERM)
        call.end()
        call.check_signal()


# Steps after the transfer

COUNTING_VHD_UTIL = """#!/bin/sh
echo "$*" >> '%(program)s.calls'
[ $(wc -l < '%(program)s.calls') = %(number)d ] && kill -TERM $PPID
exec '%(program)s.real' "$@"
"""


@pytest.fixture
def signal_at_step(cloud):
    """Function(number): at its call of this number vhd-util sends SIGTERM to the plug-in, then does its work."""
    program = os.path.join(cloud.host.dom0.bin_dir, "vhd-util")
    os.rename(program, program + ".real")

    def write(number):
        programs.write(program, COUNTING_VHD_UTIL % {"program": program, "number": number})
        open(program + ".calls", "w").close()

    yield write
    os.rename(program + ".real", program)
    os.unlink(program + ".calls")


# modify of two children; set and check of three disks; then the publication hides two parents
STEPS_BEFORE_PUBLICATION = 8
STEPS = 10


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_at_every_step(cloud, sr, chain, signal_at_step, step):
    signal_at_step(step)
    call = Call(cloud, sr, cloud.service.add_image(chain[0]))
    call.end()
    if step <= STEPS_BEFORE_PUBLICATION:
        call.check_signal()
    else:
        # Some of it is published: it is completed, for an answer is worth more than a signal that comes with a changed SR.
        call.check_success(3, chain[1])


def test_there_are_no_other_steps(cloud, sr, chain, signal_at_step):
    signal_at_step(0)
    Call(cloud, sr, cloud.service.add_image(chain[0])).end()
    with open(os.path.join(cloud.host.dom0.bin_dir, "vhd-util.calls")) as calls:
        assert len(calls.readlines()) == STEPS


def test_at_any_moment(cloud, sr, chain):
    image = cloud.service.add_image(chain[0])
    started = time.monotonic()
    Call(cloud, sr, image).end()
    whole_s = time.monotonic() - started
    chance = random.Random(1)
    outcomes = set()
    for _ in range(20):
        call = Call(cloud, sr, image)
        pid = call.find_pid()
        time.sleep(chance.uniform(0, whole_s))
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            pass
        call.end()
        outcomes.add(call.failure is None)
        if call.failure:
            call.check_signal()
        else:
            call.check_success(3, chain[1])
    assert False in outcomes


# Memory

@pytest.fixture(scope="module")
def large_image(cloud):
    """Function(content): the path of an image of more than 200 MB whose disk holds "text", "noise" or mostly "holes"."""
    def make(content):
        path = cloud.make_path(content + ".tar")
        if not os.path.exists(path):
            text = (b"a line of text for a disk that compresses well\n" * 50000)[:2 * MIB]
            blocks, step = (20, 1 << 30) if content == "holes" else (110, 2 * MIB)
            disk = cloud.make_path(content + ".vhd")
            vhd_writer.write_dynamic(
                disk, ((number * step, text if content == "text" else os.urandom(2 * MIB)) for number in range(blocks)),
                blocks * step)
            with open(path, "wb") as opened:
                opened.write(pack_chain([disk], compressed=content == "text"))
            os.unlink(disk)
        return path
    yield make


def poll_peak_memory(pid, call):
    """The most that was resident, in MiB, as the kernel has it."""
    peak_kib = 0
    while call.is_alive():
        try:
            with open("/proc/%d/status" % pid) as status:
                found = re.search(r"VmHWM:\s+(\d+) kB", status.read())
        except OSError:
            break
        if not found:  # it has ended, and nobody has waited for it yet
            break
        peak_kib = max(peak_kib, int(found.group(1)))
        time.sleep(0.01)
    return peak_kib / 1024


@pytest.mark.parametrize("content", ["text", "noise", "holes"])
def test_memory_is_bounded(cloud, sr, large_image, content):
    call = Call(cloud, sr, cloud.service.add_image(large_image(content)))
    peak_mib = poll_peak_memory(call.find_pid(), call)
    call.end()
    assert call.failure is None
    assert 5 < peak_mib <= MEMORY_LIMIT_MIB
    assert list(sr.scan()) == [call.uuids[-1]]
    os.unlink(os.path.join(sr.path, call.uuids[-1] + ".vhd"))
