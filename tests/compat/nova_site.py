# SPDX-License-Identifier: Apache-2.0
"""A pool on port 80 with nova-compute in one of its guests, an image service, and images."""

import contextlib
import glob
import hashlib
import os
import stat

import pytest

from tests import conftest
from tests.compat import client as compat_client
from tests.compat import traces
from tests.compat.nova_compute import SESSION, Compute, NetworkService
from tests.harness.guests import guests
from tests.harness.vhd import vhd_reader
from tests.harness.guests.guest_agent import Agent
from tests.calls import calls
from tests.calls import sr_disks

PYTHONS = [pytest.param(path, id=version) for version, path in conftest.DOM0_PYTHONS if version in ("2.7", "3.6")]
SETTINGS = "[transfer]\nreserve = 1\ncollection_wait = 5\nnice = 0\n"
# Programs that keep a list of devices, and make none.  A pair of veths is one line, and goes with either of them.
_IP = r"""
case "$*" in
"link show dev "*) grep -qE "(^| )$4( |\$)" {devices} || {{ echo "Device \"$4\" does not exist." >&2; exit 1; }};;
"link add name "*) echo "$4 $9" >> {devices};;
"link delete dev "*) sed -i -E "/(^| )$4( |\$)/d" {devices};;
esac
"""
_BRCTL = 'case "$1" in addbr) echo "$2" >> {devices};; delbr) sed -i "/^$2\\$/d" {devices};; esac'
_OVS_VSCTL = """
case "$*" in
*" add-port "*) echo "$8/$9" >> {devices};;
*" del-port "*) sed -i "\\|^$5/$6\\$|d" {devices};;
*" del-br "*) sed -i "\\|^$5/|d" {devices};;
esac
"""
_LOOPS = 64
_LOOP_CONTROL = os.makedev(10, 237)
_DEVICES = "/opt/harness/devices"


class Site(object):
    """pool, sr (the one that nova uses), service, compute; images: {name: image}, digests: {name: of the guest's disk}"""

    def __init__(self, pool, sr, service, compute, images, digests):
        self.pool, self.sr, self.service, self.compute = pool, sr, service, compute
        self.images, self.digests = images, digests

    def open_compute(self, name, more):
        """One more process of nova's for the same host, with more lines in the section xenserver."""
        return Compute(self.compute.host, self.compute.vm, self.compute.services, self.compute.directory, name,
                       more, self.compute.devices)

    def vm(self, server, suffix=""):
        """The record of a server's guest."""
        (ref,) = self.pool.database.refs("VM", name_label=server.name + suffix)
        return self.pool.database.record("VM", ref)

    def host(self, server):
        return self.pool._find_host(self.vm(server)["resident_on"])

    def vdi(self, server, userdevice="0"):
        """The record of a server's disk."""
        for vbd_ref in self.vm(server)["VBDs"]:
            vbd = self.pool.database.record("VBD", vbd_ref)
            if vbd["userdevice"] == userdevice:
                return self.pool.database.record("VDI", vbd["VDI"])
        raise LookupError("%s has no disk %s" % (server.name, userdevice))

    def disk_path(self, server, userdevice="0"):
        return os.path.join(self.sr.path, self.vdi(server, userdevice)["uuid"] + ".vhd")

    def head_digest(self, server, size_bytes=sr_disks.DISK_BYTES):
        """Of the part of the guest's disk that an image of this size fills."""
        return digest_head(self.disk_path(server), size_bytes)

    def list_loops(self):
        """Files of the pool that are loop devices of this machine."""
        found = []
        for path in glob.glob("/sys/block/loop*/loop/backing_file"):
            with contextlib.suppress(OSError), open(path) as source:
                found += [line for line in source.read().splitlines() if line.startswith(self.pool.root)]
        return found

    def devices(self):
        """What the networks of all guests have made in dom0."""
        found = []
        for host in self.pool.hosts:
            path = host.dom0.locate(_DEVICES)
            if os.path.exists(path):
                with open(path) as source:
                    found += source.read().splitlines()
        return sorted(found)

    def destroy_cached_images(self):
        """With nova's own function, which its tool for that calls."""
        self.compute.run("nova.virt.xenapi.vm_utils.destroy_cached_images", SESSION, self.sr.ref, True)

    @contextlib.contextmanager
    def nothing_left(self, but=()):
        """What is done inside leaves nothing when the cached images are gone, but lines that begin with one of `but`."""
        before = self._list_all()
        yield
        self.destroy_cached_images()
        after = self._list_all()
        changes = ["- " + line for line in before if line not in after]
        changes += ["+ " + line for line in after if line not in before and not line.startswith(tuple(but))]
        if changes:
            pytest.fail("not as before:\n" + "\n".join(changes), pytrace=False)

    def _list_all(self):
        return traces.list_traces([self.pool], self.service) + self.devices()


