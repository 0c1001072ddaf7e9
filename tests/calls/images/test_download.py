# SPDX-License-Identifier: Apache-2.0
"""download_vhd2, from an image service into an SR, through XAPI, on every dom0 Python.

qemu-img judges what a guest sees of single disks; it knows no parents, so chains are the harness's own reader's, which is
held to disks made by vhd-util.
"""

import os
import subprocess
import tarfile
import threading

import pytest
import XenAPI

from tests.calls import calls
from tests.calls import sr_disks
from tests.calls.calls import make_uuids
from tests.calls.sr_disks import MIB, pack, pack_chain
from tests.harness.vhd import vhd_reader
from tests.harness.vhd import vhd_writer
from tests.harness.vhd import vhd_written_here


pytestmark = pytest.mark.usefixtures("nothing_is_left")


@pytest.fixture(scope="module")
def raw(site):
    """A disk's content, as a file for qemu-img; its size is one that qemu-img and VHD's geometry agree on."""
    path = site.make_path("raw")
    with open(path, "wb") as opened:
        opened.write(sr_disks.make_content(1, 10 * MIB))
    return path


@pytest.fixture(scope="module")
def disk(site, raw):
    path = site.make_path("disk.vhd")
    vhd_writer.write_dynamic(path, raw)
    return path


def compare_with_qemu(site, vdi_uuid, raw):
    """Read through qemu's own VHD driver, by the size in the footer and not by the geometry."""
    vhd_path = os.path.join(site.sr.path, vdi_uuid + ".vhd")
    command = ["qemu-img", "compare", "--image-opts",
               "driver=vpc,force_size_calc=current_size,file.driver=file,file.filename=" + vhd_path,
               "driver=raw,file.driver=file,file.filename=" + raw]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, timeout=60)
    assert result.returncode == 0, result.stdout


def check_chain(site, uuids):
    """Check that the chain in the SR, leaf first, is one that the storage manager accepts."""
    scanned = site.sr.scan()
    for number, (vdi_uuid, parent) in enumerate(zip(uuids, uuids[1:] + [None])):
        vhd_written_here.expect_written_here(os.path.join(site.sr.path, vdi_uuid + ".vhd"))
        metadata = sr_disks.read_metadata(site.sr, vdi_uuid)
        assert set(locator.path for locator in metadata.locators) == ({"./%s.vhd" % parent} if parent else set())
        assert metadata.hidden == (number > 0)
        vdi = scanned[vdi_uuid]
        assert (vdi["managed"], vdi["sm_config"].get("vhd-parent")) == (number == 0, parent)
        assert os.lstat(os.path.join(site.sr.path, vdi_uuid + ".vhd")).st_nlink == 1


# Forms of the call and of the image

@pytest.mark.needs("qemu-img")
@pytest.mark.parametrize("compressed", [True, False], ids=["gzip", "tar"])
@pytest.mark.parametrize("is_legacy", [True, False], ids=["legacy", "plain"])
@pytest.mark.parametrize("api_version", [1, 2], ids=["v1", "v2"])
def test_one_disk(site, raw, disk, api_version, is_legacy, compressed):
    image = site.service.add_image(pack_chain([disk], compressed=compressed))
    uuids = make_uuids(3)
    assert site.download(image, uuids, is_legacy, api_version=api_version) == uuids[-1]
    compare_with_qemu(site, uuids[-1], raw)
    check_chain(site, uuids[-1:])
    assert sr_disks.list_vhds(site.sr) & set(uuids) == {uuids[-1]}, "one uuid of the stack was taken"
    data_path = "/v1/images/%s" if api_version == 1 else "/v2/images/%s/file"
    assert site.service.requests[-1].path == data_path % image.id


@pytest.mark.parametrize("depth", [2, 3])
def test_a_chain(site, depth):
    paths = sr_disks.make_chain(site.directory, depth, seed=depth)
    uuids = make_uuids(depth)
    assert site.download(site.service.add_image(pack_chain(paths)), uuids) == uuids[-1]
    check_chain(site, uuids[::-1])
    assert sr_disks.guest_digest(site.sr.path, uuids[-1]) == vhd_reader.digest(paths[0])


def test_the_longest_chain(site):
    paths = sr_disks.make_chain(site.directory, 30, 4 * MIB)
    uuids = make_uuids(30)
    assert site.download(site.service.add_image(pack_chain(paths)), uuids, is_legacy=True) == uuids[-1]
    check_chain(site, uuids[::-1])
    assert sr_disks.guest_digest(site.sr.path, uuids[-1]) == vhd_reader.digest(paths[0])


