# SPDX-License-Identifier: Apache-2.0
"""A VHD to another host: our plug-in, os-xenapi's, and a shell's commands; over one sshd, each in a host's mount namespace."""

import contextlib
import os
import shutil
import subprocess
import uuid

from tests.bench import hosts
from tests.bench import image
from tests.bench import transfers
from tests.bench.comparison import Comparison, MemoryTarget, RatioTarget
from tests.calls import calls
from tests.harness.dom0.ssh_daemon import SshDaemon
from tests.harness.pool import Pool

NAME = "migration"
ROUNDS = 5
WALL_LIMIT = 1.05

PLAIN = "rsync -a -e ssh"
TOOLS = ("rsync", "ssh", "ssh-keygen", "tar")
_DEADLINE_S = 900


def run(options, report):
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if os.geteuid() != 0:
        missing.append("root")
    if not hosts.has_os_xenapi(options.pythons):
        missing.append("os-xenapi and its Python %s" % hosts.OS_XENAPI_PYTHON)
    if missing:
        report.print_line("\n%s: LEFT OUT, needs %s" % (NAME, ", ".join(missing)))
        return
    made = image.prepare(options.work_dir, options.data_mib)
    with contextlib.ExitStack() as stack:
        report.print_outcome(_compare(options, made, stack).measure(options.rounds or ROUNDS, with_memory=True))


def _compare(options, made, stack):
    versions = [version for version in transfers.PYTHONS if version in options.pythons]
    pythons = [options.pythons[version] for version in versions]
    # Ours on each Python, os-xenapi, and the host that they all send to.
    pool = stack.enter_context(Pool(hosts=len(pythons) + 2, python=pythons + [options.pythons[hosts.OS_XENAPI_PYTHON]] * 2,
                                    has_namespace=True))
    *sources, target = pool.hosts
    shutil.rmtree(sources[-1].plugin_dir)
    os.mkdir(sources[-1].plugin_dir)
    hosts.add_os_xenapi(sources[-1].dom0, options.pythons)
    daemon = stack.enter_context(SshDaemon(target))
    vdi_uuid = _put_disk(made, pool)
    for source in sources:
        with open(source.dom0.locate("/root/.ssh/config"), "w") as config:
            config.write("Host *\nPort %d\nBatchMode yes\nStrictHostKeyChecking accept-new\n" % daemon.port)
        with open(source.dom0.locate("/etc/dom0-plugins.conf"), "w") as settings:
            settings.write("[transfer]\nnice = 0\n")
        daemon.admit(source)
        source.dom0.open_namespace()
    session = pool.login()
    images = target.dom0.locate("/images")

    def way(row, send):
        """send(label) into the empty /images of the target."""
        def do(watch):
            label = str(uuid.uuid4())
            with watch(row):
                send(label)
            path = os.path.join(images, "instance" + label, "0.vhd")
            if os.path.getsize(path) != made.vhd_bytes:
                raise RuntimeError("%s left %d bytes instead of %d" % (row, os.path.getsize(path), made.vhd_bytes))
            shutil.rmtree(os.path.dirname(path))
        return do

    def plugin_way(row, source, sr):
        def send(label):
            source.dom0.call_plugin("migration.py", "transfer_vhd", session._session, calls.encode_legacy(
                {}, (label, target.ip, vdi_uuid, "/run/sr-mount/" + sr.uuid, 0)))
        return way(row, send)

    def send_plainly(label):
        directory = sources[0].dom0.locate("/tmp/" + label)
        os.mkdir(directory)
        os.link(os.path.join(pool.srs[0].path, vdi_uuid + ".vhd"), os.path.join(directory, "0.vhd"))
        subprocess.run(["rsync", "-a", "-e", "ssh", directory + "/", "root@%s:/images/instance%s/" % (target.ip, label)],
                       check=True, start_new_session=True, stdin=subprocess.DEVNULL, timeout=_DEADLINE_S,
                       preexec_fn=sources[0].dom0.processes.namespace.enter)
        shutil.rmtree(directory)

    rows = [transfers.OURS % version for version in versions]
    ways = [plugin_way(row, source, sr) for row, source, sr in zip(rows + [transfers.OS_XENAPI], sources, pool.srs)]
    return Comparison(
        "%s of a VHD of %.0f MB" % (NAME, made.vhd_bytes / 1e6), ways + [way(PLAIN, send_plainly)], PLAIN,
        targets=[target for row in rows for target in (
            RatioTarget(row, PLAIN, WALL_LIMIT), MemoryTarget(row, transfers.MEMORY_LIMIT_MIB))],
        notes=["times: wall time in units of plain rsync's, run by run. CPU: of the sending side alone.",
               "peak MiB: of the largest process; together: of all at one moment, on the sending side.",
               "Ours holds the chain still, keeps holes, and prefers the cipher that costs the least; the others do not."])


def _put_disk(made, pool):
    """The VHD in the SR of each host, one file with a name in each; its uuid."""
    vdi_uuid = str(uuid.uuid4())
    transfers.run_pipeline(pool.srs[0].path, ["tar", "-xzf", made.path])
    first = os.path.join(pool.srs[0].path, vdi_uuid + ".vhd")
    os.rename(os.path.join(pool.srs[0].path, "0.vhd"), first)
    for sr in pool.srs[1:-1]:
        os.link(first, os.path.join(sr.path, vdi_uuid + ".vhd"))
    return vdi_uuid
