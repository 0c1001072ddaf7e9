# SPDX-License-Identifier: Apache-2.0
"""Calls of agent.py as nova makes them, and the records that they must not leave in xenstore."""

import contextlib
import itertools
import uuid

from tests import patience
from tests.calls import calls
from tests.calls.background import Background
from tests.calls.scene import Scene
from tests.harness.guests import xenstore_client
from tests.harness.guests.guests import Guest

PLUGIN = "agent.py"
# A call ends this long after its timeout at the latest, also on a busy machine.
SLACK_S = patience.LIMIT_S


class Site(Scene):
    """One host, and unused numbers for its domains."""

    plugin = PLUGIN
    _domids = itertools.count(1)

    def __init__(self, pool):
        super().__init__(pool)
        self.store = self.host.xenstore

    def new_guest(self, behave=None, agent=None):
        """A Guest, for a `with` statement."""
        return Guest(self.store, next(self._domids), behave, agent)

    def call(self, function, domid, timeout_s=20, request_id=None, **arguments):
        """The reply to nova, which sends texts, and the host's uuid besides. Raises XenAPI.Failure."""
        return super().call(function, id=request_id or str(uuid.uuid4()), dom_id=str(domid), timeout=str(timeout_s),
                            host_uuid=self.host.uuid, **arguments)

    def start(self, *arguments, **options):
        """call() in the background."""
        return Background(self.call, *arguments, **options)

    @contextlib.contextmanager
    def refused(self, function, class_name, *words):
        """The call in the block fails in this way, and syslog has its message too; yields a list for the message.

        nova reads the last line of the message, which has only one.
        """
        started_lines = len(self.host.syslog_lines())
        with calls.refused(function, class_name, *words) as messages:
            yield messages
        assert any(messages[0] in line for line in self.host.syslog_lines()[started_lines:])

    def list_records(self, domid):
        """The records of requests and answers: [path below the domain]."""
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
