# SPDX-License-Identifier: Apache-2.0
"""Reading tar archives that Python's tarfile and the tar program made, and that nobody should have made."""

from __future__ import absolute_import, division

import io
import os
import struct
import subprocess
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib.images import tarball

READ_SIZES = (1, 17, 511, 512, 513, 65536)
FORMATS = {'ustar': tarfile.USTAR_FORMAT, 'gnu': tarfile.GNU_FORMAT, 'pax': tarfile.PAX_FORMAT}
NOISE = os.urandom(1500)


def make_member(name, kind=tarfile.REGTYPE, **fields):
    member = tarfile.TarInfo(name)
    member.type = kind
    for field, value in fields.items():
        setattr(member, field, value)
    return member


def make_archive(entries, form=tarfile.GNU_FORMAT, **options):
    """An archive of (name or TarInfo, bytes)."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode='w', format=form, **options) as archive:
        for member, data in entries:
            member = member if isinstance(member, tarfile.TarInfo) else make_member(member)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return target.getvalue()


def edit_header(archive, offset, data, at=0):
    """The archive with bytes of the header at `at` replaced and its checksum made right again."""
    header = archive[at:at + offset] + data + archive[at + offset + len(data):at + 512]
    total = sum(bytearray(header[:148])) + 8 * 0x20 + sum(bytearray(header[156:]))
    return archive[:at] + header[:148] + b'%06o\0 ' % total + header[156:] + archive[at + 512:]


class Member(object):
    """Where a reader puts a member."""

    def __init__(self, name, size_bytes):
        self.name = name
        self.size_bytes = size_bytes
        self.data = b''
        self.is_finished = False

    def write(self, view):
        assert isinstance(view, memoryview) and not self.is_finished
        self.data += view.tobytes()

    def finish(self):
        assert not self.is_finished and len(self.data) == self.size_bytes
        self.is_finished = True


def read(archive, step=65536, skip=()):
    """[(name, data)] of what a Reader opens; names in `skip` are skipped."""
    members = []

    def open_member(name, size_bytes):
        if name in skip:
            return None
        members.append(Member(name, size_bytes))
        return members[-1]

    reader = tarball.Reader(open_member)
    for start in range(0, len(archive), step):
        reader.feed(archive[start:start + step])
    reader.finish()
    assert all(member.is_finished for member in members)
    return [(member.name, member.data) for member in members]


def refusal_of(archive, error_class, step=65536):
    with pytest.raises(errors.InvalidImage) as caught:
        read(archive, step)
    assert type(caught.value) is error_class
    text = str(caught.value)
    assert text and all(' ' <= c <= '~' for c in text)
    return text


# Archives

SIZES = [0, 1, 511, 512, 513, 1024, 1500]


@pytest.mark.parametrize('step', READ_SIZES)
@pytest.mark.parametrize('form', sorted(FORMATS))
def test_members_of_every_size(form, step):
    entries = [('%d.vhd' % number, NOISE[:size]) for number, size in enumerate(SIZES)]
    assert read(make_archive(entries, FORMATS[form]), step) == entries


@pytest.mark.parametrize('step', READ_SIZES)
@pytest.mark.parametrize('form', ['gnu', 'pax'])
@pytest.mark.parametrize('length', [99, 100, 101, 300])
def test_long_names(form, length, step):
    name = 'n' * (length - 4) + '.vhd'
    entries = [(name, NOISE), ('1.vhd', b'x')]
    assert read(make_archive(entries, FORMATS[form]), step) == entries


def test_only_posix_has_a_prefix():
    """GNU tar has times there."""
    archive = make_archive([('0.vhd', NOISE)], tarfile.GNU_FORMAT)
    assert archive[257:265] == b'ustar  \0'
    assert read(edit_header(archive, 345, b'00000000000\0')) == [('0.vhd', NOISE)]


def test_a_ustar_prefix():
    entries = [('d' * 90 + '/' + 'e' * 50 + '/0.vhd', NOISE)]
    assert read(make_archive(entries, tarfile.USTAR_FORMAT)) == entries


@pytest.mark.parametrize('skip', [(), ('1.vhd',), ('0.vhd', '2.vhd')])
@pytest.mark.parametrize('step', READ_SIZES)
def test_skipped_members(skip, step):
    entries = [('%d.vhd' % number, NOISE[number:]) for number in range(4)]
    assert read(make_archive(entries), step, skip) == [entry for entry in entries if entry[0] not in skip]


def test_directories_and_their_prefix():
    """os-xenapi packs `.`, so its archives begin with ./ and all names do."""
    entries = [(make_member('./', tarfile.DIRTYPE), b''), ('./0.vhd', b'leaf'), ('././1.vhd', b'base'),
               (make_member('notes', tarfile.DIRTYPE), b''), ('notes/readme', b'text')]
    assert read(make_archive(entries)) == [('0.vhd', b'leaf'), ('1.vhd', b'base'), ('notes/readme', b'text')]


def test_what_counts_as_a_regular_file():
    entries = [(make_member('a', tarfile.AREGTYPE), b'old'), (make_member('b', tarfile.CONTTYPE), b'contiguous')]
    assert read(make_archive(entries)) == [('a', b'old'), ('b', b'contiguous')]


def test_a_fractional_time_needs_a_pax_record():
    entries = [(make_member('0.vhd', mtime=1.5), NOISE)]
    archive = make_archive(entries, tarfile.PAX_FORMAT)
    assert archive[156:157] == b'x'
    assert read(archive) == [('0.vhd', NOISE)]


def test_a_harmless_global_header():
    archive = make_archive([('0.vhd', NOISE)], tarfile.PAX_FORMAT, pax_headers={u'comment': u'made by hand'})
    assert archive[156:157] == b'g'
    assert read(archive) == [('0.vhd', NOISE)]


@pytest.mark.parametrize('step', READ_SIZES)
def test_a_size_in_binary(step):
    """GNU's form for 8 GiB and more, which is valid for any size."""
    archive = edit_header(make_archive([('0.vhd', NOISE)]), 124, b'\x80' + b'\0' * 9 + b'\x05\xdc')
    assert len(NOISE) == 0x5dc
    assert read(archive, step) == [('0.vhd', NOISE)]


