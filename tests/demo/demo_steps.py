# SPDX-License-Identifier: Apache-2.0
"""The demo, step by step."""

import contextlib
import json
import os
import platform
import shutil
import tempfile
import textwrap

import XenAPI

from tests.demo import demo_agent
from tests.demo import demo_disk
from tests.demo import demo_image
from tests.demo import demo_scene
from tests.demo import demo_tasks
from tests.demo.demo_scene import DemoFailed, Image, Scene
from tests.demo.demo_screen import Screen, format_size
from tests.harness.image_service.service_process import ImageServiceProcess
from tests.harness.pool import Pool
from tests.harness.vhd import vhd_writer

# At most at once, if nothing can be compressed: the archive, both images, both chains, and half of a cancelled one.
_SPACE_FACTOR = 6
_FOREIGN_NAME = "another tenant's"

_VDI_LINE = "           %-17s %-17s %9s %9s  %s"
_NEXT = """\
  make sim     a simulated host that stays, for plug-ins of your own as well.
               It prints its URL, its UUID and how to call it in another shell:
                 .venvs/harness/bin/python -m tests.harness.xe -s URL \\
                   host-call-plugin host-uuid=UUID \\
                   plugin=dom0_plugin_version.py fn=get_version
  make test    every test, with the plug-ins under every Python that a dom0 has
  README.md    what there is, and how to install it on a host"""


def run(data_bytes, start_cleanup):
    """Show everything with data_bytes on the disk.  start_cleanup() is called before the demo's files are removed.

    Raises DemoFailed, XenAPI.Failure, OSError.
    """
    screen = Screen()
    with contextlib.ExitStack() as stack:
        scene = _set_stage(screen, data_bytes, stack)
        stack.callback(start_cleanup)
        foreign_vdi = _create_foreign_vdi(scene)
        disk, archive = _make_disk(scene, data_bytes)
        image = _upload(scene, "demo disk", archive)
        vdi = _import_image(scene, image, len(disk.chain))
        _show_vdis(scene, vdi)
        screen.title("Is it the same disk?")
        demo_scene.compare_content(scene, vdi, disk)
        exported, length = demo_tasks.export_snapshot(scene, vdi)
        vdi = demo_tasks.import_again(scene, exported, length)
        demo_scene.compare_content(scene, vdi, disk)
        demo_tasks.show_cancellation(scene, archive, len(disk.chain))
        _show_refusal(scene, foreign_vdi)
        demo_agent.show_password(scene)
    screen.title("Done in %.0f s, and nothing is left behind. Try next" % screen.seconds)
    screen.say(_NEXT)


def _set_stage(screen, data_bytes, stack):
    directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="dom0-demo-"))
    _check_space(directory, data_bytes * _SPACE_FACTOR)
    pool = stack.enter_context(Pool())
    service = stack.enter_context(ImageServiceProcess("--directory", tempfile.mkdtemp(dir=directory)))
    screen.title("A disk image becomes a VDI: host.call_plugin, glance.py, download_vhd2")
    screen.say("  host     simulated; XAPI answers at %s" % pool.url)
    screen.say("  plug-ins a process for each call, Python %s, started as XAPI does" % platform.python_version())
    screen.say("  images   a small OpenStack Glance at %s" % service.url)
    return Scene(screen, directory, pool, pool.srs[0], pool.login(), service)


def _create_foreign_vdi(scene):
    record = {"SR": scene.sr.ref, "virtual_size": str(64 * demo_disk.MIB), "type": "user", "sharable": False,
              "read_only": False, "other_config": {}, "name_label": _FOREIGN_NAME}
    return scene.session.xenapi.VDI.get_uuid(scene.session.xenapi.VDI.create(record))


def _make_disk(scene, data_bytes):
    """A Disk, whose files are gone again, and the path of an archive of them."""
    screen = scene.screen
    screen.title("A disk with files of this machine goes into the image service")
    with screen.step("disk", data_bytes) as step:
        disk = demo_disk.build(demo_scene.make_directory(scene, "disk"), data_bytes, step.advance)
        step.size_bytes = disk.data_bytes
        step.outcome = "%d files, %s on a disk of %s" % (
            disk.file_count, format_size(disk.data_bytes), format_size(disk.size_bytes))
    archive = os.path.join(scene.directory, "image.tar.gz")
    with screen.step("pack", sum(os.path.getsize(path) for path in disk.chain)) as step:
        demo_image.pack(archive, disk.chain, step.advance)
        step.outcome = "leaf, parent and base as tar.gz: %s" % format_size(os.path.getsize(archive))
    for path in disk.chain:
        os.unlink(path)
    return disk, archive


