# SPDX-License-Identifier: Apache-2.0
"""The demo, step by step."""

import collections
import contextlib
import json
import os
import platform
import shutil
import tempfile
import textwrap
import threading
import uuid

import XenAPI

from tests.harness import demo_disk
from tests.harness import demo_image
from tests.harness import vhd_reader
from tests.harness import vhd_writer
from tests.harness.demo_screen import Screen, format_size
from tests.harness.image_service_process import ImageServiceProcess
from tests.harness.pool import Pool

# At most at once: the raw file, should its holes take space, and the VHDs.
_SPACE_FACTOR = 3
_POLL_S = 0.05
_FOREIGN_NAME = "another tenant's"

_VDI_LINE = "           %-17s %-17s %9s %9s  %s"
_NEXT = """\
  make sim     a simulated host that stays, for plug-ins of your own as well.
               It prints its URL, its UUID and how to call it in another shell:
                 .venvs/host/bin/python -m tests.harness.xe -s URL \\
                   host-call-plugin host-uuid=UUID \\
                   plugin=dom0_plugin_version.py fn=get_version
  make test    every test, with the plug-ins under every Python that a dom0 has
  README.md    what there is, and how to install it on a host"""

# What the steps share. directory: for temporary files; sr: a StorageRepository of the pool; session: of its XAPI.
Scene = collections.namedtuple("Scene", "screen directory pool sr session service")
Image = collections.namedtuple("Image", "id size_bytes")


class DemoFailed(Exception):
    """The demo did not show what it should; one line of text."""


def run(data_bytes, start_cleanup):
    """Show everything with data_bytes on the disk.  start_cleanup() is called before what the demo made is removed.

    Raises DemoFailed, XenAPI.Failure, OSError.
    """
    screen = Screen()
    with contextlib.ExitStack() as stack:
        scene = _set_stage(screen, data_bytes, stack)
        stack.callback(start_cleanup)
        foreign_vdi = _create_foreign_vdi(scene)
        disk, image = _make_image(scene, data_bytes)
        vdi = _import_image(scene, image, len(disk.chain))
        _show_vdis(scene, vdi)
        _compare_content(scene, vdi, disk)
        _show_refusal(scene, foreign_vdi)
    screen.title("Done in %.0f s, and nothing is left behind. Try next" % screen.seconds)
    screen.say(_NEXT)


def _set_stage(screen, data_bytes, stack):
    directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="dom0-demo-"))
    _check_space(directory, data_bytes * _SPACE_FACTOR)
    pool = stack.enter_context(Pool())
    service = stack.enter_context(ImageServiceProcess("--directory", _make_directory(directory, "service")))
    screen.title("A disk image becomes a VDI: host.call_plugin, glance.py, download_vhd2")
    screen.say("  host     simulated; XAPI answers at %s" % pool.url)
    screen.say("  plug-ins a process for each call, Python %s, started as XAPI does" % platform.python_version())
    screen.say("  images   a small OpenStack Glance at %s" % service.url)
    return Scene(screen, directory, pool, pool.srs[0], pool.login(), service)


def _create_foreign_vdi(scene):
    record = {"SR": scene.sr.ref, "virtual_size": str(64 * demo_disk.MIB), "type": "user", "sharable": False,
              "read_only": False, "other_config": {}, "name_label": _FOREIGN_NAME}
    return scene.session.xenapi.VDI.get_uuid(scene.session.xenapi.VDI.create(record))


def _make_image(scene, data_bytes):
    """A Disk, whose files are gone again, and the Image of it in the image service."""
    screen = scene.screen
    screen.title("A disk with files of this machine goes into the image service")
    with screen.step("disk", data_bytes) as step:
        disk = demo_disk.build(_make_directory(scene.directory, "disk"), data_bytes, step.advance)
        step.size_bytes = disk.data_bytes
        step.outcome = "%d files, %s on a disk of %s" % (
            disk.file_count, format_size(disk.data_bytes), format_size(disk.size_bytes))
    archive = os.path.join(scene.directory, "image.tar.gz")
    with screen.step("pack", sum(os.path.getsize(path) for path in disk.chain)) as step:
        demo_image.pack(archive, disk.chain, step.advance)
        step.outcome = "leaf, parent and base as tar.gz: %s" % format_size(os.path.getsize(archive))
    for path in disk.chain:
        os.unlink(path)
    return disk, _upload(scene, "demo disk", archive)


