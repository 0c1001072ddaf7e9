# SPDX-License-Identifier: Apache-2.0
"""Guests of a simulated host, with an agent in each that answers what dom0 writes into their part of xenstore.

    with Guest(host.xenstore, 7) as guest:
        host.dom0.call_plugin("agent.py", "version", session, {"id": ..., "dom_id": "7"})

As rackerlabs' agent does, a guest removes the request, then writes the answer. Other behaviour is a function of the guest, the
request's id and its bytes, which the guest's thread calls for each request.
"""

import collections
import contextlib
import secrets
import threading
import time

from tests.harness.guests import xenstore_client
from tests.harness.guests.guest_agent import Agent

REQUESTS = b"data/host"
_LOOK_EVERY_S = 1.0
_JOIN_DEADLINE_S = 60

# data: its bytes
Request = collections.namedtuple("Request", "id data")


class Guest(object):
    """
    requests        [Request], all that have been seen
    answered_at     {id: when the guest began to write its answer, on the monotonic clock}
    failure         the exception that has ended the guest's thread
    """

    def __init__(self, store, domid, behave=None, agent=None, is_new=True):
        """store: a host's xenstore, which does not know the domain yet if that is_new"""
        self.store = store
        self.domid = domid
        self.agent = agent or Agent()
        self.requests = []
        self.answered_at = {}
        self.failure = None
        self.client = None
        self._behave = behave or answer
        self._is_there = not is_new
        self.stopping = threading.Event()
        self._thread = None

    def __enter__(self):
        if not self._is_there:
            self.store.introduce(self.domid)
            self._is_there = True
        self.start()
        return self

    def __exit__(self, *exc_info):
        self.stop()
        self.end()

    def start(self):
        """The agent begins (again)."""
        self.client = self.store.guest(self.domid)
        self.client.watch(REQUESTS, b"requests")
        self.stopping.clear()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def stop(self):
        """The agent ends."""
        self.begin_stop()
        self._thread.join(_JOIN_DEADLINE_S)
        self.client.close()

    def begin_stop(self):
        """The first half of stop(), for many guests that end together."""
        self.stopping.set()
        if self._is_there:
            with self.store.client() as dom0:
                dom0.write(b"/local/domain/%d/%s" % (self.domid, REQUESTS), b"")

    def end(self, keeps_records=False):
        """The domain ends, if it has not."""
        if self._is_there:
            self._is_there = False
            self.store.release(self.domid, keeps_records)

    def _serve(self):
        try:
            while not self.stopping.is_set():
                if self.client.event(_LOOK_EVERY_S):
                    self._look()
        except Exception as error:
            # A domain that has ended, or a daemon; a test looks at this where it matters.
            self.failure = error

    def _look(self):
        for name in self._list_requests():
            request_id = name.decode("ascii")
            if request_id not in [request.id for request in self.requests]:
                try:
                    data = self.client.read(REQUESTS + b"/" + name)
                except xenstore_client.Refused:  # taken back
                    continue
                self.requests.append(Request(request_id, data))
                self._behave(self, request_id, data)

    def _list_requests(self):
        try:
            return self.client.directory(REQUESTS)
        except xenstore_client.Refused:
            return []

    def remove_request(self, request_id):
        try:
            self.client.rm(REQUESTS + b"/" + request_id.encode("ascii"))
        except xenstore_client.Refused:
            pass

    def write_answer(self, request_id, data):
        self.answered_at[request_id] = time.monotonic()
        self.client.write(b"data/guest/" + request_id.encode("ascii"), data)


# Behaviour

def answer(guest, request_id, data):
    guest.remove_request(request_id)
    guest.write_answer(request_id, guest.agent.answer(data))


def keep_silent(guest, request_id, data):
    pass


def answer_after(seconds):
    def behave(guest, request_id, data):
        time.sleep(seconds)
        answer(guest, request_id, data)
    return behave


def hesitate(seconds):
    """Remove the request, and answer later."""
    def behave(guest, request_id, data):
        guest.remove_request(request_id)
        time.sleep(seconds)
        guest.write_answer(request_id, guest.agent.answer(data))
    return behave


def answer_bytes(given):
    """Answer each request in the same way."""
    def behave(guest, request_id, data):
        guest.remove_request(request_id)
        guest.write_answer(request_id, given)
    return behave


def fill(guest, request_id, data):
    """Use up the guest's quota in xenstore, with the room that the request took, and then try to answer."""
    for _ in range(2):
        with contextlib.suppress(xenstore_client.Refused):
            while True:
                guest.client.write(b"data/guest/" + secrets.token_hex(4).encode("ascii"), b"")
        guest.remove_request(request_id)
    with contextlib.suppress(xenstore_client.Refused):
        guest.write_answer(request_id, guest.agent.answer(data))


def touch_all_the_time(guest, request_id, data):
    """Make events where an answer is expected, and no answer."""
    while not guest.stopping.is_set():
        guest.client.mkdir(b"data/guest/%s/x" % request_id.encode("ascii"))
        guest.client.rm(b"data/guest/%s/x" % request_id.encode("ascii"))
