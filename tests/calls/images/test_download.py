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

from tests.calls.images import downloads
from tests.calls.images.downloads import MIB, make_uuids, pack, pack_chain
from tests.harness.vhd import vhd_reader
from tests.harness.vhd import vhd_writer


pytestmark = pytest.mark.usefixtures("nothing_is_left")


@pytest.fixture(scope="module")
def raw(cloud):
    """A disk's content, as a file for qemu-img; its size is one that qemu-img and VHD's geometry agree on."""
    path = cloud.make_path("raw")
    with open(path, "wb") as opened:
        opened.write(downloads.make_content(1, 9 * MIB + 17 * 512))
    return path


@pytest.fixture(scope="module")
def disk(cloud, raw):
    path = cloud.make_path("disk.vhd")
    vhd_writer.write_dynamic(path, raw)
    return path


def compare_with_qemu(cloud, vdi_uuid, raw):
    """Read through qemu's own VHD driver, by the size in the footer and not by the geometry."""
    vhd_path = os.path.join(cloud.sr.path, vdi_uuid + ".vhd")
    command = ["qemu-img", "compare", "--image-opts",
               "driver=vpc,force_size_calc=current_size,file.driver=file,file.filename=" + vhd_path,
               "driver=raw,file.driver=file,file.filename=" + raw]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, timeout=60)
    assert result.returncode == 0, result.stdout


def check_chain(cloud, uuids):
    """A chain in the SR, leaf first, as the storage manager wants it."""
    scanned = cloud.sr.scan()
    for number, (vdi_uuid, parent) in enumerate(zip(uuids, uuids[1:] + [None])):
        metadata = downloads.read_metadata(cloud.sr, vdi_uuid)
        assert set(locator.path for locator in metadata.locators) == ({"./%s.vhd" % parent} if parent else set())
        assert metadata.hidden == (number > 0)
        vdi = scanned[vdi_uuid]
        assert (vdi["managed"], vdi["sm_config"].get("vhd-parent")) == (number == 0, parent)
        assert os.lstat(os.path.join(cloud.sr.path, vdi_uuid + ".vhd")).st_nlink == 1


# Forms of the call and of the image

@pytest.mark.needs("qemu-img")
@pytest.mark.parametrize("compressed", [True, False], ids=["gzip", "tar"])
@pytest.mark.parametrize("legacy", [True, False], ids=["legacy", "plain"])
@pytest.mark.parametrize("api_version", [1, 2], ids=["v1", "v2"])
def test_one_disk(cloud, raw, disk, api_version, legacy, compressed):
    image = cloud.service.add_image(pack_chain([disk], compressed=compressed))
    uuids = make_uuids(3)
    assert cloud.call(image, uuids, legacy, api_version=api_version) == uuids[-1]
    compare_with_qemu(cloud, uuids[-1], raw)
    check_chain(cloud, uuids[-1:])
    assert downloads.list_vhds(cloud.sr) & set(uuids) == {uuids[-1]}, "one uuid of the stack was taken"
    data_path = "/v1/images/%s" if api_version == 1 else "/v2/images/%s/file"
    assert cloud.service.requests[-1].path == data_path % image.id


@pytest.mark.parametrize("depth", [2, 3])
def test_a_chain(cloud, depth):
    paths = downloads.make_chain(cloud.directory, depth, seed=depth)
    uuids = make_uuids(depth)
    assert cloud.call(cloud.service.add_image(pack_chain(paths)), uuids) == uuids[-1]
    check_chain(cloud, uuids[::-1])
    assert downloads.digest(cloud.sr, uuids[-1]) == vhd_reader.digest(paths[0])


def test_the_longest_chain(cloud):
    paths = downloads.make_chain(cloud.directory, 16, 5 * MIB)
    uuids = make_uuids(16)
    assert cloud.call(cloud.service.add_image(pack_chain(paths)), uuids, legacy=True) == uuids[-1]
    check_chain(cloud, uuids[::-1])
    assert downloads.digest(cloud.sr, uuids[-1]) == vhd_reader.digest(paths[0])


def test_the_storage_manager_can_go_on_with_it(cloud):
    """Garbage collection coalesces the chain as it would its own, and the guest sees no difference."""
    sr = cloud.pool.add_sr()
    paths = downloads.make_chain(cloud.directory, 3, seed=5)
    leaf = cloud.call(cloud.service.add_image(pack_chain(paths)), sr_path=cloud.sr_path(sr))
    sr.scan()
    assert sr.collect_garbage()
    assert list(sr.scan()) == [leaf]
    assert downloads.digest(sr, leaf) == vhd_reader.digest(paths[0])


