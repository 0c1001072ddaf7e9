# SPDX-License-Identifier: Apache-2.0
"""Faults of an image service, an image or a caller end in the right error, and the SR is byte for byte as before.

A case is a function that arranges the fault and returns the arguments of the call. All cases run on the newest dom0 Python,
some also on old ones, in test_download_refusals_old.py.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tarfile

import pytest
import XenAPI

from tests.calls import pythons
from tests.calls import calls
from tests.calls import sr_disks
from tests.calls.calls import make_uuids
from tests.calls.sr_disks import MIB, pack, pack_chain
from tests.harness.image_service import service_faults as faults
from tests.harness.image_service.service import ImageService
from tests.harness.vhd import vhd_writer

CASES = []
# Cases that old Pythons handle with other code for sockets, ssl, zlib, processes or files.
CASES_FOR_OLD_PYTHONS = []


def refused(error_class, fragment, differs=False):
    """Decorates a case with the error that it must end with; `differs`: also on old Pythons."""
    def register(case):
        parameter = pytest.param(case, error_class, fragment, id=case.__name__)
        CASES.append(parameter)
        if differs:
            CASES_FOR_OLD_PYTHONS.append(parameter)
        return case
    return register


class Scene(object):
    """Tools for a case. `stack` undoes its changes of the host; in `sr` nothing may change."""

    def __init__(self, site, stack):
        self.site = site
        self.service = site.service
        self.sr = site.sr
        self.appears = None  # the name of a file that another program puts into the SR meanwhile
        self.stack = stack
        self.directory = site.make_path(make_uuids(1)[0])
        os.mkdir(self.directory)
        stack.callback(shutil.rmtree, self.directory)

    def disk(self, name="disk.vhd", **options):
        """The path of a small, good, dynamic disk."""
        path = os.path.join(self.directory, name)
        vhd_writer.write_dynamic(path, sr_disks.make_content(7, 3 * MIB), **options)
        return path

    def chain(self, depth):
        return sr_disks.make_chain(self.directory, depth, 3 * MIB)

    def serve(self, archive, fault=None, **arguments):
        """The arguments for an image with this data, which the service treats so."""
        if fault:
            self.service.faults.append(fault)
        return dict(image=self.service.add_image(archive), **arguments)

    def good(self, fault=None, **arguments):
        return self.serve(pack_chain([self.disk()]), fault, **arguments)

    def patched(self, change):
        """The arguments for one disk, after `change(path)`."""
        path = self.disk()
        change(path)
        return self.serve(pack_chain([path]))


# The network and the service

@refused("RetryableError", "cannot connect to 127.0.0.1:", differs=True)
def connection_refused(scene):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    return scene.good(endpoint="http://127.0.0.1:%d" % port)


@refused("RetryableError", "cannot connect to no-such-host.invalid:9292: ", differs=True)
def unknown_host(scene):
    return scene.good(endpoint="http://no-such-host.invalid:9292")


@refused("RetryableError", "closed the connection before it answered", differs=True)
def no_answer(scene):
    return scene.good(faults.HangUp(times=None))


@refused("RetryableError", "cannot read from 127.0.0.1:", differs=True)
def reset_instead_of_an_answer(scene):
    return scene.good(faults.HangUp(reset=True, times=None))


@refused("RetryableError", "closed the connection with ")
def connection_that_breaks_every_time(scene):
    return scene.good(faults.HangUp(at=0, path="/file$", times=None))


@refused("RetryableError", "the connection broke 3 times, and the service cannot continue a download")
def connection_that_breaks_every_time_without_ranges(scene):
    return scene.good(faults.HangUp(at=100, times=None), api_version=1)


@refused("RetryableError", "sends 1000 bytes of image")
def short_body_with_a_clean_end(scene):
    return scene.good(faults.Truncation(1000, path="/file$"))


@refused("RetryableError", "have MD5 ", differs=True)
def short_body_with_a_clean_end_without_a_record(scene):
    return scene.good(faults.Truncation(1000), api_version=1)


@refused("RetryableError", " bytes of image ")
def content_length_too_large(scene):
    return scene.good(faults.WrongLength(100, path="/file$"))


@refused("RetryableError", " bytes of image ")
def content_length_too_small(scene):
    return scene.good(faults.WrongLength(-100, path="/file$"))


@refused("RetryableError", "have MD5 ")
def content_length_too_small_without_a_record(scene):
    return scene.good(faults.WrongLength(-100), api_version=1)


@refused("RetryableError", "the service announced 00000000000000000000000000000000", differs=True)
def wrong_digest(scene):
    return scene.good(faults.WrongDigest(), api_version=1)


@refused("RetryableError", "have SHA512 ", differs=True)
def one_byte_turned_in_transit(scene):
    return scene.serve(pack_chain([scene.disk()], compressed=False), faults.Corruption(1000000, path="/file$"))


@refused("RetryableError", "have SHA512 ")
def gzip_data_damaged_in_transit(scene):
    """More data than the queues hold: the damage is known long before the digest."""
    path = os.path.join(scene.directory, "noise.vhd")
    vhd_writer.write_dynamic(path, os.urandom(16 * MIB))
    return scene.serve(pack_chain([path]), faults.Corruption(10, path="/file$"))


@refused("RetryableError", "has no data (status 204): is its upload complete?")
def no_content(scene):
    return scene.good(faults.NoContent(path="/file$"))


@refused("RetryableError", "has no data (status 204)")
def queued_image(scene):
    return {"image": scene.service.add_image()}


@refused("RetryableError", "has no data (status 204)")
def lost_data(scene):
    arguments = scene.good()
    scene.service.lose_data(arguments["image"].id)
    return arguments


@refused("ImageNotFound", "the image service has no image 00000000-", differs=True)
def unknown_image(scene):
    return {"image": "00000000-0000-4000-8000-000000000000"}


@refused("PluginError", "(status 401): the token is not valid for it")
def no_token(scene):
    return scene.good(extra_headers={})


@refused("ImageNotFound", "for this token (status 404)")
def image_of_others(scene):
    return scene.good(extra_headers={"X-Auth-Token": "token-other"})


@refused("PluginError", "does not speak the API version asked for (status 300): use api_version 2")
def version_1_of_a_newer_service(scene):
    service = scene.stack.enter_context(ImageService())
    return {"image": service.add_image(pack_chain([scene.disk()])), "endpoint": service.url, "api_version": 1}


@refused("RetryableError", "does not speak HTTP", differs=True)
def garbage_for_a_status_line(scene):
    return scene.good(faults.GarbageStatus(path="/file$"))


@refused("RetryableError", "sent a content-length that is not a number")
def a_length_that_only_looks_like_a_number(scene):
    return scene.good(faults.GarbageStatus(b"HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\n\r\nxx", path="/file$"))


@refused("RetryableError", "does not speak HTTP")
def a_status_that_only_looks_like_a_number(scene):
    return scene.good(faults.GarbageStatus(b"HTTP/1.1 20\xb2 OK\r\n\r\n", path="/file$"))


@refused("RetryableError", "sent a chunk without a size")
def broken_chunks_every_time(scene):
    return scene.good(faults.BadChunk(at=0, path="/file$", times=None))


@refused("RetryableError", "was redirected more than 5 times")
def redirected_in_a_circle(scene):
    arguments = scene.good()
    scene.service.faults.append(faults.Redirect("/v2/images/%s/file" % arguments["image"].id, path="/file$", times=None))
    return arguments


@refused("RetryableError", "a redirect needs a URL that begins with http:// or https://")
def redirected_to_a_file(scene):
    return scene.good(faults.Redirect("file:///etc/passwd", path="/file$"))


@refused("RetryableError", "TLS with 127.0.0.1:", differs=True)
def no_tls_at_all(scene):
    return scene.good(endpoint=scene.service.url.replace("http:", "https:"))


for _status, _error_class in ((400, "PluginError"), (403, "PluginError"), (410, "ImageNotFound"), (429, "RetryableError"),
                              (500, "RetryableError"), (503, "RetryableError")):
    def _arrange(scene, status=_status):
        return scene.good(faults.Refusal(status, body=b"<html>no</html>", path="/file$"))
    _arrange.__name__ = "status_%d" % _status
    refused(_error_class, "status %d" % _status)(_arrange)


# The archive

@refused("InvalidImage", "the image is empty")
def nothing_at_all(scene):
    return scene.serve(b"")


@refused("InvalidImage", "the image is no tar archive of VHDs, and as a VHD it is damaged", differs=True)
def noise(scene):
    return scene.serve(b"\x07" * 100000)


@refused("InvalidImage", "the image is no tar archive of VHDs, and as a VHD it is damaged")
def gzip_of_noise(scene):
    return scene.serve(sr_disks.gzip.compress(b"\x07" * 100000))


@refused("InvalidImage", "the image is a QCOW2 disk")
def qcow2(scene):
    path = os.path.join(scene.directory, "disk.qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "10M"], check=True, timeout=60)
    with open(path, "rb") as opened:
        return scene.serve(opened.read())


@refused("InvalidImage", "the gzip data of the image is cut short", differs=True)
def truncated_gzip(scene):
    return scene.serve(pack_chain([scene.disk()])[:-1000])


@refused("InvalidImage", "the gzip data of the image is damaged", differs=True)
def damaged_gzip_with_a_digest_that_fits(scene):
    archive = bytearray(pack_chain([scene.disk()]))
    archive[len(archive) // 2] ^= 0xff
    return scene.serve(bytes(archive))


@refused("InvalidImage", "the image has other data after the end of its gzip data")
def something_after_the_gzip_data(scene):
    return scene.serve(pack_chain([scene.disk()]) + b"rubbish")


@refused("InvalidImage", "the archive has other data after its end")
def something_after_the_archive(scene):
    return scene.serve(pack_chain([scene.disk()], compressed=False) + b"rubbish" * 100)


@refused("InvalidImage", "the archive is cut short after 1 members", differs=True)
def truncated_archive(scene):
    return scene.serve(pack_chain([scene.disk()], compressed=False)[:2 * MIB])


@refused("InvalidImage", "the archive is damaged: member 2 has a wrong checksum")
def damaged_archive(scene):
    disk = scene.disk()
    archive = pack([("notes", b"x" * 512), ("0.vhd", disk)], compressed=False)
    return scene.serve(archive[:1024 + 20] + b"?" + archive[1024 + 21:])


@refused("InvalidImage", "the image should have 0.vhd, 1.vhd, it has 0.vhd, 2.vhd")
def gap(scene):
    disk = scene.disk()
    return scene.serve(pack([("0.vhd", disk), ("2.vhd", disk)]))


@refused("InvalidImage", "the image has no VHD")
def no_vhd(scene):
    return scene.serve(pack([("swap.vhd", scene.disk()), ("readme", b"text")]))


@refused("UnsafeImage", "the archive has more than 30 VHDs")
def thirty_one_vhds(scene):
    path = os.path.join(scene.directory, "small.vhd")
    vhd_writer.write_dynamic(path, b"", 2 * MIB)
    return scene.serve(pack_chain([path] * 31))


@refused("ArgumentError", "argument 'uuid_stack': has 2 uuids, the image has 3 VHDs")
def more_vhds_than_uuids(scene):
    return scene.serve(pack_chain(scene.chain(3)), uuid_stack=make_uuids(2))


@refused("UnsafeImage", "the archive has '0.vhd' twice", differs=True)
def the_same_name_twice(scene):
    disk = scene.disk()
    return scene.serve(pack([("0.vhd", disk), ("0.vhd", disk)]))


def link_to(target, kind=tarfile.SYMTYPE, name="0.vhd"):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, b""


@refused("UnsafeImage", "member '0.vhd' of the archive is not a regular file", differs=True)
def symbolic_link(scene):
    return scene.serve(pack([link_to("/etc/passwd")]))


@refused("UnsafeImage", "member '0.vhd' of the archive is not a regular file")
def symbolic_link_and_a_file_through_it(scene):
    return scene.serve(pack([link_to(os.path.join(scene.sr.path, "x.vhd")), ("0.vhd", scene.disk())]))


@refused("UnsafeImage", "member '1.vhd' of the archive is not a regular file")
def hard_link(scene):
    return scene.serve(pack([("0.vhd", scene.disk()), link_to("0.vhd", tarfile.LNKTYPE, "1.vhd")]))


@refused("UnsafeImage", "has a member named '/etc/cron.d/0.vhd'")
def absolute_name(scene):
    return scene.serve(pack([("/etc/cron.d/0.vhd", scene.disk())]))


@refused("UnsafeImage", "has a member named '../0.vhd'")
def name_that_climbs(scene):
    return scene.serve(pack([("../0.vhd", scene.disk())]))


@refused("InvalidImage", "VHD 'disks/0.vhd' is not at the top of the archive")
def vhd_in_a_directory(scene):
    return scene.serve(pack([("disks/0.vhd", scene.disk())]))


# The disks

@refused("UnsafeImage", "0.vhd: differencing, but its parent ")
def child_alone(scene):
    return scene.serve(pack_chain(scene.chain(2)[:1]))


@refused("UnsafeImage", "0.vhd: differencing, but its parent ", differs=True)
def child_of_a_vdi_of_others(scene):
    """A disk whose parent is another tenant's disk in the SR: os-xenapi lets it pass."""
    victim = sr_disks.add_vdi(scene.sr)
    thief = os.path.join(scene.sr.path, "thief.vhd")
    vhd_writer.write_differencing(thief, victim, [(0, bytes(512))])
    shutil.move(thief, scene.directory)
    return scene.serve(pack_chain([os.path.join(scene.directory, "thief.vhd")]))


