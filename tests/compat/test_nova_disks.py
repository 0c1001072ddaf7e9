# SPDX-License-Identifier: Apache-2.0
"""Other disks and images than a VHD's: nova makes and fills them with these plug-ins, with XAPI's HTTP handlers, or itself."""

import contextlib
import os
import subprocess

import pytest

from tests.calls import sr_disks
from tests.calls.boot import iso_host
from tests.compat import nova_site
from tests.compat.client import ClientFailed
from tests.harness.vhd import vhd_reader

MIB = 1 << 20
GIB = 1 << 30


@pytest.fixture(scope="module", params=nova_site.PYTHONS)
def site(request, images_of_nova, nova_python, tmp_path_factory):
    """nova-compute on a member of the pool."""
    with nova_site.open_site(images_of_nova, str(tmp_path_factory.mktemp("nova")), number=1, hosts=2, has_devices=True,
                             python=request.param, python36_locale=True) as site:
        yield site


@pytest.fixture
def clean(site):
    with site.nothing_left():
        yield site


def disks_of(site, server):
    """{number: size} of a guest's disks."""
    found = {}
    for vbd_ref in site.vm(server)["VBDs"]:
        vbd = site.pool.database.record("VBD", vbd_ref)
        found[vbd["userdevice"]] = site.pool.database.get("VDI", vbd["VDI"], "virtual_size")
    return found


def test_nova_on_a_member(clean):
    server = clean.compute.spawn(clean.images["chain-2"])
    assert clean.host(server) is clean.pool.hosts[1] and clean.head_digest(server) == clean.digests["chain-2"]
    image = clean.service.add_image(container_format=None, disk_format=None)
    server.snapshot(image)
    assert image.status == "active"
    clean.service.images.delete(image)
    server.destroy()


def test_swap_and_ephemeral_disks(clean):
    server = clean.compute.spawn(clean.images["chain-1"], flavor={"swap": 64, "ephemeral_gb": 1})
    assert disks_of(clean, server) == {"0": GIB, "2": 64 * MIB, "4": GIB}
    with vhd_reader.open_chain(clean.disk_path(server, "2")) as swap, vhd_reader.open_chain(clean.disk_path(server, "4")) as disk:
        assert swap.read(_find_partition(swap) + 4096 - 10, 10) == b"SWAPSPACE2"
        # The magic number of ext2 and its successors.
        assert disk.read(_find_partition(disk) + 1024 + 56, 2) == b"\x53\xef"
    assert clean.list_loops() == []
    server.destroy()


def _find_partition(disk):
    """Where the first one begins, in bytes."""
    table = bytes(disk.read(446, 16))
    assert disk.read(510, 2) == b"\x55\xaa" and table[4] in (0x82, 0x83)
    return 512 * int.from_bytes(table[8:12], "little")


def test_a_configuration_drive(clean, tmp_path):
    """nova makes an ISO and sends it to XAPI over HTTP."""
    server = clean.compute.spawn(clean.images["chain-1"], config_drive="True")
    drive = clean.disk_path(server, "3")
    vhd_reader.copy_to(drive, str(tmp_path / "drive"))
    listing = subprocess.run(["isoinfo", "-R", "-f", "-i", str(tmp_path / "drive")], stdout=subprocess.PIPE, check=True, timeout=60)
    assert b"/openstack/latest/meta_data.json" in listing.stdout.splitlines()
    server.destroy()


def test_images_that_nova_streams(clean):
    """image_handler = vdi_remote_stream: nova carries the image itself.  Either kind of image can be read in the other way."""
    with clean.open_compute("stream", "image_handler = vdi_remote_stream\ncache_images = none") as streaming:
        image = clean.service.add_image(container_format=None, disk_format=None)
        server = streaming.spawn(clean.images["chain-1"])
        assert clean.head_digest(server) == clean.digests["chain-1"]
        server.snapshot(image)
        assert image.status == "active"
        server.destroy()
        copy = clean.compute.spawn(image)
        assert clean.head_digest(copy) == clean.digests["chain-1"]
        copy.destroy()
        # A chain is several VHDs, and nova takes one.
        with pytest.raises(ClientFailed) as caught:
            streaming.spawn(clean.images["chain-2"])
        assert caught.value.name == "CouldNotFetchImage"
        clean.service.images.delete(image)
        # nova has made a disk of each of them, and forgets both.
        database = clean.pool.database
        left = [ref for ref in database.refs("VDI") if database.get("VDI", ref, "name_label").startswith("instance-")]
        assert len(left) == 2
        for ref in left:
            clean.pool.login().xenapi.VDI.destroy(ref)


