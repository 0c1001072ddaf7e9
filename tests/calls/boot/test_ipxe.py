# SPDX-License-Identifier: Apache-2.0
"""ipxe.py: network settings into real boot ISOs, read back by other programs; and damaged or hostile ISOs."""

import os
import random
import signal
import stat
import struct
import subprocess
import threading

import pytest
import XenAPI

from dom0_lib import errors
from dom0_lib.boot import iso9660
from tests.calls import calls
from tests.calls import plugin_memory
from tests.calls import pythons
from tests.calls import sr_disks
from tests.calls.boot import iso_host as isos

INJECT = "inject"
SECTOR = 2048
MEBI = 1 << 20

pytestmark = pytest.mark.needs("genisoimage", "xorrisofs")


@pytest.fixture(scope="module")
def any_host(dom0_python):
    with isos.open_iso_host(dom0_python) as host:
        yield host


@pytest.fixture(scope="module")
def iso_host():
    with isos.open_iso_host(pythons.OLDEST) as host:
        yield host


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """{kind: path of a boot ISO}"""
    return {kind: isos.make_iso(str(tmp_path_factory.mktemp("iso")), kind) for kind in isos.MAKERS}


def check_result(path, original):
    """The new image has the files of the original, but the two that are written anew, and boots."""
    found, expected = isos.read_iso(path), isos.read_iso(original)
    script = found.pop("netcfg.ipxe").decode("ascii").splitlines()
    assert script[0] == "#!ipxe"
    for line in ("set net0/ip 10.1.2.3", "set net0/netmask 255.255.252.0", "set net0/gateway 10.1.0.1", "set dns 10.1.0.2",
                 "chain http://boot.example.org/menu.ipxe?mac=${net0/mac} ||"):
        assert line in script
    loader = found.pop("isolinux.cfg").decode("ascii")
    assert "KERNEL ipxe.krn" in loader and "INITRD netcfg.ipxe" in loader
    if "ipxe.krn" not in expected:
        # Without Rock Ridge the old names are in capitals and end with a version; Linux shows them as we take them over.
        expected = {name.lower().partition(";")[0].rstrip("."): content for name, content in expected.items()}
    for files in (found, expected):
        for name in ("isolinux.cfg", "netcfg.ipxe", "boot.cat", "isolinux.bin"):
            files.pop(name, None)
    assert found == expected
    with open(isos.ISOLINUX, "rb") as source:
        content = source.read()
    assert isos.read_boot_entry(path) == (True, 0, 4, content[:8] + content[64:], True)


@pytest.mark.parametrize("maker", ["mkisofs", "/usr/bin/genisoimage", "xorrisofs"])
@pytest.mark.parametrize("kind", sorted(isos.MAKERS))
def test_inject(iso_host, made, kind, maker):
    name, path = iso_host.add(made[kind])
    os.chmod(path, 0o640)
    os.chown(path, 1234, 4321)
    assert iso_host.inject(name, mkisofs_cmd=maker) is None
    check_result(path, made[kind])
    status = os.stat(path)
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o640, 1234, 4321)
    assert os.path.getsize(path) % SECTOR == 0
    assert not [entry for entry in os.listdir(iso_host.directory) if entry.startswith(".")]
    # Again, on our own result, with another network.
    iso_host.inject(name, mkisofs_cmd=maker, ip_address="10.1.2.4")
    assert b"set net0/ip 10.1.2.4\n" in isos.read_iso(path)["netcfg.ipxe"]


@pytest.mark.parametrize("is_legacy", [False, True], ids=["plain", "legacy"])
def test_every_python(any_host, made, is_legacy):
    name, path = any_host.add(made["rock ridge"])
    assert any_host.inject(name, is_legacy) is None
    check_result(path, made["rock ridge"])
    listing = subprocess.run(["isoinfo", "-d", "-i", path], stdout=subprocess.PIPE, check=True, universal_newlines=True, timeout=60)
    assert "Volume id: IPXE_BOOT" in listing.stdout and "Eltorito" in listing.stdout.replace(" ", "").title()


def test_links_are_left_out(iso_host, tmp_path):
    """No link is followed, neither when the image is read nor when files are written."""
    victim = tmp_path / "victim"
    victim.write_text("dom0's own")
    links = [(str(victim), "netcfg.ipxe"), (str(victim), "evil"), ("/etc", "etc"), (str(tmp_path), "up")]
    original = isos.make_iso(str(tmp_path), links=links)
    name, path = iso_host.add(original)
    iso_host.inject(name)
    check_result(path, original)
    assert victim.read_text() == "dom0's own"
    assert b"dom0's own" not in open(path, "rb").read()
    assert any("4 links and devices are left out" in line for line in iso_host.pool.hosts[0].syslog_lines())