def test_a_size_in_a_pax_record_wins():
    archive = make_archive([(make_member('0.vhd', pax_headers={u'size': u'1500'}), NOISE)], tarfile.PAX_FORMAT)
    at = archive.index(b'0.vhd\0')
    assert read(edit_header(archive, 124, b'00000000000\0', at)) == [('0.vhd', NOISE)]


@pytest.mark.parametrize('size_bytes', [8 * 1024 ** 3 - 1, 8 * 1024 ** 3, 2 * 1024 ** 4])
@pytest.mark.parametrize('form', ['gnu', 'pax'])
def test_large_members(form, size_bytes):
    """The header alone tells; the data of a disk of 2 TiB need not be made."""
    member = make_member('0.vhd', size=size_bytes)
    opened = []
    reader = tarball.Reader(lambda name, size: opened.append((name, size)))
    reader.feed(member.tobuf(FORMATS[form]))
    assert opened == [('0.vhd', size_bytes)]


@pytest.mark.parametrize('blocks', [2, 3, 20])
def test_an_end_of_any_length(blocks):
    archive = make_archive([('0.vhd', NOISE)])
    content = archive.rstrip(b'\0')
    content += b'\0' * (-len(content) % 512)
    assert read(content + b'\0' * 512 * blocks) == [('0.vhd', NOISE)]


@pytest.mark.parametrize('form', ['v7', 'oldgnu', 'gnu', 'ustar', 'posix'])
def test_archives_of_the_tar_program(form, tmpdir):
    contents = {'0.vhd': NOISE, '1.vhd': b'', '2.vhd': b'x' * 512}
    for name, data in contents.items():
        tmpdir.join(name).write(data, 'wb')
    archive = subprocess.check_output(['tar', '-C', str(tmpdir), '--format=' + form, '-cf', '-', '.'])
    assert sorted(read(archive)) == sorted(contents.items())


