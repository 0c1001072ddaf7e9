# SPDX-License-Identifier: Apache-2.0
"""SR and VDI messages: the database follows the files of the SR."""

import os
import uuid

from tests.harness.storage.iso_repository import IsoRepository
from tests.harness.storage.repository import Repository
from tests.harness.xapi.failures import Failure
from tests.harness.xapi.messages import convert, message
from tests.harness.xapi.schema import CLASSES, read_enumeration

# What the files say; other keys of sm_config stay through a scan.
_OF_SM = ("image-format", "vhd-parent")
# What XAPI copies from a VDI to its snapshots and clones.
_COPIED = ("name_label", "name_description", "type", "sharable", "other_config", "xenstore_data", "on_boot", "allow_caching",
           "tags")


class Storage(object):

    def __init__(self, database, clock):
        self._database = database
        self._clock = clock
        self._repositories = {}
        # {SR: function}, which is called after each SR.scan of a client; SM begins to collect garbage there.
        self.scan_listeners = {}

    def add_repository(self, host, name):
        """A new local SR of `host`, plugged. Returns its reference."""
        sr_uuid = str(uuid.uuid4())
        path = host.dom0.locate("/var/run/sr-mount/%s" % sr_uuid)
        os.mkdir(path)
        ref = self._database.create("SR", uuid=sr_uuid, name_label=name, physical_size=1 << 40,
                                    other_config={"i18n-key": "local-storage", "i18n-original-value-name_label": name},
                                    allowed_operations=["vdi_create", "vdi_destroy", "vdi_snapshot", "vdi_clone", "scan"])
        self._database.create("PBD", host=host.ref, SR=ref, currently_attached=True,
                              device_config={"device": "/dev/disk/by-id/harness-%s-part3" % sr_uuid[:8]})
        self._repositories[ref] = Repository(sr_uuid, path, host.dom0, host.sm_locks)
        return ref

    def add_iso_repository(self, host, path):
        """An SR of ISOs in a directory of a host, plugged. Returns its reference."""
        sr_uuid = str(uuid.uuid4())
        os.makedirs(path, exist_ok=True)
        ref = self._database.create("SR", uuid=sr_uuid, name_label="Local ISOs", type="iso", content_type="iso",
                                    physical_size=1 << 40, other_config={"i18n-key": "local-storage-iso"})
        self._database.create("PBD", host=host.ref, SR=ref, currently_attached=True,
                              device_config={"location": path, "legacy_mode": "true"})
        self._repositories[ref] = IsoRepository(sr_uuid, path, host.dom0, host.sm_locks)
        return ref

    def repository(self, sr_ref):
        """Raises Failure HANDLE_INVALID."""
        self._database.get("SR", sr_ref, "uuid")
        return self._repositories[sr_ref]

    def disk_of(self, vdi_ref):
        """The repository of a VDI and the VDI's uuid. Raises Failure."""
        vdi = self._database.record("VDI", vdi_ref)
        return self.repository(vdi["SR"]), vdi["uuid"]

    @message("SR.scan", "ref", role="vm-power-admin", has_async=True)
    def scan(self, context, sr_ref):
        self._scan(sr_ref)
        self.scan_listeners.get(sr_ref, bool)()

    def _scan(self, sr_ref):
        repository = self.repository(sr_ref)
        if not any(self._database.get("PBD", pbd, "currently_attached") for pbd in self._database.refs("PBD", SR=sr_ref)):
            raise Failure("SR_HAS_NO_PBDS", sr_ref)
        disks = repository.scan()
        known = {self._database.get("VDI", ref, "uuid"): ref for ref in self._database.refs("VDI", SR=sr_ref)}
        for name, ref in known.items():
            if name not in disks:
                self._forget(ref)
        parents = set(disk.parent for disk in disks.values())
        for name, disk in disks.items():
            fields = _describe_disk(disk, name in parents)
            if name in known:
                sm_config = self._database.get("VDI", known[name], "sm_config")
                fields["sm_config"].update((key, value) for key, value in sm_config.items() if key not in _OF_SM)
                self._database.update("VDI", known[name], **fields)
            else:
                self._database.create("VDI", uuid=name, SR=sr_ref, location=name, name_label="base copy" if disk.is_hidden else "",
                                      allowed_operations=["clone", "copy", "snapshot", "destroy"], **fields)
        self._database.update("SR", sr_ref, physical_utilisation=sum(disk.physical_size for disk in disks.values()),
                              virtual_allocation=sum(disk.virtual_size for disk in disks.values() if not disk.is_hidden))

    def _forget(self, vdi_ref):
        for vbd in self._database.refs("VBD", VDI=vdi_ref):
            self._database.destroy("VBD", vbd)
        self._database.destroy("VDI", vdi_ref)

    @message("SR.update", "ref", role="pool-operator", has_async=True)
    def update(self, context, sr_ref):
        self.repository(sr_ref)

    @message("VDI.create", "record", role="vm-admin", has_async=True)
    def create(self, context, record):
        fields = read_constructor("VDI", record, ("SR", "virtual_size", "type", "sharable", "read_only", "other_config"))
        repository = self.repository(fields["SR"])
        name = repository.create_disk(fields["virtual_size"])
        self._scan(fields["SR"])
        ref = self._database.ref_by_uuid("VDI", name)
        fields = {field: value for field, value in fields.items()
                  if field in ("name_label", "name_description", "type", "sharable", "read_only", "other_config", "xenstore_data",
                               "tags")}
        self._database.update("VDI", ref, **fields)
        return ref

    @message("VDI.destroy", "ref", role="vm-admin", has_async=True)
    def destroy(self, context, vdi_ref):
        repository, name = self.disk_of(vdi_ref)
        vdi = self._database.record("VDI", vdi_ref)
        if any(self._database.get("VBD", vbd, "currently_attached") for vbd in vdi["VBDs"]):
            raise Failure("VDI_IN_USE", vdi_ref, "destroy")
        if not vdi["managed"]:
            raise Failure("VDI_NOT_MANAGED", vdi_ref)
        repository.delete_disk(name)
        self._forget(vdi_ref)

    @message("VDI.forget", "ref", role="vm-admin", has_async=True)
    def forget(self, context, vdi_ref):
        self.disk_of(vdi_ref)
        self._forget(vdi_ref)

    @message("VDI.resize", "ref", "int", role="vm-admin", has_async=True)
    def resize(self, context, vdi_ref, size):
        self._resize(vdi_ref, size)

    @message("VDI.resize_online", "ref", "int", role="vm-admin", has_async=True)
    def resize_online(self, context, vdi_ref, size):
        self._resize(vdi_ref, size)

    def _resize(self, vdi_ref, size):
        repository, name = self.disk_of(vdi_ref)
        if not self._database.get("VDI", vdi_ref, "managed"):
            raise Failure("VDI_NOT_MANAGED", vdi_ref)
        repository.resize_disk(name, size)
        self._scan(self._database.get("VDI", vdi_ref, "SR"))

    @message("VDI.snapshot", "ref", "map", required=1, role="vm-admin", has_async=True)
    def snapshot(self, context, vdi_ref, driver_params=None):
        return self._snapshot(vdi_ref, is_a_snapshot=True, snapshot_of=vdi_ref,
                              snapshot_time=self._clock.timestamp())

    @message("VDI.clone", "ref", "map", required=1, role="vm-admin", has_async=True)
    def clone(self, context, vdi_ref, driver_params=None):
        return self._snapshot(vdi_ref)

    def _snapshot(self, vdi_ref, **fields):
        repository, name = self.disk_of(vdi_ref)
        vdi = self._database.record("VDI", vdi_ref)
        snapshot = repository.snapshot_disk(name)
        self._scan(vdi["SR"])
        ref = self._database.ref_by_uuid("VDI", snapshot)
        self._database.update("VDI", ref, **dict({name: vdi[name] for name in _COPIED}, **fields))
        return ref


def _describe_disk(disk, has_children):
    sm_config = {"image-format": "raw" if disk.is_raw else "vhd"}
    if disk.parent:
        sm_config["vhd-parent"] = disk.parent
    return {"virtual_size": disk.virtual_size, "physical_utilisation": disk.physical_size, "managed": not disk.is_hidden,
            "read_only": has_children, "sm_config": sm_config}


def read_constructor(class_name, record, required):
    """The fields that <class>.create was given, converted. Raises Failure for missing ones and wrong types.

    Fields that the class does not have are ignored, as in XAPI.
    """
    for name in required:
        if name not in record:
            raise Failure("INTERNAL_ERROR", 'Server_helpers.Dispatcher_FieldNotFound("%s")' % name)
    fields = CLASSES[class_name].fields
    return {name: read_enumeration(class_name, name, convert(fields[name].kind, value))
            for name, value in record.items() if name in fields}
