# SPDX-License-Identifier: Apache-2.0
"""Which directory a caller's sr_path means.  (With a XAPI that answers: tests/calls/images/test_download.py.)"""

from __future__ import absolute_import, division

import os

import pytest

from dom0_lib import errors
from dom0_lib.storage import sr

SR_UUID = '7f7ab43c-8f3b-4d53-9bb8-1c1a0e7d9a11'
OTHER_UUID = 'b' + SR_UUID[1:]
VDI_UUID = '0aa23a3e-1d3c-4a0d-8f5b-f1b1f7d4d0c2'


@pytest.fixture(params=['/var/run is a link', '/run is a link'])
def mounts(request, tmpdir, monkeypatch):
    """The directory of SR mounts; where /var/run and /run are one, as on both kinds of hosts."""
    real, link = ('run', 'var/run') if request.param == '/var/run is a link' else ('var/run', 'run')
    tmpdir.join(real, 'sr-mount', SR_UUID).ensure(dir=True)
    tmpdir.join('var').ensure(dir=True)
    os.symlink(str(tmpdir.join(real)), str(tmpdir.join(link)))
    monkeypatch.setenv('DOM0_ROOT', str(tmpdir))
    return tmpdir.join(real, 'sr-mount')


@pytest.mark.parametrize('mount', ['/var/run/sr-mount/', '/run/sr-mount/'])
def test_a_mounted_sr(mounts, mount):
    repository = sr.locate(u'OpaqueRef:session', mount + SR_UUID)
    assert repository.path == str(mounts.join(SR_UUID))
    assert repository.uuid == SR_UUID
    assert repository.vhd_path(VDI_UUID) == str(mounts.join(SR_UUID, VDI_UUID + '.vhd'))


def test_a_link_within_the_mounts(mounts):
    os.symlink(SR_UUID, str(mounts.join(OTHER_UUID)))
    assert sr.locate(u'OpaqueRef:session', '/var/run/sr-mount/' + OTHER_UUID).path == str(mounts.join(SR_UUID))


@pytest.mark.parametrize('target', ['/etc', '..', '../../..', '.', '../sr-mount', '../sr-mount-2/x'])
def test_a_link_out_of_the_mounts(mounts, target):
    mounts.join('..', 'sr-mount-2', 'x').ensure(dir=True)
    os.symlink(target, str(mounts.join(OTHER_UUID)))
    with pytest.raises(errors.StorageError) as caught:
        sr.locate(u'OpaqueRef:session', '/var/run/sr-mount/' + OTHER_UUID)
    assert 'leads out of /var/run/sr-mount' in str(caught.value)


@pytest.mark.parametrize('make', [
    lambda path: None, lambda path: path.write(''), lambda path: os.symlink('nowhere', str(path))],
    ids=['absent', 'file', 'dangling'])
def test_no_directory(mounts, make):
    make(mounts.join(OTHER_UUID))
    with pytest.raises(errors.StorageError) as caught:
        sr.locate(u'OpaqueRef:session', '/var/run/sr-mount/' + OTHER_UUID)
    assert "sr_path '/var/run/sr-mount/%s' is not there: is the SR file based, and its PBD plugged" % OTHER_UUID in str(caught.value)


@pytest.mark.parametrize('path', [
    '/', '/etc', '/var/run/sr-mount', '/var/run/sr-mount-2/x', '/var/run/sr-mount/%s/x' % SR_UUID, '/var/run/sr-mount//x', '/var/run/sr-mount/x', '/var/run/sr-mount/' + SR_UUID.upper(),
    '/VAR/run/sr-mount/x'])
def test_other_paths_are_for_xapi_to_know(mounts, path):
    """Nothing answers at XAPI's socket here, and no other path is taken without it."""
    with pytest.raises(errors.RetryableError) as caught:
        sr.locate(u'OpaqueRef:secret', path)
    assert str(caught.value).startswith('cannot list the PBDs: XAPI cannot be reached: ')
    assert 'secret' not in str(caught.value)


@pytest.mark.parametrize('make', [
    lambda path: path.write(''), lambda path: path.mkdir(), lambda path: os.symlink('nowhere', str(path))],
    ids=['file', 'directory', 'dangling link'])
def test_existing_vdis(mounts, make):
    repository = sr.locate(u'OpaqueRef:session', '/var/run/sr-mount/' + SR_UUID)
    repository.refuse_existing([VDI_UUID, SR_UUID])
    make(mounts.join(SR_UUID, VDI_UUID + '.vhd'))
    repository.refuse_existing([SR_UUID])
    with pytest.raises(errors.StorageError) as caught:
        repository.refuse_existing([SR_UUID, VDI_UUID])
    assert str(caught.value) == 'the storage repository already has a VDI ' + VDI_UUID
