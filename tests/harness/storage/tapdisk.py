# SPDX-License-Identifier: Apache-2.0
"""A guest's reads and writes of its disk, made as tapdisk makes them; each RunningDisk is one boot.

tapdisk opens the VHD anew at each boot and trusts its metadata.  Recorded from its block-vhd.c: to the first sector of a block
that the batmap calls full it adds a write of seven sectors of zeros and a bitmap of ones, so that the write fills a page, unless
the block's bitmap is at the place of the disk's first block.
"""

import os

from dom0_lib.disks import vhd
from tests.harness.vhd import vhd_image
from tests.harness.vhd import vhd_reader

_PAGE_SECTORS = 8


class _TapdiskImage(vhd_image.Image):
    """The leaf: libvhd's file, with tapdisk's own writes.  The BAT is written when a block is allocated, not at close."""

    _has_batmap_since_boot = None

    def begin(self):
        """Record the facts that tapdisk reads once, when it opens a disk."""
        self._has_batmap_since_boot = self.batmap is not None
        bitmap_sectors = self.header.bitmap_size // vhd.SECTOR_SIZE
        end = vhd.round_up(self.metadata_end, vhd.SECTOR_SIZE) // vhd.SECTOR_SIZE
        self._first = vhd.round_up(end + bitmap_sectors, _PAGE_SECTORS) - bitmap_sectors
        self._opened_bat = list(self.bat)

    def _has_batmap(self):
        return super()._has_batmap() if self._has_batmap_since_boot is None else self._has_batmap_since_boot

    def write_bat(self):
        if self.bat != self._opened_bat:
            super().write_bat()
            self._opened_bat = list(self.bat)

    def _write_in_block(self, block, first, data):
        is_full = self.bat[block] != vhd.UNUSED_ENTRY and self.is_full(block)
        super()._write_in_block(block, first, data)
        entry = self.bat[block]
        if is_full and first == 0 and entry != self._first:
            padding = bytes((_PAGE_SECTORS - 1) * vhd.SECTOR_SIZE)
            os.pwrite(self.fd, padding + b'\xff' * self.header.bitmap_size, entry * vhd.SECTOR_SIZE - len(padding))


class RunningDisk(object):
    """A disk from a guest's boot to its shutdown: a context manager.  Offsets and counts are sectors."""

    def __init__(self, path):
        self._leaf = _TapdiskImage.open(path, writable=True)
        self._leaf.begin()
        parents = vhd_reader.open_layers(path)
        next(parents).close()
        self._layers = [self._leaf] + list(parents)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self._leaf.flush()
        for layer in self._layers:
            layer.close()

    def read(self, sector, count=1):
        size = count * vhd.SECTOR_SIZE
        return bytes(vhd_reader.read_layers(self._layers, sector * vhd.SECTOR_SIZE, size) or bytes(size))

    def write(self, sector, data):
        """Write bytes, the last sector filled up with zeros."""
        self._leaf.write(sector * vhd.SECTOR_SIZE, data + bytes(-len(data) % vhd.SECTOR_SIZE))
