# SPDX-License-Identifier: Apache-2.0
"""SIGTERM at any moment of a download: XAPI reports the signal and the SR is as before, or the whole disk is there.

And the memory of the process, for images of any size.
"""

import os
import random
import signal
import time

import pytest

from tests import patience
from tests.calls import pythons
from tests.calls import calls
from tests.calls import plugin_memory
from tests.calls import sr_disks
from tests.calls.background import Background
from tests.calls.calls import make_uuids
from tests.calls.sr_disks import MIB, pack_chain
from tests.harness.image_service import service_faults as faults
from tests.harness.system import programs
from tests.harness.vhd import vhd_reader
from tests.harness.vhd import vhd_writer

MEMORY_LIMIT_MIB = 64

pytestmark = pytest.mark.usefixtures("nothing_is_left")


@pytest.fixture(scope="module", params=pythons.EDGES, ids=pythons.version_of)
def dom0_python(request):
    return request.param


@pytest.fixture(scope="module")
def chain(site):
    """(archive, digest) of three disks."""
    paths = sr_disks.make_chain(site.directory, 3, 10 * MIB, seed=3)
    return pack_chain(paths), vhd_reader.digest(paths[0])


@pytest.fixture
def sr(site):
    """An empty SR for each test: an SR that grows takes longer and longer to compare."""
    return site.pool.add_sr()


class Call(Background):
    """A download in the background, and the SR as it was before."""

    def __init__(self, site, sr, image):
        self._site = site
        self._sr = sr
        self.uuids = make_uuids(16)
        self.before = sr_disks.describe_tree(sr.path)
        super().__init__(site.download, image, self.uuids, sr_path=calls.mount_path(sr))

    def wait_for(self, condition):
        """Until the condition is true, which must be before the call ends."""
        ends_at = time.monotonic() + patience.LIMIT_S
        while not condition():
            assert time.monotonic() < ends_at and self.is_running, self.failure
            time.sleep(0.005)

    def find_pid(self):
        """The plug-in's process."""
        processes = self._site.host.dom0.processes
        self.wait_for(processes.running_pids)
        return processes.running_pids()[0]

    def check_signal(self, name="SIGTERM"):
        """The plug-in has died of the signal and left nothing."""
        assert self.failure == ["XENAPI_PLUGIN_FAILURE", "signal: " + name, "", ""]
        assert sr_disks.describe_tree(self._sr.path) == self.before

    def check_success(self, depth, digest):
        assert self.failure is None
        assert set(sr_disks.describe_tree(self._sr.path)) - set(self.before) == {
            vdi_uuid + ".vhd" for vdi_uuid in self.uuids[-depth:]}
        assert sr_disks.guest_digest(self._sr.path, self.uuids[-1]) == digest


# Waits for the network

def asks_for(site, count):
    return lambda: len(site.service.requests) >= count


def has_sent(site, size_bytes):
    return lambda: len(site.service.requests) == 2 and site.service.requests[1].sent_bytes >= size_bytes


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
@pytest.mark.parametrize("make_fault, requests", [
    (lambda: faults.Stall(patience.ENDLESS_S), 1), (lambda: faults.Stall(patience.ENDLESS_S, path="/file$"), 2),
    (lambda: faults.Stall(patience.ENDLESS_S, at=0, path="/file$"), 2),
    (lambda: faults.Stall(patience.ENDLESS_S, at=300000, path="/file$"), 2),
    (lambda: faults.HangUp(at=1000, path="/file$", times=None), 4)],
    ids=["record", "answer", "first byte", "body", "pause before the next try"])
def test_while_it_waits_for_the_service(site, sr, chain, make_fault, requests, number):
    site.service.faults.append(make_fault())
    call = Call(site, sr, site.service.add_image(chain[0]))
    pid = call.find_pid()
    call.wait_for(asks_for(site, requests))
    time.sleep(0.3)
    os.kill(pid, number)
    call.join()
    call.check_signal(number.name)


