# SPDX-License-Identifier: Apache-2.0
"""The requests that both kinds of plug-ins get. Each function is a case, and its name the case's in docs/DIFFERENCES.md. It
gets a Side, prepares its host, makes calls and returns the values to compare. A failure of the call is compared, too."""

import base64
import itertools
import json
import os
import re
import subprocess
import tarfile
import uuid
import zlib

from dom0_lib.disks import vhd
from tests.calls import sr_disks
from tests.calls.boot.kernel_host import KERNEL, KERNEL_BYTES, KernelHost
from tests.harness.guests import guests
from tests.harness.guests.guest_agent import Agent
from tests.harness.guests.guests import Guest
from tests.harness.vhd import vhd_writer
from tests.security import hostile_disks

PLUGINS = {}
IMAGE_ID = "5f0c1e77-1c4d-4a8e-9b3e-0d2f6c7a8b91"


# Plug-ins of os-xenapi that run xenstore-read and the like; tests/run unpacks these programs.
NEED_XENSTORE_TOOLS = ("agent.py", "xenstore.py")


def case(plugin):
    """Mark a function as a case for this plug-in."""
    def register(function):
        PLUGINS[function.__name__] = plugin
        return function
    return register


# dom0_plugin_version.py

@case("dom0_plugin_version.py")
def version(side):
    return side.call_legacy("dom0_plugin_version.py", "get_version")


@case("dom0_plugin_version.py")
def unknown_function(side):
    return side.call_plain("dom0_plugin_version.py", "nobody")


# console.py, config_file.py, bandwidth.py

def _read_console(side, log, dom_id):
    if log is not None:
        side.write("/var/log/xen/guest/console.5", log)
    reply = side.call_plain("console.py", "get_console_log", dom_id=dom_id)
    return zlib.decompress(base64.b64decode(reply)).decode("latin-1")


@case("console.py")
def console(side):
    return _read_console(side, b"x" * 200000 + b"login: \x1b[0m\xff", "5")


@case("console.py")
def console_of_nobody(side):
    return _read_console(side, None, "6")


@case("console.py")
def console_of_no_number(side):
    return _read_console(side, None, "../5")


def _read_setting(side, text):
    side.write("/etc/xapi.conf", text)
    return side.call_plain("config_file.py", "get_val", key="relax-xsm-sr-check")


@case("config_file.py")
def setting(side):
    return _read_setting(side, b"log = x\n relax-xsm-sr-check=true\n")


@case("config_file.py")
def setting_that_is_absent(side):
    return _read_setting(side, b"# relax-xsm-sr-check = true\n")


@case("config_file.py")
def setting_with_a_comment(side):
    return _read_setting(side, b"relax-xsm-sr-check = true # as of 2019\n")


@case("config_file.py")
def setting_that_is_there_twice(side):
    return _read_setting(side, b"relax-xsm-sr-check = true\nrelax-xsm-sr-check = false\n")


@case("bandwidth.py")
def bandwidth(side):
    """Interfaces of the test's network namespace; one has the name that neutron's agents gave."""
    for pair in (("vif7.0", "vif7.1"), ("vif0fc5a97d-3e", "eth7")):
        subprocess.run(["ip", "link", "add", pair[0], "type", "veth", "peer", "name", pair[1]], check=True, timeout=60)
    try:
        return side.call_legacy("bandwidth.py", "fetch_all_bandwidth")
    finally:
        for name in ("vif7.0", "vif0fc5a97d-3e"):
            subprocess.run(["ip", "link", "delete", name], check=True, timeout=60)


# netwrap.py

def _run(side, command, command_input=None, script="exit 0"):
    side.add_program("ip", script)
    side.add_program("rm")
    reply = side.call_plain("netwrap.py", "run_command", cmd=json.dumps(command), cmd_input=json.dumps(command_input))
    return json.loads(reply)


@case("netwrap.py")
def command(side):
    return _run(side, ["ip", "-o", "link", "show", "eth0"], script="echo out; echo err >&2")


@case("netwrap.py")
def command_that_fails(side):
    return _run(side, ["ip", "link", "show", "eth0"], script="echo no such device >&2; exit 255")


