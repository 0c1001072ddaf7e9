# SPDX-License-Identifier: Apache-2.0
"""The reader of ISO images: each limit at its bound and one beyond, and an image that fuzzing found.

tests/calls/boot/test_ipxe.py reads images that real programs make.
"""

from __future__ import absolute_import, division

import io
import os
import stat

import pytest

from dom0_lib import errors
from dom0_lib.boot import iso9660
from tests.contract import plugin_host
from tests.unit.boot import iso_image
from tests.unit.boot.iso_image import DIRECTORY, FREE_SECTOR, MORE_EXTENTS, SECTOR, make_image, make_name, make_record, make_sharing

CORPUS = os.path.join(plugin_host.CHECKOUT, 'tests', 'security', 'corpus', 'iso')
END_SECTOR = FREE_SECTOR + 2
CONTENT = b'0123456789' * 409 + b'012345'  # two sectors


@pytest.fixture
def open_image(tmpdir):
    """Function(bytes) -> an Image, whose file stays open."""
    sources = []

    def open_image(data):
        tmpdir.join('x.iso').write_binary(data)
        sources.append(io.open(str(tmpdir.join('x.iso')), 'rb'))
        return iso9660.Image(sources[-1])
    yield open_image
    for source in sources:
        source.close()


def list_files(image):
    return [(entry.path, entry.size_bytes) for entry in image.files]


def read(image, number=0, piece_bytes=1000):
    return b''.join(image.read(image.files[number], piece_bytes))


def refuse(open_image, data, message, kind=errors.UnsafeImage):
    with pytest.raises(kind) as caught:
        open_image(data)
    assert message in str(caught.value)


def test_a_field_that_ends_before_its_last_byte(open_image):
    """Such a field is ignored, so the image has no Rock Ridge names."""
    with io.open(os.path.join(CORPUS, 'found-short-field'), 'rb') as found:
        assert open_image(b'\0' * 32768 + found.read()).files == []


def test_a_plain_image(open_image):
    image = open_image(make_image([
        make_record(b'A.;1', size_bytes=17), make_record(b'B.TXT;1', size_bytes=2 * SECTOR),
        make_record(b'C', FREE_SECTOR, 100, attribute_sectors=1), make_record(b'D', size_bytes=0, sector=1 << 30)], CONTENT))
    assert list_files(image) == [(b'a', 17), (b'b.txt', 2 * SECTOR), (b'c', 100), (b'd', 0)]
    assert (image.volume_id, image.left_out, image.size_bytes) == (b'IPXE', [], END_SECTOR * SECTOR)
    assert [read(image, number) for number in range(4)] == [CONTENT[:17], CONTENT, CONTENT[SECTOR:SECTOR + 100], b'']


@pytest.mark.parametrize('piece_bytes, sizes', [(2, [2, 2, 1]), (4, [4, 1]), (5, [5]), (6, [5])])
def test_content_comes_in_pieces(open_image, piece_bytes, sizes):
    image = open_image(make_image([make_record(b'A', size_bytes=5)], CONTENT))
    assert [len(piece) for piece in image.read(image.files[0], piece_bytes)] == sizes


def test_a_file_ends_in_the_image(open_image):
    assert list_files(open_image(make_image([make_record(b'A', END_SECTOR - 1, SECTOR)], CONTENT))) == [(b'a', SECTOR)]
    refuse(open_image, make_image([make_record(b'A', END_SECTOR - 1, SECTOR + 1)], CONTENT), 'a reaches beyond the end of the image')
    refuse(open_image, make_image([make_record(b'A', END_SECTOR, 1)], CONTENT), 'a reaches beyond the end of the image')


def test_an_image_that_becomes_shorter(open_image, tmpdir):
    image = open_image(make_image([make_record(b'A', size_bytes=2 * SECTOR)], CONTENT))
    with open(str(tmpdir.join('x.iso')), 'r+b') as target:
        target.truncate(image.size_bytes - 1)
    with pytest.raises(errors.InvalidImage, match='became shorter'):
        read(image, piece_bytes=2 * SECTOR)


@pytest.mark.parametrize('before, is_found', [(0, True), (1, True), (63, True), (64, False)])
def test_the_descriptor_is_among_the_first_64(open_image, before, is_found):
    root = 16 + before + 1
    data = b'\0' * 16 * SECTOR + iso_image.make_descriptor(kind=0) * before
    data += iso_image.make_descriptor(root_sector=root) + iso_image.make_directory([make_record(b'A', size_bytes=0)])
    if is_found:
        assert list_files(open_image(data)) == [(b'a', 0)]
    else:
        refuse(open_image, data, 'this is not an ISO 9660 image', errors.InvalidImage)