def test_images_that_are_copied(clean):
    """use_cow_images = False: each server's disk is a copy of the cached image's files, by workarounds.py."""
    with clean.compute.option("use_cow_images", False):
        server = clean.compute.spawn(clean.images["chain-2"])
        assert clean.head_digest(server) == clean.digests["chain-2"]
        server.destroy()


# Disks that nova fills itself, in the guest that it runs in

def test_an_image_of_bytes(clean):
    content = sr_disks.random_bytes("raw", 4 * MIB)
    image = clean.service.add_image(content, disk_format="raw", container_format="bare")
    server = clean.compute.spawn(image, {"disk_format": "raw", "container_format": "bare"})
    assert read_head(clean, server, len(content)) == content
    server.destroy()
    clean.destroy_cached_images()
    clean.service.images.delete(image)


def read_head(site, server, size):
    with vhd_reader.open_chain(site.disk_path(server)) as disk:
        return bytes(disk.read(0, size))


@pytest.fixture
def machine_image(clean):
    """The keyword arguments of spawn for an image with kernel and ramdisk."""
    images = [clean.service.add_image(sr_disks.random_bytes(form, MIB), disk_format=form, container_format=form)
              for form in ("ami", "aki", "ari")]
    yield {"image": images[0], "meta": {"disk_format": "ami", "container_format": "ami"}, "kernel_id": images[1].id,
           "ramdisk_id": images[2].id}
    clean.destroy_cached_images()
    for name in list_kernels(clean):
        clean.pool.call("kernel.py", "remove_kernel_ramdisk", {"kernel-file": "/boot/guest/" + name}, host=1)
    for image in images:
        clean.service.images.delete(image)


def list_kernels(site):
    return sorted(os.listdir(site.pool.hosts[1].dom0.locate("/boot/guest")))


def test_a_kernel_whose_name_the_client_loses(clean, machine_image):
    """os-xenapi's client does not return what kernel.py answers, and nova sends XAPI None for a kernel."""
    with clean.compute.option("xenserver.cache_images", "none"), pytest.raises(ClientFailed) as caught:
        clean.compute.spawn(**machine_image)
    assert caught.value.name == "TypeError" and "cannot marshal None" in str(caught.value)
    # Nobody knows the names of both files any more; `kernel.py sweep` removes such.
    assert len(list_kernels(clean)) == 2


@pytest.mark.parametrize("cached", ["all", "none"])
def test_a_kernel(clean, machine_image, cached):
    with clean.compute.option("xenserver.cache_images", cached), clean.compute.mended("kernel"):
        server = clean.compute.spawn(**machine_image)
        vm = clean.vm(server)
        for name, form in (("PV_kernel", "aki"), ("PV_ramdisk", "ari")):
            with open(clean.host(server).dom0.locate(vm[name]), "rb") as source:
                assert source.read() == sr_disks.random_bytes(form, MIB)
        server.destroy()
        # Those of the cache have the names of their images.
        ids = sorted([machine_image["kernel_id"], machine_image["ramdisk_id"]])
        assert list_kernels(clean) == (ids if cached == "all" else [])


@pytest.fixture
def iso(clean, tmp_path):
    with open(iso_host.make_iso(str(tmp_path)), "rb") as source:
        image = clean.service.add_image(source.read(), disk_format="iso", container_format="bare")
    yield image
    clean.service.images.delete(image)


ISO = {"disk_format": "iso", "container_format": "bare"}


def find_disc(site, server):
    """The VDI in a guest's drive."""
    (drive,) = [vbd for vbd in (site.pool.database.record("VBD", ref) for ref in site.vm(server)["VBDs"]) if vbd["type"] == "CD"]
    assert not drive["empty"]
    return site.pool.database.record("VDI", drive["VDI"])


def test_an_iso(clean, iso):
    server = clean.compute.spawn(iso, ISO)
    disc = find_disc(clean, server)
    with open(os.path.join(clean.sr.path, "iso", disc["uuid"] + ".img"), "rb") as source, open(iso.path, "rb") as original:
        assert source.read(os.path.getsize(iso.path)) == original.read()
    server.destroy()


def test_an_iso_of_ipxe(clean, iso):
    """nova asks ipxe.py to write the guest's network into it."""
    with contextlib.ExitStack() as stack:
        for name, value in (("boot_menu_url", "http://boot.example.org/menu.ipxe"), ("network_name", "private"),
                            ("mkisofs_cmd", "genisoimage")):
            stack.enter_context(clean.compute.option("xenserver.ipxe_" + name, value))
        server = clean.compute.spawn(iso, dict(ISO, properties={"ipxe_boot": "true"}))
        disc = find_disc(clean, server)
        with open(os.path.join(clean.sr.path, "iso", disc["uuid"] + ".img"), "rb") as source:
            assert b"menu.ipxe" in source.read()
        server.destroy()
