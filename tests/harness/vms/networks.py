# SPDX-License-Identifier: Apache-2.0
"""network and VIF messages.

Sources: ocaml/xapi/xapi_network.ml, xapi_vif.ml, xapi_vif_helpers.ml in xapi-project/xen-api.
"""

import itertools
import re

from tests.harness.xapi.failures import Failure
from tests.harness.xapi.messages import message
from tests.harness.storage.storage_messages import read_constructor

_OF_NETWORKS = ("name_label", "name_description", "MTU", "other_config", "bridge", "managed", "tags")
_OF_VIFS = ("device", "network", "VM", "MAC", "MTU", "other_config", "qos_algorithm_type", "qos_algorithm_params", "locking_mode")
_MAC = re.compile("([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$")


class Networks(object):

    def __init__(self, database):
        self._database = database

    @message("network.create", "record", role="pool-operator", has_async=True)
    def create(self, context, record):
        fields = read_constructor("network", record, ("other_config",))
        fields = {name: fields[name] for name in _OF_NETWORKS if name in fields}
        taken = [self._database.get("network", ref, "bridge") for ref in self._database.refs("network")]
        if not fields.get("bridge"):
            fields["bridge"] = next(name for name in ("xapi%d" % number for number in itertools.count()) if name not in taken)
        elif fields["bridge"] in taken:
            raise Failure("BRIDGE_NAME_EXISTS", fields["bridge"])
        return self._database.create("network", **fields)

    @message("network.destroy", "ref", role="pool-operator", has_async=True)
    def destroy(self, context, network_ref):
        network = self._database.record("network", network_ref)
        attached = [vif for vif in network["VIFs"] if self._database.get("VIF", vif, "currently_attached")]
        if attached:
            raise Failure("NETWORK_CONTAINS_VIF", *attached)
        if network["PIFs"]:
            raise Failure("NETWORK_CONTAINS_PIF", *network["PIFs"])
        for vif in network["VIFs"]:
            self._database.destroy("VIF", vif)
        self._database.destroy("network", network_ref)

    @message("VIF.create", "record", role="vm-admin", has_async=True)
    def create_vif(self, context, record):
        fields = read_constructor("VIF", record, ("device", "network", "VM", "MAC", "MTU", "other_config", "qos_algorithm_type",
                                                  "qos_algorithm_params"))
        fields = {name: fields[name] for name in _OF_VIFS if name in fields}
        self._database.record("network", fields["network"])
        vm = self._database.record("VM", fields["VM"])
        if not fields["device"].isdigit():
            raise Failure("INVALID_DEVICE", fields["device"])
        if not _MAC.match(fields["MAC"]):
            raise Failure("MAC_INVALID", fields["MAC"])
        if fields["device"] in [self._database.get("VIF", vif, "device") for vif in vm["VIFs"]]:
            raise Failure("DEVICE_ALREADY_EXISTS", fields["device"])
        return self._database.create("VIF", **fields)

    @message("VIF.destroy", "ref", role="vm-admin", has_async=True)
    def destroy_vif(self, context, vif_ref):
        if self._database.get("VIF", vif_ref, "currently_attached"):
            raise Failure("OPERATION_NOT_ALLOWED", "VIF currently attached to a running VM")
        self._database.destroy("VIF", vif_ref)

    @message("VIF.plug", "ref", role="vm-admin", has_async=True)
    def plug(self, context, vif_ref):
        if self._require_running(vif_ref)["currently_attached"]:
            raise Failure("DEVICE_ALREADY_ATTACHED", vif_ref)
        self._database.update("VIF", vif_ref, currently_attached=True)

    @message("VIF.unplug", "ref", role="vm-admin", has_async=True)
    def unplug(self, context, vif_ref):
        if not self._require_running(vif_ref)["currently_attached"]:
            raise Failure("DEVICE_ALREADY_DETACHED", vif_ref)
        self._database.update("VIF", vif_ref, currently_attached=False)

    def _require_running(self, vif_ref):
        vif = self._database.record("VIF", vif_ref)
        power_state = self._database.get("VM", vif["VM"], "power_state")
        if power_state != "Running":
            raise Failure("VM_BAD_POWER_STATE", vif["VM"], "running", power_state.lower())
        return vif
