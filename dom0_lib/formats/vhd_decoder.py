# SPDX-License-Identifier: Apache-2.0
"""VHDs of any writer, as they stream by or in a file, put into a sink (dom0_lib.formats.guest_disk).

    first bytes                       then                                               at the end
    intact copy of the footer    -->  header, BAT, batmap's header in memory, blocks --> footer, if it is intact, agrees
    anything, length known       -->  a fixed disk's data                            --> footer, which says so
    copy damaged, header there   -->  all into a spool                               --> footer, then the blocks from the spool
    tables behind a block        -->  all into a spool                               --> the same

A second look, so a spool, is needed where

    - the first sector is no intact footer, but looks like one, or a header is in the next two;
    - the header or the BAT is so far behind that a block can be before it;
    - a fixed disk comes without its length.

The footer at the end may be missing if all blocks are there, and it may have 511 bytes, as Connectix wrote it.
"""

from __future__ import absolute_import, division

from dom0_lib.disks import vhd
from dom0_lib.formats import guest_disk
from dom0_lib.formats import image_file
from dom0_lib.formats import refusal
from dom0_lib.formats import signatures
from dom0_lib.formats import vhd_batmap
from dom0_lib.formats import vhd_blocks
from dom0_lib.formats import vhd_source

# The header, and with it the BAT's place, is looked for in so many bytes, which are kept; no block ends before them.
_HEADER_LIMIT = vhd_source.MIN_BLOCK_BYTES
_TABLE_LIMIT = 2 * 1024 * 1024


class _Image(object):
    """The footer that is trusted, and the parent that the header names: known when the decoder has finished."""

    footer = header = None

    @property
    def is_child(self):
        return self.footer.disk_type == vhd.DIFFERENCING

    @property
    def size_bytes(self):
        return self.footer.current_size

    @property
    def uuid(self):
        return vhd.format_uuid(self.footer.uuid_bytes)

    @property
    def parent_uuid(self):
        """Text, all zeros for a raw parent; None for a disk without one."""
        return vhd.format_uuid(self.header.parent_uuid_bytes) if self.is_child else None

    @property
    def parent_name(self):
        return self.header.parent_name if self.is_child else None


