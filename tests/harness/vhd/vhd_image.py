# SPDX-License-Identifier: Apache-2.0
"""One VHD file, opened as leniently as vhd-util does, or made with the layout that blktap gives it.

Errors are OSError; a defect of the format is EINVAL, as in vhd-util.
"""

import errno
import os
import struct
import time

from dom0_lib.disks import vhd
from tests.harness.vhd import vhd_parent

# vhd-util opens a disk with a bad header ten times, one second apart: "10-20 s in query, check, modify, repair".  Tests
# need the repetition, not the wait; VHD_UTIL_RETRY_SLEEP_S=1 restores the recorded pause.
HEADER_TRIES = 10
DEFAULT_RETRY_SLEEP_S = 0.02
# blktap places blocks so that their data, after the one-sector bitmap, begin on a page.
_DATA_ALIGNMENT = 4096


def is_of_blktap(footer):
    """Whether libvhd takes the file for one of blktap: it compares three letters."""
    return footer.creator[:3] == b'tap'


def fail(code):
    """Raise OSError for an errno."""
    raise OSError(code, os.strerror(code))


def make_uuid():
    """16 random bytes that are a version 4 UUID (the uuid module would double the stand-in's start-up)."""
    raw = bytearray(os.urandom(16))
    raw[6] = raw[6] & 0x0f | 0x40
    raw[8] = raw[8] & 0x3f | 0x80
    return bytes(raw)


def read_clock():
    """Seconds since 1970; VHD_UTIL_NOW replaces the host's clock."""
    return float(os.environ.get('VHD_UTIL_NOW') or time.time())