@given(entries=st.dictionaries(st.text(u'abz019._-', min_size=1, max_size=120), st.binary(max_size=1100), max_size=5),
       form=st.sampled_from(sorted(FORMATS.values())), step=st.integers(1, 2000))
def test_any_archive_split_anywhere(entries, form, step):
    entries = [(str('x' + name), data) for name, data in sorted(entries.items())
               if form != tarfile.USTAR_FORMAT or len(name) < 99]
    assert read(make_archive(entries, form), step) == entries


# Archives that nobody should have made

def link(name, kind, target):
    return make_archive([(make_member(name, kind, linkname=target), b''), ('1.vhd', b'x')])


def renamed(name, second_name):
    """An archive whose pax header gives a member another name."""
    return make_archive([(make_member(name, pax_headers={u'path': compat.to_text(second_name)}), b'x')], tarfile.PAX_FORMAT)


def pax_archive(records):
    """An archive whose pax header holds these bytes."""
    archive = make_archive([(make_member('0.vhd', pax_headers={u'comment': u'x' * 30}), b'x')], tarfile.PAX_FORMAT)
    assert archive[156:157] == b'x'
    size = len(archive[512:1024].rstrip(b'\0'))
    return archive[:512] + records.ljust(size, b'\0')[:size] + archive[512 + size:]


VALID = make_archive([('0.vhd', NOISE), ('1.vhd', b'x')])

UNSAFE = [
    ('absolute', make_archive([('/0.vhd', b'x')]), "has a member named '/0.vhd'"),
    ('parent', make_archive([('../0.vhd', b'x')]), "has a member named '../0.vhd'"),
    ('parent within', make_archive([('a/../../0.vhd', b'x')]), "has a member named 'a/../../0.vhd'"),
    ('parent after ./', make_archive([('./../0.vhd', b'x')]), "has a member named './../0.vhd'"),
    ('absolute after ./', make_archive([('.//etc/0.vhd', b'x')]), "has a member named './/etc/0.vhd'"),
    ('nameless', edit_header(make_archive([('0', b'x')]), 0, b'\0'), "has a member named ''"),
    ('symlink', link('0.vhd', tarfile.SYMTYPE, '/etc/passwd'), "member '0.vhd' of the archive is not a regular file"),
    ('hard link', link('0.vhd', tarfile.LNKTYPE, '1.vhd'), "member '0.vhd' of the archive is not a regular file"),
    ('device', link('0.vhd', tarfile.BLKTYPE, ''), "member '0.vhd' of the archive is not a regular file"),
    ('fifo', link('0.vhd', tarfile.FIFOTYPE, ''), "member '0.vhd' of the archive is not a regular file"),
    ('long link', link('0.vhd', tarfile.SYMTYPE, 'x' * 200), 'is not a regular file'),
    ('unknown kind', link('0.vhd', b'Z', ''), "member '0.vhd' of the archive is not a regular file"),
    ('directory with data', edit_header(make_archive([('d', NOISE)]), 156, b'5'), "'d' of the archive is not a regular file"),
    ('sparse of a later form', make_archive([(make_member('0.vhd', pax_headers={u'GNU.sparse.major': u'2'}), b'x')],
                                            tarfile.PAX_FORMAT), 'has sparse members of an unknown form'),
    ('global sparse', make_archive([('0.vhd', b'x')], tarfile.PAX_FORMAT, pax_headers={u'GNU.sparse.size': u'9'}),
     'changes names or sizes in a global header'),
    ('global path', make_archive([('0.vhd', b'x')], tarfile.PAX_FORMAT, pax_headers={u'path': u'/etc/passwd'}),
     'changes names or sizes in a global header'),
    ('global size', make_archive([('0.vhd', b'x')], tarfile.PAX_FORMAT, pax_headers={u'size': u'9'}),
     'changes names or sizes in a global header'),
    ('second name that leads out', renamed('0.vhd', '../1.vhd'), "has a member named '../1.vhd'"),
    ('second name that is absolute', renamed('0.vhd', '/1.vhd'), "has a member named '/1.vhd'"),
    ('unprintable', make_archive([('../a\nb\x1b[1m\x7f', b'x')]), "has a member named '../a?b?[1m?'"),
    ('directory of dots', link('..', tarfile.DIRTYPE, ''), "has a member named '../'"),
    ('absolute directory', link('/etc', tarfile.DIRTYPE, ''), "has a member named '/etc/'"),
    ('too many', make_archive([('%d.txt' % number, b'') for number in range(129)]), 'has more than 128 members'),
    ('long extension', make_archive([('n' * 1100000, b'')]), 'bytes of extended header'),
]