class Decoder(object):
    """write() an image in order, in pieces of any size, then finish().

    size_bytes: of the image, None if nobody knows
    make_spool(): a new sparse_file.PlacedFile for an image that needs a second look; the caller closes and removes it
    Raises errors.InvalidImage, errors.UnsafeImage (dom0_lib.formats.refusal), and what the sink raises.
    """

    def __init__(self, sink, make_spool, size_bytes=None):
        self._sink = sink
        self._make_spool = make_spool
        self._size_bytes = size_bytes
        self._take = self._collect
        self._prefix = bytearray()      # the image so far, while it is not known how to go on
        self._needed = vhd.FOOTER_SIZE  # bytes of it for the next step
        self._position = 0
        self._limit = None              # bytes that no image of this disk has
        self._tail = b''                # the last bytes, up to a footer's
        self._spool = self._blocks = self._batmap = self._placement = None
        self._spooled_bytes = 0
        self._fixed_bytes = self._fixed_position = 0
        self._first = b''               # the first sector of an image that does not begin with a footer
        self.image = _Image()

    def write(self, view):
        self._tail = view[-vhd.FOOTER_SIZE:].tobytes() if len(view) >= vhd.FOOTER_SIZE else (
            self._tail + view.tobytes())[-vhd.FOOTER_SIZE:]
        self._take(view)
        self._position += len(view)
        if self._limit is not None and self._position > self._limit:
            raise refusal.unsafe('file_size', 'the file has more bytes than a disk of %d bytes needs' % self.image.size_bytes)

    def finish(self):
        if self._take == self._collect:
            self._needed = 0
            self._decide(is_all=True)
        if self._spool:
            self._spool.set_length(self._position)
            self.image = decode_file(self._spool.fd, self._sink, self._position)
            return
        primary = _parse_tail(self._tail, self._position)
        if self._blocks is None:
            self._finish_fixed(primary)
        else:
            _judge_end(self.image, self._placement, primary, self._position)
            _end(self._sink, self._batmap)

    # The beginning

    def _collect(self, view):
        """Keep bytes in memory until they tell how to go on."""
        taken = 0
        while taken < len(view) and self._take == self._collect:
            more = min(len(view) - taken, self._needed - len(self._prefix))
            self._prefix += view[taken:taken + more].tobytes()
            taken += more
            if len(self._prefix) >= self._needed:
                self._decide()
        if taken < len(view):
            self._take(view[taken:])

    def _decide(self, is_all=False):
        """Go on with what is kept, or need more of it; `is_all`: there is no more."""
        if len(self._prefix) < vhd.FOOTER_SIZE:
            raise refusal.damaged('no_footer', '%d bytes are too few for a VHD' % len(self._prefix))
        backup = vhd.Footer.parse(bytes(self._prefix[:vhd.FOOTER_SIZE]))
        if not backup.intact or backup.disk_type == vhd.FIXED:
            self._decide_otherwise(backup, is_all)
            return
        if self.image.footer is None:
            vhd_source.judge_footer(backup)
            self.image.footer = backup
        header_end = backup.data_offset + vhd.HEADER_SIZE
        if header_end > _HEADER_LIMIT:
            self._go_on(self._begin_spool)
        elif self._has(header_end, is_all):
            header = vhd.Header.parse(bytes(self._prefix[backup.data_offset:header_end]))
            source = vhd_source.Source(backup, header)
            if header.table_offset > min(_TABLE_LIMIT, source.earliest_end):
                self._go_on(self._begin_spool)
                return
            batmap_offset = vhd_batmap.header_offset(source)
            wanted = source.bat_end if batmap_offset is None else batmap_offset + vhd.BATMAP_HEADER_SIZE
            if is_all and len(self._prefix) >= source.bat_end:
                wanted = source.bat_end  # without a batmap
            if self._has(wanted, is_all):
                self._begin_blocks(source)

    def _has(self, end, is_all):
        """Whether the image up to `end` is kept; else it is asked for."""
        if len(self._prefix) >= end:
            return True
        if is_all:
            raise refusal.damaged('cut_short', 'the file ends at byte %d, before the tables of the disk do' % len(self._prefix))
        self._needed = end
        return False

    def _decide_otherwise(self, backup, is_all):
        """The first sector is a fixed disk's, or the damaged copy of a footer."""
        self._first = bytes(self._prefix[:vhd.FOOTER_SIZE])
        needed = vhd.FOOTER_SIZE + vhd.HEADER_SIZE
        if len(self._prefix) < needed and not is_all:
            self._needed = needed
            return
        looks_dynamic = not backup.intact and (
            backup.cookie == vhd.FOOTER_COOKIE or bytes(self._prefix[512:520]) == vhd.HEADER_COOKIE)
        if looks_dynamic or self._size_bytes is None:
            self._go_on(self._begin_spool)
        else:
            self._go_on(self._begin_fixed)

    def _go_on(self, begin):
        prefix, self._prefix = self._prefix, bytearray()
        self._take = begin()
        self._take(memoryview(prefix))

    # The ways to go on

    def _begin_spool(self):
        self._spool = self._make_spool()
        return self._write_spool

    def _write_spool(self, view):
        self._spool.write_at(self._spooled_bytes, view)
        self._spooled_bytes += len(view)

    def _begin_fixed(self):
        self._fixed_bytes = self._size_bytes - _tail_bytes(self._size_bytes)
        if self._fixed_bytes <= 0 or self._fixed_bytes % vhd.SECTOR_SIZE:
            raise _no_footer(self._first, 'no VHD: it does not begin with a footer, and %d bytes are no fixed disk either' % (
                self._size_bytes))
        self._sink.begin(guest_disk.Disk(self._fixed_bytes, False, None))
        return self._write_fixed

    def _write_fixed(self, view):
        view = view[:max(0, self._fixed_bytes - self._fixed_position)]
        if view:
            self._sink.put(self._fixed_position, len(view), view)
            self._fixed_position += len(view)

    def _finish_fixed(self, primary):
        if not primary.intact:
            raise _no_footer(self._first, 'no VHD: neither the first nor the last sector is an intact footer')
        vhd_source.judge_footer(primary)
        _judge_fixed(primary, self._position)
        self.image.footer = primary
        self._sink.finish()

    def _begin_blocks(self, source):
        self.image.header = source.header
        bat = vhd_source.read_bat(source, self._read_prefix)
        batmap = self._batmap = _find_batmap(source, self._read_prefix)
        table, table_end = source.header.table_offset, source.bat_end
        head, tail = bytes(self._prefix[:table]), bytes(self._prefix[table_end:])
        self._prefix = None  # before other tables take memory
        self._placement = vhd_source.Placement(source, bat, self._size_bytes)
        self._limit = source.largest_file
        _judge_places(source, self._placement, batmap, self._size_bytes)
        if self._size_bytes is not None and self._size_bytes > self._limit:
            raise refusal.unsafe('file_size', 'the file has %d bytes, more than a disk of %d bytes needs' % (
                self._size_bytes, source.size_bytes))
        self._blocks = _begin(source, self._placement, self._sink, batmap)
        self._take = self._write_blocks
        self._take(memoryview(head))
        self._blocks.skip_to(table_end)
        self._take(memoryview(tail))

    def _read_prefix(self, offset, size_bytes):
        return bytes(self._prefix[offset:offset + size_bytes])

    def _write_blocks(self, view):
        if self._batmap:
            self._batmap.take(self._blocks.position, view)
        self._blocks.write(view)


