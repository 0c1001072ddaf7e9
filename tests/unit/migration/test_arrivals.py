# SPDX-License-Identifier: Apache-2.0
"""/images: which files are a chain, and which may be removed.  (With plug-ins: tests/calls/migration/test_arrivals.py.)"""

from __future__ import absolute_import, division

import os
import subprocess
import sys

import pytest

from dom0_lib import errors
from dom0_lib.disks import vhd
from dom0_lib.storage import vhd_chain
from dom0_lib.migration import arrivals
from dom0_lib.storage import arrival_files
from dom0_lib.storage import staging
from tests.unit.storage import chains

LABEL = '11111111-0000-4000-8000-000000000000'
HOLDER = """
import fcntl, sys
owner = open(sys.argv[1], 'w+')
fcntl.lockf(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
sys.stdout.write('held\\n')
sys.stdout.flush()
sys.stdin.read()
"""


class Images(object):
    """/images below `root`, with one label's directory, `path`."""

    def __init__(self, root):
        self.top = root.join('images')
        self.path = self.top.join('instance' + LABEL).ensure(dir=True)

    def add(self, *names):
        for name in names:
            self.path.join(name).write_binary(name.encode('ascii'), ensure=True)

    def list(self):
        return sorted(path.basename for path in self.path.listdir())

    def origins(self, *names):
        return [(os.lstat(str(self.path.join(name))).st_ino, 'instance%s/%s' % (LABEL, name)) for name in names]


@pytest.fixture
def images(tmpdir, monkeypatch):
    monkeypatch.setenv('DOM0_ROOT', str(tmpdir))
    return Images(tmpdir)


def list_chain():
    with arrivals.Arrival(LABEL) as arrival:
        return arrival.list()


@pytest.mark.parametrize('count', [1, 2, vhd_chain.MAX_LENGTH])
def test_a_chain(images, count):
    names = ['%d.vhd' % number for number in range(count)]
    images.add(*names)
    images.add('.0.vhd.Xy12', '.dom0-plugins-partial/.keep')
    images.path.join('.dom0-plugins-partial', '.keep').remove()
    assert list_chain() == names


@pytest.mark.parametrize('names', [
    [], ['1.vhd'], ['0.vhd', '2.vhd'], ['0.vhd', 'x'], ['0.vhd', '00.vhd'], ['0.vhd', '1.vhd.tmp'], ['0.vhd', '.dom0-plugins-partial/1.vhd'],
    ['%d.vhd' % number for number in range(vhd_chain.MAX_LENGTH + 1)]])
def test_what_is_no_chain(images, names):
    images.add(*names)
    with pytest.raises(errors.InvalidImage):
        list_chain()


def test_nothing_has_arrived(images):
    images.path.remove()
    with pytest.raises(errors.StorageError) as caught:
        list_chain()
    assert 'nothing has arrived: there is no directory /images/instance' + LABEL in str(caught.value)


@pytest.mark.parametrize('make', [
    lambda path: path.write(b''), lambda path: os.symlink(str(path.join('..', 'elsewhere').ensure(dir=True)), str(path)),
    lambda path: os.symlink('nowhere', str(path))], ids=['file', 'link', 'dangling link'])
def test_what_is_no_directory(images, make):
    images.path.remove()
    make(images.path)
    with pytest.raises(errors.UnsafeImage):
        list_chain()