def test_while_data_stream(site, sr, large_image):
    """All three threads at work, the queues between them full."""
    chance = random.Random(2)
    image = site.service.add_image(large_image("noise"))
    for _ in range(5):
        del site.service.requests[:]
        call = Call(site, sr, image)
        pid = call.find_pid()
        call.wait_for(has_sent(site, chance.randrange(1 << 20, 150 << 20)))
        os.kill(pid, signal.SIGTERM)
        call.join()
        call.check_signal()


# Steps after the transfer

COUNTING_VHD_UTIL = """#!/bin/sh
echo "$*" >> '%(program)s.calls'
[ $(wc -l < '%(program)s.calls') = %(number)d ] && kill -TERM $PPID
exec '%(program)s.real' "$@"
"""


@pytest.fixture
def signal_at_step(site):
    """Function(number): at its call of this number vhd-util sends SIGTERM to the plug-in, then does its work."""
    program = os.path.join(site.host.dom0.bin_dir, "vhd-util")
    os.rename(program, program + ".real")

    def write(number):
        programs.write(program, COUNTING_VHD_UTIL % {"program": program, "number": number})
        open(program + ".calls", "w").close()

    yield write
    os.rename(program + ".real", program)
    os.unlink(program + ".calls")


# vhd-util checks three disks; then the publication has it hide two parents
STEPS_BEFORE_PUBLICATION = 3
STEPS = 5


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_at_every_step(site, sr, chain, signal_at_step, step):
    signal_at_step(step)
    call = Call(site, sr, site.service.add_image(chain[0]))
    call.join()
    if step <= STEPS_BEFORE_PUBLICATION:
        call.check_signal()
    else:
        # The publication has begun, so the plug-in completes it: the caller gets an answer for the changed SR.
        call.check_success(3, chain[1])


def test_there_are_no_other_steps(site, sr, chain, signal_at_step):
    signal_at_step(0)
    Call(site, sr, site.service.add_image(chain[0])).join()
    with open(os.path.join(site.host.dom0.bin_dir, "vhd-util.calls")) as steps:
        assert len(steps.readlines()) == STEPS


def test_at_any_moment(site, sr, chain):
    image = site.service.add_image(chain[0])
    started = time.monotonic()
    Call(site, sr, image).join()
    whole_s = time.monotonic() - started
    chance = random.Random(1)
    outcomes = set()
    for _ in range(20):
        call = Call(site, sr, image)
        pid = call.find_pid()
        time.sleep(chance.uniform(0, whole_s))
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            pass
        call.join()
        outcomes.add(call.failure is None)
        if call.failure:
            call.check_signal()
        else:
            call.check_success(3, chain[1])
    assert False in outcomes


# Memory

@pytest.fixture(scope="module")
def large_image(site):
    """Function(content): the path of an image of more than 200 MB whose disk holds "text", "noise" or mostly "holes"."""
    def make(content):
        path = site.make_path(content + ".tar")
        if not os.path.exists(path):
            text = (b"a line of text for a disk that compresses well\n" * 50000)[:2 * MIB]
            blocks, step = (20, 1 << 30) if content == "holes" else (110, 2 * MIB)
            disk = site.make_path(content + ".vhd")
            vhd_writer.write_dynamic(
                disk, ((number * step, text if content == "text" else os.urandom(2 * MIB)) for number in range(blocks)),
                blocks * step)
            with open(path, "wb") as opened:
                opened.write(pack_chain([disk], compressed=content == "text"))
            os.unlink(disk)
        return path
    yield make


@pytest.mark.parametrize("content", ["text", "noise", "holes"])
def test_memory_is_bounded(site, sr, large_image, content):
    with plugin_memory.watched(site.host) as peak:
        call = Call(site, sr, site.service.add_image(large_image(content))).join()
    assert call.failure is None
    assert 5 < peak.kib / 1024 <= MEMORY_LIMIT_MIB
    assert list(sr.scan()) == [call.uuids[-1]]
    os.unlink(os.path.join(sr.path, call.uuids[-1] + ".vhd"))
