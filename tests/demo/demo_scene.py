# SPDX-License-Identifier: Apache-2.0
"""The scene of the demo: a simulated host, an SR, an image service; and actions that several steps share."""

import collections
import contextlib
import json
import os
import threading
import uuid

import XenAPI

from tests.demo import demo_disk
from tests.demo.demo_screen import format_size
from tests.harness.vhd import vhd_reader

_POLL_S = 0.05

# directory: for temporary files; sr: a StorageRepository of the pool; session: of its XAPI.
Scene = collections.namedtuple("Scene", "screen directory pool sr session service")
Image = collections.namedtuple("Image", "id size_bytes")


class DemoFailed(Exception):
    """A step of the demo failed; one line of text says how."""


def call_plugin(scene, function, arguments, plugin="glance.py"):
    """Raises XenAPI.Failure."""
    return scene.session.xenapi.host.call_plugin(scene.pool.hosts[0].ref, plugin, function, arguments)


def show_call(scene, function, arguments, plugin="glance.py"):
    scene.screen.say('  host.call_plugin(host, "%s", "%s", {' % (plugin, function))
    for name, text in arguments.items():
        scene.screen.say("      %-16s %s" % ('"%s":' % name, text if len(text) <= 55 else text[:51] + " ..."))


def name_image(scene, service, image_id):
    """The arguments that both directions have."""
    return {"image_id": image_id, "endpoint": service.url, "sr_uuid": scene.sr.uuid,
            "extra_headers": json.dumps({"X-Auth-Token": service.token})}


def make_uuid_stack(length):
    return {"uuid_stack": json.dumps([str(uuid.uuid4()) for _ in range(length)])}


@contextlib.contextmanager
def watched(show):
    """While the block runs, and once more at its end, call show(), in another thread; should that fail, no more."""
    over = threading.Event()

    def watch():
        # The simulated XAPI may be gone; the block's own failure says so.
        with contextlib.suppress(OSError, ValueError, XenAPI.Failure):
            while not over.wait(_POLL_S):
                show()
            show()

    # In the background, so that an interruption reaches the block's own wait.
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def scan(scene, vdi, name):
    """SR.scan, and a name for the VDI that it finds.  Returns {uuid: record} of all VDIs in the SR."""
    xenapi = scene.session.xenapi
    with scene.screen.step("SR.scan") as step:
        xenapi.SR.scan(scene.sr.ref)
        xenapi.VDI.set_name_label(xenapi.VDI.get_by_uuid(vdi), name)
        records = read_vdis(scene)
        step.outcome = 'SR "%s" has %d VDIs' % (xenapi.SR.get_name_label(scene.sr.ref), len(records))
    return records


def read_vdis(scene):
    """{uuid: record} of the VDIs in the SR as XAPI knows them."""
    records = scene.session.xenapi.VDI.get_all_records().values()
    return {record["uuid"]: record for record in records if record["SR"] == scene.sr.ref}


def list_chain(records, vdi):
    """uuids from a VDI to its base."""
    chain = []
    while vdi:
        chain.append(vdi)
        vdi = records[vdi]["sm_config"].get("vhd-parent")
    return chain


def compare_content(scene, vdi, disk):
    """Raises DemoFailed unless the guest reads the disk's original data from the VDI."""
    screen, path = scene.screen, vhd_path(scene, vdi)
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
        raise DemoFailed("the guest does not read the data that were put on the disk")
    screen.say("  The same: %d of %d files, every byte." % (file_count, disk.file_count), style="green")


def list_files(scene):
    """A fingerprint of the SR: {relative path: (inode, size, time of the last change)}."""
    found = {}
    for parent, directories, names in os.walk(scene.sr.path):
        for path in (os.path.join(parent, name) for name in directories + names):
            with contextlib.suppress(FileNotFoundError):
                status = os.lstat(path)
                found[os.path.relpath(path, scene.sr.path)] = status.st_ino, status.st_size, status.st_ctime_ns
    return found


def show_unchanged(scene, before):
    """Raises DemoFailed unless the SR is as list_files() found it before."""
    after = list_files(scene)
    if after != before:
        raise DemoFailed("the SR is not as it was: %s" % ", ".join(sorted(
            name for name in set(before) | set(after) if before.get(name) != after.get(name))))
    scene.screen.say("  The SR is as it was: %d files, none changed, none more." % len(after), style="green")


def vhd_path(scene, vdi):
    return os.path.join(scene.sr.path, vdi + ".vhd")


def make_directory(scene, name):
    path = os.path.join(scene.directory, name)
    os.mkdir(path)
    return path
