# SPDX-License-Identifier: Apache-2.0
"""Domains: running guests of a host, with their records in xenstore, and devices that are attached as long as they run."""

import string
import threading

from tests.harness.xapi.schema import NULL_REF


class Domains(object):

    def __init__(self, database, find_host):
        """find_host: function(reference) -> the host with .ref and .xenstore"""
        # Each gets domain_began(host, domid) and domain_ended(host, domid): programs of the guest, for example.
        self.listeners = []
        self._database = database
        self._find_host = find_host
        self._last_domids = {}
        self._lock = threading.Lock()

    def begin(self, vm_ref, host_ref, power_state):
        """A guest begins on a host, with a domain number that no guest of this host has had."""
        host = self._find_host(host_ref)
        vm = self._database.record("VM", vm_ref)
        with self._lock:
            domid = self._choose_domid(host_ref)
            host.xenstore.introduce(domid, vm["name_label"])
            _write_records(host.xenstore, domid, vm)
            self._database.update("VM", vm_ref, power_state=power_state, resident_on=host_ref, domid=domid)
            for vbd_ref in vm["VBDs"]:
                device = name_device(self._database.get("VBD", vbd_ref, "userdevice"))
                self._database.update("VBD", vbd_ref, currently_attached=True, device=device)
            for vif_ref in vm["VIFs"]:
                self._database.update("VIF", vif_ref, currently_attached=True)
        for listener in list(self.listeners):
            listener.domain_began(host, domid)

    def end(self, vm_ref, power_state):
        vm = self._database.record("VM", vm_ref)
        host = self._find_host(vm["resident_on"])
        for listener in list(self.listeners):
            listener.domain_ended(host, vm["domid"])
        with self._lock:
            host.xenstore.release(vm["domid"])
            self._database.update("VM", vm_ref, power_state=power_state, resident_on=NULL_REF, domid=-1)
            for vbd_ref in vm["VBDs"]:
                self._database.update("VBD", vbd_ref, currently_attached=False, device="")
            for vif_ref in vm["VIFs"]:
                self._database.update("VIF", vif_ref, currently_attached=False)

    def _choose_domid(self, host_ref):
        domids = [self._database.get("VM", ref, "domid") for ref in self._database.refs("VM", resident_on=host_ref)]
        self._last_domids[host_ref] = 1 + max([self._last_domids.get(host_ref, 0)] + domids)
        return self._last_domids[host_ref]


def name_device(userdevice):
    """The name by which a guest's kernel calls the disk with this number, or whose name this is."""
    return "xvd" + string.ascii_lowercase[int(userdevice)] if userdevice.isdigit() else userdevice


def _write_records(xenstore, domid, vm):
    """The records of a guest besides those that every domain has: its uuid, and VM.xenstore_data."""
    path = b"/local/domain/%d/" % domid
    with xenstore.client() as client:
        client.write(path + b"vm", b"/vm/" + vm["uuid"].encode("ascii"))
        for key, value in vm["xenstore_data"].items():
            client.write(path + key.encode("utf-8"), value.encode("utf-8"))
