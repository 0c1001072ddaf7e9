# SPDX-License-Identifier: Apache-2.0
"""Block devices: of a guest that looks at its disks, and of a dom0 whose plug-ins are in a mount namespace."""

import contextlib
import glob
import os
import stat

import pytest

from tests.harness.pool import Pool
from tests.harness.vhd import vhd_reader

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="not applicable: loop devices need root")
SIZE = 8 << 20
NULL = {"bootable": False, "empty": False, "other_config": {}, "qos_algorithm_type": "", "qos_algorithm_params": {},
        "userdevice": "autodetect", "type": "Disk"}


@contextlib.contextmanager
def plugged(api, vm, vdi):
    """The device's name."""
    vbd = api.VBD.create(dict(NULL, VM=vm, VDI=vdi, mode="RW"))
    api.VBD.plug(vbd)
    try:
        yield api.VBD.get_device(vbd)
    finally:
        api.VBD.unplug(vbd)
        api.VBD.destroy(vbd)


def list_loops(directory):
    """Files below a directory that are loop devices of this machine."""
    found = []
    for path in glob.glob("/sys/block/loop*/loop/backing_file"):
        with contextlib.suppress(OSError), open(path) as source:
            found += [line for line in source.read().splitlines() if line.startswith(directory)]
    return found


def add_vdi(api, sr):
    return api.VDI.create({"SR": sr, "virtual_size": str(SIZE), "type": "user", "sharable": False, "read_only": False,
                           "other_config": {}})


def test_a_guest_sees_its_disk(tmp_path):
    with Pool(plugins=False) as pool:
        api = pool.login().xenapi
        vm, vdi = pool.add_vm("guest"), add_vdi(api, pool.srs[0].ref)
        pool.show_devices(vm, str(tmp_path))
        with plugged(api, vm, vdi) as device:
            assert stat.S_ISBLK(os.stat(str(tmp_path / device)).st_mode)
            with open(str(tmp_path / device), "r+b") as disk:
                disk.seek(4096)
                disk.write(b"written by the guest")
            assert len(list_loops(str(tmp_path))) == 1
        assert os.listdir(str(tmp_path)) == list_loops(str(tmp_path)) == []
        with vhd_reader.open_chain(os.path.join(pool.srs[0].path, api.VDI.get_uuid(vdi) + ".vhd")) as chain:
            assert bytes(chain.read(4096, 20)) == b"written by the guest"


def test_a_disk_of_dom0_in_a_namespace():
    with Pool(plugins=False, has_namespace=True) as pool:
        api = pool.login().xenapi
        host = pool.hosts[0]
        with plugged(api, host.control_domain_ref, add_vdi(api, pool.srs[0].ref)) as device:
            assert stat.S_ISBLK(os.stat(host.dom0.locate("/dev/" + device)).st_mode)
        assert list_loops(pool.root) == []


def test_an_sr_of_isos(tmp_path):
    with Pool(plugins=False) as pool:
        api = pool.login().xenapi
        sr = pool.add_iso_sr()
        assert api.SR.get_content_type(sr) == "iso"
        vm, vdi = pool.add_vm("guest"), add_vdi(api, sr)
        path = os.path.join(pool.srs[0].path, "iso", api.VDI.get_uuid(vdi) + ".img")
        pool.show_devices(vm, str(tmp_path))
        with plugged(api, vm, vdi) as device, open(str(tmp_path / device), "r+b") as disk:
            disk.write(b"CD001")
        with open(path, "rb") as image:
            assert image.read(5) == b"CD001"
        # Nothing of it is a VDI of the SR around it.
        assert pool.srs[0].scan() == {}
        api.SR.scan(sr)
        assert api.SR.get_VDIs(sr) == [vdi]
        api.VDI.destroy(vdi)
        assert not os.path.exists(path)