def _upload(scene, name, archive):
    """Put a file into the image service."""
    image = Image(demo_image.create(scene.service, name), os.path.getsize(archive))
    with scene.screen.step("upload", image.size_bytes) as step:
        with demo_scene.watched(lambda: step.show(demo_image.count_transferred(scene.service, image.id, "received_bytes"))):
            demo_image.upload(scene.service, image.id, archive)
        step.outcome = "image %s" % image.id
    return image


def _import_image(scene, image, length):
    """The uuid of the new VDI."""
    screen, arguments = scene.screen, _make_arguments(scene, image, length)
    screen.title("XAPI starts the plug-in, and the image becomes a VDI")
    demo_scene.show_call(scene, "download_vhd2", arguments)
    with screen.step("import", image.size_bytes) as step:
        def show():
            sent_bytes = demo_image.count_transferred(scene.service, image.id, "sent_bytes")
            step.show(sent_bytes)
            if sent_bytes == image.size_bytes:
                step.show_status("checking")
        with demo_scene.watched(show):
            reply = demo_scene.call_plugin(scene, "download_vhd2", arguments)
        step.outcome = "received, checked, published in the SR"
    screen.say("  reply    %s" % reply)
    return json.loads(reply)["root"]["uuid"]


def _make_arguments(scene, image, length):
    return dict(demo_scene.name_image(scene, scene.service, image.id), **demo_scene.make_uuid_stack(length))


def _show_vdis(scene, vdi):
    """SR.scan, and the VDIs that XAPI knows then: the new chain, leaf first, and the others."""
    screen = scene.screen
    records = demo_scene.scan(scene, vdi, "demo disk")
    chain = demo_scene.list_chain(records, vdi)
    others = [name for name in records if name not in chain]
    screen.say(_VDI_LINE % ("VDI", "name", "size", "on disk", "parent"), style="dim")
    for record in (records[name] for name in chain + others):
        screen.say(_VDI_LINE % (_shorten(record["uuid"]), record["name_label"], format_size(record["virtual_size"]),
                                format_size(record["physical_utilisation"]), _shorten(record["sm_config"].get("vhd-parent", "-"))))


def _shorten(name):
    return name if len(name) < 12 else name[:8] + "..."


def _show_refusal(scene, foreign_vdi):
    """An image that would show its owner another tenant's disk.  Raises DemoFailed unless its import is refused."""
    screen = scene.screen
    screen.title("A hostile image: its base names another tenant's disk as the parent")
    before = demo_scene.list_files(scene)
    archive = _make_hostile_archive(scene, foreign_vdi)
    screen.say("  0.vhd    a child of ./%s.vhd" % foreign_vdi)
    image = _upload(scene, "hostile disk", archive)
    with screen.step("import") as step:
        try:
            demo_scene.call_plugin(scene, "download_vhd2", _make_arguments(scene, image, 1))
            raise DemoFailed("the hostile image was taken for a good one")
        except XenAPI.Failure as failure:
            details = failure.details
        if details[2:3] != ["UnsafeImage"]:
            raise DemoFailed("the hostile image was refused for a wrong reason: %s" % ", ".join(details))
        step.outcome = "refused; the caller sees XenAPI.Failure"
    for text in details:
        screen.say(textwrap.fill(text, 78, initial_indent="      ", subsequent_indent="        "))
    demo_scene.show_unchanged(scene, before)


def _make_hostile_archive(scene, foreign_vdi):
    """An image of one VHD: a child of the foreign VDI, by its right uuid and with a path that leads to it in the SR."""
    directory = demo_scene.make_directory(scene, "hostile")
    parent, child = os.path.join(directory, foreign_vdi + ".vhd"), os.path.join(directory, "0.vhd")
    shutil.copyfile(demo_scene.vhd_path(scene, foreign_vdi), parent)
    vhd_writer.write_differencing(child, parent, [])
    archive = os.path.join(scene.directory, "hostile.tar.gz")
    demo_image.pack(archive, [child])
    return archive


def _check_space(directory, needed_bytes):
    if shutil.disk_usage(directory).free < needed_bytes:
        raise DemoFailed("%s has less than %s free: free some, or set TMPDIR to another directory"
                         % (os.path.dirname(directory), format_size(needed_bytes)))
