# SPDX-License-Identifier: Apache-2.0
"""The batmap of a foreign VHD, for one question: would blktap show a guest sectors that the bitmaps say are not there?

blktap looks for it in files whose creator begins with "tap": from version 1.2 on there is one, before it may be behind the BAT.
It reads `map_bytes` of the map, wherever the header says that it is, and believes it if their checksum is right.
"""

from __future__ import absolute_import, division

from dom0_lib.disks import vhd
from dom0_lib.formats import refusal
from dom0_lib.formats import vhd_source

# blktap counts the map's sectors in these units of the disk.
_DISK_BYTES_PER_MAP_BYTE = 1 << 24


def header_offset(source):
    """Where blktap looks for a batmap's header; None where it does not."""
    if not vhd_source.is_blktaps(source.footer):
        return None
    return source.header.bat_end


class Batmap(object):
    """take() the file's bytes in order, at least from region's start to its end, then judge()."""

    def __init__(self, source, header):
        """header: a vhd.Batmap that is_believable()"""
        self._source = source
        self._header = header
        self._map_bytes = vhd.SECTOR_SIZE * max(1, -(-(source.size_bytes // _DISK_BYTES_PER_MAP_BYTE) // vhd.SECTOR_SIZE))
        self._map = bytearray()
        self.start = header.offset
        self.end = header.offset + self._map_bytes
        # A bit for each block with an absent sector, for BlockReader.
        self.partial = bytearray(-(-source.entries // 8))

    @property
    def regions(self):
        offset = header_offset(self._source)
        return [('batmap header', offset, offset + vhd.BATMAP_HEADER_SIZE), ('batmap', self.start, self.end)]

    def take(self, position, view):
        """The bytes at `position` of the file; what comes twice or not in order is not looked at."""
        wanted = self.start + len(self._map)
        if position <= wanted < min(self.end, position + len(view)):
            self._map += view[wanted - position:self.end - position].tobytes()

    def judge(self):
        """Raises errors.UnsafeImage if blktap would believe a bit that a block's bitmap contradicts."""
        if len(self._map) < self._map_bytes or vhd.compute_checksum(self._map) != self._header.checksum:
            return
        for byte, (full, partial) in enumerate(zip(self._map, self.partial)):
            if full & partial:
                raise refusal.unsafe('batmap', 'the batmap calls block %d full, but its bitmap has clear bits' % (
                    8 * byte + 8 - (full & partial).bit_length()))


def is_believable(header):
    """Whether a vhd.Batmap is one for blktap."""
    return header.cookie == vhd.BATMAP_COOKIE and header.version <= vhd.BATMAP_VERSION
