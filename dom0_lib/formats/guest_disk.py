# SPDX-License-Identifier: Apache-2.0
"""The language between decoders, one for each image format, and sinks, one for each way to write a disk.

    image, in pieces          what a guest can see                               a disk of ours
    --------> decoder ---------------------------------------------------> sink
              write(view)     begin(Disk)            once, before all others
              finish()        put(offset, size, data, present)
                              finish()               every sector has been put

    guest's view  |    data    |            |    zeros    |    some sectors of it    |
    put()         (o, n, view)  never named  (o, n, None)   (o, n, view, present)

A sector that no put() names is not present: zeros in a disk of its own, the parent's sector in a child.  A child's zeros are
present, and hide the parent's.  Nothing else of an image reaches the sink: no place in a file, no order of blocks, no name,
time or uuid.

    offset, size_bytes  whole sectors inside the disk, each sector at most once; in any order, if Disk.extents is not None
    data                a memoryview of size_bytes, valid until put() returns, or None for zeros
    present             None: every sector; or bytes with a bit for each sector, the first sector's is 0x80 of byte 0.  Then
                        offset is a multiple of MASK_UNIT_BYTES.  The data of other sectors are anything at all

Where Disk.extents is None every sector of the disk is present, the pieces come in ascending order, may begin and end anywhere,
and what they leave out is zeros.

A decoder has memory for tables alone, which it bounds before it reads them, and refuses an image by dom0_lib.formats.refusal.
"""

from __future__ import absolute_import, division

import collections

SECTOR_BYTES = 512
# The guest bytes of one byte of a presence mask.
MASK_UNIT_BYTES = 8 * SECTOR_BYTES

# size_bytes: what the guest sees.
# is_child:   whether sectors that are not present are the parent's.
# extents:    an iterable of (offset, size_bytes), ascending and apart: all sectors that may be put are in one of them, and the
#             image has room for all of each.  None: see above.
Disk = collections.namedtuple('Disk', 'size_bytes is_child extents')
