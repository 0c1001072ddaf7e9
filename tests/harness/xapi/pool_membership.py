# SPDX-License-Identifier: Apache-2.0
"""pool.join: the only host of a pool becomes a member of another simulated pool of this process.

What a join copies into the other pool is the host and its VMs; SRs and networks are not. Afterwards, as in a real one, the
joining host's xapi answers for a moment as before, ends, and begins anew as a member: HOST_IS_SLAVE, and live in the other pool.
Sources: ocaml/xapi/xapi_pool.ml in xapi-project/xen-api.
"""

import threading
import weakref

import XenAPI

from tests.harness.xapi.failures import Failure
from tests.harness.xapi.messages import message

# The pools whose xapi listens, by the address of their coordinator.
_POOLS = weakref.WeakValueDictionary()

RESTART_AFTER_S = 0.3
DOWN_FOR_S = 0.5


def announce(pool):
    """Let hosts of other pools join this one."""
    _POOLS[pool.hosts[0].address] = pool


class PoolMembership(object):

    def __init__(self, pool):
        self._pool = weakref.proxy(pool)

    @message("pool.join", "string", "string", "string", role="pool-operator", has_async=True)
    def join(self, context, master_address, master_username, master_password):
        self._join(master_address, master_username, master_password)

    @message("pool.join_force", "string", "string", "string", role="pool-operator", has_async=True)
    def join_force(self, context, master_address, master_username, master_password):
        self._join(master_address, master_username, master_password)

    def _join(self, address, username, password):
        try:
            session = XenAPI.Session("http://%s" % address)
            session.login_with_password(username, password, "2.21", "xapi")
            session.xenapi.session.logout()
        except XenAPI.Failure as failure:
            raise Failure(*failure.details)
        except OSError:
            raise Failure("JOINING_HOST_CONNECTION_FAILED")
        database = self._pool.database
        if len(self._pool.hosts) > 1:
            raise Failure("JOINING_HOST_CANNOT_BE_MASTER_OF_OTHER_HOSTS")
        if [ref for ref in database.refs("VM", power_state="Running") if not database.get("VM", ref, "is_control_domain")]:
            raise Failure("JOINING_HOST_CANNOT_HAVE_RUNNING_VMS")
        master = _POOLS[address]
        host_ref = _copy_records(database, self._pool.hosts[0].ref, master.database)
        master.joined_hosts[host_ref] = self._pool.hosts[0]
        metrics_ref = master.database.get("host", host_ref, "metrics")
        threading.Thread(target=self._begin_anew, args=(self._pool.hosts[0], master, metrics_ref), daemon=True).start()

    def _begin_anew(self, host, master, metrics_ref):
        pause = threading.Event()
        pause.wait(RESTART_AFTER_S)
        self._pool.stop_xapi()
        host.coordinator = master.hosts[0]
        pause.wait(DOWN_FOR_S)
        self._pool.start_xapi()
        master.database.update("host_metrics", metrics_ref, live=True)


def _copy_records(source, host_ref, target):
    """Copy a host, not live yet, and its VMs; its reference."""
    host = source.record("host", host_ref)
    metrics_ref = target.create("host_metrics", **dict(source.record("host_metrics", host["metrics"]), live=False))
    new_ref = target.create("host", **dict(host, metrics=metrics_ref, PIFs=[], PBDs=[], resident_VMs=[]))
    for record in source.records("VM").values():
        is_resident = record["resident_on"] == host_ref
        target.create("VM", **dict(record, VBDs=[], VIFs=[], snapshots=[], affinity=new_ref,
                                   resident_on=new_ref if is_resident else record["resident_on"]))
    return new_ref
