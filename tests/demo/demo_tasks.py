# SPDX-License-Identifier: Apache-2.0
"""The demo's transfers that belong to an XAPI task: progress is read there, and cancelling is done there."""

import contextlib
import json
import os
import time

import XenAPI

from tests.demo import demo_image
from tests.demo import demo_scene
from tests.demo.demo_scene import DemoFailed
from tests.demo.demo_screen import format_size
from tests.harness.image_service.service import ImageService
from tests.harness.image_service.service_faults import Drip

# The fastest: the demo's time is short. Without the property it would be 6.
_COMPRESSION_LEVEL = 1
# Long enough to be cancelled half-way on any machine: the plug-in reports progress every second.
_SLOW_DOWNLOAD_S = 8
_SLOW_PIECES = 400


def export_snapshot(scene, vdi):
    """A new image of a new snapshot of the VDI; returns its id and the number of its VHDs."""
    screen, xenapi = scene.screen, scene.session.xenapi
    screen.title("A snapshot of that VDI becomes an image")
    with screen.step("snapshot") as step:
        snapshot = xenapi.VDI.get_uuid(xenapi.VDI.snapshot(xenapi.VDI.get_by_uuid(vdi), {}))
        chain = demo_scene.list_chain(demo_scene.read_vdis(scene), snapshot)
        step.outcome = "VDI.snapshot: a chain of %d from leaf to base" % len(chain)
    image_id = demo_image.create(scene.service, "snapshot of the demo disk")
    arguments = dict(
        demo_scene.name_image(scene, scene.service, image_id), vdi_uuids=json.dumps(chain),
        properties=json.dumps({"xenapi_image_compression_level": str(_COMPRESSION_LEVEL)}))
    with _task(scene, "Export of the snapshot") as task:
        arguments["task"] = task.ref
        demo_scene.show_call(scene, "upload_vhd2", arguments)
        with screen.step("export", sum(os.path.getsize(demo_scene.vhd_path(scene, name)) for name in chain)) as step:
            with task.shown(step):
                reply = demo_scene.call_plugin(scene, "upload_vhd2", arguments)
            size_bytes = demo_image.read_record(scene.service, image_id)["size"]
            step.outcome = "%d VHDs, gzip level %d, in the image: %s" % (len(chain), _COMPRESSION_LEVEL, format_size(size_bytes))
        task.say()
    screen.say("  reply    %s" % reply)
    return demo_scene.Image(image_id, size_bytes), len(chain)


def import_again(scene, image, length):
    """The uuid of the new VDI that the exported image becomes."""
    scene.screen.title("That image becomes a second VDI: download_vhd2, again with a task")
    arguments = _make_download(scene, scene.service, image.id, length)
    with _task(scene, "Import of the export") as task:
        arguments["task"] = task.ref
        with scene.screen.step("import", image.size_bytes) as step:
            with task.shown(step):
                reply = demo_scene.call_plugin(scene, "download_vhd2", arguments)
            step.outcome = "received, checked, published in the SR"
        task.say()
    vdi = json.loads(reply)["root"]["uuid"]
    demo_scene.scan(scene, vdi, "demo disk again")
    return vdi


def show_cancellation(scene, archive, length):
    """A download that is cancelled.  Raises DemoFailed unless it ends as cancelled, and leaves nothing."""
    screen, before = scene.screen, demo_scene.list_files(scene)
    screen.title("A download is cancelled half-way")
    with _open_slow_service(scene, archive) as (service, image), _task(scene, "Import to be cancelled") as task:
        arguments = dict(_make_download(scene, service, image.id, length), task=task.ref)
        screen.say("  from a service that sends %s/s" % format_size(image.size / _SLOW_DOWNLOAD_S))
        staged = {}

        def cancel():
            staged.update(demo_scene.list_files(scene))
            task.cancel()
        with screen.step("import", image.size) as step:
            details = _fail(scene, arguments, task, task.shown(step, cancel))
            step.outcome = "task.cancel at %.0f %%; ended %.1f s after that" % (
                100 * task.cancelled_fraction, time.monotonic() - task.cancelled_at)
            step.size_bytes = 0
        task.say()
    for text in details:
        screen.say("      %s" % text)
    staged_bytes = sum(size_bytes for name, (_, size_bytes, _) in staged.items() if name not in before)
    screen.say("  When it was cancelled, %s of VHDs were in the SR already." % format_size(staged_bytes))
    demo_scene.show_unchanged(scene, before)


def _fail(scene, arguments, task, shown):
    """XAPI's answer to the download that is cancelled."""
    try:
        with shown:
            demo_scene.call_plugin(scene, "download_vhd2", arguments)
    except XenAPI.Failure as failure:
        if failure.details != ["TASK_CANCELLED", task.ref]:
            raise DemoFailed("the cancelled download failed for a wrong reason: %s" % ", ".join(failure.details))
        return failure.details
    raise DemoFailed("the download went on to its end, %s" % (
        "although it was cancelled" if task.cancelled_at else "and its task never said that half of it was done"))


@contextlib.contextmanager
def _open_slow_service(scene, archive):
    """A slow image service, and its image."""
    with ImageService(directory=demo_scene.make_directory(scene, "slow")) as service:
        image = service.add_image(archive)
        service.faults.append(Drip(image.size // _SLOW_PIECES + 1, _SLOW_DOWNLOAD_S / _SLOW_PIECES, path="/file$"))
        yield service, image


def _make_download(scene, service, image_id, length):
    return dict(demo_scene.name_image(scene, service, image_id), **demo_scene.make_uuid_stack(length))


@contextlib.contextmanager
def _task(scene, label):
    """A Task for one call; afterwards XAPI does not know it any more."""
    # A connection of its own: on the scene's, the call will wait for its answer.
    session = scene.pool.login()
    ref = session.xenapi.task.create(label, "")
    yield Task(scene.screen, session.xenapi.task, ref)
    session.xenapi.task.set_status(ref, "success")
    session.xenapi.task.destroy(ref)
    session.xenapi.session.logout()


class Task(object):
    """seen: the fractions that XAPI had, in order; cancelled_at: on the monotonic clock, None before."""

    def __init__(self, screen, xenapi_task, ref):
        self.ref = ref
        self.seen = []
        self.cancelled_at = self.cancelled_fraction = None
        self._screen = screen
        self._xenapi_task = xenapi_task

    def shown(self, step, act_half_way=None):
        """While the block runs, the step's bar follows the task; act_half_way() is called once, beyond a half."""
        def show():
            fraction = self._xenapi_task.get_progress(self.ref)
            if fraction not in self.seen[-1:] + [0.0]:
                self.seen.append(fraction)
            step.show_fraction(fraction)
            if act_half_way and fraction >= 0.5 and self.cancelled_at is None:
                act_half_way()
        return demo_scene.watched(show)

    def cancel(self):
        self._xenapi_task.cancel(self.ref)
        self.cancelled_at, self.cancelled_fraction = time.monotonic(), self.seen[-1]

    def say(self):
        """The progress that the plug-in reported; empty for a transfer that was too short."""
        if self.seen:
            self._screen.say("  task     XAPI saw %s" % ", ".join("%.0f %%" % (100 * fraction) for fraction in self.seen[-10:]))