@pytest.mark.parametrize("names", [
    ["snap.vhd", "image.vhd", "base.vhd"], ["snap.vhd", "image.vhd"], ["image.vhd", "base.vhd"], ["image.vhd"], ["a disk.vhd"],
    ["7.vhd"], ["./0.vhd", "./1.vhd"]], ids=" ".join)
def test_old_and_other_names(cloud, names):
    paths = downloads.make_chain(cloud.directory, len(names), 3 * MIB)
    image = cloud.service.add_image(pack(list(zip(names, paths))[::-1]))
    leaf = cloud.call(image)
    assert downloads.digest(cloud.sr, leaf) == vhd_reader.digest(paths[0])


def test_what_is_no_disk_is_passed_over(cloud, disk):
    directory = tarfile.TarInfo("notes")
    directory.type = tarfile.DIRTYPE
    image = cloud.service.add_image(pack([
        ("manifest.ovf", b"<Envelope/>" * 1000), (directory, b""), ("notes/readme", b"text"), ("swap.vhd", b"anything"),
        ("0.vhd", disk), ("0.vhd.sig", b"x" * 700)]))
    uuids = make_uuids(1)
    cloud.call(image, uuids)
    assert downloads.digest(cloud.sr, uuids[0]) == vhd_reader.digest(disk)


@pytest.mark.needs("qemu-img")
def test_an_archive_of_tar_and_gzip(cloud, raw, disk, tmp_path):
    """As os-xenapi packs: all of a directory, its entry first."""
    os.link(disk, str(tmp_path / "0.vhd"))
    archive = subprocess.run("tar -cf - . | gzip -1", shell=True, cwd=str(tmp_path), stdout=subprocess.PIPE, check=True).stdout
    compare_with_qemu(cloud, cloud.call(cloud.service.add_image(archive)), raw)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT], ids=["ustar", "pax"])
def test_other_forms_of_tar(cloud, disk, form):
    member = tarfile.TarInfo("0.vhd")
    member.mtime = 1234567890.5  # which pax writes in a record of its own
    leaf = cloud.call(cloud.service.add_image(pack([(member, disk)], form=form)))
    assert downloads.digest(cloud.sr, leaf) == vhd_reader.digest(disk)