def test_a_large_image_in_little_memory(iso_host, tmp_path):
    content = sr_disks.random_bytes("large", 8 * MEBI) * 8
    original = isos.make_iso(str(tmp_path), changes={"large": content})
    name, path = iso_host.add(original)
    with plugin_memory.watched(iso_host.pool.hosts[0]) as peak:
        iso_host.inject(name)
    assert isos.read_iso(path)["large"] == content
    assert 0 < peak.kib < 32 * 1024


# Refusals. The image is byte for byte as before.

def expect_refusal(host, name, class_name, *parts, **changes):
    with sr_disks.unchanged(host.sr.path), calls.refused(INJECT, class_name, *parts):
        host.inject(name, **changes)


def test_no_maker(iso_host, made):
    """nova goes on without the settings when it reads this class."""
    name, _ = iso_host.add(made["plain"])
    bin_dir = iso_host.pool.hosts[0].dom0.environment["PATH"]
    environment = iso_host.pool.hosts[0].dom0.plugin_environment
    environment["PATH"] = iso_host.pool.hosts[0].dom0.bin_dir
    try:
        expect_refusal(iso_host, name, "CommandNotFound", "'mkisofs'")
    finally:
        environment["PATH"] = bin_dir


@pytest.mark.parametrize("script, class_name, reason", [
    ("echo no room >&2; exit 5", "CommandFailed", "no room"),
    ("exit 0", "StorageError", "image"),
    ("for last; do :; done; head -c 100000 /dev/zero > \"$last\"", "InvalidImage", "not an ISO 9660"),
    ("for last; do :; done; cp %(plain)s \"$last\"", "StorageError", "image with wrong files"),
], ids=["fails", "makes nothing", "makes rubbish", "makes another"])
def test_a_maker_that_does_not_work(iso_host, made, script, class_name, reason):
    name, _ = iso_host.add(made["rock ridge"])
    text = "#!/bin/sh\n%s\n" % (script % made if "%" in script else script)
    with iso_host.pool.hosts[0].dom0.program("mkisofs", text):
        expect_refusal(iso_host, name, class_name, reason)


def test_no_image(iso_host, made, tmp_path):
    expect_refusal(iso_host, "11111111-2222-4333-8444-555555555555", "StorageError", "no ISO")
    outside = tmp_path / "outside.iso"
    outside.write_bytes(open(made["plain"], "rb").read())
    name, path = iso_host.add(made["plain"])
    os.unlink(path)
    os.symlink(str(outside), path)
    expect_refusal(iso_host, name, "StorageError", name)
    assert os.path.islink(path)
    os.unlink(path)
    os.mkdir(path)
    with calls.refused(INJECT, "StorageError", "plain file"):
        iso_host.inject(name)
    os.rmdir(path)


def test_a_directory_outside_the_sr(iso_host, made, tmp_path):
    name, path = iso_host.add(made["plain"])
    os.rename(iso_host.directory, str(tmp_path / "iso"))
    os.symlink(str(tmp_path / "iso"), iso_host.directory)
    try:
        with calls.refused(INJECT, "StorageError", "iso"):
            iso_host.inject(name)
    finally:
        os.unlink(iso_host.directory)
        os.rename(str(tmp_path / "iso"), iso_host.directory)


@pytest.mark.parametrize("changes, reason", [
    ({"isolinux.bin": None}, "isolinux.bin"), ({"ipxe.krn": None}, "ipxe.krn"),
    ({"isolinux.bin/x": b"", "isolinux.bin": None}, "isolinux.bin")])
def test_an_image_that_boots_nothing(iso_host, tmp_path, changes, reason):
    name, _ = iso_host.add(isos.make_iso(str(tmp_path), changes=changes))
    expect_refusal(iso_host, name, "InvalidImage", reason)


def test_a_loader_that_is_a_link(iso_host, made, tmp_path):
    """mkisofs writes its table into the loader's file: were the link followed, into dom0's /etc/passwd."""
    original = isos.make_iso(str(tmp_path), changes={"isolinux.bin": None}, links=[("/etc/passwd", "isolinux.bin")])
    name, _ = iso_host.add(original)
    expect_refusal(iso_host, name, "InvalidImage", "isolinux.bin")


