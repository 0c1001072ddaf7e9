# SPDX-License-Identifier: Apache-2.0
"""The host on which the examples of docs/WIRE.md are run: what each call needs is there before it."""

import base64
import contextlib
import os
import re
import sys
import tempfile
import time
import zlib

from tests.harness.image_service import ImageService
from tests.harness.pool import Pool
from tests.integration import transfer_cases
from tests.integration.kernel_host import KERNEL, KernelHost

# What examples say in place of what the machine chose.
GLANCE = "http://glance.example.org:9292"
# Of a reply, what differs from call to call.
_VARIABLE = ((r'"age_s": \d+', '"age_s": 90000'),)
_PROC_NET_DEV = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
  vif7.0:     730       5    0    0    0     0          0         0     1200       9    0    0    0     0       0          0
"""


def _inflate(text):
    try:
        return zlib.decompress(base64.b64decode(text))
    except (ValueError, zlib.error):
        return None


class Scene(object):

    def __init__(self):
        self._stack = contextlib.ExitStack()
        self.pool = self._stack.enter_context(Pool(python=sys.executable))
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
        path = self.dom0.locate(path)
        if os.path.islink(path):  # to this machine's
            os.unlink(path)
        with open(path, "wb") as target:
            target.write(data)

    def _add_program(self, name, output):
        path = os.path.join(self.dom0.bin_dir, name)
        with open(path, "w") as program:
            program.write("#!/bin/sh\ncat <<'END'\n%s\nEND\n" % output)
        os.chmod(path, 0o755)

    # What calls find. Each leaves what the next one needs.

    def _prepare_glance_download_vhd2(self):
        uuids = transfer_cases.write_chain(self._directory, 2)
        self._names["IMAGE"] = self.service.add_image(transfer_cases.pack(self._directory, uuids)).id

    def _prepare_glance_upload_vhd2(self):
        self._names["IMAGE"] = self.service.add_image(container_format=None, disk_format=None).id

    def _prepare_glance_sweep(self):
        os.mkdir(os.path.join(self.sr.path, ".dom0-plugins-k3f9a2"))

    def _prepare_bandwidth_fetch_all_bandwidth(self):
        self._write("/proc/net/dev", _PROC_NET_DEV.encode("ascii"))

    def _prepare_console_get_console_log(self):
        self._write("/var/log/xen/guest/console.7", b"Debian GNU/Linux 12 guest hvc0\n\nguest login: ")

    def _prepare_config_file_get_val(self):
        self._write("/etc/xapi.conf", b"relax-xsm-sr-check = true\n")

    def _prepare_kernel_copy_vdi(self):
        kernel_host = KernelHost(self.pool)
        vdi_uuid, self._names["VDI_REF"] = kernel_host.add_disk(KERNEL)
        self._names["VDI"] = vdi_uuid

    def _prepare_kernel_sweep(self):
        time.sleep(1.1)  # the shortest grace

    def _prepare_netwrap_run_command(self):
        self._add_program("ip", r"1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN mode DEFAULT group default")
