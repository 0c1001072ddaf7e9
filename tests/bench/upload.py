# SPDX-License-Identifier: Apache-2.0
"""A VDI into an image: our plug-in, os-xenapi's, and a shell's commands; to one server, from one directory."""

import contextlib
import json
import os
import urllib.request
import uuid

from tests.bench import image
from tests.bench import transfers
from tests.bench.comparison import Comparison, MemoryTarget, RatioTarget, SizeTarget
from tests.harness.image_service.service_process import ImageServiceProcess

NAME = "upload"
ROUNDS = 3
WALL_LIMIT = 0.45
WALL_LIMIT_TO_PIGZ = 1.10
SIZE_LIMIT = 1.02
REQUEST_DEADLINE_S = 60
# Ours on two Pythons, os-xenapi, two of the shell.
WAYS_MAX = 5

GZIP = "tar -cz | curl"
PIGZ = "tar -c | pigz | curl"


def run(options, report):
    missing = transfers.list_missing(options)
    if missing:
        report.print_line("\n%s: LEFT OUT, needs %s" % (NAME, ", ".join(missing)))
        return
    made = image.prepare(options.work_dir, options.data_mib)
    rounds = options.rounds or ROUNDS
    with contextlib.ExitStack() as stack:
        uploads = os.path.join(options.work_dir, "uploads")
        os.makedirs(uploads, exist_ok=True)
        service = stack.enter_context(ImageServiceProcess(
            "--queued", str(WAYS_MAX * (rounds + 1)), "--directory", uploads, "--no-sha512"))
        report.print_outcome(_compare(options, made, service, stack).measure(rounds, with_memory=True))


def _compare(options, made, service, stack):
    repository = transfers.Repository(options.work_dir)
    transfers.run_pipeline(repository.path, ["tar", "-xzf", made.path])
    vdi_uuid = str(uuid.uuid4())
    os.rename(os.path.join(repository.path, "0.vhd"), os.path.join(repository.path, vdi_uuid + ".vhd"))
    # The shell packs a file under its own name.
    unpacked = os.path.join(repository.mount, "unpacked")
    os.mkdir(unpacked)
    os.link(os.path.join(repository.path, vdi_uuid + ".vhd"), os.path.join(unpacked, "0.vhd"))
    plugins = transfers.install_plugins(options, repository, stack)
    queued = [entry["id"] for entry in service.images]

    def way(upload, row):
        """upload(image_id) into the next image."""
        def do(watch):
            image_id = queued.pop()
            with watch(row):
                upload(image_id)
            record = _request(service, "GET", image_id)
            if record["status"] != "active":
                raise RuntimeError("%s left its image %s" % (row, record["status"]))
            watch.sizes[row] = record["size"]
            _request(service, "DELETE", image_id)
        return do

    def plugin_way(plugin):
        return way(lambda image_id: plugin.call(
            "upload_vhd2", vdi_uuids=[vdi_uuid], image_id=image_id, endpoint=service.url,
            extra_headers={"X-Auth-Token": service.token}, properties={}), plugin.row)

    def shell_way(row, *commands):
        return way(lambda image_id: transfers.run_pipeline(unpacked, *commands, transfers.curl(
            service.token, "-H", "Content-Type: application/octet-stream", "-T", "-",
            "%s/v2/images/%s/file" % (service.url, image_id))), row)

    *ours, reference = plugins
    ways = [plugin_way(plugin) for plugin in plugins]
    ways.append(shell_way(GZIP, ["tar", "-cz", "0.vhd"]))
    ways.append(shell_way(PIGZ, ["tar", "-c", "0.vhd"], ["pigz"]))
    return Comparison(
        "%s of a VHD of %.0f MB" % (NAME, made.vhd_bytes / 1e6), ways, reference.row,
        targets=[target for plugin in ours for target in (
            RatioTarget(plugin.row, reference.row, WALL_LIMIT), RatioTarget(plugin.row, PIGZ, WALL_LIMIT_TO_PIGZ),
            SizeTarget(plugin.row, GZIP, SIZE_LIMIT), MemoryTarget(plugin.row, transfers.MEMORY_LIMIT_MIB))],
        notes=list(transfers.NOTES) + transfers.list_digest_notes(options.pythons))


def _request(service, method, image_id):
    """The image's record; None for a DELETE."""
    request = urllib.request.Request("%s/v2/images/%s" % (service.url, image_id), method=method,
                                     headers={"X-Auth-Token": service.token})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=REQUEST_DEADLINE_S) as answer:
        return json.loads(answer.read().decode("utf-8") or "null")