@pytest.mark.parametrize('step', (17, 65536))
@pytest.mark.parametrize('archive, fragment', [row[1:] for row in UNSAFE], ids=[row[0] for row in UNSAFE])
def test_unsafe_archives(archive, fragment, step):
    assert fragment in refusal_of(archive, errors.UnsafeImage, step)


def test_as_many_members_as_allowed():
    entries = [('%d.txt' % number, b'') for number in range(tarball.MAX_MEMBERS)]
    assert read(make_archive(entries)) == entries


@pytest.mark.parametrize('size_bytes, fits', [(1 << 20, True), ((1 << 20) + 1, False)])
def test_the_limit_of_an_extension(size_bytes, fits):
    record = ('%d comment=' % size_bytes).encode('ascii')
    record += b'x' * (size_bytes - len(record) - 1) + b'\n'
    archive = make_archive([(make_member('x', b'x'), record), ('0.vhd', NOISE)])
    if fits:
        assert read(archive) == [('0.vhd', NOISE)]
    else:
        assert 'has 1048577 bytes of extended header' in refusal_of(archive, errors.UnsafeImage)


def test_zeros_that_an_archive_may_end_with():
    content = make_archive([('0.vhd', NOISE)]).rstrip(b'\0')
    content += b'\0' * (-len(content) % 512)
    assert read(content + b'\0' * (4 << 20)) == [('0.vhd', NOISE)]
    assert 'bytes of zeros after its end' in refusal_of(content + b'\0' * ((4 << 20) + 512), errors.InvalidImage)


@pytest.mark.parametrize('first, second', [
    ('0.vhd', 'other.vhd'), ('a' * 100, 'a' * 99), ('0.vhd', '1' + 'x' * 200), ('disque-?t?.vhd', u'disque-\xe9t\xe9.vhd')])
def test_the_name_of_a_pax_record_is_taken(first, second):
    """GNU tar does so, and packers put '?' in the header for letters that are not ASCII."""
    shown = ''.join(c if c < u'\x7f' else '??' for c in second)
    assert read(renamed(first, second)) == [(shown, b'x')]


def test_labels_and_dumps_are_no_files():
    """tar --label, and tar --listed-incremental with the list of a directory in its data."""
    entries = [(make_member('backup of July', b'V'), b''), (make_member('./', b'D'), b'Y0.vhd\0\0'), ('0.vhd', NOISE)]
    assert read(make_archive(entries)) == [('0.vhd', NOISE)]


def test_the_tar_program_with_label_and_dump(tmpdir):
    tmpdir.mkdir('disks').join('0.vhd').write(NOISE, 'wb')
    for form in ('gnu', 'posix'):
        archive = subprocess.check_output(['tar', '-C', str(tmpdir.join('disks')), '--format=' + form, '-V', 'label', '-cf', '-',
                                           '--listed-incremental', str(tmpdir.join('snapshot-' + form)), '.'])
        assert read(archive) == [('0.vhd', NOISE)]


def read_whole(archive):
    members = []
    reader = tarball.Reader(lambda name, size_bytes: members.append(Member(name, size_bytes)) or members[-1])
    reader.feed(archive)
    reader.finish(is_whole=True)
    return [(member.name, member.data) for member in members]


