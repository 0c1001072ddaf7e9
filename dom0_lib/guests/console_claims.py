# SPDX-License-Identifier: Apache-2.0
"""The claims of VMs to console logs: other_config:last_dom_id, by which clients ask for the log of a stopped guest.

After a reboot, and on another host, the same domain id may belong to another tenant's guest.  Therefore each claim has a mark,

    other_config:last_dom_of = <host's uuid>/<boot id of its dom0>/<VM's uuid>

which names the host and the boot whose domain the claim means, and the VM: a copy of a VM gets a copy of its other_config.
Claims are changed in such an order that a killed call leaves, at worst, a VM without a claim until the next call.
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
# XAPI's errors for a VM that was deleted, and for a key that a client set meanwhile: the next call settles both.
_RACES = ('HANDLE_INVALID', 'MAP_DUPLICATE_KEY')


class Outcome(object):
    """
    claims_set, claims_removed  numbers of VMs
    claimed                     domain ids that VMs of this host may claim now
    here                        {domain id: reference} of the VMs that run here according to XAPI
    """

    def __init__(self):
        self.claims_set = self.claims_removed = 0
        self.claimed = set()
        self.here = {}


def renew(session_ref, living):
    """Set the claim of every VM that runs here, and remove claims that may lead to another VM's log.  Returns an Outcome.

    living: ids of this host's domains.  Raises errors.PluginError, and the errors of xapi.Errors.
    """
    with xapi.Errors("cannot keep the VMs' last_dom_id"):
        book = _Book(session_ref)
        running, stopped = book.list_running(), book.list_stopped()
        for vm_ref, record in running.items():
            book.claim(vm_ref, record)
        for vm_ref, record in stopped.items():
            if _is_marked(record):
                book.review(vm_ref, record)
        # A VM without a mark may claim neither the id of a living domain nor an id that a marked VM claims.
        taken = living.union(book.outcome.claimed)
        for vm_ref, record in stopped.items():
            if _ID in record['other_config'] and not _is_marked(record):
                book.review_unmarked(vm_ref, record, taken)
        return book.outcome


def drop(session_ref):
    """Remove every claim that this host has set.  Returns their number; raises the same errors as renew()."""
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
        """{reference: record} of the pool's VMs that run nowhere.  Other hosts look after the VMs that they run."""
        return self._list('field "resident_on"="%s"' % _NOWHERE)

    def _list(self, where):
        query = '(%s) and (field "is_control_domain"="false") and (field "is_a_template"="false")' % where
        return self._api.VM.get_all_records_where(query)

    def claim(self, vm_ref, record):
        """Set the claim of a VM that runs here, unless it is right already."""
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
        """Remove the claim of a stopped VM if it is for another VM or of an earlier boot.  Other hosts review their own claims."""
        mark, dom_id = record['other_config'][_MARK], text_checks.parse_number(record['other_config'].get(_ID, ''))
        if not mark.startswith(self.host_uuid + '/'):
            return
        # The VM may have stopped after the running VMs were listed.  Ids are given again after 32,751 of them.
        if mark == self._make_mark(record) and dom_id is not None and self.outcome.here.get(dom_id, vm_ref) == vm_ref:
            self.outcome.claimed.add(dom_id)
        else:
            self.disclaim(vm_ref)

    def review_unmarked(self, vm_ref, record, taken):
        """Remove a claim that a client has set, of an unknown host and boot, if its id is in `taken`."""
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
    """`with _Races():` skips the rest of the block, without an error, when another client has changed the VM meanwhile."""

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        return isinstance(value, Exception) and xapi.failure_code(value) in _RACES


def _read_boot_id():
    with os_errors.Errors('cannot read %s' % paths.BOOT_ID), open(paths.locate(paths.BOOT_ID), 'rb') as source:
        return source.read().decode('ascii', 'replace').strip()
