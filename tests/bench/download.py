# SPDX-License-Identifier: Apache-2.0
"""An image into an SR: our plug-in, os-xenapi's, and what a shell does; from one server, into one directory."""

import contextlib
import os
import pickle
import shutil
import subprocess
import uuid

from tests.bench import hosts
from tests.bench import image
from tests.bench.comparison import Comparison, MemoryTarget, RatioTarget
from tests.harness.image_service_process import ImageServiceProcess

NAME = "download"
ROUNDS = 5
TOOLS = ("curl", "gzip", "pigz", "tar", "sync")
PYTHONS = ("3.12", "2.7")
SHELL_DEADLINE_S = 600

OURS = "ours, Python %s (syncs)"
OS_XENAPI = "os-xenapi 0.3.4, Python 2.7"
TAR = "curl | tar -xz"
PIGZ = "curl | pigz -dc | tar -x"
SYNCED = "%s, then sync"

WALL_LIMIT = 0.60
MEMORY_LIMIT_MIB = 64


def run(options, report):
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if not hosts.has_os_xenapi(options.pythons):
        missing.append("os-xenapi and its Python %s" % hosts.OS_XENAPI_PYTHON)
    if missing:
        report.print_line("\n%s: LEFT OUT, needs %s" % (NAME, ", ".join(missing)))
        return
    made = image.prepare(options.work_dir, options.data_mib)
    versions = [version for version in PYTHONS if version in options.pythons]
    with contextlib.ExitStack() as stack:
        service = stack.enter_context(ImageServiceProcess("--image", made.path))
        target = _Target(os.path.join(options.work_dir, "sr-mount"), made.vhd_bytes)
        image_id = service.images[0]["id"]
        url = "%s/v2/images/%s/file" % (service.url, image_id)
        curl = ["curl", "-sSf", "--noproxy", "*", "-H", "X-Auth-Token: %s" % service.token, url]

        def call(dom0, sr_path):
            arguments = {"image_id": image_id, "endpoint": service.url, "uuid_stack": [str(uuid.uuid4())], "sr_path": sr_path,
                         "extra_headers": {"X-Auth-Token": service.token}, "api_version": 2}
            # Callers pickle like this; both plug-ins read it.
            text = pickle.dumps({"args": (), "kwargs": arguments}, protocol=0).decode("ascii")
            dom0.call_plugin("glance.py", "download_vhd2", "OpaqueRef:bench", {"params": text})

        ways = []
        for version in versions:
            dom0 = stack.enter_context(hosts.make_dom0(options.pythons[version], target.mount))
            dom0.install_plugins()
            ways.append(_ours(OURS % version, target, lambda dom0=dom0: call(dom0, "/var/run/sr-mount/" + target.sr_uuid)))
        reference = stack.enter_context(hosts.make_dom0(options.pythons[hosts.OS_XENAPI_PYTHON], target.mount))
        hosts.add_os_xenapi(reference, options.pythons)
        ways += [
            _theirs(OS_XENAPI, target, lambda: call(reference, target.path)),
            _theirs(TAR, target, lambda: _run_pipeline(target.path, curl, ["tar", "-xz"])),
            _theirs(PIGZ, target, lambda: _run_pipeline(target.path, curl, ["pigz", "-dc"], ["tar", "-x"])),
        ]
        targets = [RatioTarget(OURS % version, OS_XENAPI, WALL_LIMIT) for version in versions]
        targets += [MemoryTarget(OURS % version, MEMORY_LIMIT_MIB) for version in versions]
        title = "%s of a VHD of %.0f MB, %.0f MB as .tgz" % (
            NAME, made.vhd_bytes / 1e6, os.path.getsize(made.path) / 1e6)
        comparison = Comparison(title, ways, OS_XENAPI, targets, notes=[
            "times: wall time in units of os-xenapi's, run by run. CPU: user and system, all processes.",
            "peak MiB: of the largest process; together: of all at one moment. Ours includes the vhd-util stand-in, a Python.",
            "Ours has the disk's data and names on stable storage at its end; the others leave them in the page cache.",
            "Ours checks the VHD and finds holes; os-xenapi and ours compare a digest; the shell does neither.",
        ] + ["Python %s computes digests without OpenSSL here, which takes longer and holds other threads up; a dom0's has it."
             % version for version in versions if not hosts.has_openssl_hashes(options.pythons[version])])
        report.print_outcome(comparison.measure(options.rounds or ROUNDS, with_memory=True))


class _Target(object):
    """The directory that stands for an SR, empty at the beginning of each run; `mount` is shared by all hosts."""

    def __init__(self, mount, vhd_bytes):
        self.mount = mount
        self.sr_uuid = str(uuid.uuid4())
        self.path = os.path.join(mount, self.sr_uuid)
        self._vhd_bytes = vhd_bytes
        shutil.rmtree(mount, ignore_errors=True)
        os.makedirs(mount)

    @contextlib.contextmanager
    def fresh(self):
        os.mkdir(self.path)
        try:
            yield
            sizes = [os.path.getsize(path) for path in self.list_files()]
            if sizes != [self._vhd_bytes]:
                raise RuntimeError("the SR holds files of %r bytes instead of one of %d" % (sizes, self._vhd_bytes))
        finally:
            shutil.rmtree(self.path)

    def list_files(self):
        return [os.path.join(self.path, name) for name in os.listdir(self.path)]


def _ours(row, target, download):
    def way(watch):
        with target.fresh():
            with watch(row):
                download()
    return way


def _theirs(row, target, download):
    def way(watch):
        with target.fresh():
            with watch(row):
                download()
            with watch(SYNCED % row, after=row):
                subprocess.run(["sync"] + target.list_files(), check=True, timeout=SHELL_DEADLINE_S)
    return way


def _run_pipeline(directory, *commands):
    """commands[0] | commands[1] | ... in `directory`, without a shell between them."""
    processes = []
    for command in commands:
        last = processes[-1].stdout if processes else subprocess.DEVNULL
        processes.append(subprocess.Popen(command, cwd=directory, stdin=last,
                                          stdout=None if command is commands[-1] else subprocess.PIPE))
        if len(processes) > 1:
            last.close()
    statuses = [process.wait(SHELL_DEADLINE_S) for process in processes]
    if any(statuses):
        raise RuntimeError("exit statuses %r of %s" % (statuses, " | ".join(command[0] for command in commands)))