HUGE = struct.pack("<I", 0xfffffff0)
HOSTILE = {
    # name: (how to break a copy of the plain image, class, words of the message)
    "no image": (
        lambda path: isos.replace_bytes(path, b"\1CD001\1\0LINUX", b"\1CD002\1\0LINUX"), "InvalidImage", "not an ISO 9660"),
    "extent beyond the end": (lambda path: isos.patch_record(path, b"ZZ.;1", 2, HUGE), "UnsafeImage", "beyond the end"),
    "size beyond the end": (lambda path: isos.patch_record(path, b"ZZ.;1", 10, HUGE), "UnsafeImage", "beyond the end"),
    "directory beyond the end": (lambda path: isos.patch_record(path, b"SUB", 2, HUGE), "UnsafeImage", "refers to byte"),
    "directory of gigabytes": (lambda path: isos.patch_record(path, b"SUB", 10, HUGE), "UnsafeImage", "a directory of"),
    "directory in itself": (lambda path: point_up(path), "UnsafeImage", "loop"),
    "record too short": (lambda path: isos.patch_record(path, b"ZZ.;1", 0, b"\x05"), "UnsafeImage", "cut off"),
    "name too long": (lambda path: isos.patch_record(path, b"ZZ.;1", 32, b"\xf0"), "UnsafeImage", "cut off"),
    "interleaved": (lambda path: isos.patch_record(path, b"ZZ.;1", 26, b"\1\1"), "InvalidImage", "interleaved"),
    "never ending file": (lambda path: isos.patch_record(path, b"ZZ.;1", 25, b"\x80"), "UnsafeImage", "zz is cut off"),
    "slash in a name": (lambda path: isos.patch_record(path, b"EMPTY.;1", 33, b"../.x"), "UnsafeImage", "../.x"),
    "dots for a name": (lambda path: isos.patch_record(path, b"ZZ.;1", 33, b"..;1 "), "UnsafeImage", "name"),
    "newline in a name": (lambda path: isos.patch_record(path, b"EMPTY.;1", 33, b"a=\n/x"), "UnsafeImage", "name"),
    "the same name twice": (lambda path: isos.patch_record(path, b"EMPTY.;1", 32, b"\5ZZ.;1"), "UnsafeImage", "twice"),
    "other blocks": (lambda path: patch_descriptor(path, 128, struct.pack("<H", 512)), "InvalidImage", "2048"),
    "root beyond the end": (lambda path: patch_descriptor(path, 156 + 2, HUGE), "UnsafeImage", "refers to byte"),
    "cut in two": (lambda path: os.truncate(path, 200000), "UnsafeImage", "beyond the end"),
    "a few bytes": (lambda path: os.truncate(path, 1000), "InvalidImage", "not an ISO 9660"),
    "empty": (lambda path: os.truncate(path, 0), "InvalidImage", "not an ISO 9660"),
}


def patch_descriptor(path, offset, data):
    with open(path, "r+b") as target:
        target.seek(16 * SECTOR + offset)
        target.write(data)


def point_up(path):
    with open(path, "rb") as source:
        source.seek(16 * SECTOR + 156 + 2)
        root = source.read(4)
    isos.patch_record(path, b"SUB", 2, root)


@pytest.mark.parametrize("case", sorted(HOSTILE))
def test_a_hostile_image(iso_host, made, case):
    name, path = iso_host.add(made["plain"])
    spoil, class_name, reason = HOSTILE[case]
    spoil(path)
    expect_refusal(iso_host, name, class_name, reason)


def test_files_that_share_their_content(iso_host, tmp_path):
    """A small image whose every file is all of it: unpacked, it would fill the SR."""
    original = isos.make_iso(str(tmp_path), "plain", changes={"f%03d" % number: b"x" for number in range(200)})
    with open(original, "r+b") as target:
        image = bytearray(target.read())
        for number in range(200):
            place = image.index(b"\7F%03d.;1" % number) - 32
            struct.pack_into("<I", image, place + 2, 0)
            struct.pack_into("<I", image, place + 10, len(image))
        target.seek(0)
        target.write(image)
    name, _ = iso_host.add(original)
    expect_refusal(iso_host, name, "UnsafeImage", "twice as large")


def test_a_maze_of_continuations(iso_host, tmp_path):
    """A Rock Ridge field that says it goes on in itself."""
    long_name = "n" * 250
    original = isos.make_iso(str(tmp_path), changes={long_name: b"x"})
    with open(original, "r+b") as target:
        image = bytearray(target.read())
        place = image.index(b"CE\x1c\1", isos.find_record(image, b"N" * 8 + b".;1"))
        block, = struct.unpack_from("<I", image, place + 4)
        offset, = struct.unpack_from("<I", image, place + 12)
        image[block * SECTOR + offset:block * SECTOR + offset + 28] = image[place:place + 28]
        target.seek(0)
        target.write(image)
    name, _ = iso_host.add(original)
    expect_refusal(iso_host, name, "UnsafeImage", "places")