@refused("UnsafeImage", "1.vhd: differencing, but its parent ")
def chain_on_a_vdi_of_others(scene):
    victim = sr_disks.add_vdi(scene.sr)
    paths = [os.path.join(scene.sr.path, name) for name in ("leaf.vhd", "middle.vhd")]
    vhd_writer.write_differencing(paths[1], victim, [(0, bytes(512))], hidden=1)
    vhd_writer.write_differencing(paths[0], paths[1], [(0, bytes(512))])
    for path in paths:
        shutil.move(path, scene.directory)
    return scene.serve(pack_chain([os.path.join(scene.directory, os.path.basename(path)) for path in paths]))


@refused("UnsafeImage", "0.vhd: differencing, but its parent 00000000-0000-0000-0000-000000000000 is not in the image")
def child_of_a_raw_file(scene):
    """With a parent uuid of zeros any file is a parent, and its bytes are the disk's content."""
    paths = scene.chain(2)
    vhd_writer.edit_header(paths[0], parent_uuid_bytes=bytes(16))
    return scene.serve(pack_chain(paths[:1]))


@refused("UnsafeImage", "0.vhd: made on parent ")
def child_of_another_parent(scene):
    return scene.serve(pack_chain([scene.chain(2)[0], scene.disk()]))


@refused("UnsafeImage", "0.vhd: made on parent ")
def wrong_order(scene):
    leaf, middle, base = scene.chain(3)
    return scene.serve(pack_chain([leaf, base, middle]))


