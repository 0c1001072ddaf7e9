# SPDX-License-Identifier: Apache-2.0
"""What tests of chains share: disks that build on one another, an SR with a staging area, and vhd-util."""

from __future__ import absolute_import, division

import os

import pytest

from dom0_lib.disks import vhd
from dom0_lib.storage import new_disk
from dom0_lib.storage import sr
from dom0_lib.storage import staging
from dom0_lib.storage import vhd_chain
from tests import conftest
from tests.unit.disks.test_vhd import Disk

LEAF, PARENT, BASE = ('%s%s' % (digit * 8, '-0000-4000-8000-000000000000') for digit in '123')
UUIDS = [LEAF, PARENT, BASE]
CREATED_AT = 1400000000

# What the tests do to vhd-util, in the words of a shell: it logs each call, and some do something else.
WRAPPER = """#!/bin/sh
echo "$*" >> '{directory}/calls'
case "$*" in {pattern}) {action};; esac
exec '{python}' -IS '{directory}/stand-in' "$@"
"""
STAND_IN = """
import sys
sys.path.insert(0, {checkout!r})
from tests.harness.vhd_util import vhd_util
sys.exit(vhd_util.main(sys.argv))
"""


class VhdUtil(object):
    """The program on PATH; `calls` are its arguments so far."""

    def __init__(self, directory):
        self._directory = directory
        directory.join('stand-in').write(STAND_IN.format(checkout=conftest.CHECKOUT))
        self.change('no-call')

    def change(self, pattern, action='echo the reason; exit 22'):
        """Let calls whose arguments match a shell pattern do something else."""
        program = self._directory.join('vhd-util')
        program.write(WRAPPER.format(
            directory=self._directory, python=os.path.join(conftest.ENVIRONMENTS, 'host', 'bin', 'python'),
            pattern=pattern, action=action))
        program.chmod(0o755)

    @property
    def calls(self):
        return self._directory.join('calls').read().splitlines()


@pytest.fixture
def vhd_util(tmpdir, monkeypatch):
    program = VhdUtil(tmpdir.mkdir('bin'))
    monkeypatch.setenv('PATH', '%s:%s' % (tmpdir.join('bin'), os.environ['PATH']))
    return program


@pytest.fixture
def repository(tmpdir, monkeypatch):
    monkeypatch.setenv('DOM0_ROOT', str(tmpdir))  # SM's lock files are made below it
    return sr.Repository('5' + LEAF[1:], str(tmpdir.mkdir('sr')))


@pytest.fixture
def area(repository):
    with staging.Area(repository.path) as area:
        yield area


def make_disk(disk_type=vhd.DYNAMIC, uuid=LEAF, parent=None, size_mib=16, hidden=0):
    disk = Disk(disk_type, blocks=(15,))
    disk.footer.uuid_bytes = vhd.parse_uuid(uuid)
    disk.footer.timestamp = CREATED_AT - vhd.EPOCH_UNIX_S
    disk.footer.hidden = hidden
    disk.footer.set_size(size_mib << 20)
    if parent:
        disk.header.parent_uuid_bytes = vhd.parse_uuid(parent)
    return disk


def make_chain(length=3):
    """Disks as another host would have them, leaf first; parents are hidden."""
    uuids = UUIDS[:length]
    return [make_disk(vhd.DIFFERENCING if parent else vhd.DYNAMIC, uuid, parent, hidden=int(uuid != LEAF))
            for uuid, parent in zip(uuids, uuids[1:] + [None])]


def stage(area, disks, names=None):
    """The new_disk.NewDisk written of these disks in the area."""
    staged = []
    for name, disk in zip(names or ['%d.vhd' % number for number in range(len(disks))], disks):
        data = disk.build().read()
        staged.append(new_disk.StreamedDisk(area, name, len(data)))
        staged[-1].write(memoryview(data))
        staged[-1].finish()
    return staged


def seal(area, disks, uuids=None):
    """Staged disks become a sealed chain."""
    vhd_chain.seal(area, stage(area, disks), uuids or UUIDS[:len(disks)])


def metadata_of(path):
    with open(path, 'rb') as fileobj:
        return vhd.read_metadata(fileobj)
