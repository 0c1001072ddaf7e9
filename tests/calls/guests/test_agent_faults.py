# SPDX-License-Identifier: Apache-2.0
"""agent.py when things go wrong in the middle: the daemon, the guest, the process itself; and when much happens at once."""

import collections
import concurrent.futures
import contextlib
import json
import os
import re
import signal
import time

import pytest

from tests import patience
from tests.calls import calls
from tests.calls import pythons
from tests.calls.guests import agent_cases as cases
from tests.calls.guests.agent_cases import Site
from tests.harness.guests import guests
from tests.harness.pool import Pool

CROWD = 200
CROWD_LIMIT_S = 120
# A process that sleeps has no context switches, however busy the machine is; its processor time is as exact as a tick alone.
# The rest of a start may fall into what is watched.
START_SWITCHES = 50
# guest_agent connects again every 0.1 s, and looks at events every 0.02 s: two to four switches each.
RECONNECTING_SWITCHES_PER_S = 10 / 0.1
EVENT_SWITCHES_PER_S = 10 / 0.02
# A process that never sleeps has more on an idle machine; on a busy one it is switched away from.
MAX_CPU_SHARE = 0.3
# An interpreter has started, and the request is written, when this has passed since the guest saw it.
SETTLED_S = 0.5
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@pytest.fixture(params=pythons.EDGES, ids=pythons.version_of)
def own_site(request, xenstored_kind):
    """A host of the test's own, on the oldest and the newest Python."""
    with Pool(python=request.param, xenstore=xenstored_kind) as pool:
        yield Site(pool)


@pytest.fixture
def newest_site(xenstored_kind):
    """A host of the test's own, for tests that do not depend on Python."""
    with Pool(python=pythons.NEWEST, xenstore=xenstored_kind) as pool:
        yield Site(pool)


@pytest.fixture
def stand_in_site():
    """The same, for tests that do not depend on xenstored either."""
    with Pool(python=pythons.NEWEST) as pool:
        yield Site(pool)


def wait_asked(guest):
    calls.wait_until(lambda: guest.requests)
    time.sleep(SETTLED_S)


Work = collections.namedtuple("Work", "seconds switches cpu_s")


def watch(pid, seconds):
    """The Work of a process in the next `seconds`, or until it ends."""
    began, first = time.monotonic(), read_work(pid)
    last, ended = first, began
    while ended < began + seconds:
        time.sleep(0.1)
        try:
            last, ended = read_work(pid), time.monotonic()
        except FileNotFoundError:
            break
    work = Work(ended - began, last[0] - first[0], last[1] - first[1])
    print(work)
    return work