def decode_file(fd, sink, size_bytes=None, share=None):
    """Decode the VHD in an open file; returns what it says about itself: uuid, is_child, size_bytes, parent_uuid, parent_name.

    size_bytes: of the image, if it is not the file's
    share:      None, or a function that may take data in place of the sink's put(): vhd_encoder.Encoder.share
    Raises what Decoder raises, and EnvironmentError.
    """
    file_image = image_file.ImageFile(fd, size_bytes)
    size_bytes = file_image.size_bytes
    image, primary = _read_footers(file_image)
    if image.footer.disk_type == vhd.FIXED:
        _judge_fixed(primary, size_bytes)
        _put_all(file_image, image.size_bytes, sink)
        return image
    image.header = vhd.Header.parse(file_image.read(image.footer.data_offset, vhd.HEADER_SIZE))
    source = vhd_source.Source(image.footer, image.header)
    if source.bat_end > size_bytes:
        raise refusal.damaged('cut_short', 'the file ends at byte %d, before the tables of the disk do' % size_bytes)
    placement = vhd_source.Placement(source, vhd_source.read_bat(source, file_image.read), size_bytes)
    batmap = _find_batmap(source, file_image.read_some)
    _judge_places(source, placement, batmap, size_bytes)
    _judge_end(image, placement, primary, size_bytes)
    blocks = _begin(source, placement, sink, batmap)
    if batmap and batmap.end <= size_bytes:
        batmap.take(batmap.start, memoryview(file_image.read(batmap.start, batmap.end - batmap.start)))
    span = blocks.next_span()
    while span:
        blocks.skip_to(span[0])
        if not share or not blocks.share(fd, share):
            for count, view in file_image.read_span(*span):
                blocks.write_zeros(count) if view is None else blocks.write(view)
        span = blocks.next_span()
    _end(sink, batmap)
    return image


