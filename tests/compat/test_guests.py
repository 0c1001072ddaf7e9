# SPDX-License-Identifier: Apache-2.0
"""The calls of os-xenapi's client about guests: consoles, counters, kernels, agents."""

import base64
import json
import os
import uuid
import zlib

import pytest

from tests.calls.boot.kernel_host import KERNEL, KERNEL_BYTES, KernelHost
from tests.compat.client import Bytes, ClientFailed
from tests.harness.guests.guest_agent import KeyPair
from tests.harness.guests.guests import Guest


@pytest.fixture
def dom0(compat_pool):
    return compat_pool.hosts[0].dom0


def write(dom0, path, data):
    if os.path.islink(dom0.locate(path)):  # to this machine's
        os.unlink(dom0.locate(path))
    with open(dom0.locate(path), "wb") as target:
        target.write(data)


def test_a_console_log(client, dom0):
    log = b"x" * 200000 + b"login: \x1b[0m\xff"
    write(dom0, "/var/log/xen/guest/console.5", log)
    assert zlib.decompress(base64.b64decode(client.call("vm_management.get_console_log", "5"))) == log[-102400:]
    with pytest.raises(ClientFailed) as caught:
        client.call("vm_management.get_console_log", "6")
    assert caught.value.name == "Failure"


def test_counters_of_the_guests_interfaces(client, dom0):
    line = "%9s: %d 10 0 0 0 0 0 0 %d 20 0 0 0 0 0 0\n"
    write(dom0, "/proc/net/dev", ("Inter-| Receive | Transmit\n face |bytes |bytes\n" + "".join(
        line % values for values in [("vif7.0", 100, 200), ("vif7.1", 1, 2), ("vif12.0", 7, 8), ("eth0", 9, 9)])).encode("ascii"))
    counters = client.call("host_network.fetch_all_bandwidth")
    assert counters == {"7": {"0": {"bw_in": 200, "bw_out": 100}, "1": {"bw_in": 2, "bw_out": 1}},
                        "12": {"0": {"bw_in": 8, "bw_out": 7}}}
    # nova looks them up with texts of XAPI's.
    assert all(isinstance(key, Bytes) for key in counters)


def test_kernels(client, compat_pool):
    host = KernelHost(compat_pool)
    vdi_uuid, vdi_ref = host.add_disk()
    image_id, new_uuid = str(uuid.uuid4()), str(uuid.uuid4())
    # The client drops the replies of these three.
    assert client.call("disk_management.copy_vdi", vdi_ref, KERNEL_BYTES, image_id) is None
    assert host.read_kernel(vdi_uuid) == KERNEL
    assert client.call("disk_management.create_kernel_ramdisk", image_id, new_uuid) is None
    assert host.read_kernel(new_uuid) == KERNEL
    path = "/boot/guest/" + vdi_uuid
    assert client.call("disk_management.remove_kernel_ramdisk", path, "/boot/guest/" + new_uuid) is None
    assert client.call("disk_management.remove_kernel_ramdisk", kernel_file=path) is None
    assert not {vdi_uuid, new_uuid} & set(os.listdir(host.directory))
    assert client.method("call_plugin", "kernel.py", "create_kernel_ramdisk", {
        "cached-image": str(uuid.uuid4()), "new-image-uuid": new_uuid}) == ""
    host.check_nothing_plugged()


def ask(client, function, *args, **kwargs):
    return json.loads(client.call("host_agent." + function, str(uuid.uuid4()), "21", "20", *args, **kwargs))


def test_the_agent(client, compat_pool):
    with Guest(compat_pool.hosts[0].xenstore, 21) as guest:
        assert ask(client, "version") == {"returncode": "0", "message": guest.agent.version}
        pair = KeyPair()
        answer = ask(client, "key_init", pub=str(pair.public))
        assert answer["returncode"] == "D0"
        encrypted = pair.agree(int(answer["message"])).encrypt("secret\n")
        assert ask(client, "password", enc_pass=encrypted)["returncode"] == "0"
        assert guest.agent.password == "secret\n"
        path, content = (base64.b64encode(data).decode("ascii") for data in (b"/root/key", b"ssh-rsa AAAA"))
        assert ask(client, "inject_file", b64_path=path, b64_contents=content)["returncode"] == "0"
        assert guest.agent.files == {b"/root/key": b"ssh-rsa AAAA"}
        assert ask(client, "reset_network")["returncode"] == "0"
        assert ask(client, "agent_update", url="http://10.0.0.5/agent.tar.gz", md5sum="0" * 32)["returncode"] == "0"
        assert (guest.agent.network_resets, guest.agent.updates) == (1, [("http://10.0.0.5/agent.tar.gz", "0" * 32)])
    with pytest.raises(ClientFailed) as caught:
        ask(client, "version")
    # nova waits for the guest's new domain when it reads this.
    assert "REBOOT:" in caught.value.details[-1].splitlines()[-1]