@refused("UnsafeImage", "not differencing, but 1.vhd follows it")
def two_disks_that_are_no_chain(scene):
    disk = scene.disk()
    return scene.serve(pack_chain([disk, disk]))


@refused("InvalidImage", "0.vhd: the file has data up to byte ", differs=True)
def truncated_vhd(scene):
    return scene.patched(lambda path: os.truncate(path, 2 * MIB))


@refused("InvalidImage", "0.vhd: no VHD: ")
def no_vhd_but_its_name(scene):
    return scene.serve(pack([("0.vhd", b"x" * 100000)]))


@refused("InvalidImage", "0.vhd: 0 bytes are too few for a VHD")
def empty_vhd(scene):
    return scene.serve(pack([("0.vhd", b"")]))


@refused("InvalidImage", "0.vhd: the file has data up to byte ")
def bat_that_points_outside(scene):
    return scene.patched(lambda path: vhd_writer.patch(path, 1536, b"\x7f\xff\xff\xff"))


@refused("InvalidImage", "0.vhd: the header at byte 512 is missing or damaged")
def header_without_a_checksum(scene):
    return scene.patched(lambda path: vhd_writer.edit_header(path, reseal=False, checksum=1))


@refused("UnsafeImage", "0.vhd: a BAT of 4294967280 entries is beyond the limit of ")
def bat_of_a_monster(scene):
    return scene.patched(lambda path: vhd_writer.edit_header(path, max_bat_entries=0xfffffff0))


