# SPDX-License-Identifier: Apache-2.0
"""Our reader, our decoder and the stand-in for vhd-util, held to files that the real vhd-util made or damaged.

tests/data/vhd-corpus/README.md tells where the files come from.
"""

import hashlib
import json
import pathlib
import subprocess
import tarfile

import pytest

from dom0_lib import errors
from dom0_lib.disks import vhd
from dom0_lib.formats import vhd_decoder
from dom0_lib.formats import vhd_encoder
from dom0_lib.system import sparse_file
from tests.conftest import CHECKOUT
from tests.harness.vhd import vhd_reader
from tests.harness.vhd_util import vhd_util

_CORPUS = pathlib.Path(CHECKOUT, 'tests/data/vhd-corpus')
# When the corpus was made: later than every timestamp in it that is not meant to be in the future.
_NOW = 1795329000
_DEADLINE_S = 60

# The rule by which the decoder refuses a damaged file; the damage of others is nowhere in the guest's sectors.
_REFUSED = {
    'bad/bat_in_headers.vhd': 'block_over_metadata', 'bad/bat_past_eof.vhd': 'block_outside', 'bad/empty.vhd': 'no_footer',
    'bad/five.vhd': 'no_footer', 'bad/footer_both.vhd': 'no_footer', 'bad/header_checksum.vhd': 'header',
    'bad/header_zero.vhd': 'header', 'bad/random4k.vhd': 'no_footer', 'bad/text.vhd': 'no_footer',
    'bad/truncated.vhd': 'block_outside', 'bad/truncated_header.vhd': 'cut_short', 'bad/type9.vhd': 'disk_type',
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
def test_a_disk_that_is_written_anew_has_the_same_content(name, corpus, tmp_path):
    """The decoder and the encoder, judged by vhd-util's own reading of the foreign file."""
    target = sparse_file.PlacedFile(str(tmp_path / 'ours'), lambda size_bytes: None)
    encoder = vhd_encoder.Encoder(target)
    try:
        with open(str(corpus / name), 'rb') as foreign:
            image = vhd_decoder.decode_file(foreign.fileno(), encoder)
        assert name not in _REFUSED
        if image.is_child:
            return
        encoder.seal('cccccccc-0000-4000-8000-000000000003')
    except errors.InvalidImage as error:
        assert error.rule == _REFUSED.get(name)
        return
    finally:
        target.close()
    guest = _FILES[name]['guest']
    assert (image.size_bytes, encoder.layout.size_bytes) == (guest['bytes'], vhd.round_up(guest['bytes'], vhd.BLOCK_SIZE))
    vhd_reader.copy_to(tmp_path / 'ours', str(tmp_path / 'raw'))
    content = (tmp_path / 'raw').read_bytes()
    assert hashlib.sha256(content[:guest['bytes']]).hexdigest() == guest['sha256'] and not content[guest['bytes']:].strip(b'\0')


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