def _put_all(file_image, size_bytes, sink):
    """The data of a fixed disk."""
    sink.begin(guest_disk.Disk(size_bytes, False, None))
    position = 0
    for count, view in file_image.read_span(0, size_bytes):
        sink.put(position, count, view)
        position += count
    sink.finish()


def _read_footers(file_image):
    """(_Image with the trusted footer, the footer at the end)"""
    image, size_bytes = _Image(), file_image.size_bytes
    if size_bytes < vhd.FOOTER_SIZE:
        raise refusal.damaged('no_footer', '%d bytes are too few for a VHD' % size_bytes)
    backup = vhd.Footer.parse(file_image.read(0, vhd.FOOTER_SIZE))
    primary = _parse_tail(file_image.read(size_bytes - vhd.FOOTER_SIZE, vhd.FOOTER_SIZE), size_bytes)
    if primary.intact:
        image.footer = primary
        if backup.intact and (backup.disk_type != vhd.FIXED or primary.disk_type != vhd.FIXED):
            vhd_source.judge_copies(primary, backup)
    elif backup.intact and backup.disk_type != vhd.FIXED:
        image.footer = backup
    else:
        raise _no_footer(file_image.read(0, vhd.FOOTER_SIZE), 'no VHD: neither the first nor the last sector is an intact footer')
    vhd_source.judge_footer(image.footer)
    return image, primary


def _no_footer(first, text):
    """The refusal of an image without a footer, by the name of its format if its first sector tells that, else with `text`."""
    name = signatures.name_format(first)
    return refusal.damaged('no_footer', 'no VHD, but %s' % name if name else text)


def _tail_bytes(size_bytes):
    return vhd.SHORT_FOOTER_SIZE if size_bytes % vhd.SECTOR_SIZE == vhd.SHORT_FOOTER_SIZE else vhd.FOOTER_SIZE


def _parse_tail(tail, size_bytes):
    """The footer at the end of an image of so many bytes."""
    return vhd.Footer.parse(tail[-_tail_bytes(size_bytes):].ljust(vhd.FOOTER_SIZE, b'\0'))


def _judge_fixed(primary, size_bytes):
    if primary.disk_type != vhd.FIXED:
        raise refusal.damaged('footers_differ', 'the footer is not a fixed disk\'s, but the first sector is no copy of it')
    if primary.current_size != size_bytes - _tail_bytes(size_bytes):
        raise refusal.damaged('fixed_size', 'the file has data of %d bytes, but the fixed disk has %d' % (
            size_bytes - _tail_bytes(size_bytes), primary.current_size))


def _judge_places(source, placement, batmap, size_bytes):
    others = batmap.regions if batmap else []
    source.judge_regions(others)
    placement.require_apart(source.regions + others)
    if size_bytes is not None:
        placement.require_inside(size_bytes)


def _judge_end(image, placement, primary, size_bytes):
    """What the footer at the end has to do with the rest; an intact one is the one to trust."""
    if primary.intact:
        vhd_source.judge_footer(primary)
        vhd_source.judge_copies(primary, image.footer)
        image.footer = primary
        size_bytes -= _tail_bytes(size_bytes)
    placement.require_inside(size_bytes)


def _find_batmap(source, read):
    """The vhd_batmap.Batmap that blktap would find, or None."""
    offset = vhd_batmap.header_offset(source)
    data = b'' if offset is None else read(offset, vhd.BATMAP_HEADER_SIZE)
    if len(data) < vhd.BATMAP_HEADER_SIZE:
        return None
    header = vhd.Batmap.parse(data)
    return vhd_batmap.Batmap(source, header) if vhd_batmap.is_believable(header) else None


def _begin(source, placement, sink, batmap):
    sink.begin(guest_disk.Disk(source.size_bytes, source.is_child, placement.extents()))
    return vhd_blocks.BlockReader(source, placement, sink, batmap.partial if batmap else None)


def _end(sink, batmap):
    if batmap:
        batmap.judge()
    sink.finish()