# The storage repository and the host

@refused("StorageError", "the storage repository already has a VDI ", differs=True)
def uuid_that_is_taken(scene):
    taken = os.path.basename(sr_disks.add_vdi(scene.sr))[:-len(".vhd")]
    return scene.good(uuid_stack=[taken] + make_uuids(1))


@refused("StorageError", "is not there: is the SR file based, and its PBD plugged on this host?", differs=True)
def sr_that_is_not_attached(scene):
    return scene.good(sr_path="/var/run/sr-mount/" + make_uuids(1)[0])


@refused("StorageError", "sr_path '/etc' is neither /var/run/sr-mount/<uuid> nor the path of an attached PBD", differs=True)
def path_that_is_no_sr(scene):
    return scene.good(sr_path="/etc")


@refused("StorageError", "leads out of /var/run/sr-mount")
def link_out_of_the_mounts(scene):
    name = make_uuids(1)[0]
    link = os.path.join(os.path.dirname(scene.sr.path), name)
    os.symlink("/etc", link)
    scene.stack.callback(os.unlink, link)
    return scene.good(sr_path="/var/run/sr-mount/" + name)


@refused("CommandNotFound", "command 'vhd-util' was not found on PATH", differs=True)
def host_without_vhd_util(scene):
    program = os.path.join(scene.site.host.dom0.bin_dir, "vhd-util")
    os.rename(program, program + ".away")
    scene.stack.callback(os.rename, program + ".away", program)
    return scene.good()


