# SPDX-License-Identifier: Apache-2.0
"""Plug-ins that nobody here wrote: those of os-xenapi 0.3.4, unmodified, under Python 2.7."""

import base64
import json
import os
import sys
import uuid
import zlib

import pytest
import XenAPI

from tests.calls import calls
from tests.harness.pool import Pool
from tests.harness.vhd import vhd_reader
from tests.harness.vhd import vhd_writer

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PLUGINS = os.path.join(CHECKOUT, ".venvs", "os-xenapi", "os_xenapi", "dom0", "etc", "xapi.d", "plugins")
PYTHON27 = os.path.join(CHECKOUT, ".venvs", "2.7", "bin", "python")

pytestmark = pytest.mark.skipif(not os.path.isdir(PLUGINS) or not os.path.exists(PYTHON27),
                                reason="needs .venvs/os-xenapi and .venvs/2.7, which `make test` makes")


@pytest.fixture(scope="module")
def pool():
    with Pool(python=PYTHON27, plugins=False, plugin_dirs=[PLUGINS]) as pool:
        yield pool


def call_pickled(pool, plugin, function, *args, **kwargs):
    return calls.decode_legacy(pool.call(plugin, function, calls.encode_legacy(kwargs, args)))


def details_of(call, *arguments):
    with pytest.raises(XenAPI.Failure) as caught:
        call(*arguments)
    return caught.value.details


def test_version(pool):
    assert call_pickled(pool, "dom0_plugin_version.py", "get_version") == "2.1"


def test_extra_argument_of_the_client_is_no_hindrance(pool):
    assert calls.call_legacy(pool, "dom0_plugin_version.py", "get_version") == "2.1"


def test_bandwidth(pool):
    assert isinstance(call_pickled(pool, "bandwidth.py", "fetch_all_bandwidth"), dict)


def test_error_in_a_function_names_its_class(pool):
    assert details_of(pool.call, "console.py", "get_console_log", {"dom_id": "x"}) == [
        "XENAPI_PLUGIN_FAILURE", "get_console_log", "PluginError", "Invalid dom_id"]


def test_unknown_function(pool):
    assert details_of(pool.call, "console.py", "nope") == ["UNKNOWN_XENAPI_PLUGIN_FUNCTION", "nope"]


def test_two_answers_of_xenhost_are_read_as_one(pool):
    pool.hosts[0].dom0.add_program("lspci", "#!/bin/sh\nprintf 'Slot:\\t00:00.0\\nArgs:\\t%s\\n' \"$*\"\n")
    assert call_pickled(pool, "xenhost.py", "get_pci_device_details") == "Slot:\t00:00.0\nArgs:\t-vmmnk\n"


def test_programs_of_the_host_come_before_the_machines(pool):
    pool.hosts[0].dom0.add_program("ip", "#!/bin/sh\ncat; echo \"$0 $*\" >&2; exit 2\n")
    reply = json.loads(pool.call("netwrap.py", "run_command", {"cmd": '["ip", "link"]', "cmd_input": '"input"'}))
    assert reply == {"returncode": 2, "out": "input", "err": "%s/ip link\n" % pool.hosts[0].dom0.bin_dir}


def test_safe_copy_of_a_chain_in_the_sr(pool):
    sr = pool.srs[0]
    parent, leaf = str(uuid.uuid4()), str(uuid.uuid4())
    paths = {name: os.path.join(sr.path, name + ".vhd") for name in (parent, leaf)}
    vhd_writer.write_dynamic(paths[parent], b"parent".ljust(512), 8 << 20, hidden=1)
    vhd_writer.write_differencing(paths[leaf], paths[parent], [(4 << 20, b"leaf".ljust(512))])
    assert len(sr.scan()) == 2
    stack = [str(uuid.uuid4()) for _ in range(4)]
    result = call_pickled(pool, "workarounds.py", "safe_copy_vdis", sr_path=sr.path, vdi_uuids=[leaf, parent], uuid_stack=stack)
    copy = result["root"]["uuid"]
    assert copy in stack
    assert {copy, leaf, parent} < set(sr.scan())
    assert vhd_reader.digest(os.path.join(sr.path, copy + ".vhd")) == vhd_reader.digest(paths[leaf])


# Those that know only the real paths need a mount namespace.

@pytest.fixture
def namespace_pool():
    try:
        with Pool(python=PYTHON27, plugins=False, plugin_dirs=[PLUGINS], has_namespace=True) as pool:
            yield pool
    except PermissionError as error:
        pytest.skip("not applicable: %s" % error)


def test_console_log_of_a_guest(namespace_pool):
    log = b"x" * 200000 + b"login: \x1b[0m\xff"
    with open(namespace_pool.hosts[0].dom0.locate("/var/log/xen/guest/console.5"), "wb") as console:
        console.write(log)
    reply = namespace_pool.call("console.py", "get_console_log", {"dom_id": "5"})
    assert zlib.decompress(base64.b64decode(reply)) == log[-102400:]


def test_configuration_of_the_host(namespace_pool):
    with open(namespace_pool.hosts[0].dom0.locate("/etc/xapi.conf"), "w") as configuration:
        configuration.write("relax-xsm-sr-check = true\n")
    assert namespace_pool.call("config_file.py", "get_val", {"key": "relax-xsm-sr-check"}) == "true"


def test_kernel_is_copied_through_a_vbd_that_the_plugin_plugs(namespace_pool):
    sr = namespace_pool.srs[0]
    name = str(uuid.uuid4())
    content = os.urandom(1 << 20)
    vhd_writer.write_dynamic(os.path.join(sr.path, name + ".vhd"), content, 4 << 20)
    sr.scan()
    session = namespace_pool.login()
    vdi = session.xenapi.VDI.get_by_uuid(name)
    path = namespace_pool.call("kernel.py", "copy_vdi", {"vdi-ref": vdi, "image-size": str(len(content))})
    assert path == "/boot/guest/" + name
    with open(namespace_pool.hosts[0].dom0.locate(path), "rb") as kernel:
        assert kernel.read() == content
    assert session.xenapi.VBD.get_all() == []
    assert [namespace_pool.faults.calls["VBD." + verb] for verb in ("create", "plug", "unplug", "destroy")] == [1, 1, 1, 1]


def test_plugin_of_python_2_fails_on_python_3_as_it_does_there(pool):
    with Pool(python=sys.executable, plugins=False, plugin_dirs=[PLUGINS]) as newer:
        details = details_of(newer.call, "glance.py", "download_vhd2", {"params": ""})
        assert details[:3] == ["XENAPI_PLUGIN_FAILURE", "non-zero exit", ""]
        assert "No module named 'md5'" in details[3]