@case("netwrap.py")
def command_with_input(side):
    return _run(side, ["ip", "link"], "two\nlines\n", "cat; exit 3")


@case("netwrap.py")
def command_that_is_not_listed(side):
    return _run(side, ["rm", "-rf", "/nothing"])


@case("netwrap.py")
def command_that_is_not_there(side):
    environment = side.dom0.plugin_environment
    path, environment["PATH"] = environment["PATH"], "/opt/harness/bin"
    try:
        return json.loads(side.call_plain("netwrap.py", "run_command", cmd='["ovsdb-client", "list-dbs"]', cmd_input="null"))
    finally:
        environment["PATH"] = path


@case("netwrap.py")
def command_that_runs_another(side):
    return _run(side, ["ip", "netns", "exec", "x", "sh", "-c", "id"])


@case("netwrap.py")
def command_whose_output_is_not_utf8(side):
    return _run(side, ["ip", "link"], script=r"printf '\377\n'")


@case("netwrap.py")
def command_with_an_escape_sequence(side):
    return _run(side, ["ip", "link"], script=r"printf '\033[1mlo\033[0m\n'")


# xenhost.py

@case("xenhost.py")
def uptime(side):
    reply = json.loads(side.call_plain("xenhost.py", "host_uptime"))
    # The time, the uptime and the load differ from call to call.
    return {"uptime": re.sub(r" +", " ", re.sub(r"up .*?, +(\d+ users?)", "up, \\1", re.sub(r"[0-9.:]+", "0", reply["uptime"])))}


@case("xenhost.py")
def enabled(side):
    """os-xenapi's asks xe; ours asks XAPI."""
    side.add_program("xe", 'case "$*" in *param-name=enabled*) echo true;; esac')
    try:
        return json.loads(side.call_plain("xenhost.py", "set_host_enabled", enabled="true"))
    finally:
        side.remove_program("xe")


@case("xenhost.py")
def pci_devices(side):
    side.add_program("lspci", "printf 'Slot:\\t00:02.0\\nVendor:\\tX\\n\\nSlot:\\t00:03.0\\n'")
    return side.call_legacy("xenhost.py", "get_pci_device_details")


@case("xenhost.py")
def pci_device_of_no_type(side):
    return side.call_legacy("xenhost.py", "get_pci_type", "00:00.0; id")


@case("xenhost.py")
def rules_saved(side):
    side.add_program("iptables-save", "echo '*filter'; echo COMMIT")
    return json.loads(side.call_plain("xenhost.py", "iptables_config", cmd_args='["iptables-save", "-c"]', run_as_root="True"))


@case("xenhost.py")
def rules_restored(side):
    side.add_program("iptables-restore", "cat")
    return json.loads(side.call_plain("xenhost.py", "iptables_config", cmd_args='["iptables-restore", "-c"]',
                                      process_input="*filter\nCOMMIT\n"))


@case("xenhost.py")
def rules_of_another_program(side):
    side.add_program("rm")
    return json.loads(side.call_plain("xenhost.py", "iptables_config", cmd_args='["rm", "-rf", "/nothing"]'))


def _configure(name, script="exit 0", **arguments):
    def configure(side):
        for program in ("ip", "brctl", "ovs-vsctl"):
            side.add_program(program, script)
        return side.call_legacy("xenhost.py", "network_config", {"cmd": name, "args": arguments})
    configure.__name__ = name
    PLUGINS[name] = "xenhost.py"
    return configure