def _upload(scene, name, archive):
    """Put a file, which is then removed, into the image service."""
    image = Image(demo_image.create(scene.service, name), os.path.getsize(archive))
    with scene.screen.step("upload", image.size_bytes) as step:
        with _watched(scene, step, image, "received_bytes"):
            demo_image.upload(scene.service, image.id, archive)
        step.outcome = "image %s" % image.id
    os.unlink(archive)
    return image


def _import_image(scene, image, length):
    """The uuid of the new VDI."""
    screen, arguments = scene.screen, _make_arguments(scene, image, length)
    screen.title("XAPI starts the plug-in, and the image becomes a VDI")
    screen.say('  host.call_plugin(host, "glance.py", "download_vhd2", {')
    for name, text in arguments.items():
        screen.say("      %-16s %s" % ('"%s":' % name, text if len(text) <= 55 else text[:51] + " ..."))
    with screen.step("import", image.size_bytes) as step:
        with _watched(scene, step, image, "sent_bytes", "checking"):
            reply = _call_plugin(scene, arguments)
        step.outcome = "received, checked, published in the SR"
    screen.say("  reply    %s" % reply)
    return json.loads(reply)["root"]["uuid"]


def _call_plugin(scene, arguments):
    """Raises XenAPI.Failure."""
    return scene.session.xenapi.host.call_plugin(scene.pool.hosts[0].ref, "glance.py", "download_vhd2", arguments)


def _make_arguments(scene, image, length):
    return {"image_id": image.id, "endpoint": scene.service.url, "sr_uuid": scene.sr.uuid,
            "uuid_stack": json.dumps([str(uuid.uuid4()) for _ in range(length)]),
            "extra_headers": json.dumps({"X-Auth-Token": scene.service.token})}


def _show_vdis(scene, vdi):
    """SR.scan, and the VDIs that XAPI knows then: the new chain, leaf first, and the others."""
    screen, xenapi = scene.screen, scene.session.xenapi
    with screen.step("SR.scan") as step:
        xenapi.SR.scan(scene.sr.ref)
        xenapi.VDI.set_name_label(xenapi.VDI.get_by_uuid(vdi), "demo disk")
        records = {record["uuid"]: record for record in xenapi.VDI.get_all_records().values() if record["SR"] == scene.sr.ref}
        step.outcome = 'SR "%s" has %d VDIs' % (xenapi.SR.get_name_label(scene.sr.ref), len(records))
    chain = []
    while vdi:
        chain.append(vdi)
        vdi = records[vdi]["sm_config"].get("vhd-parent")
    others = [name for name in records if name not in chain]
    screen.say(_VDI_LINE % ("VDI", "name", "size", "on disk", "parent"), style="dim")
    for record in (records[name] for name in chain + others):
        screen.say(_VDI_LINE % (_shorten(record["uuid"]), record["name_label"], format_size(record["virtual_size"]),
                                format_size(record["physical_utilisation"]), _shorten(record["sm_config"].get("vhd-parent", "-"))))


def _shorten(name):
    return name if len(name) < 12 else name[:8] + "..."