@pytest.mark.parametrize('blocks', [0, 1])
def test_an_end_that_a_packer_left_out(blocks):
    content = VALID.rstrip(b'\0')
    content += b'\0' * (-len(content) % 512 + 512 * blocks)
    assert read_whole(content) == [('0.vhd', NOISE), ('1.vhd', b'x')]
    assert 'is cut short after 2 members' in refusal_of(content, errors.InvalidImage)
    assert read_whole(VALID.rstrip(b'\0')) == [('0.vhd', NOISE), ('1.vhd', b'x')]


@pytest.mark.parametrize('length', [1, 511, 600, 1023, 2011])
def test_data_that_a_packer_left_out_are_missed(length):
    with pytest.raises(errors.InvalidImage):
        read_whole(VALID[:length])


@pytest.mark.parametrize('archive', [make_archive([('n' * 150, NOISE)])[:1536], pax_archive(b'')[:1024]], ids=['long name', 'pax'])
def test_an_archive_does_not_end_behind_an_extension(archive):
    with pytest.raises(errors.InvalidImage):
        read_whole(archive)


def test_an_archive_of_nothing():
    assert read(b'\0' * 1024) == []
    assert 'is cut short after 0 members' in refusal_of(b'\0' * 512, errors.InvalidImage)


@pytest.mark.parametrize('size_bytes, fits', [((1 << 62) - 1, True), (1 << 62, False)])
def test_the_largest_size(size_bytes, fits):
    check_size(edit_header(VALID, 124, b'\x80' + b'\0' * 3 + struct.pack('>Q', size_bytes))[:512], size_bytes, fits)


@pytest.mark.parametrize('digits, fits', [(17, True), (18, True), (19, False)])
def test_the_longest_pax_size(digits, fits):
    text = u'1' * digits
    archive = make_archive([(make_member('0.vhd', pax_headers={u'size': text}), b'')], tarfile.PAX_FORMAT)
    check_size(archive[:archive.index(b'0.vhd\0') + 512], int(text), fits)


def check_size(archive, size_bytes, fits):
    opened = []
    reader = tarball.Reader(lambda name, size: opened.append(size))
    if fits:
        reader.feed(archive)
        assert opened == [size_bytes]
    else:
        with pytest.raises(errors.InvalidImage):
            reader.feed(archive)
        assert opened == []


INVALID = [
    ('zeros without end', make_archive([('0.vhd', b'x')]) + b'\0' * (4 << 20), 'bytes of zeros after its end'),
    ('empty', b'', 'is cut short after 0 members'),
    ('checksum', VALID[:10] + b'x' + VALID[11:], 'member 1 has a wrong checksum'),
    ('later checksum', VALID[:2048 + 10] + b'x' + VALID[2048 + 11:], 'the archive is damaged: member 2 has a wrong checksum'),
    ('no checksum', VALID[:148] + b'\0' * 8 + VALID[156:], 'member 1 has a wrong checksum'),
    ('no size', edit_header(VALID, 124, b'\0' * 12), 'has a member without a proper size'),
    ('size of letters', edit_header(VALID, 124, b'0000000xyz \0'), 'has a member without a proper size'),
    ('size of nines', edit_header(VALID, 124, b'99999999999\0'), 'has a member without a proper size'),
    ('negative size', edit_header(VALID, 124, b'\xff' * 12), 'has a member without a proper size'),
    ('size beyond the sign', edit_header(VALID, 124, b'\xc0' + b'\0' * 9 + b'\x05\xdc'), 'has a member without a proper size'),
    ('huge size', edit_header(VALID, 124, b'\x80' + b'\x7f' * 11), 'has a member without a proper size'),
    ('one zero block', VALID[:3072] + b'\0' * 512 + VALID[:3072], 'has a member after its end'),
    ('data after the end', VALID + NOISE, 'has other data after its end'),
    ('archive after the end', VALID + VALID, 'has other data after its end'),
    ('pax length 0', pax_archive(b'0 a=b\n'), 'has a damaged pax header'),
    ('pax length too large', pax_archive(b'999 a=b\n'), 'has a damaged pax header'),
    ('pax length huge', pax_archive(b'9' * 20 + b' a=b\n'), 'has a damaged pax header'),
    ('pax length missing', pax_archive(b'a=b\n'), 'has a damaged pax header'),
    ('pax without =', pax_archive(b'6 abc\n'), 'has a damaged pax header'),
    ('pax without end', pax_archive(b'6 a=bc'), 'has a damaged pax header'),
    ('pax size of letters', make_archive([(make_member('0.vhd', pax_headers={u'size': u'abc'}), b'x')], tarfile.PAX_FORMAT),
     'has a pax size that is not a number'),
    ('pax size huge', make_archive([(make_member('0.vhd', pax_headers={u'size': u'9' * 30}), b'x')], tarfile.PAX_FORMAT),
     'has a pax size that is not a number'),
]