def replace_vhd_util(scene, script):
    """A vhd-util of the test's own; the right one is at $real."""
    program = os.path.join(scene.site.host.dom0.bin_dir, "vhd-util")
    os.rename(program, program + ".real")
    scene.stack.callback(os.rename, program + ".real", program)
    scene.site.host.dom0.add_program("vhd-util", "#!/bin/sh\nreal='%s.real'\n%s\n" % (program, script))


@refused("UnsafeImage", "vhd-util refuses ")
def vhd_util_that_finds_fault(scene):
    replace_vhd_util(scene, 'case $1 in check) echo "block 3 (offset 0x9) clobbers footer"; exit 22;; *) exec $real "$@";; esac')
    return scene.good()


@refused("StorageError", "vhd-util set failed: Input/output error")
def disk_that_breaks_in_the_middle_of_the_publication(scene):
    replace_vhd_util(scene, 'case "$1 $7" in "set 1") echo the disk is broken; exit 5;; *) exec $real "$@";; esac')
    return scene.serve(pack_chain(scene.chain(3)))


@refused("CommandFailed", "command 'vhd-util' ended with status 22: failed")
def vhd_util_that_fails_in_the_middle_of_the_publication(scene):
    replace_vhd_util(scene, 'case "$1 $7" in "set 1") echo failed; exit 22;; *) exec $real "$@";; esac')
    return scene.serve(pack_chain(scene.chain(3)))


@refused("CommandFailed", "command 'vhd-util' ended with status -6: no output", differs=True)
def vhd_util_that_crashes(scene):
    replace_vhd_util(scene, 'kill -ABRT $$')
    return scene.good()


@refused("StorageError", "cannot publish in the SR: ")
def uuid_taken_at_the_last_moment(scene):
    """Another program takes the uuid, without a lock: vhd-util's last check of the staged files makes the other file."""
    uuids = make_uuids(1)
    other = os.path.join(scene.sr.path, uuids[0] + ".vhd")
    replace_vhd_util(scene, 'case $1 in check) cp -p %s %s;; esac; exec $real "$@"' % (sr_disks.add_vdi(scene.sr), other))
    scene.appears = os.path.basename(other)
    return scene.good(uuid_stack=uuids)


