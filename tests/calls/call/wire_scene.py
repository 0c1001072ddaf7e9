# SPDX-License-Identifier: Apache-2.0
"""The host on which the examples of docs/WIRE.md are run, prepared for each call."""

import base64
import contextlib
import json
import pathlib
import re
import sys
import tempfile
import time
import zlib

from tests.calls import calls
from tests.calls import sr_disks
from tests.calls.boot import iso_host
from tests.calls.boot.kernel_host import KERNEL, MIB, KernelHost
from tests.calls.devices.disk_host import DiskHost
from tests.calls.guests.console_host import ConsoleHost
from tests.contract import calls as contract_calls
from tests.harness.guests.guests import Guest
from tests.harness.image_service.service import ImageService
from tests.harness.pool import Pool

# The name in the examples for the machine's own URL.
GLANCE = "http://glance.example.org:9292"
# The parts of replies that differ from call to call, and the document's text for them.
_VARIABLE = (
    (r'"python": "[0-9.]+", "release": "[0-9.]+"', '"python": "3.6.8", "release": "0.1.0"'),
    (r"(ssh-ed25519) AAAA[\w+/]+", r"\1 AAAA..."),
    (r'"[0-9.]+, with XenAPI"', '"3.6.8, with XenAPI"'),
    (r'"OpenSSH_[^"]*"', '"OpenSSH_7.4p1, OpenSSL 1.0.2k-fips  26 Jan 2017"'),
    (r'("rsync", "fix": null, "found": )"[0-9.]+"', r'\1"3.1.2"'),
    (r'"[0-9.]+ on all hosts"', '"0.1.0 on all hosts"'),
    (r'"free: [^"]*"', '"free: /var/run/sr-mount/SR 812034 MiB, / 9421 MiB, /var/log 3711 MiB"'),
    (r'"age_s": \d+', '"age_s": 90000'),
    (r'"[0-9:]+ up 33 days, 10:59, +\d+ users?, ', '"12:00:01 up 33 days, 10:59,  1 user, '),
)
_PROC_NET_DEV = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
  vif7.0:     730       5    0    0    0     0          0         0     1200       9    0    0    0     0       0          0
