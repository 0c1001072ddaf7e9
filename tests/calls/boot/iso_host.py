# SPDX-License-Identifier: Apache-2.0
"""A host with an SR of ISOs, boot ISOs made by the machine's own tools, and an independent reader of them."""

import collections
import contextlib
import io
import os
import shutil
import struct
import subprocess
import uuid

import pycdlib

from tests.calls import calls
from tests.calls import sr_disks
from tests.calls.scene import Scene
from tests.harness.pool import Pool

PLUGIN = "ipxe.py"
ISOLINUX = "/usr/lib/ISOLINUX/isolinux.bin"
KERNEL = sr_disks.random_bytes(3, 300000)
NETWORK = collections.OrderedDict([
    ("boot_menu_url", "http://boot.example.org/menu.ipxe?mac=${net0/mac}"), ("ip_address", "10.1.2.3"),
    ("netmask", "255.255.252.0"), ("gateway", "10.1.0.1"), ("dns", "10.1.0.2")])
MAKERS = {
    "rock ridge": ["genisoimage", "-R", "-V", "IPXE_BOOT"], "plain": ["genisoimage", "-l"], "joliet": ["genisoimage", "-R", "-J"],
    "xorriso": ["xorrisofs", "-R"]}
TREE = {
    "ipxe.krn": KERNEL, "isolinux.cfg": b"DEFAULT something else\n", "empty": b"", "a dir/with = and \\ in it": b"1",
    "dir/sub/LongFileNameThatIsMoreThanThirtyOneCharacters.text": b"2" * 5000, "-quiet": b"no option", "zz": b"3"}
_TOOL_DEADLINE_S = 60


class IsoHost(Scene):

    plugin = PLUGIN

    def __init__(self, pool):
        super().__init__(pool)
        self.directory = os.path.join(self.sr.path, "iso")
        os.mkdir(self.directory)
        self.write_settings("[transfer]\nreserve = 1\n")

    def add(self, source):
        """A copy of an ISO in the SR: (uuid, path)."""
        name = str(uuid.uuid4())
        path = os.path.join(self.directory, name + ".img")
        shutil.copy(source, path)
        return name, path

    def inject(self, name, is_legacy=True, **changes):
        values = collections.OrderedDict([("sr_path", calls.mount_path(self.sr)), ("vdi_uuid", name)])
        values.update(NETWORK, mkisofs_cmd="mkisofs")
        values.update(changes)
        if is_legacy:
            return calls.call_legacy(self.pool, PLUGIN, "inject", *values.values())
        return self.ask("inject", **values)


@contextlib.contextmanager
def open_iso_host(python):
    with Pool(python=python) as pool:
        yield IsoHost(pool)


def make_iso(directory, kind="rock ridge", changes=None, links=()):
    """A boot ISO of TREE, made by a standard tool; links: [(target, path)] in it. Returns its path."""
    source = os.path.join(directory, "source")
    shutil.rmtree(source, ignore_errors=True)
    for name, content in dict(TREE, **(changes or {})).items():
        if content is not None:
            path = os.path.join(source, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as target:
                target.write(content)
    if "isolinux.bin" not in (changes or {}):
        shutil.copy(ISOLINUX, source)
    for target, name in links:
        os.symlink(target, os.path.join(source, name))
    path = os.path.join(directory, kind.replace(" ", "-") + ".iso")
    boot = ["-b", "isolinux.bin", "-c", "boot.cat", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"]
    subprocess.run(MAKERS[kind] + ["-quiet", "-o", path] + (boot if "isolinux.bin" not in (changes or {}) else []) + ["source"],
                   cwd=directory, check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=_TOOL_DEADLINE_S)
    return path


def read_iso(path):
    """{path: content} of the files in an ISO, by Rock Ridge names where it has such, by pycdlib."""
    iso = pycdlib.PyCdlib()
    iso.open(path)
    try:
        kind = "rr_path" if iso.has_rock_ridge() else "iso_path"
        found = {}
        for parent, _, names in iso.walk(**{kind: "/"}):
            for name in names:
                full = "%s/%s" % (parent.rstrip("/"), name)
                if iso.get_record(**{kind: full}).is_symlink() if kind == "rr_path" else False:
                    continue
                content = io.BytesIO()
                iso.get_file_from_iso_fp(content, **{kind: full})
                found[full.lstrip("/")] = content.getvalue()
        return found
    finally:
        iso.close()


BootEntry = collections.namedtuple("BootEntry", "is_bootable emulation sectors content has_info_table")


def read_boot_entry(path):
    """The boot entry as firmware finds it: through the boot record in sector 17 and the catalog that it names."""
    with open(path, "rb") as source:
        source.seek(17 * 2048)
        record = source.read(2048)
        assert record[:7] == b"\0CD001\1" and record[7:30] == b"EL TORITO SPECIFICATION", "there is no boot record"
        source.seek(struct.unpack_from("<I", record, 71)[0] * 2048)
        catalog = source.read(64)
        assert catalog[:1] == b"\1" and catalog[30:32] == b"\x55\xaa"
        assert sum(struct.unpack("<16H", catalog[:32])) & 0xffff == 0, "the catalog's checksum is wrong"
        indicator, emulation, _, _, _, sectors, block = struct.unpack_from("<BBHBBHI", catalog, 32)
        source.seek(block * 2048)
        content = source.read(os.path.getsize(ISOLINUX))
    descriptor, loader, size_bytes = struct.unpack_from("<III", content, 8)
    has_info_table = (descriptor, loader, size_bytes) == (16, block, len(content))
    return BootEntry(indicator == 0x88, emulation, sectors, content[:8] + content[64:], has_info_table)


def patch_record(path, iso_name, offset, data):
    """Write `data` at an offset of the directory record with this stored name."""
    with open(path, "r+b") as target:
        place = find_record(target.read(), iso_name)
        target.seek(place + offset)
        target.write(data)


def find_record(image, iso_name):
    """Where the directory record with this stored name is; a path table may have the same bytes, but no length before them."""
    place = -1
    while True:
        place = image.index(bytes([len(iso_name)]) + iso_name, place + 1)
        record = image[place - 32:place]
        # A record has its numbers in both byte orders.
        if record[0] >= 33 + len(iso_name) and record[2:6] == record[9:5:-1]:
            return place - 32


def replace_bytes(path, old, new):
    """Write `new`, of the same length, over the one place with `old`."""
    assert len(old) == len(new)
    with open(path, "r+b") as target:
        image = target.read()
        assert image.count(old) == 1, image.count(old)
        target.seek(image.index(old))
        target.write(new)
