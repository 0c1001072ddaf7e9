# SPDX-License-Identifier: Apache-2.0
"""disk_management and vm_management of os-xenapi's client: copies, migrations, partitions, boot ISOs."""

import uuid

import pytest

from tests.calls import sr_disks
from tests.calls.boot import iso_host
from tests.calls.devices.disk_host import DiskHost
from tests.compat.client import ClientFailed


@pytest.fixture
def sr(compat_pool):
    return compat_pool.srs[0]


def sr_path(sr):
    return "/var/run/sr-mount/" + sr.uuid


def make_stack():
    return [str(uuid.uuid4()) for _ in range(16)]


def test_a_copy(client, sr):
    uuids = sr_disks.write_chain(sr.path, 2)
    stack = make_stack()
    found = client.call("disk_management.safe_copy_vdis", sr_path(sr), uuids, stack)
    assert list(found) == ["root"] and found["root"]["uuid"] in stack and found["root"]["uuid"] in sr.scan()
    assert sr_disks.guest_digest(sr.path, found["root"]["uuid"]) == sr_disks.guest_digest(sr.path, uuids[0])


@pytest.mark.needs("rsync")
def test_a_migration_within_the_host(client, compat_pool, sr):
    """Parents first, the leaf last, then VDIs of them; nova passes the netloc of the destination's URL."""
    host = compat_pool.hosts[0]
    uuids = sr_disks.write_chain(sr.path, 2)
    digest = sr_disks.guest_digest(sr.path, uuids[0])
    label = str(uuid.uuid4())
    for number in (1, 0):
        assert client.call("vm_management.transfer_vhd", label, host.ip, uuids[number], sr_path(sr), number) is None
    found = client.call("vm_management.receive_vhd", label, sr_path(sr), make_stack())
    assert found["root"]["uuid"] in sr.scan()
    assert sr_disks.guest_digest(sr.path, found["root"]["uuid"]) == digest
    with pytest.raises(ClientFailed) as caught:
        client.call("vm_management.receive_vhd", label, sr_path(sr), make_stack())
    assert caught.value.details[:2] == ["XENAPI_PLUGIN_FAILURE", "move_vhds_into_sr"]


@pytest.mark.needs("sfdisk", "mkfs.ext3")
def test_a_disk_with_a_file_system(client, compat_pool):
    disk_host = DiskHost(compat_pool)
    device, vbd = disk_host.plug()
    try:
        assert client.call("disk_management.wait_for_dev", "/dev/" + device, 5) == "/dev/" + device
        assert client.call("disk_management.wait_for_dev", "/dev/nobody", 1) == ""
        assert client.call("disk_management.make_partition", device, "2048", "-") is None
        assert client.call("disk_management.mkfs", device, "1", "ext3", "data") is None
        assert disk_host.read_device(device)[2048 * 512 + 1080:2048 * 512 + 1082] == b"\x53\xef"
        with pytest.raises(ClientFailed):
            client.call("disk_management.mkfs", device, "1", "ntfs", None)
    finally:
        disk_host.api.VBD.unplug(vbd)


def inject(client, sr, vdi_uuid, maker):
    return client.call("disk_management.inject_ipxe_config", sr_path(sr), vdi_uuid, "http://10.0.0.5/menu.ipxe", "10.0.0.9",
                       "255.255.255.0", "10.0.0.1", "10.0.0.2", maker)


@pytest.mark.needs("genisoimage", "xorrisofs")
def test_a_boot_iso(client, compat_pool, sr, tmp_path):
    name, path = iso_host.IsoHost(compat_pool).add(iso_host.make_iso(str(tmp_path)))
    assert inject(client, sr, name, "genisoimage") is None
    assert b"set net0/ip 10.0.0.9" in iso_host.read_iso(path)["netcfg.ipxe"]


def test_a_boot_iso_without_the_program_for_it(client, compat_pool, sr):
    """nova boots all the same, by the name of the class."""
    environment = compat_pool.hosts[0].dom0.plugin_environment
    environment["PATH"], path = compat_pool.hosts[0].dom0.bin_dir, environment["PATH"]
    try:
        with pytest.raises(ClientFailed) as caught:
            inject(client, sr, str(uuid.uuid4()), "mkisofs")
    finally:
        environment["PATH"] = path
    assert caught.value.details[2] == "CommandNotFound"
