# SPDX-License-Identifier: Apache-2.0
"""host messages about a host's state and power.

Source: ocaml/xapi/xapi_host.ml (assert_bacon_mode) in xapi-project/xen-api.
"""

from tests.harness.xapi.failures import Failure
from tests.harness.xapi.messages import message


class HostPower(object):

    def __init__(self, database, clock, find_host):
        """find_host: function(reference) -> the host with .power_actions, a list"""
        self._database = database
        self._clock = clock
        self._find_host = find_host

    @message("host.enable", "ref", role="pool-operator", has_async=True)
    def enable(self, context, host_ref):
        self._database.update("host", host_ref, enabled=True)

    @message("host.disable", "ref", role="pool-operator", has_async=True)
    def disable(self, context, host_ref):
        self._database.update("host", host_ref, enabled=False)

    @message("host.reboot", "ref", role="pool-operator", has_async=True)
    def reboot(self, context, host_ref):
        self._go_down(host_ref, "reboot")

    @message("host.shutdown", "ref", role="pool-operator", has_async=True)
    def shutdown(self, context, host_ref):
        self._go_down(host_ref, "shutdown")

    def _go_down(self, host_ref, action):
        if self._database.get("host", host_ref, "enabled"):
            raise Failure("HOST_NOT_DISABLED")
        for vm_ref in self._database.refs("VM", resident_on=host_ref, power_state="Running"):
            if not self._database.get("VM", vm_ref, "is_control_domain"):
                raise Failure("HOST_IN_USE", host_ref, "vm", vm_ref)
            for vbd_ref in self._database.refs("VBD", VM=vm_ref, currently_attached=True):
                raise Failure("HOST_IN_USE", host_ref, "vbd", vbd_ref)
        # The real one answers, and goes down ten seconds later.
        self._find_host(host_ref).power_actions.append(action)

    @message("host.power_on", "ref", role="pool-operator", has_async=True)
    def power_on(self, context, host_ref):
        if not self._database.get("host", host_ref, "power_on_mode"):
            # The error of the plug-in that XAPI has for it.
            raise Failure("XENAPI_PLUGIN_FAILURE", "main", "HOST_POWER_ON_NOT_CONFIGURED", "")
        self._find_host(host_ref).power_actions.append("power_on")
        self._database.update("host_metrics", self._database.get("host", host_ref, "metrics"), live=True)

    @message("host.get_servertime", "ref")
    def get_servertime(self, context, host_ref):
        self._find_host(host_ref)
        return self._clock.timestamp()

    @message("host.compute_free_memory", "ref", has_async=True)
    def compute_free_memory(self, context, host_ref):
        host = self._database.record("host", host_ref)
        guests = sum(self._database.get("VM", vm_ref, "memory_static_max") for vm_ref in host["resident_VMs"])
        return self._database.get("host_metrics", host["metrics"], "memory_total") - host["memory_overhead"] - guests