"""

_LSPCI = """\
Slot:\t00:02.0
Class:\tVGA compatible controller
Vendor:\tCirrus Logic
Device:\tGD 5446
"""

_ANSWERS = {"version": ("0", "1.39.1"), "keyinit": ("D0", "84210793265418"), "features": ("0", "version,password,injectfile")}


def _answer(guest, request_id, data):
    guest.remove_request(request_id)
    code, message = _ANSWERS.get(json.loads(data)["name"], ("0", ""))
    guest.write_answer(request_id, json.dumps({"returncode": code, "message": message}).encode("ascii"))


def _inflate(text):
    try:
        return zlib.decompress(base64.b64decode(text))
    except (ValueError, zlib.error):
        return None


class Scene(object):

    def __init__(self):
        self._stack = contextlib.ExitStack()
        self.pool = self._stack.enter_context(Pool(python=sys.executable, hosts=2, is_prepared=False))
        self.service = self._stack.enter_context(ImageService())
        self._directory = self._stack.enter_context(tempfile.TemporaryDirectory())
        self.dom0 = self.pool.hosts[0].dom0
        self.sr = self.pool.srs[0]
        self.session = self.pool.login()
        self._names = {"HOST": self.pool.hosts[0].uuid, "SR": self.sr.uuid, "TOKEN": self.service.token, GLANCE: self.service.url}

    def close(self):
        self._stack.close()

    def prepare(self, plugin, function):
        prepare = getattr(self, "_prepare_%s_%s" % (plugin.replace(".py", ""), function), None)
        if prepare:
            prepare()

    def fill_in(self, word):
        """A word of an example's command, with the values of this host."""
        return self._replace(word, self._names)

    def take_out(self, reply):
        """A reply as the document has it."""
        for pattern, text in _VARIABLE:
            reply = re.sub(pattern, text, reply)
        return self._replace(reply, {value: name for name, value in self._names.items()})

    @staticmethod
    def is_same(plugin, old, new):
        """Whether two replies say the same: another zlib deflates a console log to other bytes."""
        return old == new or plugin == "console.py" and _inflate(old) == _inflate(new)

    def _replace(self, text, values):
        pattern = "|".join(r"(?<!\w)%s(?!\w)" % re.escape(name) for name in sorted(values, key=len, reverse=True))
        return re.sub(pattern, lambda match: values[match.group()], text)

    def _write(self, path, data):
        calls.write_file(self.pool.hosts[0], path, data)

    def _add_program(self, name, output=""):
        calls.write_program(self.pool.hosts[0], name, "cat <<'END'\n%s\nEND" % output if output else "exit 0")

    # The state that each call needs; some calls need the result of the one before.

    def _prepare_dom0_host_prepare(self):
        self._write("/etc/modprobe.d/blacklist-bridge.conf", b"install bridge /bin/true\n")

    def _prepare_dom0_host_ssh_key(self):
        self._names["10.0.0.5"] = self.pool.hosts[0].ip
        self._write("/etc/ssh/ssh_host_ed25519_key.pub", contract_calls.PUBLIC_KEY.encode("ascii"))

    def _prepare_dom0_host_trust_keys(self):
        del self._names["10.0.0.5"]
        self._names.update({"OTHER": self.pool.hosts[1].uuid, "AAAA...": contract_calls.PUBLIC_KEY.split()[1]})

    def _prepare_dom0_host_doctor(self):
        self._names["10.0.0.5:22"] = self.pool.hosts[0].ip + ":9"
        # No sshd is there.
        self._write("/etc/ssh/sshd_config", b"Port 9\n")

    def _prepare_dom0_host_tend_console_logs(self):
        self._console_host = ConsoleHost(self.pool)
        self._console_host.turn_on()
        self._guest = self._console_host.start(7)
        self._console_host.write_log(7, b"x" * 2 * MIB)

    def _prepare_dom0_host_cut_console_logs(self):
        self._console_host.end(self._guest)
        self._console_host.write_log(7, b"x" * 2 * MIB)

    def _prepare_glance_download_vhd2(self):
        uuids = sr_disks.write_chain(self._directory, 2)
        self._names["IMAGE"] = self.service.add_image(sr_disks.pack_vdis(self._directory, uuids)).id

    def _prepare_glance_upload_vhd2(self):
        self._names["IMAGE"] = self.service.add_image(container_format=None, disk_format=None).id

    def _prepare_glance_sweep(self):
        pathlib.Path(self.sr.path, ".dom0-plugins-k3f9a2").mkdir()

    def _prepare_bandwidth_fetch_all_bandwidth(self):
        self._write("/proc/net/dev", _PROC_NET_DEV.encode("ascii"))

    def _prepare_console_get_console_log(self):
        self._write("/var/log/xen/guest/console.7", b"Debian GNU/Linux 12 guest hvc0\n\nguest login: ")

    def _prepare_config_file_get_val(self):
        self._write("/etc/xapi.conf", b"relax-xsm-sr-check = true\n")

    def _prepare_ipxe_inject(self):
        self._names["VDI"] = iso_host.IsoHost(self.pool).add(iso_host.make_iso(self._directory))[0]

    def _prepare_kernel_copy_vdi(self):
        kernel_host = KernelHost(self.pool)
        vdi_uuid, self._names["VDI_REF"] = kernel_host.add_disk(KERNEL)
        self._names["VDI"] = vdi_uuid

    def _prepare_kernel_sweep(self):
        time.sleep(1.1)  # the shortest grace

    def _prepare_partition_utils_make_partition(self):
        self._names["DEVICE"], self._vbd = DiskHost(self.pool).plug()

    def _prepare_xenhost_host_uptime(self):
        self._write("/proc/uptime", b"2890799.52 5601234.56\n")
        self._write("/proc/loadavg", b"0.20 0.18 0.05 1/310 12345\n")

    def _prepare_xenhost_host_reboot(self):
        self.session.xenapi.VBD.unplug(self._vbd)

    def _prepare_xenhost_host_start(self):
        self._names["OTHER"] = self.pool.hosts[1].uuid

    def _prepare_xenhost_host_join(self):
        # The names of the document lead to a pool of one host, with the VM that runs nova-compute.
        other = self._stack.enter_context(Pool(python=sys.executable, plugins=False, ip="127.0.0.51"))
        self._names.update({"VM": other.database.get("VM", other.add_vm("nova-compute"), "uuid"), "http://10.0.0.6": other.url,
                            "10.0.0.5": self.pool.hosts[0].address, "PASSWORD": self.pool.password})

    def _prepare_xenhost_get_pci_device_details(self):
        self._add_program("lspci", _LSPCI)

    def _prepare_xenhost_get_pci_type(self):
        devices = pathlib.Path(self.dom0.locate("/sys/bus/pci/devices"))
        devices.unlink()  # a link to this machine's
        device = devices / "0000:04:10.1"
        device.mkdir(parents=True)
        (device / "physfn").symlink_to("../0000:04:00.0")

    def _prepare_xenhost_network_config(self):
        self._add_program("ovs-vsctl")

    def _prepare_xenhost_iptables_config(self):
        self._add_program("iptables-save", "*filter\n:INPUT ACCEPT [12:840]\nCOMMIT")

    def _prepare_netwrap_run_command(self):
        self._add_program("ip", r"1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN mode DEFAULT group default")

    def _prepare_agent_version(self):
        self._stack.enter_context(Guest(self.pool.hosts[0].xenstore, 8, _answer))

    def _prepare_migration_transfer_vhd(self):
        self._names.update({"VDI": sr_disks.write_chain(self.sr.path)[0], "10.0.0.7": self.pool.hosts[0].ip})

    def _prepare_migration_move_vhds_into_sr(self):
        del self._names["10.0.0.7"]

    def _prepare_workarounds_safe_copy_vdis(self):
        self._names["VDI"] = sr_disks.write_chain(self.sr.path)[0]

    def _prepare_xenstore_read_record(self):
        store = self.pool.hosts[0].xenstore
        store.introduce(7)
        with store.client() as client:
            client.write(b"/local/domain/7/vm-data/hostname", b"web-1")
