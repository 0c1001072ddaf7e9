# SPDX-License-Identifier: Apache-2.0
"""What tests of agent.py share: calls as nova makes them, and what must not be left in xenstore."""

import contextlib
import itertools
import threading
import time
import uuid

import pytest
import XenAPI

from tests import conftest
from tests import patience
from tests.harness.guests import xenstore_client
from tests.harness.guests.guests import Guest

PLUGIN = "agent.py"
CALL_LIMIT_S = 100
# More than a call needs beyond its timeout, on a machine with other work.
SLACK_S = patience.LIMIT_S
# The oldest and the newest dom0 Python, for what is no matter of Python's version.
ENDS = [conftest.DOM0_PYTHONS[0], conftest.DOM0_PYTHONS[-1]]


class Site(object):
    """One host, and numbers for domains that it has not had yet."""

    _domids = itertools.count(1)

    def __init__(self, pool):
        self.pool = pool
        self.host = pool.hosts[0]
        self.store = self.host.xenstore

    def new_guest(self, behave=None, agent=None):
        """A Guest, for a `with` statement."""
        return Guest(self.store, next(self._domids), behave, agent)

    def call(self, function, domid, timeout_s=20, request_id=None, **arguments):
        """What host.call_plugin returns to nova, which sends texts, and the host's uuid.  Raises XenAPI.Failure."""
        arguments = dict(arguments, id=request_id or str(uuid.uuid4()), dom_id=str(domid), timeout=str(timeout_s),
                         host_uuid=self.host.uuid)
        return self.pool.call(PLUGIN, function, arguments)

    def start(self, *arguments, **options):
        """call() in a thread of its own: a Call."""
        return Call(self, arguments, options)

    @contextlib.contextmanager
    def refused(self, function, class_name, *words):
        """The call in the block fails in this way; yields a list that then has nova's reading of the message."""
        seen = []
        started_lines = len(self.host.syslog_lines())
        with pytest.raises(XenAPI.Failure) as caught:
            yield seen
        details = caught.value.details
        assert details[:3] == ["XENAPI_PLUGIN_FAILURE", function, class_name] and len(details) == 4
        # This is how nova reads it.
        seen.append(details[-1].splitlines()[-1])
        for word in words:
            assert word in seen[0]
        assert any(details[-1] in line for line in self.host.syslog_lines()[started_lines:])

    def list_records(self, domid):
        """What there is of requests and answers: [path below the domain]."""
        found = []
        with self.store.client() as dom0:
            for side in (b"data/host", b"data/guest"):
                with contextlib.suppress(xenstore_client.Refused):
                    names = dom0.directory(b"/local/domain/%d/%s" % (domid, side))
                    found += [(side + b"/" + name).decode("ascii") for name in names]
        return found

    def has_domain(self, domid):
        with self.store.client() as dom0:
            return b"%d" % domid in dom0.directory(b"/local/domain")

    def pids(self):
        return self.host.dom0.processes.running_pids()


class Call(object):
    """A call that is under way; its outcome: `reply`, or `failure`, the details of one."""

    def __init__(self, site, arguments, options):
        self.reply = self.failure = self.took_s = None
        self._thread = threading.Thread(target=self._run, args=(site, arguments, options), daemon=True)
        self._thread.start()

    def _run(self, site, arguments, options):
        started = time.monotonic()
        try:
            self.reply = site.call(*arguments, **options)
        except XenAPI.Failure as failure:
            self.failure = failure.details
        self.took_s = time.monotonic() - started

    def join(self):
        self._thread.join(CALL_LIMIT_S)
        assert not self._thread.is_alive(), "the call did not end within %d s" % CALL_LIMIT_S
        return self
