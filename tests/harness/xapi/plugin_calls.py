# SPDX-License-Identifier: Apache-2.0
"""host.call_plugin and VM.call_host_plugin: a plug-in on any host of the pool."""

from tests.harness.xapi.failures import Failure
from tests.harness.xapi.messages import message


class PluginCalls(object):

    def __init__(self, database, sessions, find_host):
        """find_host: function(reference) -> the host with .ref and .dom0"""
        self._database = database
        self._sessions = sessions
        self._find_host = find_host

    @message("host.call_plugin", "ref", "string", "string", "map", role="pool-admin", has_async=True)
    def call_plugin(self, context, host_ref, plugin, function, arguments):
        host = self._find_host(host_ref)
        if host is context.host:
            return host.dom0.call_plugin(plugin, function, context.session_ref, arguments)
        # A call forwarded to another member goes on under the pool's own session: the plug-in cannot tell who called.
        session = self._sessions.open(host.ref)
        try:
            return host.dom0.call_plugin(plugin, function, session, arguments)
        finally:
            if self._database.exists("session", session):
                self._sessions.close(session)

    @message("VM.call_host_plugin", "ref", "string", "string", "map", role="vm-operator", has_async=True)
    def call_host_plugin(self, context, vm_ref, plugin, function, arguments):
        vm = self._database.record("VM", vm_ref)
        if vm["power_state"] != "Running":
            raise Failure("VM_BAD_POWER_STATE", vm_ref, "running", vm["power_state"].lower())
        return self.call_plugin(context, vm["resident_on"], plugin, function, arguments)