def digest_head(path, size_bytes):
    found = hashlib.sha256()
    with vhd_reader.open_chain(path) as chain:
        for offset in range(0, size_bytes, sr_disks.BLOCK):
            found.update(chain.read(offset, sr_disks.BLOCK) or bytes(sr_disks.BLOCK))
    return found.hexdigest()


class AgentsInGuests(object):
    """A listener of the pool's domains: in each that begins there is an agent."""

    def __init__(self):
        self.guests = {}

    def domain_began(self, host, domid):
        self.guests[domid] = guests.Guest(host.xenstore, domid, agent=Agent(), is_new=False)
        self.guests[domid].start()

    def domain_ended(self, host, domid):
        self.guests[domid].stop()


def add_network_programs(host):
    devices = host.dom0.locate(_DEVICES)
    for name, commands in (("ip", _IP), ("brctl", _BRCTL), ("ovs-vsctl", _OVS_VSCTL)):
        calls.write_program(host, name, commands.format(devices=devices))
    with open(devices, "w"):
        pass


def add_loop_driver(host):
    """This machine's, where plug-ins find it: below DOM0_ROOT, or in the /dev of their namespace."""
    if host.dom0.processes.namespace:
        for name, device in [("loop-control", _LOOP_CONTROL)] + [("loop%d" % n, os.makedev(7, n)) for n in range(_LOOPS)]:
            kind = stat.S_IFCHR if name == "loop-control" else stat.S_IFBLK
            os.mknod(host.dom0.locate("/dev/" + name), kind | 0o600, device)
        return
    for name in ["loop-control"] + ["loop%d" % number for number in range(_LOOPS)]:
        os.symlink("/dev/" + name, host.dom0.locate("/dev/" + name))
    os.symlink("/sys/block", host.dom0.locate("/sys/block"))


def make_devices(directory):
    """A /dev with what any program needs."""
    os.makedirs(os.path.join(directory, "shm"))
    for name in ("null", "zero", "full", "random", "urandom"):
        os.mknod(os.path.join(directory, name), stat.S_IFCHR | 0o666, os.stat("/dev/" + name).st_rdev)
    for name, target in (("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        os.symlink("/proc/self/" + target, os.path.join(directory, name))


def prepare_pool(pool):
    """Settings, programs and the collector that tests need; xapi listens then."""
    for host in pool.hosts:
        calls.write_settings(host, SETTINGS)
        add_network_programs(host)
        add_loop_driver(host)
        host.dom0.open_namespace()
    for sr in pool.srs:
        sr.collects_at_scans = True
    pool.start_xapi()


def add_images(service, directory):
    """({name: image}, {name: digest}): chain-1 and chain-2, as this many VHDs."""
    images, digests = {}, {}
    for depth in (1, 2):
        uuids = sr_disks.write_chain(directory, depth, seed=depth)
        images["chain-%d" % depth] = service.add_image(sr_disks.pack_vdis(directory, uuids))
        digests["chain-%d" % depth] = digest_head(sr_disks.vhd_path(directory, uuids[0]), sr_disks.DISK_BYTES)
    return images, digests


@contextlib.contextmanager
def open_site(service, directory, number=0, name="compute", has_devices=False, **options):
    """number: of the host on which nova-compute runs; has_devices: it sees disks in its guest's /dev; options: of Pool."""
    pool = compat_client.make_pool(**options)
    try:
        prepare_pool(pool)
        vm_ref = pool.add_vm("compute", host=number)
        vm = pool.database.record("VM", vm_ref)
        devices = None
        if has_devices:
            devices = os.path.join(directory, name, "dev")
            make_devices(devices)
            pool.show_devices(vm_ref, devices)
            pool.add_iso_sr(number)
        images, digests = add_images(service, directory)
        with NetworkService() as networks, Compute(pool.hosts[number], vm, [service, networks], directory, name, "",
                                                  devices) as compute:
            yield Site(pool, pool.srs[number], service, compute, images, digests)
    finally:
        pool.stop()