def test_a_damaged_image_is_never_a_defect(iso_host, made, tmp_path):
    """Any damage ends in an error about the image, in bounded time, not in a failure of the reader."""
    generator = random.Random(9)
    for kind in ("rock ridge", "plain"):
        with open(made[kind], "rb") as source:
            image = source.read()
        directories = range(16 * SECTOR, 40 * SECTOR)
        path = tmp_path / "damaged"
        for _ in range(400):
            damaged = bytearray(image)
            for _ in range(generator.choice([1, 1, 2, 8])):
                damaged[generator.choice(directories)] = generator.choice([0, 1, 2, 34, 127, 128, 255, generator.randrange(256)])
            path.write_bytes(damaged)
            with open(str(path), "rb") as source:
                try:
                    found = iso9660.Image(source)
                    assert all(offset + size <= len(damaged) or not size for entry in found.files for offset, size in entry.extents)
                except errors.InvalidImage:
                    pass


# The contents of the script.

@pytest.mark.parametrize("argument, value", [
    ("boot_menu_url", "http://x/\nshell"), ("boot_menu_url", "http://x || shell"), ("ip_address", "10.1.2.3\nshell"),
    ("netmask", "255.0.255.0"), ("gateway", "${user-class}"), ("dns", "dns.example.org"), ("mkisofs_cmd", "/tmp/mkisofs"),
    ("mkisofs_cmd", "sh"), ("mkisofs_cmd", "-quiet"), ("vdi_uuid", "../../../etc/passwd")])
def test_a_value_that_is_more_than_it_should_be(iso_host, made, argument, value):
    name, _ = iso_host.add(made["plain"])
    expect_refusal(iso_host, name, "ArgumentError", argument, **{argument: value})


# Killed, or without room.

POINTS = ("staging.made", "staging.file_made", "staging.written", "staging.file_finished", "iso.read", "iso.made", "iso.checked",
          "iso.replaced", "staging.cleaning", "staging.cleaned")
NEW_AFTER = ("iso.replaced", "staging.cleaning", "staging.cleaned")


@pytest.mark.parametrize("action", ["kill", "enospc"])
@pytest.mark.parametrize("point", POINTS)
def test_killed_or_full(iso_host, made, point, action):
    name, path = iso_host.add(made["rock ridge"])
    with open(path, "rb") as source:
        before = source.read()
    with iso_host.fault("%s:%s" % (point, action)):
        details = iso_host.attempt(lambda: iso_host.inject(name))
    # A directory that cannot be cleaned up does not make a failure of a call that is done.
    assert (details is None) == (action == "enospc" and point in ("staging.cleaning", "staging.cleaned"))
    if point in NEW_AFTER:
        check_result(path, made["rock ridge"])
    else:
        with open(path, "rb") as source:
            assert source.read() == before
    other, _ = iso_host.add(made["rock ridge"])
    iso_host.inject(other)
    assert not [entry for entry in os.listdir(iso_host.directory) if entry.startswith(".")]


@pytest.mark.parametrize("how", ["signal", "task"])
def test_ended_from_outside(iso_host, made, tmp_path, how):
    """While mkisofs works: mkisofs ends, too, and the image is as before."""
    pool = iso_host.pool
    name, _ = iso_host.add(made["rock ridge"])
    api = pool.login().xenapi
    task, started = api.task.create("inject", ""), tmp_path / "started"
    path = pool.hosts[0].dom0.add_program("mkisofs", "#!/bin/sh\ntouch %s\nexec sleep 60\n" % started)
    outcomes = []

    def call():
        with pytest.raises(XenAPI.Failure) as caught:
            iso_host.inject(name, is_legacy=False, task=task)
        outcomes.append(caught.value.details[:2])
    try:
        with sr_disks.unchanged(iso_host.sr.path):
            thread = threading.Thread(target=call)
            thread.start()
            calls.wait_until(started.exists)
            if how == "signal":
                for pid in pool.hosts[0].dom0.processes.running_pids():
                    os.kill(pid, signal.SIGTERM)
            else:
                api.task.cancel(task)
            thread.join(30)
        expected = ["XENAPI_PLUGIN_FAILURE", "signal: SIGTERM"] if how == "signal" else ["TASK_CANCELLED", task]
        assert outcomes == [expected]
    finally:
        os.unlink(path)