def read_work(pid):
    """(context switches, user and system time in seconds) of a process so far"""
    with open("/proc/%d/status" % pid) as source:
        switches = re.findall(r"ctxt_switches:\s+(\d+)", source.read())
    with open("/proc/%d/stat" % pid) as source:
        fields = source.read().rpartition(")")[2].split()
    return sum(map(int, switches)), (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def check_sleeps(work, switches_per_s=0):
    assert work.seconds > 0.5, "the process has ended too early to be watched"
    assert work.switches <= START_SWITCHES + switches_per_s * work.seconds
    assert work.cpu_s <= MAX_CPU_SHARE * work.seconds


# The daemon

@pytest.mark.parametrize("is_filled_later", [False, True], ids=["", "filled later"])
def test_xenstored_is_restarted_while_an_answer_is_awaited(own_site, is_filled_later):
    """Its store is empty then, until the toolstack has made the domains known again; the request is not made again."""
    with own_site.new_guest(guests.keep_silent) as guest:
        call = own_site.start("resetnetwork", guest.domid, timeout_s=patience.ENDLESS_S)
        wait_asked(guest)
        request = guest.requests[0]
        guest.stop()
        if is_filled_later:
            own_site.store.stop()
            own_site.store.start()
        else:
            own_site.store.restart()
        # Longer than the plug-in takes to be there again.
        time.sleep(0.7)
        path = b"/local/domain/%d/" % guest.domid
        with own_site.store.client() as dom0:
            if is_filled_later:
                dom0.write(path + b"name", b"guest")
            assert own_site.list_records(guest.domid) == []
            dom0.write(path + b"data/guest/" + request.id.encode("ascii"), b'{"returncode": "0", "message": "after all"}')
        call.join()
        assert call.failure is None and json.loads(call.reply)["message"] == "after all"
        assert call.took_s < cases.SLACK_S
        assert own_site.list_records(guest.domid) == []
        own_site.store.restart()
        guest.start()


def test_a_domain_that_does_not_come_back_with_the_daemon_has_rebooted(newest_site):
    with newest_site.new_guest(guests.keep_silent) as guest:
        call = newest_site.start("resetnetwork", guest.domid, timeout_s=patience.ENDLESS_S)
        wait_asked(guest)
        newest_site.store.stop()
        newest_site.store.start()
        call.join()
        assert call.failure[2] == "RebootDetectedError" and "REBOOT:" in call.failure[-1].splitlines()[-1]
        assert call.took_s < 2 + cases.SLACK_S
        newest_site.store.restart()


def test_xenstored_goes_for_good(newest_site):
    with newest_site.new_guest(guests.keep_silent) as guest:
        call = newest_site.start("version", guest.domid, timeout_s=6)
        wait_asked(guest)
        newest_site.store.stop()
        pid, = newest_site.pids()
        check_sleeps(watch(pid, 2), RECONNECTING_SWITCHES_PER_S)
        call.join()
        assert call.failure[2] == "PluginError" and "TIMEOUT:" in call.failure[-1].splitlines()[-1]
        assert 6 <= call.took_s < 6 + cases.SLACK_S
        newest_site.store.start()
        newest_site.store.restart()


@pytest.mark.parametrize("is_asked", [False, True], ids=["from the beginning", "later"])
def test_xenstored_does_not_answer(stand_in_site, is_asked):
    with stand_in_site.new_guest(guests.keep_silent) as guest:
        if not is_asked:
            stand_in_site.store.pause()
        call = stand_in_site.start("version", guest.domid, timeout_s=3)
        try:
            if is_asked:
                wait_asked(guest)
                stand_in_site.store.pause()
            call.join()
        finally:
            stand_in_site.store.pause(False)
        # Asked, it may be that the agent has answered; else nothing has happened.
        assert call.failure[2] == ("PluginError" if is_asked else "RetryableError")
        assert ("TIMEOUT:" in call.failure[-1].splitlines()[-1]) == is_asked
        assert call.took_s < 3 + cases.SLACK_S


# The guest

def test_a_guest_fills_its_part_of_xenstore(newest_site):
    """Its agent cannot answer any more; dom0 can still ask, and take its request back."""
    with newest_site.new_guest(guests.fill) as guest:
        for _ in range(2):
            call = newest_site.start("version", guest.domid, timeout_s=2).join()
            assert call.failure[2] == "PluginError" and "TIMEOUT:" in call.failure[-1].splitlines()[-1]
            assert call.took_s < 2 + cases.SLACK_S
            assert not [path for path in newest_site.list_records(guest.domid) if path.startswith("data/host/")]
        assert len(newest_site.list_records(guest.domid)) > 100


def test_events_without_end_do_not_keep_dom0_busy(newest_site):
    with newest_site.new_guest(guests.touch_all_the_time) as guest:
        call = newest_site.start("version", guest.domid, timeout_s=5)
        wait_asked(guest)
        pid, = newest_site.pids()
        check_sleeps(watch(pid, 1.5), EVENT_SWITCHES_PER_S)
        call.join()
        assert "TIMEOUT:" in call.failure[-1] and call.took_s < 5 + cases.SLACK_S


def test_a_guest_that_changes_all_that_is_next_to_a_request(newest_site):
    """C's xenstored then refuses each transaction; OCaml's merges them."""
    with newest_site.new_guest() as guest:
        stopping = []

        def change():
            # Not the guest itself, whose agent uses its one connection.
            with newest_site.store.client() as other:
                while not stopping:
                    for side in (b"host", b"guest"):
                        path = b"/local/domain/%d/data/%s/x" % (guest.domid, side)
                        other.write(path, b"")
                        other.rm(path)
        with concurrent.futures.ThreadPoolExecutor() as executor:
            changing = executor.submit(change)
            call = newest_site.start("version", guest.domid, timeout_s=20).join()
            stopping.append(True)
            changing.result(cases.SLACK_S)
        assert call.reply or call.failure[2] == "RetryableError"
        assert call.took_s < 2 + cases.SLACK_S


# The process

def test_a_signal_takes_the_request_back(own_site):
    with own_site.new_guest(guests.keep_silent) as guest:
        call = own_site.start("password", guest.domid, enc_pass="YWJj")
        wait_asked(guest)
        os.kill(own_site.pids()[0], signal.SIGTERM)
        call.join()
        assert call.failure[:2] == ["XENAPI_PLUGIN_FAILURE", "signal: SIGTERM"]
        assert call.took_s < cases.SLACK_S
        assert own_site.list_records(guest.domid) == []


def test_after_a_kill_the_same_id_can_be_used_again(newest_site):
    def answer_at_second_sight(guest, request_id, data):
        if len(guest.requests) > 1:
            guests.answer(guest, request_id, data)
    with newest_site.new_guest(answer_at_second_sight) as guest:
        call = newest_site.start("version", guest.domid, request_id="first")
        wait_asked(guest)
        os.kill(newest_site.pids()[0], signal.SIGKILL)
        assert call.join().failure[:2] == ["XENAPI_PLUGIN_FAILURE", "signal: SIGKILL"]
        assert newest_site.list_records(guest.domid) == ["data/host/first"]
        guest.requests.insert(0, guest.requests.pop()._replace(id="seen"))
        assert json.loads(newest_site.call("version", guest.domid, request_id="first"))["message"] == "1.39.1"
        assert newest_site.list_records(guest.domid) == []


# Much at once

@pytest.mark.parametrize("python", pythons.EDGES, ids=pythons.version_of)
def test_a_wait_costs_no_processor_time(python):
    with Pool(python=python) as pool:
        site = Site(pool)
        with site.new_guest(guests.keep_silent) as guest:
            call = site.start("version", guest.domid, timeout_s=patience.ENDLESS_S)
            wait_asked(guest)
            pid, = site.pids()
            check_sleeps(watch(pid, 5))
            os.kill(pid, signal.SIGTERM)
            assert call.join().failure[1] == "signal: SIGTERM"


def test_many_guests_answer_at_once(newest_site):
    """All are asked before the first one answers."""
    site, waiting = newest_site, []

    def wait_for_all(guest, request_id, data):
        waiting.append(guest)
        calls.wait_until(lambda: len(waiting) == CROWD, CROWD_LIMIT_S)
        guest.agent.version = "of %d" % guest.domid
        guests.answer(guest, request_id, data)
    with contextlib.ExitStack() as stack:
        crowd = [site.new_guest(wait_for_all) for _ in range(CROWD)]
        for guest in crowd:
            stack.enter_context(guest)
        started = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(CROWD) as executor:
            replies = list(executor.map(
                lambda guest: site.host.dom0.call_plugin(cases.PLUGIN, "version", "OpaqueRef:crowd", {
                    "id": "crowd", "dom_id": str(guest.domid), "timeout": str(CROWD_LIMIT_S)}), crowd))
        print("%d guests in %.1f s" % (CROWD, time.monotonic() - started))
        for guest in crowd:
            guest.begin_stop()
    assert [json.loads(reply)["message"] for reply in replies] == ["of %d" % guest.domid for guest in crowd]