NETWORK = [
    _configure("ovs_create_port", bridge="xapi1", port="vif3.0", mac="00:16:3e:00:00:01", status="active", **{"iface-id": "x"}),
    _configure("ovs_add_port", bridge_name="xapi1", port_name="tap3.0"),
    _configure("ovs_del_port", bridge_name="xapi1", port_name="tap3.0"),
    _configure("ovs_del_br", bridge_name="xapi1"),
    _configure("ovs_add_patch_port", bridge_name="xapi1", port_name="a", peer_port_name="b"),
    _configure("ovs_set_if_external_id", interface="vif3.0", extneral_id="iface-id", value="x"),
    _configure("ip_link_add_veth_pair", dev1_name="qvb1", dev2_name="qvo1"),
    _configure("ip_link_get_dev", script="echo 5: qvb1", device_name="qvb1"),
    _configure("ip_link_del_dev", device_name="qvb1"),
    _configure("ip_link_set_dev", device_name="qvb1", option="up"),
    _configure("ip_link_set_promisc", device_name="qvb1", option="on"),
    _configure("brctl_add_br", bridge_name="qbr1"),
    _configure("brctl_del_br", bridge_name="qbr1"),
    _configure("brctl_add_if", bridge_name="qbr1", interface_name="qvb1"),
    _configure("brctl_del_if", bridge_name="qbr1", interface_name="qvb1"),
    _configure("brctl_set_fd", bridge_name="qbr1", fd="0"),
    _configure("brctl_set_stp", bridge_name="qbr1", option="off"),
]


@case("xenhost.py")
def device_that_is_absent(side):
    side.add_program("ip", "echo 'Device \"qvb1\" does not exist.' >&2; exit 1")
    return side.call_legacy("xenhost.py", "network_config", {"cmd": "ip_link_get_dev", "args": {"device_name": "qvb1"}})


@case("xenhost.py")
def device_with_an_option_for_a_name(side):
    side.add_program("ip")
    return side.call_legacy("xenhost.py", "network_config", {"cmd": "ip_link_del_dev", "args": {"device_name": "-batch"}})


# kernel.py

def _copy_kernel(side, size_bytes=KERNEL_BYTES):
    host = KernelHost(side.pool)
    vdi_uuid, vdi_ref = host.add_disk(KERNEL, is_vhd=True)
    side.name(vdi_uuid, "VDI")
    path = side.call_plain("kernel.py", "copy_vdi", **{"vdi-ref": vdi_ref, "image-size": str(size_bytes), "cached-image": IMAGE_ID})
    return {"path": path, "is_right": host.read_kernel(vdi_uuid) == KERNEL, "is_cached": host.read_kernel(IMAGE_ID) == KERNEL,
            "vbds": len(host.list_vbds())}


@case("kernel.py")
def kernel(side):
    return _copy_kernel(side)


@case("kernel.py")
def kernel_from_the_cache(side):
    new_uuid = "3c0f7a9e-5d1b-4c7e-8f02-6b9d8e4a1c35"
    side.write("/boot/guest/" + IMAGE_ID, b"kernel")
    path = side.call_plain("kernel.py", "create_kernel_ramdisk", **{"cached-image": IMAGE_ID, "new-image-uuid": new_uuid})
    return {"path": path, "is_there": side.exists("/boot/guest/" + new_uuid)}


@case("kernel.py")
def kernel_that_the_cache_lacks(side):
    return side.call_plain("kernel.py", "create_kernel_ramdisk", **{
        "cached-image": str(uuid.uuid4()), "new-image-uuid": str(uuid.uuid4())})


def _remove_kernel(side, path):
    side.write(path, b"kernel")
    try:
        return {"reply": side.call_plain("kernel.py", "remove_kernel_ramdisk", **{"kernel-file": path})}
    finally:
        with open(side.dom0.locate("/opt/harness/recorded"), "a") as recorded:
            recorded.write("the file is %s\n" % ("there" if side.exists(path) else "gone"))


@case("kernel.py")
def kernel_removed(side):
    return _remove_kernel(side, "/boot/guest/3c0f7a9e-5d1b-4c7e-8f02-6b9d8e4a1c35")


@case("kernel.py")
def kernel_elsewhere(side):
    return _remove_kernel(side, "/images/precious")


# glance.py

def _headers(side):
    return {"X-Auth-Token": side.service.token, "X-Tenant-Id": None}


def _ask_for_download(side, image_id):
    return side.call_legacy(
        "glance.py", "download_vhd2", image_id=image_id, sr_path=side.sr_path, endpoint=side.service.url, api_version=2,
        uuid_stack=[str(uuid.uuid4()) for _ in range(16)], extra_headers=_headers(side))


