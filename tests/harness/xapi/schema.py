# SPDX-License-Identifier: Apache-2.0
"""Classes of the database and their fields, as far as clients of dom0 plug-ins read them.

Each field is (kind, default). Kinds: string, bool, int (travels as text), float, datetime, ref, refs, strings, map.
XAPI derives its generic messages from such a table: get_all, get_all_records, get_all_records_where, get_record,
get_by_uuid, get_by_name_label, get_<field>, and for fields that clients may write set_<field>, add_to_<map>, remove_from_<map>.
"""

import collections

from tests.harness.xapi.failures import type_error
from tests.harness.xapi.xapi_xml import DateTime

NULL_REF = "OpaqueRef:NULL"
EPOCH = DateTime("19700101T00:00:00Z")

Class = collections.namedtuple("Class", "fields writable writer")
Field = collections.namedtuple("Field", "kind default")

_DEFAULTS = {"string": "", "bool": False, "int": 0, "float": 0.0, "datetime": EPOCH, "ref": NULL_REF,
             "refs": [], "strings": [], "map": {}}

# The namespaces of the datamodel. Clients see the names of namespace and field joined by one underscore, the database by two.
_NAMESPACES = {
    "task": "name", "pool": "name", "network": "name", "VDI": "name", "SR": "name", "VIF": "qos", "VBD": "qos",
    "host": "name memory API_version", "host_metrics": "memory", "VM": "name memory VCPUs actions PV HVM",
}

# Values of enumerations; XAPI reads them in any case and answers with these.
_ENUMERATIONS = {
    ("VDI", "type"): ("vdi_type", "system user ephemeral suspend crashdump ha_statefile metadata redo_log rrd"),
    ("VBD", "type"): ("vbd_type", "CD Disk Floppy"),
    ("VBD", "mode"): ("vbd_mode", "RO RW"),
}


def read_enumeration(class_name, field, value):
    """The value as XAPI writes it; texts of fields that are no enumerations are returned as they are.  Raises Failure."""
    if (class_name, field) not in _ENUMERATIONS:
        return value
    type_name, names = _ENUMERATIONS[class_name, field]
    for name in names.split():
        if name.lower() == value.lower():
            return name
    raise type_error(type_name, "S(%s)" % value)


def column_name(class_name, field):
    """The name of a field's column in the database, which queries use: name__label for name_label."""
    for namespace in _NAMESPACES.get(class_name, "").split():
        if field.startswith(namespace + "_"):
            return "%s__%s" % (namespace, field[len(namespace) + 1:])
    return field


def _fields(**kinds):
    fields = collections.OrderedDict(uuid=Field("string", ""))
    for kind, names in kinds.items():
        for name in names.split():
            name, _, default = name.partition("=")
            fields[name] = Field(kind, _convert(kind, default) if default else _DEFAULTS[kind])
    return fields


def _convert(kind, text):
    return {"bool": lambda: text == "true", "int": lambda: int(text)}.get(kind, lambda: text)()


def _class(writable="", writer="pool-operator", **kinds):
    """`writer` is the least role that may write the fields named in `writable`."""
    return Class(_fields(**kinds), frozenset(writable.split()), writer)


