# SPDX-License-Identifier: Apache-2.0
"""The stand-in for vhd-util, compared with recorded output, exit codes and effects of the real program.

Each case of vhd_util_recordings.json is replayed in a directory of its own: `setup` makes the disks that the recording
began with, then each command runs in bash and must give the recorded streams and exit code.
"""

import functools
import json
import os
import pathlib
import random
import signal
import subprocess

import pytest

from dom0_lib.disks import vhd
from tests.harness.vhd import vhd_image
from tests.harness.vhd import vhd_writer
from tests.harness.vhd_util import vhd_util

_RECORDINGS = json.loads(pathlib.Path(__file__).with_name('vhd_util_recordings.json').read_text(encoding='utf-8'))
_NOW = _RECORDINGS['now']
_NEVER_ENDS_S = 1
_DEADLINE_S = 30


class Scene(object):
    """A directory in which a case is replayed; it stands for /w."""

    def __init__(self, directory, bin_dir):
        self.directory = directory
        self._environment = {
            'PATH': '%s:/sbin:/usr/sbin:/bin:/usr/bin' % bin_dir, 'TZ': 'UTC', 'LC_ALL': 'C.UTF-8',
            'VHD_UTIL_NOW': str(_NOW), 'VHD_UTIL_RETRY_SLEEP_S': '0'}
        self._made = set()

    def place(self, text):
        """`text` with the directory in place of /w, also in Windows paths."""
        return text.replace('/w/', '%s/' % self.directory).replace(
            '\\w\\', ('%s/' % self.directory).replace('/', '\\'))

    def path(self, name):
        return str(self.directory / name)

    def run(self, command, timeout_s=_DEADLINE_S):
        """(exit code or None when it did not end, stdout, stderr)."""
        process = subprocess.Popen(
            ['/bin/bash', '-o', 'pipefail', '-c', self.place(command)], cwd=str(self.directory), env=self._environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        try:
            out, err = process.communicate(timeout=timeout_s)
            code = process.returncode
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            code = None
        return code, self._unplace(out), self._unplace(err)

    def _unplace(self, raw):
        return raw.decode('utf-8', 'surrogateescape').replace('%s/' % self.directory, '/w/')

    def set_up(self, operations):
        """Carry out operations; a string names a disk that the recordings share."""
        for operation in operations:
            if isinstance(operation, str):
                if operation not in self._made:
                    self._made.add(operation)
                    self.set_up(_RECORDINGS['disks'][operation])
            else:
                getattr(self, '_do_' + operation[0].replace(' ', '_'))(*operation[1:])

    def _do_run(self, command):
        code, _, err = self.run(command)
        assert (code, err) == (0, ''), command

    def _do_dynamic(self, name, options):
        options = dict({'created_at': _NOW, 'mtime': _NOW, 'sectors': 128, 'mb': 16, 'content': None}, **options)
        size, content, mtime = options.pop('mb') << 20, options.pop('content'), options.pop('mtime')
        data = _make_data(options.pop('sectors'))
        if content:
            data = (content * 100).encode()[:512]
        vhd_writer.write_dynamic(self.path(name), [(0, data)] if data else [], size, **options)
        os.utime(self.path(name), (mtime, mtime))

    def _do_child(self, name, parent, options):
        options = dict({'created_at': _NOW, 'mtime': _NOW, 'sectors': 1}, **options)
        data, mtime = _make_data(options.pop('sectors')), options.pop('mtime')
        vhd_writer.write_differencing(self.path(name), self.path(parent), [(0, data)] if data else [], **options)
        os.utime(self.path(name), (mtime, mtime))

    def _do_fixed(self, name, megabytes):
        vhd_writer.write_fixed(self.path(name), _make_data(16), megabytes << 20, created_at=_NOW)

    def _do_bytes(self, name, size):
        (self.directory / name).write_bytes(_make_data(-(-size // 512))[:size])
        os.utime(self.path(name), (_NOW, _NOW))

    def _do_text(self, name, text):
        (self.directory / name).write_text(text)

    def _do_patch(self, name, offset, digits):
        vhd_writer.patch(self.path(name), offset, bytes.fromhex(digits))

    def _do_bat(self, name, block, sector):
        vhd_writer.patch(self.path(name), 1536 + 4 * block, sector.to_bytes(4, 'big'))

    def _do_footer(self, name, copies, fields):
        vhd_writer.edit_footers(self.path(name), primary=copies != 'backup', backup=copies != 'primary',
                                **_make_fields(fields))

    def _do_header(self, name, fields):
        vhd_writer.edit_header(self.path(name), **_make_fields(fields))

    def _do_locators(self, name, slots):
        """Replace the locators by [[slot, code, text], ...]."""
        table = bytearray(vhd.LOCATOR_COUNT * vhd.LOCATOR_SIZE)
        for slot, code, text in slots:
            text = self.place(text)
            data = text.encode('utf-8' if code == 'MacX' else 'utf-16-le')
            locator = vhd.Locator()
            locator.code, locator.data_space, locator.data_length = code.encode(), 512, len(data)
            locator.data_offset = 3072 + 512 * slot
            table[slot * vhd.LOCATOR_SIZE:(slot + 1) * vhd.LOCATOR_SIZE] = locator.pack()
            vhd_writer.patch(self.path(name), locator.data_offset, data.ljust(512, b'\0'))
        vhd_writer.edit_header(self.path(name), locator_table=bytes(table))

    def _do_locator_fields(self, name, fields):
        """Set fields of every locator; their data stay."""
        with vhd_image.Image.open(self.path(name)) as image:
            for locator in image.locators:
                for field, value in fields.items():
                    setattr(locator, field, value)
            image.header.set_locators(image.locators)
            table = image.header.locator_table
        vhd_writer.edit_header(self.path(name), locator_table=table)


@functools.lru_cache(maxsize=None)
def _make_data(sectors):
    """Sectors of noise, the first byte of each not zero."""
    noise = random.Random(sectors)
    return b''.join(b'\x01' + bytes(noise.getrandbits(8) for _ in range(31)) + bytes(480) for _ in range(sectors))


def _make_fields(fields):
    made = {}
    for name, value in fields.items():
        if name in ('uuid', 'parent_uuid'):
            made[name + '_bytes'] = vhd.parse_uuid(value)
        elif name == 'parent_name':
            made['parent_name_bytes'] = value.encode('utf-16-be').ljust(512, b'\0')
        else:
            made[name] = value.encode() if isinstance(value, str) else value
    return made


@pytest.fixture(scope='module')
def bin_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp('bin')
    vhd_util.install_vhd_util(directory)
    return directory


@pytest.fixture
def scene(tmp_path, bin_dir):
    directory = tmp_path / 'w'
    directory.mkdir()
    return Scene(directory, bin_dir)


@pytest.mark.parametrize('case', _RECORDINGS['cases'], ids=lambda case: case['title'][:70])
def test_recorded_behaviour(case, scene):
    scene.set_up(case['setup'])
    for step in case['steps']:
        check_step(scene, step)


def check_step(scene, step):
    never_ends = step['code'] == 'never ends'
    code, out, err = scene.run(step['command'], _NEVER_ENDS_S if never_ends else _DEADLINE_S)
    assert code == (None if never_ends else step['code']), (step['command'], out, err)
    if 'more_lines' in step:
        assert out[:len(step['stdout'])] == step['stdout'], step['command']
        if step['more_lines'] is not None:
            assert out[len(step['stdout']):].count('\n') == step['more_lines'], (step['command'], out)
    else:
        assert out == step['stdout'], step['command']
    assert err == step['stderr'], step['command']


def test_enough_is_recorded():
    assert sum(len(case['steps']) for case in _RECORDINGS['cases']) >= 600