@refused("StorageError", "cannot write to the SR: ", differs=True)
def file_larger_than_the_sr_allows(scene):
    """A limit that the kernel enforces as a file system does its own."""
    name = scene.site.host.dom0.add_plugin("limited.py", "#!/bin/sh\nulimit -f 2048\nexec ${0%limited.py}glance.py \"$@\"\n")
    scene.stack.callback(os.unlink, name)
    return scene.good(plugin="limited.py")


def mount_small_sr(scene, options):
    scene.sr = scene.site.pool.add_sr()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", scene.sr.path]
    if subprocess.run(mount, stderr=subprocess.DEVNULL, timeout=60).returncode != 0:
        pytest.skip("not applicable: this user may not mount a small file system")
    scene.stack.callback(subprocess.run, ["umount", scene.sr.path], check=True, timeout=60)
    return scene.good(sr_path=calls.mount_path(scene.sr))


def change_settings(scene, text):
    scene.site.write_settings(text)
    scene.stack.callback(calls.remove_settings, scene.site.host)


@refused("StorageError", "the SR has 1 MiB free, this needs 4 MiB and a reserve of 512 MiB", differs=True)
def sr_that_is_too_small(scene):
    return mount_small_sr(scene, "size=1m")


@refused("StorageError", "cannot write to the SR: it is full", differs=True)
def sr_that_is_full(scene):
    """The SR is full by its number of files: the staging directory and its owner file are the last that fit."""
    change_settings(scene, "[transfer]\nreserve = 0\n")
    return mount_small_sr(scene, "size=100m,nr_inodes=3")


@refused("PluginError", "'idle_timeout' in [network] needs a whole number")
def settings_that_make_no_sense(scene):
    change_settings(scene, "[network]\nidle_timeout = soon\n")
    return scene.good()


# The caller: one wrong value for every argument; tests/contract has the rest

for _name, _value, _fragment in (
        ("image", "../passwd", "needs an image id"), ("image", "caf\u00e9\t", "(got caf??)"),
        ("endpoint", "ftp://images", "needs a URL"), ("endpoint", "http://images\r\nX: y", "and nothing else"),
        ("uuid_stack", ["0"], "needs a uuid"), ("uuid_stack", "[", "is not JSON"),
        ("sr_path", "/var/run/sr-mount/..", "without \"..\""), ("sr_uuid", "0", "needs a uuid"),
        ("extra_headers", {"X-Auth-Token": "a secret\r\n"}, "control character"),
        ("extra_headers", [], "needs a map"), ("api_version", "3", "needs 1 or 2"), ("task", "1", "needs the reference of a task"),
        ("unknown", "x", "unknown; this call takes ")):
    def _arrange(scene, name=_name, value=_value):
        return dict(scene.good(), **dict({name: value}, **({"sr_path": None} if name == "sr_uuid" else {})))
    _arrange.__name__ = "argument_%s_%d" % (_name, len(CASES))
    refused("ArgumentError", _fragment)(_arrange)


def check_refusal(site, case, error_class, fragment):
    with contextlib.ExitStack() as stack:
        scene = Scene(site, stack)
        arguments = case(scene)
        before = sr_disks.describe_tree(scene.sr.path)
        with pytest.raises(XenAPI.Failure) as caught:
            site.download(**arguments)
        after = sr_disks.describe_tree(scene.sr.path)
    details = caught.value.details
    assert details[:3] == ["XENAPI_PLUGIN_FAILURE", "download_vhd2", error_class], details
    assert fragment in details[3]
    assert len(details) == 4 and "\n" not in details[3] and "secret" not in details[3]
    assert site.service.token not in json.dumps(details)
    if scene.appears:
        assert after.pop(scene.appears, None), "the other program's file must stay"
    assert after == before


@pytest.fixture(scope="module", params=pythons.EDGES[-1:], ids=pythons.version_of)
def dom0_python(request):
    return request.param


@pytest.mark.needs("qemu-img")
@pytest.mark.usefixtures("nothing_is_left")
@pytest.mark.parametrize("case, error_class, fragment", CASES)
def test_refusals(site, case, error_class, fragment):
    check_refusal(site, case, error_class, fragment)