@pytest.mark.parametrize('data', [
    b'', b'\0' * 40 * SECTOR, b'\0' * 16 * SECTOR + iso_image.make_descriptor()[:-1],
    make_image([], descriptors=iso_image.make_descriptor(kind=255) + iso_image.make_descriptor()),
    make_image([], descriptors=iso_image.make_descriptor(kind=0, signature=b'CD002') + iso_image.make_descriptor())])
def test_what_has_no_descriptor_is_no_image(open_image, data):
    refuse(open_image, data, 'this is not an ISO 9660 image', errors.InvalidImage)


@pytest.mark.parametrize('block_bytes', [0, 512, SECTOR - 1, SECTOR + 1])
def test_blocks_of_another_size(open_image, block_bytes):
    refuse(open_image, make_image([], descriptors=iso_image.make_descriptor(block_bytes=block_bytes)), 'blocks of another size than 2048',
           errors.InvalidImage)


@pytest.mark.parametrize('found, volume_id', [(b' A B' + b'\0' * 28, b' A B'), (b'x' * 32, b'x' * 32), (b'', b'')])
def test_a_volume_id_loses_its_padding(open_image, found, volume_id):
    assert open_image(make_image([], descriptors=iso_image.make_descriptor(volume_id=found))).volume_id == volume_id


def nest(depth):
    """An image with a file in `depth` directories."""
    sectors = [iso_image.make_directory([make_record(b'D', FREE_SECTOR + number + 1, SECTOR, DIRECTORY)]) for number in range(depth - 1)]
    sectors.append(iso_image.make_directory([make_record(b'F')]))
    return make_image([make_record(b'D', FREE_SECTOR, SECTOR, DIRECTORY)], b''.join(sectors))


def test_the_depth_of_directories(open_image):
    assert list_files(open_image(nest(16))) == [(b'd/' * 16 + b'f', 0)]
    refuse(open_image, nest(17), 'form a loop, or are more than 16 deep')


@pytest.mark.parametrize('sector', [iso_image.ROOT_SECTOR, FREE_SECTOR])
def test_a_loop_of_directories(open_image, sector):
    refuse(open_image, make_image(
        [make_record(b'D', FREE_SECTOR, SECTOR, DIRECTORY)], iso_image.make_directory([make_record(b'E', sector, SECTOR, DIRECTORY)])),
        'form a loop')


def test_the_size_of_a_directory(open_image):
    def make(size_bytes):
        return make_image([make_record(b'D', FREE_SECTOR, size_bytes, DIRECTORY)],
                          iso_image.make_directory([make_record(b'F')]).ljust((4 << 20) + SECTOR, b'\0'))
    assert list_files(open_image(make(4 << 20))) == [(b'd/f', 0)]
    refuse(open_image, make((4 << 20) + 1), 'a directory of the image has 4194305 bytes')


def test_a_directory_ends_in_the_image(open_image):
    assert open_image(make_image([make_record(b'D', END_SECTOR - 2, 2 * SECTOR, DIRECTORY)], b'\0' * 2 * SECTOR)).files == []
    refuse(open_image, make_image([make_record(b'D', END_SECTOR - 2, 2 * SECTOR + 1, DIRECTORY)], b'\0' * 2 * SECTOR),
           'the image has %d bytes, and refers to byte %d' % (END_SECTOR * SECTOR, (END_SECTOR + 1) * SECTOR))


def test_the_number_of_records(open_image):
    def make(count):
        return make_image([make_record(b'%05d' % number) for number in range(count - 2)])
    assert len(open_image(make(20000)).files) == 19998
    refuse(open_image, make(20001), 'the image has more than 20000 files')


def test_records_in_all_sectors_of_a_directory(open_image):
    names = [b'%03d' % number + b'x' * 180 for number in range(30)]
    assert [path for path, _ in list_files(open_image(make_image([make_record(name) for name in names])))] == names


@pytest.mark.parametrize('length', [1, 32, 33])
def test_a_record_of_less_than_its_fields(open_image, length):
    refuse(open_image, make_image([make_record(b'A', length=length)]), 'the image has a directory that is cut off')


@pytest.mark.parametrize('last_length, is_right', [(34, True), (35, False), (255, False)])
def test_a_record_ends_in_its_sector(open_image, last_length, is_right):
    """The sector is full: 68 bytes of the directory and its parent, one record of 42 bytes and 57 of 34."""
    records = [make_record(b'123456789')] + [make_record(bytes(bytearray([128 + number]))) for number in range(56)]
    data = make_image(records + [make_record(b'Z', length=last_length)])
    if is_right:
        assert len(open_image(data).files) == 58
    else:
        refuse(open_image, data, 'the image has a directory that is cut off')