def test_one_call_at_a_time(images):
    images.add('0.vhd')
    holder = subprocess.Popen([sys.executable, '-c', HOLDER, str(images.path.join('owner'))],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b'held\n'
        with pytest.raises(errors.RetryableError):
            list_chain()
        # One that a living call has is not abandoned, however old.
        assert arrivals.list_abandoned(-3600) == []
    finally:
        holder.communicate()
    assert list_chain() == ['0.vhd']
    assert arrivals.list_abandoned(-3600) == ['instance' + LABEL]


def test_what_is_abandoned(images):
    """By the newest of its files, whatever the directory's own age."""
    images.add('0.vhd', '1.vhd')
    images.top.join('other').ensure(dir=True)
    images.top.join('instance-file').write(b'')
    for path in (images.path.join('0.vhd'), images.path.join('1.vhd'), images.path):
        os.utime(str(path), (1, 1))
    assert arrivals.list_abandoned(3600) == ['instance' + LABEL]
    images.path.join('1.vhd').setmtime()
    assert arrivals.list_abandoned(3600) == []
    images.path.join('1.vhd').setmtime(1)
    images.path.setmtime()
    assert arrivals.list_abandoned(3600) == []


# How files become disks of an area

def add_chain(images):
    disks = chains.make_disk(vhd.DIFFERENCING, chains.LEAF, chains.BASE), chains.make_disk(vhd.FIXED, chains.BASE)
    for number, disk in enumerate(disks):
        images.path.join('%d.vhd' % number).write_binary(disk.build().getvalue())


def take(tmpdir):
    """(fractions, origins) of the files of the label, taken into an area."""
    fractions = []
    with arrivals.Arrival(LABEL) as arrival, staging.Area(str(tmpdir.mkdir('sr'))) as area:
        disks, origins = arrival.take(area, arrival.list(), fractions.append)
        assert [disk.image.is_child for disk in disks] == [True, False]
        assert [os.stat(area.join(disk.name)).st_nlink for disk in disks] == [1, 1]
    return fractions, origins


def test_files_are_taken(images, tmpdir):
    add_chain(images)
    before = [(path.read_binary(), os.stat(str(path))[:9]) for path in sorted(images.path.listdir())]
    fractions, origins = take(tmpdir)
    assert origins == images.origins('0.vhd', '1.vhd')
    assert [arrival_files.count_names(inode, origins) for inode, _ in origins] == [1, 1]
    assert arrival_files.count_names(0, origins) == 0
    assert fractions == sorted(fractions) and 0.8 < fractions[-1] <= 1
    after = [(path.read_binary(), os.stat(str(path))[:7]) for path in sorted(images.path.listdir()) if path.basename != 'owner']
    assert after == [(data, status[:7]) for data, status in before]


KINDS = {'symbolic link': lambda path, secret: os.symlink(secret, path), 'FIFO': lambda path, secret: os.mkfifo(path),
         'directory': lambda path, secret: os.mkdir(path), 'another name': lambda path, secret: os.link(secret, path)}


@pytest.fixture
def secret(tmpdir):
    tmpdir.join('secret').write_binary(chains.make_disk().build().getvalue())
    return str(tmpdir.join('secret'))


@pytest.mark.parametrize('kind', sorted(KINDS))
def test_only_a_file_with_one_name_is_taken(images, tmpdir, secret, kind):
    add_chain(images)
    images.path.join('1.vhd').remove()
    KINDS[kind](str(images.path.join('1.vhd')), secret)
    before = len(os.listdir('/proc/self/fd'))
    with pytest.raises(errors.UnsafeImage) as caught:
        take(tmpdir)
    assert str(caught.value) == "'1.vhd' is not a file, or is one that has another name elsewhere"
    assert len(os.listdir('/proc/self/fd')) == before


@pytest.mark.parametrize('kind', sorted(KINDS))
def test_a_file_that_is_replaced_between_a_look_and_its_opening(images, tmpdir, secret, monkeypatch, kind):
    """Another host's key can write there, and must not have root read anything else."""
    add_chain(images)
    path, real_open, opened = str(images.path.join('1.vhd')), os.open, []

    def replace_and_open(name, *options):
        if name == path and not opened:
            opened.append(name)
            os.unlink(path)
            KINDS[kind](path, secret)
        return real_open(name, *options)
    monkeypatch.setattr(os, 'open', replace_and_open)
    with pytest.raises(errors.StorageError if kind == 'symbolic link' else errors.UnsafeImage):
        take(tmpdir)
    assert opened


def test_what_has_become_vdis_is_forgotten(images):
    images.add('0.vhd', '1.vhd', 'owner')
    origins = images.origins('0.vhd', '1.vhd')
    arrival_files.forget(origins[:1])
    assert images.list() == ['1.vhd', 'owner']
    arrival_files.forget(origins)
    assert not images.path.check()
    arrival_files.forget(origins)


def test_what_has_come_since_is_not_forgotten(images):
    images.add('0.vhd', '1.vhd')
    origins = images.origins('0.vhd', '1.vhd')
    images.path.join('new').write(b'new')
    images.path.join('new').rename(images.path.join('1.vhd'))
    arrival_files.forget(origins)
    assert images.list() == ['1.vhd']


@pytest.mark.parametrize('name', [
    'instance%s/owner', 'instance%s/30.vhd', 'instance%s/../x/0.vhd', 'instance%s/0.vhd/', 'elsewher%s/0.vhd', 'instance/0.vhd', '../0.vhd',
    'instance../0.vhd', 'instance%s'])
def test_a_journal_can_name_nothing_else(images, name):
    """It comes from the SR, where others write, too."""
    name = name.replace('%s', LABEL)
    for path in ('instance%s/owner' % LABEL, 'instance%s/30.vhd' % LABEL, 'x/0.vhd', 'elsewher%s/0.vhd' % LABEL, 'instance/0.vhd', '../0.vhd'):
        images.top.join(path).write(b'x', ensure=True)
    before = sorted(str(path) for path in images.top.join('..').visit())
    found = [os.lstat(str(path)).st_ino for path in images.top.join('..').visit()]
    arrival_files.forget([(inode, name) for inode in found])
    assert sorted(str(path) for path in images.top.join('..').visit()) == before


def test_a_link_in_the_place_of_a_directory_is_not_followed(images):
    images.add('0.vhd')
    origins = images.origins('0.vhd')
    images.path.rename(images.top.join('elsewhere'))
    os.symlink('elsewhere', str(images.path))
    arrival_files.forget(origins)
    assert images.top.join('elsewhere', '0.vhd').check()
    assert arrival_files.count_names(origins[0][0], origins) == 0


@pytest.mark.parametrize('names, stays', [([], False), (['owner', '.0.vhd.Xy12', '.dom0-plugins-partial/x'], False), (['0.vhd'], True)])
def test_a_directory_is_cleared_unless_something_has_come(images, names, stays):
    images.add(*names)
    with arrivals.Arrival(LABEL) as arrival:
        arrival.clear()
    assert images.path.check() is stays


def test_what_is_refused_is_discarded(images):
    images.add('0.vhd', 'x', '.0.vhd.Xy12', 'a directory/x')
    with arrivals.Arrival(LABEL) as arrival:
        arrival.discard()
        arrival.discard()
    assert not images.path.check() and images.top.check()
