# SPDX-License-Identifier: Apache-2.0
"""The blocks of a VHD as its file goes by, from the first byte to the last: bitmaps read, guest data put into a sink.

    ...gap... | bitmap | data of the block             | ...gap... | bitmap | data
    dropped     kept     put, but for what has no bit    dropped
                         or is behind the disk's end
"""

from __future__ import absolute_import, division

from dom0_lib.disks import vhd
from dom0_lib.formats import guest_disk

_UNIT_BYTES = guest_disk.MASK_UNIT_BYTES
_ZEROS = memoryview(b'\0' * 64 * 1024)


class BlockReader(object):
    """write() the file's bytes in order, or write_zeros(); with next_span() and skip_to() only those that matter.

    source, placement: vhd_source's of the file
    sink:       takes the guest's data; begin() and finish() are the caller's
    partial:    None, or a bytearray that gets a bit for each block in which a sector of the disk is not present
    """

    def __init__(self, source, placement, sink, partial=None):
        self._source = source
        self._placement = placement
        self._sink = sink
        self._partial = partial
        self._order = placement.in_file_order()
        self._length = source.bitmap_bytes + source.block_bytes
        self.position = 0
        self._next_block()

    def _next_block(self):
        self._block, self._start = next(self._order, (None, None))
        if self._block is None:
            return
        self._guest_bytes = self._placement.guest_bytes(self._block)
        self._bitmap = bytearray()
        self._mask = None               # the bitmap as bytes, unless all of it is set
        self._has_data = True           # a bit is set, as far as is known
        self._pending = bytearray()     # of a unit that has not come whole

    def next_span(self):
        """(first byte, end) of the file that are to come next; None when no block is left."""
        if self._block is None:
            return None
        bitmap_end = self._start + self._source.bitmap_bytes
        if self.position >= bitmap_end and (not self._has_data or self.position >= bitmap_end + self._guest_bytes):
            self._next_block()
            return self.next_span()
        start = max(self.position, self._start)
        return start, bitmap_end if start < bitmap_end else bitmap_end + self._guest_bytes

    def share(self, fd, share):
        """Have share(offset, size_bytes, fd, position) take all data of the block in the open file, if they come next and every
        sector is present; whether it did.
        """
        data = self._start + self._source.bitmap_bytes
        if self.position != data or self._mask is not None or not share(
                self._block * self._source.block_bytes, self._guest_bytes, fd, data):
            return False
        self.position = data + self._guest_bytes
        return True

    def skip_to(self, position):
        """Bytes up to `position` are not wanted."""
        self.position = position

    def write(self, view):
        self._advance(view, len(view))

    def write_zeros(self, size_bytes):
        """The same as write() of so many zeros."""
        self._advance(None, size_bytes)

    def _advance(self, view, size_bytes):
        done = 0
        while done < size_bytes and self._block is not None:
            offset, left = self.position - self._start, size_bytes - done
            within = offset - self._source.bitmap_bytes
            if offset < 0:
                taken = min(left, -offset)
            elif within < 0:
                taken = min(left, -within)
                self._bitmap += _cut(view, done, taken)
                if taken == -within:
                    self._read_bitmap()
            else:
                taken = min(left, self._length - offset)
                usable = min(taken, self._guest_bytes - within)
                if self._has_data and usable > 0:
                    self._take(within, view and view[done:done + usable], usable)
                if offset + taken == self._length:
                    self._next_block()
            done += taken
            self.position += taken
        self.position += size_bytes - done

    def _read_bitmap(self):
        sectors = self._guest_bytes // vhd.SECTOR_SIZE
        used = self._bitmap[:-(-sectors // 8)]
        if sectors % 8:
            used[-1] &= 0xff00 >> sectors % 8
        set_bytes, rest = used.count(b'\xff'), 0xff00 >> sectors % 8 & 0xff
        if set_bytes == sectors // 8 and (not rest or used[-1] == rest):
            return
        self._mask = bytes(used)
        self._has_data = used.count(b'\0') < len(used)
        if self._partial is not None:
            self._partial[self._block // 8] |= 0x80 >> self._block % 8

    def _take(self, within, view, size_bytes):
        """Put data of the block: all but the last piece in whole sectors, or units of which a mask has a byte for each."""
        unit, start = vhd.SECTOR_SIZE if self._mask is None else _UNIT_BYTES, 0
        if within % unit:
            start = min(size_bytes, unit - within % unit)
            self._pending += _cut(view, 0, start)
            if (within + start) % unit == 0 or within + start == self._guest_bytes:
                self._put(within + start - len(self._pending), len(self._pending), memoryview(self._pending))
                self._pending = bytearray()
        end = size_bytes
        if within + size_bytes < self._guest_bytes:
            end -= (within + size_bytes) % unit
        if end > start:
            self._put(within + start, end - start, view and view[start:end])
        if size_bytes > max(start, end):
            self._pending += _cut(view, max(start, end), size_bytes - max(start, end))

    def _put(self, within, size_bytes, data):
        mask = self._mask
        if mask is not None:
            mask = mask[within // _UNIT_BYTES:-(-(within + size_bytes) // _UNIT_BYTES)]
            if mask.count(b'\0') == len(mask):
                return
        self._sink.put(self._block * self._source.block_bytes + within, size_bytes, data, mask)


def _cut(view, start, size_bytes):
    """A few bytes of a view, or as many zeros."""
    return (_ZEROS[:size_bytes] if view is None else view[start:start + size_bytes]).tobytes()
