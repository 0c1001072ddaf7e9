# SPDX-License-Identifier: Apache-2.0
"""An image into an SR: our plug-in, os-xenapi's, and a shell's commands; from one server, into one directory."""

import contextlib
import os
import uuid

from tests.bench import image
from tests.bench import transfers
from tests.bench.comparison import Comparison, MemoryTarget, RatioTarget
from tests.harness.image_service.service_process import ImageServiceProcess

NAME = "download"
ROUNDS = 5
WALL_LIMIT = 0.60

OURS_SYNCED = "%s (syncs)"
SYNCED = "%s, then sync"
GZIP = "curl | tar -xz"
PIGZ = "curl | pigz -dc | tar -x"


def run(options, report):
    missing = transfers.list_missing(options)
    if missing:
        report.print_line("\n%s: LEFT OUT, needs %s" % (NAME, ", ".join(missing)))
        return
    made = image.prepare(options.work_dir, options.data_mib)
    with contextlib.ExitStack() as stack:
        service = stack.enter_context(ImageServiceProcess("--image", made.path))
        comparison = _compare(options, made, service, stack)
        report.print_outcome(comparison.measure(options.rounds or ROUNDS, with_memory=True))


def _compare(options, made, service, stack):
    repository = transfers.Repository(options.work_dir)
    plugins = transfers.install_plugins(options, repository, stack)
    image_id = service.images[0]["id"]
    curl = transfers.curl(service.token, "%s/v2/images/%s/file" % (service.url, image_id))

    def call(plugin):
        plugin.call("download_vhd2", image_id=image_id, endpoint=service.url, uuid_stack=[str(uuid.uuid4())],
                    extra_headers={"X-Auth-Token": service.token})

    def way(download, row, synced_row=None):
        """download() into the empty SR; synced_row: the row that also puts the files on stable storage."""
        def do(watch):
            with watch(row):
                download()
            if synced_row:
                with watch(synced_row, after=row):
                    transfers.sync(repository.list_files())
            sizes = [os.path.getsize(path) for path in repository.list_files()]
            repository.empty()
            if sizes != [made.vhd_bytes]:
                raise RuntimeError("%s left files of %r bytes instead of one of %d" % (row, sizes, made.vhd_bytes))
        return do

    def shell_way(row, *commands):
        return way(lambda: transfers.run_pipeline(repository.path, curl, *commands), row, SYNCED % row)

    *ours, reference = plugins
    ways = [way(lambda plugin=plugin: call(plugin), OURS_SYNCED % plugin.row) for plugin in ours]
    ways.append(way(lambda: call(reference), reference.row, SYNCED % reference.row))
    ways.append(shell_way(GZIP, ["tar", "-xz"]))
    ways.append(shell_way(PIGZ, ["pigz", "-dc"], ["tar", "-x"]))

    rows = [OURS_SYNCED % plugin.row for plugin in ours]
    return Comparison(
        "%s of a VHD of %.0f MB, %.0f MB as .tgz" % (NAME, made.vhd_bytes / 1e6, os.path.getsize(made.path) / 1e6),
        ways, reference.row,
        targets=[RatioTarget(row, reference.row, WALL_LIMIT) for row in rows]
        + [MemoryTarget(row, transfers.MEMORY_LIMIT_MIB) for row in rows],
        notes=list(transfers.NOTES) + [
            "Ours has the disk's data and names on stable storage at its end; the others leave them in the page cache.",
            "Ours checks the VHD and finds holes; os-xenapi and ours compare a digest; the shell does neither.",
        ] + transfers.list_digest_notes(options.pythons))
