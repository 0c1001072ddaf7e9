# SPDX-License-Identifier: Apache-2.0
"""Which VM a console log belongs to: other_config:last_dom_id, which clients ask a stopped guest's log by.

A domain id is another tenant's after a reboot of the host, or on another host.  Therefore beside it stands a mark of ours,

    other_config:last_dom_of = <host's uuid>/<boot id of its dom0>/<VM's uuid>

of whose domains it is one, and for which VM: copies of a VM bring its other_config along.  A claim is a VM's last_dom_id; it is
changed in an order in which a killed call leaves at most a VM without one, until the next call.
"""

from __future__ import absolute_import, division

from dom0_lib import paths
from dom0_lib import text_checks
from dom0_lib.system import os_errors
from dom0_lib.toolstack import this_host
from dom0_lib.toolstack import xapi

_ID = 'last_dom_id'
_MARK = 'last_dom_of'
_NOWHERE = 'OpaqueRef:NULL'
_HERE_STATES = ('Running', 'Paused')
# What a call answers for a VM that has gone, and for a key that a client has set meanwhile: the next call sees to it.
_RACES = ('HANDLE_INVALID', 'MAP_DUPLICATE_KEY')


class Outcome(object):
    """
    claims_set, claims_removed  numbers of VMs
    claimed                     domain ids that some VM of this host may claim now
    here                        {domain id: reference} of the VMs that run here, as XAPI has them
    """

    def __init__(self):
        self.claims_set = self.claims_removed = 0
        self.claimed = set()
        self.here = {}


def renew(session_ref, living):
    """Give every VM that runs here its claim, and take those away that may lead to another VM's log.  Returns an Outcome.

    living: ids of this host's domains.  Raises errors.PluginError, and what xapi.Errors raises.
    """
    with xapi.Errors("cannot keep the VMs' last_dom_id"):
        book = _Book(session_ref)
        running, stopped = book.list_running(), book.list_stopped()
        for vm_ref, record in running.items():
            book.claim(vm_ref, record)
        for vm_ref, record in stopped.items():
            if _is_marked(record):
                book.review(vm_ref, record)
        # What marked VMs claim, and whatever lives, cannot be an unmarked one's.
        taken = living.union(book.outcome.claimed)
        for vm_ref, record in stopped.items():
            if _ID in record['other_config'] and not _is_marked(record):
                book.review_unmarked(vm_ref, record, taken)
        return book.outcome


def drop(session_ref):
    """Take away every claim that this host has given.  Returns their number; raises as renew()."""
    with xapi.Errors("cannot remove the VMs' last_dom_id"):
        book = _Book(session_ref)
        for records in (book.list_running(), book.list_stopped()):
            for vm_ref, record in records.items():
                if record['other_config'].get(_MARK, '').startswith(book.host_uuid + '/'):
                    book.disclaim(vm_ref)
        return book.outcome.claims_removed


def _is_marked(record):
    return _MARK in record['other_config']


class _Book(object):

    def __init__(self, session_ref):
        self.host_uuid = this_host.read_uuid()
        self._boot = '%s/%s' % (self.host_uuid, _read_boot_id())
        self._api = xapi.connect(session_ref).xenapi
        self._host_ref = self._api.host.get_by_uuid(self.host_uuid)
        self.outcome = Outcome()

    def list_running(self):
        """{reference: record} of the VMs that run on this host."""
        records = self._list('field "resident_on"="%s"' % self._host_ref)
        return dict((ref, record) for ref, record in records.items()
                    if record['power_state'] in _HERE_STATES and int(record['domid']) > 0)

    def list_stopped(self):
        """{reference: record} of the pool's VMs that are nowhere.  Those elsewhere are the other hosts' to look after."""
        return self._list('field "resident_on"="%s"' % _NOWHERE)

    def _list(self, where):
        query = '(%s) and (field "is_control_domain"="false") and (field "is_a_template"="false")' % where
        return self._api.VM.get_all_records_where(query)

    def claim(self, vm_ref, record):
        """A VM that runs here gets its claim, if it has not got it."""
        found, wanted, mark = record['other_config'], str(record['domid']), self._make_mark(record)
        self.outcome.here[int(wanted)] = vm_ref
        self.outcome.claimed.add(int(wanted))
        if (found.get(_ID), found.get(_MARK)) == (wanted, mark):
            return
        with _Races():
            self._remove(vm_ref, _ID)
            if found.get(_MARK) != mark:
                self._remove(vm_ref, _MARK)
                self._api.VM.add_to_other_config(vm_ref, _MARK, mark)
            self._api.VM.add_to_other_config(vm_ref, _ID, wanted)
            self.outcome.claims_set += 1

    def review(self, vm_ref, record):
        """A VM that does not run keeps its claim if it is for this VM and of this boot, or another host's to look after."""
        mark, dom_id = record['other_config'][_MARK], text_checks.parse_number(record['other_config'].get(_ID, ''))
        if not mark.startswith(self.host_uuid + '/'):
            return
        # It may have stopped just now, since those that run were listed.  Another VM has its id when 32,751 have been used up.
        if mark == self._make_mark(record) and dom_id is not None and self.outcome.here.get(dom_id, vm_ref) == vm_ref:
            self.outcome.claimed.add(dom_id)
        else:
            self.disclaim(vm_ref)

    def review_unmarked(self, vm_ref, record, taken):
        """The same for a claim that a client has made, of whatever host and boot: it stays if its id is none of `taken`."""
        dom_id = text_checks.parse_number(record['other_config'][_ID])
        if dom_id is None or dom_id in taken:
            self.disclaim(vm_ref)
        else:
            self.outcome.claimed.add(dom_id)

    def disclaim(self, vm_ref):
        with _Races():
            self._remove(vm_ref, _ID)
            self._remove(vm_ref, _MARK)
            self.outcome.claims_removed += 1

    def _remove(self, vm_ref, key):
        self._api.VM.remove_from_other_config(vm_ref, key)

    def _make_mark(self, record):
        return '%s/%s' % (self._boot, record['uuid'])


class _Races(object):
    """Within, what somebody else has done to a VM meanwhile ends the block, and nothing more."""

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        return isinstance(value, Exception) and xapi.failure_code(value) in _RACES


def _read_boot_id():
    with os_errors.Errors('cannot read %s' % paths.BOOT_ID), open(paths.locate(paths.BOOT_ID), 'rb') as source:
        return source.read().decode('ascii', 'replace').strip()