def test_the_storage_manager_coalesces_the_chain(site):
    """Garbage collection coalesces the chain, and the guest sees no difference."""
    sr = site.pool.add_sr()
    paths = sr_disks.make_chain(site.directory, 3, seed=5)
    leaf = site.download(site.service.add_image(pack_chain(paths)), sr_path=calls.mount_path(sr))
    sr.scan()
    assert sr.collect_garbage()
    assert list(sr.scan()) == [leaf]
    assert vhd_reader.digest(os.path.join(sr.path, leaf + ".vhd")) == vhd_reader.digest(paths[0])


@pytest.mark.parametrize("names", [
    ["snap.vhd", "image.vhd", "base.vhd"], ["snap.vhd", "image.vhd"], ["image.vhd", "base.vhd"], ["image.vhd"], ["a disk.vhd"],
    ["7.vhd"], ["./0.vhd", "./1.vhd"]], ids=" ".join)
def test_old_and_other_names(site, names):
    paths = sr_disks.make_chain(site.directory, len(names), 4 * MIB)
    image = site.service.add_image(pack(list(zip(names, paths))[::-1]))
    leaf = site.download(image)
    assert sr_disks.guest_digest(site.sr.path, leaf) == vhd_reader.digest(paths[0])


def test_other_members_are_skipped(site, disk):
    directory = tarfile.TarInfo("notes")
    directory.type = tarfile.DIRTYPE
    image = site.service.add_image(pack([
        ("manifest.ovf", b"<Envelope/>" * 1000), (directory, b""), ("notes/readme", b"text"), ("swap.vhd", b"anything"),
        ("0.vhd", disk), ("0.vhd.sig", b"x" * 700)]))
    uuids = make_uuids(1)
    site.download(image, uuids)
    assert sr_disks.guest_digest(site.sr.path, uuids[0]) == vhd_reader.digest(disk)


@pytest.mark.needs("qemu-img")
def test_an_archive_of_tar_and_gzip(site, raw, disk, tmp_path):
    """As os-xenapi packs: all of a directory, its entry first."""
    os.link(disk, str(tmp_path / "0.vhd"))
    archive = subprocess.run("tar -cf - . | gzip -1", shell=True, cwd=str(tmp_path), stdout=subprocess.PIPE, check=True).stdout
    compare_with_qemu(site, site.download(site.service.add_image(archive)), raw)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT], ids=["ustar", "pax"])
def test_other_forms_of_tar(site, disk, form):
    member = tarfile.TarInfo("0.vhd")
    member.mtime = 1234567890.5  # which pax writes in a record of its own
    leaf = site.download(site.service.add_image(pack([(member, disk)], form=form)))
    assert sr_disks.guest_digest(site.sr.path, leaf) == vhd_reader.digest(disk)


