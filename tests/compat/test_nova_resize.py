# SPDX-License-Identifier: Apache-2.0
"""nova resizes servers to another pool: the disks go over a real ssh, by these plug-ins on both hosts."""

import contextlib

import pytest

from tests.compat import nova_site
from tests.compat.nova_compute import CONTEXT
from tests.harness.dom0.ssh_daemon import SshDaemon
from tests.harness.image_service.service import ImageService
from tests.harness.vhd import vhd_reader

GIB = 1 << 30
pytestmark = pytest.mark.needs("rsync", "ssh", "sshd")


class Pair(object):
    """Two Sites, with an sshd on the host of the second."""

    def __init__(self, source, target):
        self.source, self.target = source, target

    def send(self, server, flavor):
        server.call("migrate_disk_and_power_off", self.target.pool.hosts[0].ip, {"flavor": flavor}, server.interfaces)

    def finish(self, server, flavor):
        """The second half, by the other nova-compute; its Server."""
        moved = self.target.compute.adopt(server, flavor)
        self.target.compute.call("finish_migration", CONTEXT, None, moved.instance, {}, moved.interfaces,
                                 {"image": {"id": server.image.id}}, True, block_device_info=None, power_on=True)
        return moved

    @contextlib.contextmanager
    def nothing_left(self):
        # ssh remembers the host.
        with self.source.nothing_left(but=["pool 0 h0 /root/.ssh/known_hosts"]), self.target.nothing_left():
            yield


@pytest.fixture(scope="module", params=nova_site.PYTHONS)
def pair(request, nova_python, tmp_path_factory):
    directory = str(tmp_path_factory.mktemp("nova"))
    options = {"python": request.param, "python36_locale": True, "has_namespace": True}
    with contextlib.ExitStack() as stack:
        service = stack.enter_context(ImageService())
        source, target = (stack.enter_context(nova_site.open_site(service, directory, name=name, **options)) for name in ("a", "b"))
        daemon = stack.enter_context(SshDaemon(target.pool.hosts[0]))
        daemon.admit(source.pool.hosts[0])
        daemon.pose_as_standard(source.pool.hosts[0])
        source.pool.hosts[0].dom0.open_namespace()
        yield Pair(source, target)


def test_confirmed(pair):
    flavor = {"root_gb": 2, "memory_mb": 128}
    with pair.nothing_left():
        server = pair.source.compute.spawn(pair.source.images["chain-2"])
        pair.send(server, flavor)
        moved = pair.finish(server, flavor)
        vm = pair.target.vm(moved)
        assert (vm["power_state"], vm["memory_static_max"], len(vm["VIFs"])) == ("Running", 128 << 20, 1)
        assert pair.target.vdi(moved)["virtual_size"] == 2 * GIB
        assert pair.target.head_digest(moved) == pair.source.digests["chain-2"]
        server.compute.call("confirm_migration", CONTEXT, None, server.instance, server.interfaces)
        moved.destroy()


def test_a_server_with_an_ephemeral_disk(pair):
    flavor = {"root_gb": 1, "memory_mb": 128, "ephemeral_gb": 1}
    with pair.nothing_left():
        server = pair.source.compute.spawn(pair.source.images["chain-1"], flavor={"ephemeral_gb": 1})
        digest = vhd_reader.digest(pair.source.disk_path(server, "4"))
        pair.send(server, flavor)
        moved = pair.finish(server, flavor)
        assert vhd_reader.digest(pair.target.disk_path(moved, "4")) == digest
        assert pair.target.head_digest(moved) == pair.source.digests["chain-1"]
        server.compute.call("confirm_migration", CONTEXT, None, server.instance, server.interfaces)
        moved.destroy()


def test_reverted(pair):
    flavor = {"root_gb": 2, "memory_mb": 128}
    with pair.nothing_left():
        server = pair.source.compute.spawn(pair.source.images["chain-2"])
        pair.send(server, flavor)
        pair.finish(server, flavor).destroy()
        server.call("finish_revert_migration", server.interfaces, None)
        vm = pair.source.vm(server)
        assert (vm["power_state"], vm["memory_static_max"]) == ("Running", 64 << 20)
        assert pair.source.vdi(server)["virtual_size"] == GIB
        assert pair.source.head_digest(server) == pair.source.digests["chain-2"]
        server.destroy()