@pytest.mark.parametrize('length, is_right', [(33 + 4, True), (33 + 3, False), (34, False)])
def test_a_name_ends_in_its_record(open_image, length, is_right):
    data = make_image([make_record(b'ABCD', length=length)[:length]])
    if is_right:
        assert list_files(open_image(data)) == [(b'abcd', 0)]
    else:
        refuse(open_image, data, 'the image has a file whose name is cut off')


def test_a_name_of_no_bytes(open_image):
    refuse(open_image, make_image([make_record(b'', system_use=b'xx')]), 'the image has a file whose name is cut off')


@pytest.mark.parametrize('name', [b'..', b'.', b'a/b', b'/', b'a\nb', b'\x1f', b'\x7f', b'a\0'])
def test_a_name_that_is_none(open_image, name):
    refuse(open_image, make_image([make_record(b'A', system_use=make_name(name))], system_use=make_sharing()), 'a file with the unsafe name ')


@pytest.mark.parametrize('name', [b'...', b' ', b'\x80', b'a=b\\', b'~'])
def test_a_name_that_is_unusual(open_image, name):
    assert list_files(open_image(make_image([make_record(b'A', system_use=make_name(name))], system_use=make_sharing()))) == [(name, 0)]


def test_a_name_that_is_nothing_but_a_dot_and_a_version(open_image):
    refuse(open_image, make_image([make_record(b'.;1')]), 'a file with the unsafe name ')


@pytest.mark.parametrize('size_bytes, is_right', [(255, True), (256, False)])
def test_the_length_of_a_name(open_image, size_bytes, is_right):
    """No record can hold such a name: its second half is in another place."""
    content = make_name(b'y' * (size_bytes - 100))
    record = make_record(b'A', system_use=make_name(b'x' * 100) + iso_image.make_continuation(FREE_SECTOR, 0, len(content)))
    data = make_image([record], iso_image.pad(content), make_sharing())
    if is_right:
        assert list_files(open_image(data)) == [(b'x' * 100 + b'y' * 155, 0)]
    else:
        refuse(open_image, data, 'a file with the unsafe name xxx')


def test_two_files_of_one_name(open_image):
    refuse(open_image, make_image([make_record(b'A;1'), make_record(b'B'), make_record(b'a')]), 'the image has a twice')
    refuse(open_image, make_image([make_record(b'A', FREE_SECTOR, SECTOR, DIRECTORY), make_record(b'A')], b'\0' * SECTOR),
           'the image has a twice')


def test_a_file_of_several_extents(open_image):
    image = open_image(make_image([
        make_record(b'A', FREE_SECTOR + 1, SECTOR, MORE_EXTENTS), make_record(b'A', FREE_SECTOR, 10), make_record(b'B', size_bytes=3)],
        CONTENT))
    assert list_files(image) == [(b'a', SECTOR + 10), (b'b', 3)]
    assert read(image) == CONTENT[SECTOR:] + CONTENT[:10]


@pytest.mark.parametrize('records', [[], [make_record(b'B')], [make_record(b'B'), make_record(b'A')]])
def test_a_file_whose_last_extent_is_not_there(open_image, records):
    refuse(open_image, make_image([make_record(b'A', FREE_SECTOR, SECTOR, MORE_EXTENTS)] + records, CONTENT), 'a is cut off')


@pytest.mark.parametrize('options', [{'unit': 1}, {'gap': 1}])
def test_a_file_between_others(open_image, options):
    refuse(open_image, make_image([make_record(b'A', **options)]), 'a is interleaved', errors.InvalidImage)


def test_an_associated_file_is_none(open_image):
    records = [make_record(b'A', flags=iso_image.ASSOCIATED, size_bytes=1 << 30), make_record(b'A')]
    assert list_files(open_image(make_image(records))) == [(b'a', 0)]


def test_other_flags_say_nothing(open_image):
    """Hidden, with a format of records, protected, and two that are reserved."""
    assert list_files(open_image(make_image([make_record(b'A', flags=0x79)]))) == [(b'a', 0)]


@pytest.mark.parametrize('mode, is_file', [
    (stat.S_IFREG | 0o644, True), (0, True), (stat.S_IFLNK, False), (stat.S_IFCHR, False), (stat.S_IFIFO | 0o666, False)])
def test_the_mode_says_what_is_left_out(open_image, mode, is_file):
    image = open_image(make_image([make_record(b'A', system_use=iso_image.make_mode(mode))], system_use=make_sharing()))
    assert (list_files(image), image.left_out) == (([(b'a', 0)], []) if is_file else ([], [b'a']))