@pytest.mark.parametrize('step', (17, 512, 65536))
@pytest.mark.parametrize('archive, fragment', [row[1:] for row in INVALID], ids=[row[0] for row in INVALID])
def test_invalid_archives(archive, fragment, step):
    assert fragment in refusal_of(archive, errors.InvalidImage, step)


def test_every_truncation_is_noticed():
    """An archive ends with two blocks of zeros; one cut before that is not whole."""
    end = len(VALID.rstrip(b'\0'))
    end += -end % 512 + 1024
    for length in list(range(0, end, 100)) + [511, 512, 513, end - 513, end - 512, end - 511, end - 1]:
        text = refusal_of(VALID[:length], errors.InvalidImage)
        assert 'is cut short after' in text or length < 512
    assert read(VALID[:end]) == [('0.vhd', NOISE), ('1.vhd', b'x')]


@given(archive=st.sampled_from([VALID, make_archive([('n' * 150, NOISE)]), pax_archive(b'')]),
       place=st.integers(0, 4000), value=st.binary(min_size=1, max_size=8))
def test_any_damage_is_an_image_error_or_harmless(archive, place, value):
    try:
        read(archive[:place] + value + archive[place + len(value):])
    except errors.InvalidImage as error:
        assert str(error)


@given(st.binary(max_size=3000))
def test_any_bytes_are_refused(data):
    refusal_of(b'\x01' + data, errors.InvalidImage)


def test_memory_is_bounded():
    """Of a member's data nothing is kept, and nothing is copied."""
    longest = []
    reader = tarball.Reader(lambda name, size_bytes: type('Place', (object,), {
        'write': lambda self, view: longest.append(len(view)), 'finish': lambda self: None})())
    reader.feed(make_member('0.vhd', size=1 << 40).tobuf(tarfile.GNU_FORMAT))
    for _ in range(100):
        reader.feed(b'\0' * 65536)
    assert longest == [65536] * 100
    assert reader._header == b''


# Writing

@pytest.mark.parametrize('size_bytes', [0, 1, 511, 512, 513, 1 << 20])
def test_what_is_written_is_read_by_all(size_bytes, tmpdir):
    data = (NOISE * 700)[:size_bytes]
    archive = tarball.pack_header('0.vhd', size_bytes) + data + tarball.padding(size_bytes) + tarball.END
    assert read(archive, 513) == [('0.vhd', data)]
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        member = opened.next()
        assert (member.name, member.mtime, member.isreg(), member.mode) == ('0.vhd', 0, True, 0o644)
        assert opened.extractfile(member).read() == data
        assert opened.next() is None
    path = tmpdir.join('archive.tar')
    path.write(archive, 'wb')
    subprocess.check_call(['tar', '-C', str(tmpdir), '-xf', str(path)])
    assert tmpdir.join('0.vhd').read('rb') == data


@pytest.mark.parametrize('size_bytes', [(8 << 30) - 1, 8 << 30, 2 << 40])
def test_headers_of_large_files(size_bytes):
    header = tarball.pack_header('15.vhd', size_bytes)
    assert len(header) == 512
    check_size(header, size_bytes, True)
    assert tarfile.TarInfo.frombuf(*[header] if bytes is str else [header, 'utf-8', 'strict']).size == size_bytes
