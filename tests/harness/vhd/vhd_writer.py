# SPDX-License-Identifier: Apache-2.0
"""Make VHD files from data, laid out as blktap lays them out.

Options of every function: uuid_text, created_at (seconds since 1970), hidden, and for all but fixed disks batmap (False:
a disk as other programs make it) and max_size_bytes (metadata preallocated for growth).  Whatever else a test needs, it
patches into the file.
"""

import os

from dom0_lib.disks import vhd
from tests.harness.vhd import vhd_image

_ZEROS = bytes(vhd.BLOCK_SIZE)


def write_dynamic(path, source, size_bytes=None, **options):
    """A dynamic disk with the content of `source`; blocks of zeros stay unallocated.

    source:     the path of a raw file, bytes, or an iterable of (offset, bytes) in whole sectors
    size_bytes: of the disk; needed for an iterable, and at most zeros are added to the rest
    """
    changes, source_size = _open_source(source)
    with vhd_image.Image.create(path, _round_size(size_bytes or source_size), **options) as image:
        _write_changes(image, changes)


def write_differencing(path, parent_path, changes, size_bytes=None, **options):
    """A child of `parent_path` that changes it by `changes`: an iterable of (offset, bytes) in whole sectors."""
    if size_bytes is None:
        with vhd_image.Image.open(parent_path) as parent:
            size_bytes = parent.size_bytes
    with vhd_image.Image.create(path, size_bytes, vhd.DIFFERENCING, parent=parent_path, **options) as image:
        _write_changes(image, changes)


def write_fixed(path, source, size_bytes=None, **options):
    """A fixed disk with the content of `source`, as for write_dynamic."""
    changes, source_size = _open_source(source)
    with vhd_image.Image.create(path, _round_size(size_bytes or source_size), vhd.FIXED, **options) as image:
        _write_changes(image, changes)


def patch(path, offset, data):
    """Overwrite bytes of a file; a negative offset counts from its end."""
    with open(path, 'r+b') as target:
        target.seek(offset, os.SEEK_END if offset < 0 else os.SEEK_SET)
        target.write(data)


def edit_footers(path, primary=True, backup=True, reseal=True, **fields):
    """Set fields of the footer in its copies; `reseal` makes the checksum right again."""
    with vhd_image.Image.open(path) as image:
        places = ([(image.file_size - vhd.FOOTER_SIZE, image.read_primary_footer)] if primary else []) + (
            [(0, image.read_backup_footer)] if backup and image.is_dynamic else [])
        edited = [(offset, _edit(read(), fields, reseal)) for offset, read in places]
    for offset, data in edited:
        patch(path, offset, data)


def edit_header(path, reseal=True, **fields):
    """Set fields of the header; `reseal` makes the checksum right again."""
    with vhd_image.Image.open(path) as image:
        offset, data = image.footer.data_offset, _edit(image.header, fields, reseal)
    patch(path, offset, data)


def _edit(record, fields, reseal):
    for name, value in fields.items():
        if not hasattr(record, name):
            raise ValueError('no field %s' % name)
        setattr(record, name, value)
    return record.seal() if reseal else record.pack()


def _round_size(size_bytes):
    return vhd.round_up(size_bytes, vhd.SECTOR_SIZE)


def _open_source(source):
    if isinstance(source, (bytes, bytearray)):
        return _cut(source), len(source)
    if isinstance(source, (str, os.PathLike)):
        return _read_file(source), os.stat(source).st_size
    return source, None


def _cut(data):
    for offset in range(0, len(data), vhd.BLOCK_SIZE):
        yield offset, data[offset:offset + vhd.BLOCK_SIZE]


def _read_file(path):
    """(offset, bytes) of a sparse file's data, block by block."""
    with open(path, 'rb', 0) as raw:
        size = os.fstat(raw.fileno()).st_size
        offset = 0
        while offset < size:
            try:
                offset = os.lseek(raw.fileno(), offset, os.SEEK_DATA) // vhd.BLOCK_SIZE * vhd.BLOCK_SIZE
            except OSError:  # ENXIO: only a hole is left
                return
            yield offset, os.pread(raw.fileno(), vhd.BLOCK_SIZE, offset)
            offset += vhd.BLOCK_SIZE


def _write_changes(image, changes):
    for offset, data in changes:
        if image.is_differencing or data != _ZEROS[:len(data)]:
            image.write(offset, data + bytes(-len(data) % vhd.SECTOR_SIZE))
    image.flush()
