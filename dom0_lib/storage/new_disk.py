# SPDX-License-Identifier: Apache-2.0
"""Disks that enter an SR: a foreign VHD is decoded to the guest's sectors, and a new VHD written of these in a staging area.

    stream or open file  -->  Decoder  -->  Encoder  -->  <name> in the area

No other byte of the foreign file reaches the new one, and no program but this one reads the foreign file.
"""

from __future__ import absolute_import, division

from dom0_lib import errors
from dom0_lib import faults
from dom0_lib.formats import refusal
from dom0_lib.formats import vhd_decoder
from dom0_lib.formats import vhd_encoder
from dom0_lib.system import os_errors

_SPOOL = 'spool'


class NewDisk(object):
    """The disk that is written to the new file `name` of a staging area.

    title: the beginning of errors about the foreign file; its name if None
    image: the foreign file's account of itself, when that has been read: uuid, is_child, size_bytes, parent_uuid
    Its methods raise errors.InvalidImage and errors.UnsafeImage, each with its `rule`, and errors.StorageError.
    """

    def __init__(self, area, name, title=None):
        self.name = name
        self.image = None
        self._title = title or name
        self._area = area
        self._file = area.create_disk(name)
        self._encoder = vhd_encoder.Encoder(self._file)

    def take_file(self, fd, report):
        """Write the disk of the VHD that is open as `fd`.

        report(size_bytes): called for each piece; an exception of it ends the work
        """
        with Named(self._title), os_errors.StorageErrors('cannot read %s' % self._title):
            sink = _Reporting(self._encoder, report)
            self._complete(vhd_decoder.decode_file(fd, sink, share=sink.share))

    def _complete(self, image):
        self.image = image
        self._file.settle()
        with os_errors.StorageErrors('cannot write to the SR'):
            faults.point('staging.file_finished')

    def seal(self, uuid, parent):
        """Make the complete file a VHD, on the disk, with this uuid in its footer; `parent`: a canonical_vhd.Parent or None."""
        self._encoder.seal(uuid, parent)
        self._file.close()


class StreamedDisk(NewDisk):
    """A NewDisk of a VHD that comes in order: write() memoryviews, then finish().  size_bytes: None if nobody knows."""

    def __init__(self, area, name, size_bytes):
        super(StreamedDisk, self).__init__(area, name)
        self._size_bytes = size_bytes
        self._spool = None
        self._decoder = vhd_decoder.Decoder(self._encoder, self._make_spool, size_bytes)

    def _make_spool(self):
        """A file for images whose tables come too late; it goes with finish(), or with the area."""
        self._area.require_room(self._size_bytes or 0)
        self._spool = self._area.create_disk(_SPOOL)
        return self._spool

    def write(self, view):
        with Named(self._title):
            self._decoder.write(view)

    def finish(self):
        with Named(self._title), os_errors.StorageErrors('cannot read %s' % self._title):
            self._decoder.finish()
            decoder, self._decoder = self._decoder, None  # its tables take memory
            if self._spool:
                self._area.discard(self._spool, _SPOOL)
            self._complete(decoder.image)


class Named(object):
    """`with Named(title):` begins the text of errors.InvalidImage with `title`; class and rule stay."""

    def __init__(self, title):
        self._title = title

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        if isinstance(value, errors.InvalidImage):
            raise refusal.rename(value, self._title)


class _Reporting(object):
    """A sink that reports the bytes on their way to an encoder."""

    def __init__(self, sink, report):
        self._sink = sink
        self._report = report

    def begin(self, disk):
        self._sink.begin(disk)

    def put(self, offset, size_bytes, data=None, present=None):
        self._sink.put(offset, size_bytes, data, present)
        self._report(size_bytes)

    def share(self, offset, size_bytes, fd, position):
        is_shared = self._sink.share(offset, size_bytes, fd, position)
        if is_shared:
            self._report(size_bytes)
        return is_shared

    def finish(self):
        self._sink.finish()