def _download(side, image_id):
    found = _ask_for_download(side, image_id)
    return {"digest": sr_disks.guest_digest(side.sr.path, found["root"].pop("uuid")), "reply": found}


def _write_chain(directory, depth=2):
    os.makedirs(directory, exist_ok=True)
    return sr_disks.write_chain(directory, depth, seed="differential")


@case("glance.py")
def download(side):
    directory = side.dom0.locate("/opt/harness/images")
    return _download(side, side.service.add_image(sr_disks.pack_vdis(directory, _write_chain(directory))).id)


@case("glance.py")
def download_of_nothing(side):
    return _download(side, str(uuid.uuid4()))


@case("glance.py")
def download_of_no_archive(side):
    return _download(side, side.service.add_image(b"no archive").id)


@case("glance.py")
def download_of_another_disk(side):
    """An image of one disk whose parent is somebody else's."""
    victim, leaf = _write_chain(side.sr.path, 1)[0], str(uuid.uuid4())
    directory = side.dom0.locate("/opt/harness/hostile")
    os.makedirs(directory, exist_ok=True)
    path = sr_disks.vhd_path(directory, leaf)
    vhd_writer.write_differencing(path, sr_disks.vhd_path(side.sr.path, victim), [])
    # The way up to / is no longer than this from a staging directory.
    hostile_disks.name_parent(path, "../" * 9 + "run/sr-mount/%s/%s.vhd" % (side.sr.uuid, victim))
    found = _ask_for_download(side, side.service.add_image(sr_disks.pack_vdis(directory, [leaf])).id)
    with open(sr_disks.vhd_path(side.sr.path, found["root"]["uuid"]), "rb") as opened:
        return {"names_the_other_disk": victim in vhd.read_metadata(opened).locators[0].path}


def _upload(side, image_id, uuids):
    return side.call_legacy(
        "glance.py", "upload_vhd2", image_id=image_id, sr_path=side.sr_path, endpoint=side.service.url, api_version=2,
        extra_headers=_headers(side), vdi_uuids=uuids, properties={"os_type": "linux", "auto_disk_config": True})


@case("glance.py")
def upload(side):
    uuids = _write_chain(side.sr.path)
    image = side.service.add_image(container_format=None, disk_format=None)
    reply = _upload(side, image.id, uuids)
    with tarfile.open(image.path, "r:gz") as archive:
        members = [member.name for member in archive]
    return {"reply": reply, "status": image.status, "formats": [image.container_format, image.disk_format],
            "properties": image.properties, "members": members}


@case("glance.py")
def upload_to_nothing(side):
    return _upload(side, str(uuid.uuid4()), _write_chain(side.sr.path, 1))


@case("glance.py")
def upload_to_what_is_there(side):
    return _upload(side, side.service.add_image(b"there").id, _write_chain(side.sr.path, 1))


# partition_utils.py

@case("partition_utils.py")
def device(side):
    side.write("/dev/xvdz", b"")
    return side.call_legacy("partition_utils.py", "wait_for_dev", "/dev/xvdz", 1)


@case("partition_utils.py")
def device_that_does_not_come(side):
    return side.call_legacy("partition_utils.py", "wait_for_dev", "/dev/nobody", 1)


# xenstore.py

def _records(side, *calls):
    """Replies of calls (function, arguments) for one guest."""
    side.add_xenstore_tools()
    side.pool.add_vm("guest", domid=7)
    return [json.loads(side.call_plain("xenstore.py", function, dom_id="7", **arguments)) for function, arguments in calls]


@case("xenstore.py")
def record(side):
    path = {"path": "data/host/1"}
    return _records(side, ("write_record", dict(path, value='{"name": "version"}')), ("read_record", path), ("delete_record", path),
                    ("read_record", dict(path, ignore_missing_path="True")), ("delete_record", path))


@case("xenstore.py")
def record_of_plain_text(side):
    return _records(side, ("write_record", {"path": "data/x", "value": "caf\xe9 7"}), ("read_record", {"path": "data/x"}))


