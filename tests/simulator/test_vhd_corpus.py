# SPDX-License-Identifier: Apache-2.0
"""Our reader, our checks and the stand-in for vhd-util, held to files that the real vhd-util made or damaged.

tests/data/vhd-corpus/README.md tells where the files come from.
"""

import json
import pathlib
import subprocess
import tarfile

import pytest

from dom0_lib.disks import vhd_check
from tests.conftest import CHECKOUT
from tests.harness.vhd import vhd_reader
from tests.harness.vhd_util import vhd_util

_CORPUS = pathlib.Path(CHECKOUT, 'tests/data/vhd-corpus')
# When the corpus was made: later than every timestamp in it that is not meant to be in the future.
_NOW = 1795329000
_DEADLINE_S = 60

# Where vhd-util's check speaks of the parent; those files are sound by themselves, and the chain is judged elsewhere.
_PARENT_FAULTS = ('error resolving ', 'invalid parent ', 'parent locator ')

# The defect of each damaged file.  All others have no problem.
_PROBLEMS = {
    'bad/future.vhd': {'created_in_future'},
    'bad/future_primary.vhd': {'created_in_future', 'footers_differ'},
    'bad/footer_both.vhd': {'unreadable'},
    'bad/footer_primary.vhd': {'primary_footer_missing'},
    'bad/footer_primary_checksum.vhd': {'primary_footer_checksum'},
    'bad/footer_backup.vhd': {'backup_footer_missing'},
    'bad/hidden2.vhd': {'hidden_value'},
    'bad/header_checksum.vhd': {'header_checksum', 'header_reserved'},
    'bad/header_zero.vhd': {'header_missing', 'header_version', 'header_reserved', 'block_size', 'bat_size',
                            'metadata_overlap', 'metadata_place', 'batmap_missing'},
    'bad/truncated.vhd': {'primary_footer_missing', 'block_outside_file'},
    'bad/truncated_footer.vhd': {'primary_footer_missing', 'block_outside_file'},
    'bad/truncated_header.vhd': {'unreadable'},
    'bad/bat_past_eof.vhd': {'block_outside_file'},
    'bad/bat_in_headers.vhd': {'block_overlaps_metadata', 'block_place'},
    'bad/batmap_checksum.vhd': {'batmap_checksum'},
    'bad/type9.vhd': {'disk_type'},
    'bad/empty.vhd': {'unreadable'},
    'bad/five.vhd': {'unreadable'},
    'bad/text.vhd': {'unreadable'},
    'bad/random4k.vhd': {'unreadable'},
    'qemu_fixed.vhd': {'geometry'},
}

# Its content is that of another machine's /etc/passwd.
_NOT_OURS = 'traversal/sr/raw_etc_passwd.vhd'


_FILES = json.loads((_CORPUS / 'INDEX.json').read_text(encoding='utf-8'))['files']
_READABLE = [name for name in _FILES if 'sha256' in _FILES[name]['guest'] and name != _NOT_OURS]
_UNREADABLE = [name for name in _FILES if 'unreadable' in _FILES[name]['guest']]


@pytest.fixture(scope='session')
def corpus(tmp_path_factory):
    directory = tmp_path_factory.mktemp('corpus')
    with tarfile.open(str(_CORPUS / 'files.tar.xz')) as archive:
        archive.extraction_filter = staticmethod(lambda member, path: member)
        archive.extractall(str(directory))
    return directory / 'vhd-corpus'


def test_the_corpus_is_whole(corpus):
    sizes = {str(path.relative_to(corpus)): path.stat().st_size for path in corpus.rglob('*') if path.is_file()}
    assert sizes == {name: entry['size'] for name, entry in _FILES.items()} and len(sizes) == 48


@pytest.fixture(scope='session')
def environment(tmp_path_factory):
    bin_dir = tmp_path_factory.mktemp('bin')
    vhd_util.install_vhd_util(bin_dir)
    return {'PATH': '%s:/sbin:/usr/sbin:/bin:/usr/bin' % bin_dir, 'VHD_UTIL_NOW': str(_NOW), 'VHD_UTIL_RETRY_SLEEP_S': '0'}


@pytest.mark.parametrize('name', list(_FILES))
def test_stand_in_answers_like_vhd_util(name, corpus, environment):
    path = corpus / name
    for command, recorded in _FILES[name]['cmd'].items():
        process = subprocess.run(
            ['vhd-util'] + command.replace('FILE', path.name).split(), cwd=str(path.parent), env=environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=_DEADLINE_S)
        out = process.stdout.decode('utf-8', 'surrogateescape').replace(str(corpus), 'CORPUS')
        expected, dump, _ = recorded['stdout'].partition('[metadata dump follows]')
        if dump:
            assert len(out) > len(expected)
            out = out[:len(expected)]
        assert (out, process.stderr.decode(), process.returncode) == (
            expected, recorded['stderr'], recorded['rc']), command


@pytest.mark.parametrize('name', list(_FILES))
def test_checks_agree_with_vhd_util(name, corpus):
    with open(str(corpus / name), 'rb') as fileobj:
        found = {problem.name for problem in vhd_check.find_problems(fileobj, now=_NOW)}
    assert found == _PROBLEMS.get(name, set())
    recorded = _FILES[name]['cmd']['check -n FILE']
    if not recorded['stdout'].startswith(_PARENT_FAULTS):
        assert bool(found) == (recorded['rc'] != 0)


@pytest.mark.parametrize('name', _READABLE)
def test_reader_agrees_with_vhd_util(name, corpus):
    guest = _FILES[name]['guest']
    with vhd_reader.open_chain(corpus / name) as chain:
        assert chain.size_bytes == guest['bytes']
    assert vhd_reader.digest(corpus / name) == guest['sha256']


@pytest.mark.parametrize('name', _UNREADABLE)
def test_reader_refuses_what_cannot_be_read(name, corpus):
    with pytest.raises(OSError):
        vhd_reader.digest(corpus / name)


@pytest.mark.parametrize('name', [name for name in _READABLE if name.startswith('chain/')])
def test_reader_takes_an_explicit_chain(name, corpus):
    depth = int(pathlib.Path(name).stem)
    paths = [corpus / 'chain' / ('%d.vhd' % number) for number in range(depth, 3)]
    assert vhd_reader.digest(paths) == _FILES[name]['guest']['sha256']