CLASSES = {
    "session": _class(
        string="auth_user_sid auth_user_name originator", ref="this_host this_user subject parent",
        bool="is_local_superuser pool client_certificate", datetime="last_active validation_time",
        strings="rbac_permissions", refs="tasks", map="other_config", writable="other_config"),
    "task": _class(
        string="name_label name_description status=pending type=<none/> result backtrace=()",
        ref="session subtask_of resident_on forwarded_to", refs="subtasks", float="progress",
        datetime="created finished", strings="error_info allowed_operations", map="current_operations other_config",
        writable="other_config", writer="read-only"),
    "pool": _class(
        string="name_label name_description", ref="master default_SR suspend_image_SR crash_dump_SR",
        bool="ha_enabled wlb_enabled", map="other_config gui_config", strings="tags",
        writable="name_label name_description default_SR other_config tags"),
    "host": _class(
        string="name_label name_description hostname address edition=free external_auth_type power_on_mode",
        int="API_version_major=2 API_version_minor=21 memory_overhead", bool="enabled=true",
        ref="metrics control_domain suspend_image_sr local_cache_sr", refs="PIFs PBDs resident_VMs host_CPUs",
        map="software_version other_config cpu_info license_params logging current_operations",
        strings="capabilities allowed_operations tags", writable="name_label name_description other_config tags hostname"),
    "host_metrics": _class(int="memory_total memory_free", bool="live=true", datetime="last_updated", map="other_config"),
    "network": _class(
        string="name_label name_description bridge", refs="PIFs VIFs", int="MTU=1500", bool="managed=true",
        map="other_config", strings="tags", writable="name_label name_description other_config tags"),
    "PIF": _class(
        string="device MAC IP netmask gateway DNS ip_configuration_mode=Static",
        ref="host network", int="VLAN=-1 MTU=1500", bool="management physical=true currently_attached=true",
        map="other_config", strings="IPv6", writable="other_config"),
    "VM": _class(
        string="name_label name_description power_state=Halted PV_kernel PV_ramdisk PV_args PV_bootloader HVM_boot_policy "
               "domarch user_version=1 actions_after_shutdown=destroy actions_after_reboot=restart actions_after_crash=destroy "
               "PV_bootloader_args PV_legacy_args PCI_bus recommendations ha_restart_priority domain_type=unspecified",
        ref="resident_on affinity suspend_VDI snapshot_of metrics guest_metrics", refs="VBDs VIFs snapshots consoles",
        bool="is_a_template is_a_snapshot is_control_domain ha_always_run",
        int="domid=-1 memory_static_max memory_dynamic_max memory_dynamic_min memory_static_min memory_target memory_overhead "
            "VCPUs_max VCPUs_at_startup",
        map="other_config xenstore_data platform VCPUs_params HVM_boot_params blocked_operations current_operations",
        strings="allowed_operations tags",
        writable="name_label name_description is_a_template affinity VCPUs_params PV_bootloader PV_kernel PV_ramdisk PV_args "
                 "PV_bootloader_args HVM_boot_policy HVM_boot_params blocked_operations recommendations other_config xenstore_data "
                 "platform tags",
        writer="vm-admin"),
    "VIF": _class(
        string="device MAC locking_mode=network_default status_detail qos_algorithm_type", ref="network VM metrics",
        int="MTU=1500 status_code", bool="currently_attached MAC_autogenerated",
        map="other_config qos_algorithm_params runtime_properties current_operations",
        strings="allowed_operations qos_supported_algorithms ipv4_allowed ipv6_allowed",
        writable="other_config qos_algorithm_type qos_algorithm_params", writer="vm-admin"),
    "VBD": _class(
        string="device userdevice mode=RW type=Disk status_detail qos_algorithm_type", ref="VM VDI metrics",
        bool="bootable unpluggable=true currently_attached storage_lock empty", int="status_code",
        map="other_config qos_algorithm_params runtime_properties current_operations",
        strings="allowed_operations qos_supported_algorithms",
        writable="userdevice bootable mode type unpluggable other_config qos_algorithm_type qos_algorithm_params",
        writer="vm-admin"),
    "VDI": _class(
        string="name_label name_description type=user location on_boot=persist", ref="SR parent snapshot_of metadata_of_pool",
        refs="VBDs snapshots crash_dumps", int="virtual_size physical_utilisation",
        bool="sharable read_only storage_lock managed=true missing is_a_snapshot is_tools_iso cbt_enabled allow_caching",
        datetime="snapshot_time", map="other_config sm_config xenstore_data current_operations",
        strings="allowed_operations tags",
        writable="name_label name_description other_config sm_config xenstore_data sharable read_only tags", writer="vm-admin"),
    "SR": _class(
        string="name_label name_description type=ext content_type=user", refs="VDIs PBDs", ref="introduced_by",
        int="virtual_allocation physical_utilisation physical_size", bool="shared local_cache_enabled is_tools_sr clustered",
        map="other_config sm_config blobs current_operations", strings="allowed_operations tags",
        writable="name_label name_description other_config tags"),
    "PBD": _class(
        ref="host SR", bool="currently_attached", map="device_config other_config", writable="other_config device_config"),
}