@pytest.mark.needs("qemu-img")
@pytest.mark.parametrize("size", ["1M", "10M", "127M", "5G"])
def test_a_disk_of_qemu_img(cloud, tmp_path, size):
    raw, vpc = str(tmp_path / "raw"), str(tmp_path / "disk.vhd")
    subprocess.run(["qemu-img", "create", "-q", "-f", "raw", raw, size], check=True, timeout=60)
    with open(raw, "r+b") as opened:
        opened.write(downloads.make_content(3, MIB))
        opened.seek(-MIB, os.SEEK_END)
        opened.write(downloads.make_content(4, MIB))
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "vpc", raw, vpc], check=True, timeout=60)
    leaf = cloud.call(cloud.service.add_image(pack([("image.vhd", vpc)])))
    result = subprocess.run(["qemu-img", "compare", "-f", "vpc", "-F", "vpc", vpc, os.path.join(cloud.sr.path, leaf + ".vhd")],
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    assert result.returncode == 0, result.stdout
    assert cloud.sr.scan()[leaf]["virtual_size"] >= os.stat(raw).st_size


def test_zeros_take_no_space(cloud):
    """A preallocated block of zeros in the archive becomes a hole in the SR."""
    path = cloud.make_path("zeros.vhd")
    block = b"x" * 512 + bytes(2 * MIB - 512)
    vhd_writer.write_dynamic(path, [(offset, block) for offset in range(0, 40 * MIB, 2 * MIB)], 40 * MIB)
    leaf = cloud.call(cloud.service.add_image(pack_chain([path])))
    status = os.stat(os.path.join(cloud.sr.path, leaf + ".vhd"))
    assert status.st_size > 40 * MIB and status.st_blocks * 512 < 6 * MIB


# Where it goes

def test_the_sr_by_its_uuid(cloud, disk):
    leaf = cloud.call(cloud.service.add_image(pack_chain([disk])), sr_path=None, sr_uuid=cloud.sr.uuid)
    check_chain(cloud, [leaf])


@pytest.fixture
def other_path(cloud):
    """Function(host, attached): a PBD whose SR is mounted elsewhere; returns that path."""
    made = []

    def make(path="/mnt/local-images", host=cloud.host, attached=True):
        real = cloud.host.root + path
        os.makedirs(real, exist_ok=True)
        made.append(cloud.pool.database.create("PBD", host=host.ref, SR=cloud.sr.ref, currently_attached=attached,
                                               device_config={"path": path}))
        return path, real

    yield make
    for ref in made:
        cloud.pool.database.destroy("PBD", ref)


def test_the_path_of_a_pbd(cloud, disk, other_path):
    path, real = other_path()
    uuids = make_uuids(1)
    cloud.call(cloud.service.add_image(pack_chain([disk])), uuids, sr_path=path)
    assert os.listdir(real) == [uuids[0] + ".vhd"]
    assert vhd_reader.digest(os.path.join(real, uuids[0] + ".vhd")) == vhd_reader.digest(disk)


@pytest.mark.parametrize("wrong", [{"attached": False}, {"host": None}], ids=["detached", "of another host"])
def test_the_path_of_a_pbd_that_is_not_ours(cloud, disk, other_path, wrong):
    if "host" in wrong:
        wrong = {"host": type("Other", (), {"ref": "OpaqueRef:other"})}
    path, real = other_path("/mnt/not-ours", **wrong)
    with pytest.raises(XenAPI.Failure) as caught:
        cloud.call(cloud.service.add_image(pack_chain([disk])), sr_path=path)
    assert caught.value.details[2:] == ["StorageError", "sr_path '/mnt/not-ours' is neither /var/run/sr-mount/<uuid> nor the path "
                                        "of an attached PBD"]
    assert os.listdir(real) == []


def test_a_pbd_that_xapi_does_not_tell_about(cloud, disk):
    cloud.pool.faults.fail("PBD.get_all_records", "SESSION_INVALID", "OpaqueRef:a-secret")
    with pytest.raises(XenAPI.Failure) as caught:
        cloud.call(cloud.service.add_image(pack_chain([disk])), sr_path="/mnt/local-images")
    assert caught.value.details[2:] == ["PluginError", "cannot list the PBDs: XAPI answered SESSION_INVALID"]
    assert not [line for line in cloud.host.syslog_lines() if "a-secret" in line]


def test_two_at_a_time(cloud, disk):
    image = cloud.service.add_image(pack_chain([disk]))
    leaves = []
    threads = [threading.Thread(target=lambda: leaves.append(cloud.call(image))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(set(leaves)) == 3
    assert {downloads.digest(cloud.sr, leaf) for leaf in leaves} == {vhd_reader.digest(disk)}


# What is sent, what is logged

NON_ASCII = {"X-Roles": "Benutzer-\u00e4\u00f6\u00fc,\u7ba1\u7406\u8005", "X-User-Id": "caf\u00e9", "X-Nothing": None}


@pytest.mark.parametrize("legacy", [True, False], ids=["legacy", "plain"])
def test_headers_are_sent_as_utf_8(cloud, disk, legacy):
    """Whatever the locale, which in dom0 is none."""
    headers = dict(NON_ASCII, **{"X-Auth-Token": cloud.service.token})
    cloud.call(cloud.service.add_image(pack_chain([disk])), legacy=legacy, extra_headers=headers)
    for request in cloud.service.requests:
        sent = {name: value.encode("latin-1").decode("utf-8") for name, value in request.headers.items()}
        assert {name: sent.get(name) for name in NON_ASCII} == NON_ASCII


def test_unknown_arguments_of_old_clients(cloud, disk):
    cloud.call(cloud.service.add_image(pack_chain([disk])), legacy=True, host_uuid="x", retries="\u00fcnknown")


def test_the_log_says_what_was_done_and_no_secret(cloud, disk):
    image = cloud.service.add_image(pack_chain([disk]))
    leaf = cloud.call(image)
    lines = [line for line in cloud.host.syslog_lines() if leaf in line]
    assert any("downloaded image %s as VDI %s" % (image.id, leaf) in line for line in lines)
    assert any("published %s" % leaf in line for line in lines)
    assert not [line for line in cloud.host.syslog_lines() if cloud.service.token in line]