@case("xenstore.py")
def records(side):
    return _records(side, ("write_record", {"path": "vm-data/networking/001", "value": '{"a": 1}'}),
                    ("list_records", {"path": "vm-data"}), ("list_records", {"path": "nobody"}))


@case("xenstore.py")
def record_that_is_absent(side):
    return _records(side, ("read_record", {"path": "nobody"}))


@case("xenstore.py")
def record_that_is_absent_and_must_not_be(side):
    return _records(side, ("read_record", {"path": "nobody", "ignore_missing_path": "False"}))


# agent.py

_DOMIDS = itertools.count(20)


def _ask_agent(side, function, behave=None, agent=None, **arguments):
    side.add_xenstore_tools()
    with Guest(side.host.xenstore, next(_DOMIDS), behave, agent) as guest:
        reply = json.loads(side.call_plain("agent.py", function, id=str(uuid.uuid4()), dom_id=str(guest.domid),
                                           timeout="20" if behave is None else "2", **arguments))
        return {"reply": reply, "requests": [json.loads(request.data) for request in guest.requests],
                "files": [text.decode("ascii") for file in guest.agent.files.items() for text in file]}


@case("agent.py")
def agent_version(side):
    return _ask_agent(side, "version")


@case("agent.py")
def agent_with_a_new_network(side):
    return _ask_agent(side, "resetnetwork")


@case("agent.py")
def agent_with_a_file(side):
    return _ask_agent(side, "inject_file", agent=Agent(injection="injectfile"), b64_path="L2V0Yy9tb3Rk", b64_contents="aGVsbG8K")


@case("agent.py")
def agent_that_takes_no_files(side):
    return _ask_agent(side, "inject_file", agent=Agent(injection=None), b64_path="L2V0Yy9tb3Rk", b64_contents="aGVsbG8K")


@case("agent.py")
def agent_that_is_silent(side):
    return _ask_agent(side, "version", behave=guests.keep_silent)


@case("agent.py")
def agent_of_a_domain_that_is_gone(side):
    side.add_xenstore_tools()
    return side.call_plain("agent.py", "version", id=str(uuid.uuid4()), dom_id="31999", timeout="2")


# workarounds.py, migration.py

@case("workarounds.py")
def safe_copy(side):
    uuids = _write_chain(side.sr.path)
    side.sr.scan()
    found = side.call_legacy("workarounds.py", "safe_copy_vdis", side.sr_path, uuids, [str(uuid.uuid4()) for _ in range(16)])
    copy = found["root"].pop("uuid")
    return {"reply": found, "is_same": sr_disks.guest_digest(side.sr.path, copy) == sr_disks.guest_digest(
        side.sr.path, uuids[0]), "is_scanned": copy in side.sr.scan()}


@case("migration.py")
def arrival(side):
    label = str(uuid.uuid4())
    side.link_images()
    directory = os.path.join(side.sr.path, "os-images", "instance" + label)
    uuids = _write_chain(directory)
    digest = sr_disks.guest_digest(directory, uuids[0])
    for number, name in enumerate(uuids):
        os.rename(sr_disks.vhd_path(directory, name), os.path.join(directory, "%d.vhd" % number))
    found = side.call_legacy("migration.py", "move_vhds_into_sr", label, side.sr_path, [str(uuid.uuid4()) for _ in range(16)])
    name = found["root"].pop("uuid")
    return {"reply": found, "is_same": sr_disks.guest_digest(side.sr.path, name) == digest,
            "is_directory_left": os.path.exists(directory)}


# ipxe.py

@case("ipxe.py")
def boot_iso_without_the_program(side):
    environment = side.dom0.plugin_environment
    path, environment["PATH"] = environment["PATH"], "/opt/harness/bin"
    try:
        return side.call_legacy("ipxe.py", "inject", side.sr_path, str(uuid.uuid4()), "http://10.0.0.5/menu.ipxe", "10.0.0.9",
                                "255.255.255.0", "10.0.0.1", "10.0.0.2", "mkisofs")
    finally:
        environment["PATH"] = path


CASES = {name: function for name, function in globals().items() if name in PLUGINS}
CASES.update((function.__name__, function) for function in NETWORK)
