# SPDX-License-Identifier: Apache-2.0
"""The counters of virtual interfaces: the lines of /proc/net/dev that count, and the guest's view of in and out."""

from __future__ import absolute_import, division

import pytest

from dom0_lib import errors
from dom0_lib.guests import vif_counters
from tests.unit.dom0_tree import Tree

HEADER = (b'Inter-|   Receive                                                |  Transmit\n'
          b' face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier '
          b'compressed\n')


def line(name, received, sent):
    return name.rjust(6) + b': ' + received.rjust(7) + b' 11 0 0 0 0 0 0 ' + sent.rjust(8) + b' 33 0 0 0 0 0 0\n'


@pytest.fixture
def counters_of(tmpdir, monkeypatch):
    """Function(text of /proc/net/dev, dom_id) -> the counters."""
    tree = Tree(tmpdir)
    monkeypatch.setenv('DOM0_ROOT', tree.root)

    def count(data, dom_id=None):
        tree.write('/proc/net/dev', data)
        return vif_counters.fetch_bandwidth(None, dom_id)
    return count


def test_in_and_out_are_the_guests(counters_of):
    assert counters_of(HEADER + line(b'vif3.0', b'100', b'2000')) == {'3': {'0': {'bw_in': 2000, 'bw_out': 100}}}


def test_all_domains_and_one(counters_of):
    data = HEADER + line(b'lo', b'1', b'1') + b''.join(
        line(name, str(number).encode('ascii'), b'7')
        for number, name in enumerate([b'vif1.0', b'vif1.1', b'vif12.0', b'eth0']))
    assert counters_of(data) == {'1': {'0': {'bw_in': 7, 'bw_out': 0}, '1': {'bw_in': 7, 'bw_out': 1}},
                                 '12': {'0': {'bw_in': 7, 'bw_out': 2}}}
    assert counters_of(data, 1) == {'1': {'0': {'bw_in': 7, 'bw_out': 0}, '1': {'bw_in': 7, 'bw_out': 1}}}
    assert counters_of(data, 2) == {}


@pytest.mark.parametrize('name', [
    b'vif', b'vif3', b'vif3.', b'vif.0', b'vif3.0.1', b'vif3.x', b'vifx.0', b'vif-3.0', b'vif3.-1', b'vif 3.0', b'vif\xb23.0',
    b'vif8f2b9c0e-1d', b'vif8f2b9c0e.0', b'tap3.0', b'xvif3.0', b'VIF3.0', b'vif3.0-emu', b'vif3.0@if4'])
def test_other_names_are_left_out(counters_of, name):
    assert counters_of(HEADER + line(name, b'1', b'2') + line(b'vif4.0', b'1', b'2')) == {'4': {'0': {'bw_in': 2, 'bw_out': 1}}}


@pytest.mark.parametrize('odd', [
    b'', b'\n\n', b'vif3.0', b'vif3.0:', b'vif3.0: 1 2 3', b'vif3.0: x 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0',
    b'vif3.0: 5 1 0 0 0 0 0 0 -5 1 0 0 0 0 0 0', b'vif3.0: 1.5 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0', b'\x00\xff\xfe', b':::', b'vif3.0:' + b' ' * 100])
def test_odd_lines_are_left_out(counters_of, odd):
    assert counters_of(HEADER + odd + b'\n' + line(b'vif4.0', b'1', b'2')) == {'4': {'0': {'bw_in': 2, 'bw_out': 1}}}


def test_forms_of_old_and_new_kernels(counters_of):
    """Linux 2.6 wrote no space after the colon; names may be indented by any width; counters have 64 bits."""
    assert counters_of(b'vif3.0:18446744073709551615 1 0 0 0 0 0 0 12 1 0 0 0 0 0 0\n') == {
        '3': {'0': {'bw_in': 12, 'bw_out': 18446744073709551615}}}


def test_counters_of_zero(counters_of):
    """An interface that has just been plugged."""
    assert counters_of(line(b'vif3.0', b'0', b'0')) == {'3': {'0': {'bw_in': 0, 'bw_out': 0}}}


def test_an_empty_file(counters_of):
    assert counters_of(b'') == {}


def test_no_file(tmpdir, monkeypatch):
    monkeypatch.setenv('DOM0_ROOT', str(tmpdir))
    with pytest.raises(errors.PluginError) as caught:
        vif_counters.fetch_bandwidth(None, None)
    assert str(caught.value).startswith('cannot read /proc/net/dev: ')