@pytest.mark.needs("qemu-img")
@pytest.mark.parametrize("size", ["1M", "10M", "127M", "5G"])
def test_a_disk_of_qemu_img(site, tmp_path, size):
    raw, vpc = str(tmp_path / "raw"), str(tmp_path / "disk.vhd")
    subprocess.run(["qemu-img", "create", "-q", "-f", "raw", raw, size], check=True, timeout=60)
    with open(raw, "r+b") as opened:
        opened.write(sr_disks.make_content(3, MIB))
        opened.seek(-MIB, os.SEEK_END)
        opened.write(sr_disks.make_content(4, MIB))
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "vpc", raw, vpc], check=True, timeout=60)
    leaf = site.download(site.service.add_image(pack([("image.vhd", vpc)])))
    result = subprocess.run(["qemu-img", "compare", "-f", "vpc", "-F", "vpc", vpc, os.path.join(site.sr.path, leaf + ".vhd")],
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    assert result.returncode == 0, result.stdout
    assert site.sr.scan()[leaf]["virtual_size"] >= os.stat(raw).st_size


def test_zeros_take_no_space(site):
    """A preallocated block of zeros in the archive becomes a hole in the SR."""
    path = site.make_path("zeros.vhd")
    block = b"x" * 512 + bytes(2 * MIB - 512)
    vhd_writer.write_dynamic(path, [(offset, block) for offset in range(0, 40 * MIB, 2 * MIB)], 40 * MIB)
    leaf = site.download(site.service.add_image(pack_chain([path])))
    status = os.stat(os.path.join(site.sr.path, leaf + ".vhd"))
    assert status.st_size > 40 * MIB and status.st_blocks * 512 < 6 * MIB


# The SR

def test_the_sr_by_its_uuid(site, disk):
    leaf = site.download(site.service.add_image(pack_chain([disk])), sr_path=None, sr_uuid=site.sr.uuid)
    check_chain(site, [leaf])


@pytest.fixture
def other_path(site):
    """Function(host, attached): a PBD whose SR is mounted elsewhere; returns that path."""
    made = []

    def make(path="/mnt/local-images", host=site.host, attached=True):
        real = site.host.root + path
        os.makedirs(real, exist_ok=True)
        made.append(site.pool.database.create("PBD", host=host.ref, SR=site.sr.ref, currently_attached=attached,
                                               device_config={"path": path}))
        return path, real

    yield make
    for ref in made:
        site.pool.database.destroy("PBD", ref)


def test_the_path_of_a_pbd(site, disk, other_path):
    path, real = other_path()
    uuids = make_uuids(1)
    site.download(site.service.add_image(pack_chain([disk])), uuids, sr_path=path)
    assert os.listdir(real) == [uuids[0] + ".vhd"]
    assert vhd_reader.digest(os.path.join(real, uuids[0] + ".vhd")) == vhd_reader.digest(disk)


@pytest.mark.parametrize("wrong", [{"attached": False}, {"host": None}], ids=["detached", "of another host"])
def test_the_path_of_a_pbd_that_is_not_ours(site, disk, other_path, wrong):
    if "host" in wrong:
        wrong = {"host": type("Other", (), {"ref": "OpaqueRef:other"})}
    path, real = other_path("/mnt/not-ours", **wrong)
    with pytest.raises(XenAPI.Failure) as caught:
        site.download(site.service.add_image(pack_chain([disk])), sr_path=path)
    assert caught.value.details[2:] == ["StorageError", "sr_path '/mnt/not-ours' is neither /var/run/sr-mount/<uuid> nor the path "
                                        "of an attached PBD"]
    assert os.listdir(real) == []


def test_a_pbd_that_xapi_does_not_tell_about(site, disk):
    site.pool.faults.fail("PBD.get_all_records", "SESSION_INVALID", "OpaqueRef:a-secret")
    with pytest.raises(XenAPI.Failure) as caught:
        site.download(site.service.add_image(pack_chain([disk])), sr_path="/mnt/local-images")
    assert caught.value.details[2:] == ["PluginError", "cannot list the PBDs: XAPI answered SESSION_INVALID"]
    assert not [line for line in site.host.syslog_lines() if "a-secret" in line]


def test_two_at_a_time(site, disk):
    image = site.service.add_image(pack_chain([disk]))
    leaves = []
    threads = [threading.Thread(target=lambda: leaves.append(site.download(image))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(set(leaves)) == 3
    assert {sr_disks.guest_digest(site.sr.path, leaf) for leaf in leaves} == {vhd_reader.digest(disk)}


# Requests and the log

NON_ASCII = {"X-Roles": "Benutzer-\u00e4\u00f6\u00fc,\u7ba1\u7406\u8005", "X-User-Id": "caf\u00e9", "X-Nothing": None}


@pytest.mark.parametrize("is_legacy", [True, False], ids=["legacy", "plain"])
def test_headers_are_sent_as_utf_8(site, disk, is_legacy):
    """Plug-ins in dom0 run without a locale."""
    headers = dict(NON_ASCII, **{"X-Auth-Token": site.service.token})
    site.download(site.service.add_image(pack_chain([disk])), is_legacy=is_legacy, extra_headers=headers)
    for request in site.service.requests:
        sent = {name: value.encode("latin-1").decode("utf-8") for name, value in request.headers.items()}
        assert {name: sent.get(name) for name in NON_ASCII} == NON_ASCII


def test_unknown_arguments_of_old_clients(site, disk):
    site.download(site.service.add_image(pack_chain([disk])), is_legacy=True, host_uuid="x", retries="\u00fcnknown")


def test_the_log_says_what_was_done_and_no_secret(site, disk):
    image = site.service.add_image(pack_chain([disk]))
    leaf = site.download(image)
    lines = [line for line in site.host.syslog_lines() if leaf in line]
    assert any("downloaded image %s as VDI %s" % (image.id, leaf) in line for line in lines)
    assert any("published %s" % leaf in line for line in lines)
    assert not [line for line in site.host.syslog_lines() if site.service.token in line]