def test_a_mode_of_three_bytes_says_nothing(open_image):
    record = make_record(b'A', system_use=iso_image.make_field(b'PX', b'\0\xa0\0'))
    assert list_files(open_image(make_image([record], system_use=make_sharing()))) == [(b'a', 0)]


@pytest.mark.parametrize('signature', [b'CL', b'RE'])
def test_directories_that_were_moved(open_image, signature):
    record = make_record(b'A', system_use=iso_image.make_field(signature, b'\0' * 8))
    refuse(open_image, make_image([record], system_use=make_sharing()), 'moved because they were too deep', errors.InvalidImage)


@pytest.mark.parametrize('system_use, is_announced', [
    (make_sharing(), True), (b'', False), (b'SP\x07\x01\xbe\xee\0', False), (b'SX\x07\x01\xbe\xef\0', False), (b'SP\x07\x01\xbe\xef', False)])
def test_a_system_use_area_that_is_not_announced_says_nothing(open_image, system_use, is_announced):
    image = open_image(make_image([make_record(b'A', system_use=make_name(b'name'))], system_use=system_use))
    assert list_files(image) == [(b'name' if is_announced else b'a', 0)]


@pytest.mark.parametrize('skipped_bytes', [0, 1, 14])
def test_the_part_of_others_is_skipped(open_image, skipped_bytes):
    others = make_name(b'others')[:skipped_bytes].ljust(skipped_bytes, b'.')
    record = make_record(b'A', system_use=others + make_name(b'ours'))
    assert list_files(open_image(make_image([record], system_use=make_sharing(skipped_bytes)))) == [(b'ours', 0)]


@pytest.mark.parametrize('end', [iso_image.make_field(b'ST', b''), b'NM\x03\x01', b'NM\0\x01'])
def test_an_end_of_the_area(open_image, end):
    record = make_record(b'A', system_use=make_name(b'x') + end + make_name(b'y'))
    assert list_files(open_image(make_image([record], system_use=make_sharing()))) == [(b'x', 0)]


def continue_often(count):
    """An image in which the name of a file is in `count` more places."""
    size_bytes = len(make_name(b'y') + iso_image.make_continuation(0, 0, 0))
    content = b''.join(make_name(b'y') + iso_image.make_continuation(FREE_SECTOR, size_bytes * (number + 1), size_bytes)
                       for number in range(count - 1)) + make_name(b'z')
    record = make_record(b'A', system_use=make_name(b'x') + iso_image.make_continuation(FREE_SECTOR, 0, size_bytes))
    return make_image([record], iso_image.pad(content), make_sharing())


def test_the_places_that_describe_a_file(open_image):
    assert list_files(open_image(continue_often(1))) == [(b'xz', 0)]
    assert list_files(open_image(continue_often(15))) == [(b'x' + b'y' * 14 + b'z', 0)]
    refuse(open_image, continue_often(16), 'describes a file in more than 16 places')


def test_the_number_of_places_in_all(open_image):
    """The root has 2 records of its own, and each file costs 16 reads."""
    size_bytes = len(iso_image.make_continuation(0, 0, 0))
    content = b''.join(iso_image.make_continuation(FREE_SECTOR, size_bytes * (number + 1), size_bytes) for number in range(14))

    def make(count):
        place = iso_image.make_continuation(FREE_SECTOR, 0, size_bytes)
        return make_image([make_record(b'%04d' % number, system_use=place) for number in range(count)], iso_image.pad(content), make_sharing())
    assert len(open_image(make(1249)).files) == 1249
    refuse(open_image, make(1250), 'the image has more than 20000 files')


def test_a_place_beyond_the_image(open_image):
    record = make_record(b'A', system_use=iso_image.make_continuation(FREE_SECTOR, 0, SECTOR))
    refuse(open_image, make_image([record], b'\0' * (SECTOR - 1), make_sharing()), 'and refers to byte ')


def test_a_place_that_does_not_say_how_long_it_is(open_image):
    record = make_record(b'A', system_use=make_name(b'x') + iso_image.make_field(b'CE', b'\xff' * 19))
    assert list_files(open_image(make_image([record], system_use=make_sharing()))) == [(b'x', 0)]


def test_no_more_than_a_sector_is_read_of_a_place(open_image):
    record = make_record(b'A', system_use=iso_image.make_continuation(FREE_SECTOR, 0, 0xffffffff))
    image = open_image(make_image([record], iso_image.pad(make_name(b'x')), make_sharing()))
    assert list_files(image) == [(b'x', 0)]