def _compare_content(scene, vdi, disk):
    """Raises DemoFailed unless the guest reads from the VDI what was put on the disk."""
    screen, path = scene.screen, _vhd_path(scene, vdi)
    screen.title("Is it the same disk?")
    with screen.step("read") as step:
        digest = vhd_reader.digest(path)
        file_count, motd = demo_disk.read_files(path, disk.archives)
        step.size_bytes = disk.size_bytes
        step.outcome = "all %s as a guest reads them, %d files" % (format_size(disk.size_bytes), file_count)
    screen.say("  put on the disk, SHA-256")
    screen.say("      %s" % disk.digest)
    screen.say("  read from the SR")
    screen.say("      %s" % digest)
    screen.say("  %s: %s" % (demo_disk.MOTD, motd))
    if (digest, file_count) != (disk.digest, disk.file_count):
        raise DemoFailed("what the guest reads is not what was put on the disk")
    screen.say("  The same: %d of %d files, every byte." % (file_count, disk.file_count), style="green")


def _show_refusal(scene, foreign_vdi):
    """An image that would show its owner somebody else's disk.  Raises DemoFailed unless nothing comes of it."""
    screen = scene.screen
    screen.title("A hostile image: its base names another tenant's disk as the parent")
    before = _list_files(scene.sr.path)
    archive = _make_hostile_archive(scene, foreign_vdi)
    screen.say("  0.vhd    a child of ./%s.vhd" % foreign_vdi)
    image = _upload(scene, "hostile disk", archive)
    with screen.step("import") as step:
        try:
            _call_plugin(scene, _make_arguments(scene, image, 1))
            raise DemoFailed("the hostile image was taken for a good one")
        except XenAPI.Failure as failure:
            details = failure.details
        if details[2:3] != ["UnsafeImage"]:
            raise DemoFailed("the hostile image was refused for a wrong reason: %s" % ", ".join(details))
        step.outcome = "refused; the caller sees XenAPI.Failure"
    for text in details:
        screen.say(textwrap.fill(text, 78, initial_indent="      ", subsequent_indent="        "))
    after = _list_files(scene.sr.path)
    if after != before:
        raise DemoFailed("the refused image changed the SR: %s" % ", ".join(sorted(
            name for name in set(before) | set(after) if before.get(name) != after.get(name))))
    screen.say("  The SR is as it was: %d files, none changed, none more." % len(after), style="green")


def _make_hostile_archive(scene, foreign_vdi):
    """An image of one VHD: a child of the foreign VDI, by its right uuid and with a path that leads to it in the SR."""
    directory = _make_directory(scene.directory, "hostile")
    parent, child = os.path.join(directory, foreign_vdi + ".vhd"), os.path.join(directory, "0.vhd")
    shutil.copyfile(_vhd_path(scene, foreign_vdi), parent)
    vhd_writer.write_differencing(child, parent, [])
    archive = os.path.join(scene.directory, "hostile.tar.gz")
    demo_image.pack(archive, [child])
    return archive


@contextlib.contextmanager
def _watched(scene, step, image, counter, next_work=None):
    """While the block runs, show how far the image's data are, as the image service counts them; and what follows then."""
    over = threading.Event()

    def watch():
        while not over.wait(_POLL_S):
            try:
                done_bytes = demo_image.count_transferred(scene.service, image.id, counter)
            except (OSError, ValueError):
                # The service is gone; the block will say so.
                return
            step.show(done_bytes)
            if next_work and done_bytes == image.size_bytes:
                step.show_status(next_work)

    # In the background, so that an interruption reaches what the block waits for.
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _vhd_path(scene, vdi):
    return os.path.join(scene.sr.path, vdi + ".vhd")


def _list_files(directory):
    """What tells one state of a directory from another: {relative path: (inode, size, time of the last change)}."""
    found = {}
    for parent, directories, names in os.walk(directory):
        for path in (os.path.join(parent, name) for name in directories + names):
            status = os.lstat(path)
            found[os.path.relpath(path, directory)] = status.st_ino, status.st_size, status.st_ctime_ns
    return found


def _make_directory(parent, name):
    path = os.path.join(parent, name)
    os.mkdir(path)
    return path


def _check_space(directory, needed_bytes):
    if shutil.disk_usage(directory).free < needed_bytes:
        raise DemoFailed("%s has less than %s free: free some, or set TMPDIR to another directory"
                         % (os.path.dirname(directory), format_size(needed_bytes)))