class Image(object):
    """An open VHD file.

    footer, header and locators may be changed; `write_footers` and `write_header` put them into the file.  Content
    written with `write` is complete only after `flush`.
    """

    def __init__(self, path, fd):
        self.path = path
        self.fd = fd
        self.footer = None
        self.header = None
        self.locators = []
        self._bat = None
        self._batmap = None
        self._map = None
        self._bitmap_cache = (None, None)
        self._tail = None

    @classmethod
    def open(cls, path, writable=False, at_start=False):
        """The image in an existing file; the primary footer is trusted if it is intact, else the backup.

        at_start: go by the first sectors alone, and try only once, as a fast scan does; fixed disks fail
        """
        image = cls(path, os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC))
        try:
            image.footer = image._read_footer(at_start)
            if image.is_dynamic:
                if is_of_blktap(image.footer) and image.footer.creator_version <= 1:
                    fail(errno.EINVAL)
                image.header = image._read_header(1 if at_start else HEADER_TRIES)
                image.locators = [image._read_locator(locator) for locator in image.header.parse_locators()]
        except BaseException:
            image.close()
            raise
        return image

    @classmethod
    def create(cls, path, size_bytes, disk_type=vhd.DYNAMIC, parent=None, parent_is_raw=False, max_size_bytes=None,
               uuid_text=None, created_at=None, hidden=0, batmap=True):
        """A new, empty image, replacing any file of that name; `parent` is the path for a differencing disk.

        max_size_bytes: the size to preallocate metadata for, EINVAL if it is less than the disk's
        created_at:     seconds since 1970
        batmap:         whether there is one, as in all that blktap makes
        The file is removed again when something fails.
        """
        image = cls(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644))
        try:
            image._lay_out(size_bytes, disk_type, parent, parent_is_raw, max_size_bytes, uuid_text,
                           read_clock() if created_at is None else created_at, hidden, batmap)
        except BaseException:
            image.close()
            os.unlink(path)
            raise
        return image

    def close(self):
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

    # Properties

    @property
    def is_dynamic(self):
        return self.footer.disk_type in (vhd.DYNAMIC, vhd.DIFFERENCING)

    @property
    def is_differencing(self):
        return self.footer.disk_type == vhd.DIFFERENCING

    @property
    def has_raw_parent(self):
        return self.is_differencing and self.header.parent_uuid_bytes == vhd.NULL_UUID

    @property
    def size_bytes(self):
        return self.footer.current_size

    @property
    def file_size(self):
        return os.fstat(self.fd).st_size

    def find_parent(self):
        return vhd_parent.find_parent(self.path, self.locators)

    # Reading

    def read_at(self, offset, size):
        """Bytes of the file; as recorded, nothing at all is EPIPE, less than asked is EIO, an odd offset EINVAL."""
        if offset % vhd.SECTOR_SIZE or offset >> 63:
            fail(errno.EINVAL)
        data = os.pread(self.fd, size, offset)
        if not data:
            fail(errno.EPIPE)
        if len(data) < size:
            fail(errno.EIO)
        return data

    def read_primary_footer(self):
        file_size = self.file_size
        if file_size % vhd.SECTOR_SIZE == vhd.SHORT_FOOTER_SIZE:
            data = self.read_at(file_size - vhd.SHORT_FOOTER_SIZE, vhd.SHORT_FOOTER_SIZE) + b'\0'
        elif file_size < vhd.FOOTER_SIZE:
            fail(errno.EINVAL)
        else:
            data = self.read_at(file_size - vhd.FOOTER_SIZE, vhd.FOOTER_SIZE)
        return vhd.Footer.parse(data)

    def read_backup_footer(self):
        return vhd.Footer.parse(self.read_at(0, vhd.FOOTER_SIZE))

    def _read_footer(self, at_start):
        try:
            primary = None if at_start else self.read_primary_footer()
            if primary and primary.intact:
                return primary
        except OSError:
            pass
        backup = self.read_backup_footer()
        if not backup.intact:
            fail(errno.EINVAL)
        return backup

    def _read_header(self, tries):
        sleep_s = float(os.environ.get('VHD_UTIL_RETRY_SLEEP_S') or DEFAULT_RETRY_SLEEP_S)
        for _ in range(tries):
            try:
                header = vhd.Header.parse(self.read_at(self.footer.data_offset, vhd.HEADER_SIZE))
                if find_header_fault(header) is None and header.block_size <= vhd.BLOCK_SIZE:
                    return header
                error = OSError(errno.EINVAL, 'bad header')
            except OSError as reason:
                error = reason
            if tries > 1:
                time.sleep(sleep_s)
        raise error

    def _read_locator(self, locator):
        space = locator.space_bytes
        if locator.data_length <= space and not space % vhd.SECTOR_SIZE and locator.data_offset < self.file_size:
            data = os.pread(self.fd, locator.data_length, locator.data_offset)
            locator.data = data if len(data) == locator.data_length else None
        return locator

    @property
    def bat(self):
        """The whole BAT; EINVAL if it is too small for the disk."""
        if self._bat is None:
            if self.header is None or self.header.max_bat_entries * vhd.BLOCK_SIZE < self.size_bytes:
                fail(errno.EINVAL)
            bat = []
            with open(os.dup(self.fd), 'rb', 0) as fileobj:
                try:
                    for _, entries in vhd.read_bat(fileobj, self.header):
                        bat.extend(entries)
                except (vhd.FormatError, OverflowError):
                    fail(errno.EINVAL)
            self._bat = bat
        return self._bat

    @property
    def batmap(self):
        """The Batmap or None; EINVAL if there should be one and its header or checksum is wrong.

        The map is read from the place that its header names, anywhere in the file, and is written back there.
        """
        if self._batmap is None and self._has_batmap():
            batmap = self._read_batmap_header()
            if batmap is None:
                fail(errno.EINVAL)
            assert batmap.size_sectors, 'blktap asserts this too, and is killed by SIGABRT'
            data = self.read_at(batmap.offset, batmap.size_sectors * vhd.SECTOR_SIZE)
            if vhd.compute_checksum(data[:self._summed_map_size]) != batmap.checksum:
                fail(errno.EINVAL)
            self._batmap, self._map = batmap, bytearray(data)
        return self._batmap

    def _has_batmap(self):
        """As libvhd tells: from version 1.2 on a file has one; before, it has if the sector behind the BAT looks like one now."""
        if self.header is None or not is_of_blktap(self.footer) or self.footer.creator_version <= 1:
            return False
        return self.footer.creator_version >= 0x00010002 or self._read_batmap_header() is not None

    def _read_batmap_header(self):
        batmap = vhd.Batmap.parse(self.read_at(self.header.bat_end, vhd.BATMAP_HEADER_SIZE))
        return batmap if batmap.cookie == vhd.BATMAP_COOKIE and batmap.version <= vhd.BATMAP_VERSION else None

    @property
    def _summed_map_size(self):
        """Bytes of the map that libvhd reads and sums."""
        return max(vhd.SECTOR_SIZE, vhd.round_up(self.size_bytes >> 24, vhd.SECTOR_SIZE))

    def is_full(self, block):
        """Whether the batmap calls a block full: then nobody reads its bitmap.  A batmap that cannot be read is none."""
        try:
            return self.batmap is not None and bool(self._map[block // 8] & 0x80 >> block % 8)
        except OSError:
            return False

    @property
    def metadata_end(self):
        """Where blocks may begin."""
        end = self.header.bat_end
        if self.batmap:
            end = self.batmap.offset + self.batmap.size_sectors * vhd.SECTOR_SIZE
        return max([end] + [locator.data_offset + locator.space_bytes for locator in self.locators])

    @property
    def block_length(self):
        """Bytes of a block with its bitmap."""
        return self.header.bitmap_size + self.header.block_size

    @property
    def data_end(self):
        """Where the primary footer belongs: after the metadata and the last block, or at the end of a fixed disk."""
        if self._tail is None and self.header is None:
            self._tail = vhd.round_up(self.file_size, vhd.SECTOR_SIZE) - vhd.FOOTER_SIZE
        elif self._tail is None:
            ends = [entry * vhd.SECTOR_SIZE + self.block_length for entry in self.bat if entry != vhd.UNUSED_ENTRY]
            self._tail = max(ends + [self.metadata_end])
        return self._tail

    def read_bitmap(self, block):
        """The bitmap of an allocated block."""
        if self._bitmap_cache[0] != block:
            offset = self.bat[block] * vhd.SECTOR_SIZE
            self._bitmap_cache = (block, self.read_at(offset, self.header.bitmap_size))
        return self._bitmap_cache[1]

    def read_runs(self, start, end):
        """Yield (start, end, offset in the file or None) for the runs of guest bytes that this file has or has not."""
        size = min(end, self.size_bytes)
        while start < size:
            if self.header is None:
                yield start, size, start
                start = size
                continue
            block_size = self.header.block_size
            block, first = divmod(start, block_size)
            stop = min(size, (block + 1) * block_size)
            entry = self.bat[block]
            if entry == vhd.UNUSED_ENTRY:
                yield start, stop, None
            else:
                data_offset = entry * vhd.SECTOR_SIZE + self.header.bitmap_size - block * block_size
                bitmap = b'\xff' * self.header.bitmap_size if self.is_full(block) else self.read_bitmap(block)
                for run_start, run_end, present in _iterate_bitmap(bitmap, block * block_size, start, stop):
                    yield run_start, run_end, run_start + data_offset if present else None
            start = stop
        if start < end:
            yield start, end, None

    # Writing

    def _lay_out(self, size_bytes, disk_type, parent, parent_is_raw, max_size_bytes, uuid_text, created_at, hidden, batmap):
        self.footer = footer = vhd.Footer()
        footer.disk_type = disk_type
        footer.uuid_bytes = vhd.parse_uuid(uuid_text) if uuid_text else make_uuid()
        footer.timestamp = int(created_at) - vhd.EPOCH_UNIX_S
        footer.original_size = size_bytes
        footer.set_size(size_bytes)
        footer.hidden = hidden
        if disk_type == vhd.FIXED:
            footer.data_offset = vhd.NO_OFFSET
            if size_bytes:
                os.posix_fallocate(self.fd, 0, size_bytes)
            self._tail = size_bytes
            self.write_footers()
            return
        if not batmap:
            footer.creator, footer.creator_version, footer.creator_host = b'win ', 0x00060001, b'Wi2k'
        self.header = header = vhd.Header()
        max_size_bytes = size_bytes if max_size_bytes is None else max_size_bytes
        if max_size_bytes < size_bytes:
            fail(errno.EINVAL)
        header.max_bat_entries = -(-max_size_bytes // vhd.BLOCK_SIZE)
        self._bat = [vhd.UNUSED_ENTRY] * header.max_bat_entries
        if batmap:
            self._batmap = vhd.Batmap()
            self._batmap.offset = header.bat_end + vhd.BATMAP_HEADER_SIZE
            self._batmap.size_sectors = max(1, -(-header.max_bat_entries // (8 * vhd.SECTOR_SIZE)))
            self._map = bytearray(self._batmap.size_sectors * vhd.SECTOR_SIZE)
        if parent is not None:
            self.set_parent(parent, parent_is_raw)
        self.write_header()
        self.flush()

    def set_parent(self, parent_path, parent_is_raw=False):
        """Write locators to the parent, and set the header's parent fields (not yet written)."""
        if parent_is_raw:
            os.close(os.open(parent_path, os.O_RDONLY))
            parent_uuid = vhd.NULL_UUID
        else:
            with Image.open(parent_path) as parent:
                parent_uuid = parent.footer.uuid_bytes
        parent_timestamp = vhd_parent.read_modification_time(parent_path)
        self.write_locators(vhd_parent.encode_locators(self.path, parent_path))
        self.header.parent_uuid_bytes = parent_uuid
        self.header.parent_timestamp = parent_timestamp
        self.header.set_parent_name(os.path.basename(os.path.realpath(parent_path)))

    def write_locators(self, targets):
        """Write the data of locators, [(code, data), ...], reusing the space of old ones; the header is not yet written.

        As recorded, ENAMETOOLONG leaves the data written so far.
        """
        old, self.locators = self.locators, []
        for index, (code, data) in enumerate(targets):
            locator = vhd.Locator()
            locator.index, locator.code, locator.data, locator.data_length = index, code, data, len(data)
            locator.data_space = vhd_parent.LOCATOR_SPACE
            if index < len(old):
                locator.data_offset = old[index].data_offset
            else:
                locator.data_offset = self.data_end
                self._tail += vhd_parent.LOCATOR_SPACE
            if len(data) > vhd_parent.LOCATOR_SPACE:
                fail(errno.ENAMETOOLONG)
            os.pwrite(self.fd, data.ljust(vhd_parent.LOCATOR_SPACE, b'\0'), locator.data_offset)
            self.locators.append(locator)

    def write_header(self):
        self.header.set_locators(self.locators)
        os.pwrite(self.fd, self.header.seal(), self.footer.data_offset)

    def write_batmap_header(self):
        os.pwrite(self.fd, self.batmap.pack(), self.header.bat_end)

    def discard(self):
        """Forget all blocks."""
        self._bat = [vhd.UNUSED_ENTRY] * self.header.max_bat_entries
        if self.batmap:
            self._map = bytearray(len(self._map))
        self._tail = self.metadata_end
        self.flush()

    def extend_bat(self, entries):
        """Give the BAT more entries if its last sector, and the batmap's, have room for them; whether they had."""
        entries = max(entries, len(self.bat))
        if 4 * entries > self.header.bat_size or self.batmap and entries > 8 * len(self._map):
            return False
        self.bat.extend([vhd.UNUSED_ENTRY] * (entries - len(self.bat)))
        self.header.max_bat_entries = entries
        self.write_header()
        self.flush()
        return True

    def write_footers(self, end=None):
        """Write the footer at `end` or where the data end, cut the file after it, and write the backup."""
        data = self.footer.seal()
        end = self.data_end if end is None else end
        os.ftruncate(self.fd, end + vhd.FOOTER_SIZE)
        os.pwrite(self.fd, data, end)
        if self.is_dynamic:
            os.pwrite(self.fd, data, 0)

    def write(self, offset, data):
        """Write whole sectors of guest content, allocating blocks; ERANGE beyond the disk."""
        if offset % vhd.SECTOR_SIZE or len(data) % vhd.SECTOR_SIZE:
            raise ValueError('only whole sectors can be written, not %d bytes at %d' % (len(data), offset))
        if offset + len(data) > self.size_bytes:
            fail(errno.ERANGE)
        if self.header is None:
            os.pwrite(self.fd, data, offset)
            return
        data = memoryview(data)
        while data:
            block, first = divmod(offset, self.header.block_size)
            piece = data[:self.header.block_size - first]
            self._write_in_block(block, first, piece)
            offset, data = offset + len(piece), data[len(piece):]

    def _write_in_block(self, block, first, data):
        bitmap_size, sectors = self.header.bitmap_size, self.header.block_size // vhd.SECTOR_SIZE
        if self.bat[block] == vhd.UNUSED_ENTRY:
            start = vhd.round_up(self.data_end + bitmap_size, _DATA_ALIGNMENT) - bitmap_size
            self.bat[block] = start // vhd.SECTOR_SIZE
            self._tail = start + self.block_length
            os.ftruncate(self.fd, self._tail)
            bitmap = 0
        else:
            bitmap = int.from_bytes(self.read_bitmap(block), 'big')
        start = self.bat[block] * vhd.SECTOR_SIZE
        os.pwrite(self.fd, data, start + bitmap_size + first)
        count = len(data) // vhd.SECTOR_SIZE
        bits = 8 * bitmap_size
        bitmap |= ((1 << count) - 1) << (bits - first // vhd.SECTOR_SIZE - count)
        raw = bitmap.to_bytes(bitmap_size, 'big')
        os.pwrite(self.fd, raw, start)
        self._bitmap_cache = (block, raw)
        if self.batmap and bitmap >> (bits - sectors) == (1 << sectors) - 1:
            self._map[block // 8] |= 0x80 >> block % 8

    def flush(self):
        """Write the BAT, the batmap and the footers."""
        if self.header is not None:
            self.write_bat()
            if self.batmap:
                self.batmap.checksum = vhd.compute_checksum(self._map[:self._summed_map_size])
                self.write_batmap_header()
                os.pwrite(self.fd, self._map, self.batmap.offset)
        self.write_footers()

    def write_bat(self):
        data = struct.pack('>%dI' % len(self.bat), *self.bat)
        os.pwrite(self.fd, data.ljust(self.header.bat_size, b'\0'), self.header.table_offset)


def find_header_fault(header):
    """The defect of a header in vhd-util's words, or None. Only fields that opening a disk checks count."""
    if header.cookie != vhd.HEADER_COOKIE:
        return 'invalid cookie'
    if header.version != vhd.VERSION_1_0:
        return 'invalid header version'
    if header.block_size == 0 or header.block_size & (header.block_size - 1):
        return 'invalid block size'
    if not header.checksum_correct:
        return 'invalid checksum'
    return None


def _iterate_bitmap(bitmap, base, start, end):
    """Yield (start, end, present) in guest bytes for the runs of equal bits; `base` is the guest offset of the first bit."""
    first, last = (start - base) // vhd.SECTOR_SIZE, -((base - end) // vhd.SECTOR_SIZE)
    bits = bin(int.from_bytes(b'\1' + bitmap, 'big'))[3:]
    while first < last:
        present = bits[first] == '1'
        stop = bits.find('0' if present else '1', first, last)
        stop = last if stop < 0 else stop
        yield max(start, base + first * vhd.SECTOR_SIZE), min(end, base + stop * vhd.SECTOR_SIZE), present
        first = stop
