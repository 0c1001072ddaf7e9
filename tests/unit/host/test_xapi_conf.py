# SPDX-License-Identifier: Apache-2.0
"""Settings of /etc/xapi.conf, as XAPI reads them."""

from __future__ import absolute_import, division

import os

import pytest

from dom0_lib import errors
from dom0_lib.host import xapi_conf
from tests.unit.dom0_tree import Tree

KEY = u'relax-xsm-sr-check'


@pytest.fixture
def tree(tmpdir, monkeypatch):
    tree = Tree(tmpdir)
    monkeypatch.setenv('DOM0_ROOT', tree.root)
    return tree


@pytest.mark.parametrize('text, expected', [
    (b'relax-xsm-sr-check = true\n', u'true'),
    (b'relax-xsm-sr-check=true', u'true'),
    (b'  relax-xsm-sr-check\t=\ttrue  \r\n', u'true'),
    (b'relax-xsm-sr-check = true # since 7.1\n', u'true'),
    (b'# relax-xsm-sr-check = true\n', u''),
    (b'#relax-xsm-sr-check = true\nrelax-xsm-sr-check = false\n', u'false'),
    (b'relax-xsm-sr-check = a = b=c\n', u'a = b=c'),
    (b'relax-xsm-sr-check = "true"\n', u'true'),
    (b"relax-xsm-sr-check = 'a b'\n", u'a b'),
    (b'relax-xsm-sr-check = "true\'\n', u'"true\''),
    (b'relax-xsm-sr-check = "\n', u'"'),
    (b'relax-xsm-sr-check =\n', u''),
    (b'relax-xsm-sr-check\n', u''),
    (b'= true\n', u''),
    (b'relax-xsm-sr-check = false\nrelax-xsm-sr-check = true\n', u'true'),
    (b'relax-xsm-sr-check-2 = true\nnot-relax-xsm-sr-check = true\nRELAX-XSM-SR-CHECK = true\n', u''),
    (b'relax-xsm-sr-check = true\nrelax-xsm-sr-check\n', u'true'),
    (b'relax-xsm-sr-check = ""\n', u''),
    (b'relax-xsm-sr-check = abba\n', u'abba'),
    (b'relax-xsm-sr-check = true\rrelax-xsm-sr-check = false\n', u'true\rrelax-xsm-sr-check = false'),
    (b'relax-xsm-sr-check = a\x0cb\xc2\x85c\xe2\x80\xa8d\n', u'a\x0cb\x85c\u2028d'),
    (b'', u''),
    (b'\xff\xfe = x\nrelax-xsm-sr-check = caf\xc3\xa9\n', u'caf\xe9'),
])
def test_setting(tree, text, expected):
    tree.write('/etc/xapi.conf', text)
    assert xapi_conf.get_xapi_setting(None, KEY) == expected


def test_no_file_has_no_settings(tree):
    assert xapi_conf.get_xapi_setting(None, KEY) == u''


def test_a_file_that_cannot_be_read(tree):
    os.makedirs(tree.locate('/etc/xapi.conf'))
    with pytest.raises(errors.PluginError) as caught:
        xapi_conf.get_xapi_setting(None, KEY)
    assert str(caught.value).startswith('cannot read /etc/xapi.conf: ')
