# SPDX-License-Identifier: Apache-2.0
"""A kernel from a disk into /boot/guest: our plug-in, XAPI's part of it simulated, and dd alone, both until it is synced."""

import contextlib
import filecmp
import os
import shutil
import subprocess
import uuid

from tests.bench.comparison import Comparison, MemoryTarget, RatioTarget
from tests.harness.pool import Pool

NAME = "kernel"
ROUNDS = 5
PYTHONS = ("2.7", "3.6", "3.12")
SIZE_MIB = 256
WALL_LIMIT = 1.2
MEMORY_LIMIT_MIB = 32
OURS = "ours, copy_vdi, Python %s"
DD = "dd bs=1M conv=fsync"
MIB = 1 << 20

_DEADLINE_S = 300


def run(options, report):
    if not shutil.which("dd"):
        report.print_line("\n%s: LEFT OUT, needs dd" % NAME)
        return
    size_mib = min(SIZE_MIB, options.data_mib)
    directory = os.path.join(options.work_dir, "kernel")
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(os.path.join(directory, "guest"))
    try:
        with contextlib.ExitStack() as stack:
            report.print_outcome(_compare(options, directory, size_mib, stack).measure(options.rounds or ROUNDS, with_memory=True))
    finally:
        shutil.rmtree(directory)


def _compare(options, directory, size_mib, stack):
    disk = os.path.join(directory, "disk")
    with open(disk, "wb") as target:
        for _ in range(size_mib):
            target.write(os.urandom(MIB))
    rows = [(version, OURS % version) for version in PYTHONS if version in options.pythons]
    ways = [_plugin_way(stack.enter_context(Pool(python=options.pythons[version])), row, disk, directory) for version, row in rows]
    return Comparison(
        "%s of %d MiB" % (NAME, size_mib), [_dd_way(disk, directory)] + ways, DD,
        targets=[target for _, row in rows for target in (RatioTarget(row, DD, WALL_LIMIT), MemoryTarget(row, MEMORY_LIMIT_MIB))],
        notes=["ours: with the start of the interpreter, and plug and unplug by a simulated XAPI, which here take no time"])


def _dd_way(disk, directory):
    path = os.path.join(directory, "guest", "dd")

    def way(watch):
        with watch(DD):
            subprocess.run(["dd", "if=" + disk, "of=" + path, "bs=1M", "conv=fsync", "status=none"], check=True,
                           timeout=_DEADLINE_S)
        os.unlink(path)
    return way


def _plugin_way(pool, row, disk, directory):
    dom0 = pool.hosts[0].dom0
    os.rmdir(dom0.locate("/boot/guest"))
    os.symlink(os.path.join(directory, "guest"), dom0.locate("/boot/guest"))
    vdi_uuid = str(uuid.uuid4())
    os.symlink(disk, os.path.join(pool.srs[0].path, vdi_uuid + ".raw"))
    pool.srs[0].scan()
    session = pool.login()
    arguments = {"vdi-ref": pool.database.ref_by_uuid("VDI", vdi_uuid), "image-size": str(os.path.getsize(disk))}
    path = os.path.join(directory, "guest", vdi_uuid)

    def way(watch):
        with watch(row):
            dom0.call_plugin("kernel.py", "copy_vdi", session._session, arguments)
        if not filecmp.cmp(disk, path, shallow=False):
            raise RuntimeError("%s: the copy differs" % row)
        os.unlink(path)
    return way
