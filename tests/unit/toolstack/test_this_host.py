# SPDX-License-Identifier: Apache-2.0
"""The host's uuid, from /etc/xensource-inventory; what XAPI is asked is tested on the simulated host."""

from __future__ import absolute_import, division

import pytest

from dom0_lib import errors
from dom0_lib.toolstack import this_host
from tests.unit.dom0_tree import Tree

PATH = '/etc/xensource-inventory'
UUID, OTHER = '7a5c0f5e-5d0a-4f5c-9d0e-2f6b1c3d4e5f', '11111111-2222-4333-8444-555555555555'


@pytest.fixture
def tree(tmpdir, monkeypatch):
    tree = Tree(tmpdir)
    monkeypatch.setenv('DOM0_ROOT', tree.root)
    return tree


@pytest.mark.parametrize('text', [
    "INSTALLATION_UUID='%s'\n", 'INSTALLATION_UUID="%s"\n', 'INSTALLATION_UUID=%s', " INSTALLATION_UUID = '%s' \r\n",
    "CONTROL_DOMAIN_UUID='" + OTHER + "'\nINSTALLATION_UUID='%s'\n", "INSTALLATION_UUID_2='" + OTHER + "'\nINSTALLATION_UUID='%s'\n",
    "INSTALLATION_UUID=\nINSTALLATION_UUID='%s'\n",
])
def test_the_uuid_of_this_host(tree, text):
    tree.write(PATH, b'PRODUCT_BRAND=\xff\n' + (text % UUID).encode('ascii'))
    assert this_host.read_uuid() == UUID


@pytest.mark.parametrize('text', ['', "CONTROL_DOMAIN_UUID='%s'\n" % UUID, "INSTALLATION_UUID=''\n", "INSTALLATION_UUID='x'\n",
                                  "INSTALLATION_UUID='../%s'\n" % UUID, "INSTALLATION_UUID='%s x'\n" % UUID])
def test_an_inventory_without_the_uuid(tree, text):
    tree.write(PATH, text.encode('ascii'))
    with pytest.raises(errors.PluginError) as caught:
        this_host.read_uuid()
    assert str(caught.value) == '/etc/xensource-inventory has no INSTALLATION_UUID'


def test_without_an_inventory(tree):
    with pytest.raises(errors.PluginError) as caught:
        this_host.read_uuid()
    assert str(caught.value).startswith('cannot read /etc/xensource-inventory: ')


def test_a_call_for_another_host_is_refused_before_xapi_is_asked(tree):
    """There is no XAPI here, which the second call says."""
    tree.write(PATH, ("INSTALLATION_UUID='%s'\n" % UUID).encode('ascii'))
    for host_uuid in (OTHER, ''):
        with pytest.raises(errors.ArgumentError) as caught:
            this_host.find('OpaqueRef:x', host_uuid)
        assert str(caught.value).startswith("argument 'host_uuid': is not this host, which is %s" % UUID)
    with pytest.raises(errors.PluginError) as caught:
        this_host.find('OpaqueRef:x', UUID)
    assert not isinstance(caught.value, errors.ArgumentError)
