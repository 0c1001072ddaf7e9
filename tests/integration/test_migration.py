# SPDX-License-Identifier: Apache-2.0
"""Guests move between two hosts, over a real rsync and a real sshd."""

import os
import uuid

import pytest

from tests import conftest
from tests.integration import migrations
from tests.integration import transfer_cases as cases

pytestmark = pytest.mark.needs("rsync", "ssh", "sshd", "ssh-keygen")

NEWEST = conftest.DOM0_PYTHONS[-1][1]


def make_uuids(count):
    return [str(uuid.uuid4()) for _ in range(count)]


@pytest.fixture(scope="module")
def pair():
    """Two hosts on the newest Python, for what does not depend on it."""
    with migrations.open_pair(NEWEST) as pair:
        yield pair


# A whole migration on every Python, between hosts of different ones.

def test_a_guest_moves(dom0_python):
    pythons = [path for _, path in conftest.DOM0_PYTHONS]
    other = pythons[pythons.index(dom0_python) - 1]
    with migrations.open_pair([dom0_python, other]) as pair:
        root_label, label = migrations.make_label(), migrations.make_label(ephemeral=1)
        disks = [(root_label, 3, True), (label, 1, False)]
        before = {}
        for name, depth, _ in disks:
            before[name] = pair.write_guest(depth, seed=name)
        with cases.unchanged(pair.source_sr.path):
            for name, _, is_legacy in disks:
                pair.transfer_chain(name, before[name][0], is_legacy=is_legacy)
        assert set(pair.arrived(root_label)) == {"0.vhd", "1.vhd", "2.vhd"}
        for name, depth, is_legacy in disks:
            stack = make_uuids(16)
            assert pair.receive(name, stack, is_legacy) == {"root": {"uuid": stack[0]}}
            records = pair.target_sr.scan()
            assert migrations.digest_of(pair.target_sr, stack[0]) == before[name][1]
            assert [records[each]["managed"] for each in stack[:depth]] == [True] + [False] * (depth - 1)
        assert os.listdir(pair.target.dom0.locate("/images")) == []
        assert len(os.listdir(pair.target_sr.path)) == 4
        pair.source_sr.scan()
        pair.expect_idle()
