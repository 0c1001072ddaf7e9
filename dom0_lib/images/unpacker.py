# SPDX-License-Identifier: Apache-2.0
"""An inflated image as it streams by: a tar archive of VHDs, or a VHD alone.

    first block                             the image
    a tar header                       -->  an archive: each member goes where open_member() says
    the sign of another format         -->  refused by its name, before it fills the SR
    anything else, also zeros alone    -->  a VHD; a fixed one begins with the sectors of its guest
"""

from __future__ import absolute_import, division

from dom0_lib import errors
from dom0_lib.formats import signatures
from dom0_lib.images import tarball

# The name of a VHD that is in no archive.
DISK_NAME = 'image.vhd'


class Unpacker(object):
    """feed() the image in pieces, then finish().

    open_member(name, size_bytes): as for tarball.Reader; a VHD alone is the member DISK_NAME
    size_bytes: of the image, or None where only its end tells, as with gzip
    Raises errors.InvalidImage, errors.UnsafeImage, and all that the members raise.
    """

    def __init__(self, open_member, size_bytes=None):
        self._open_member = open_member
        self._size_bytes = size_bytes
        self._beginning = b''
        self._reader = self._disk = None

    def feed(self, data):
        if not self._reader and not self._disk:
            self._beginning += data
            if len(self._beginning) < tarball.BLOCK_BYTES:
                return
            data = self._beginning
            self._begin(data[:tarball.BLOCK_BYTES])
        if self._reader:
            self._reader.feed(data)
        else:
            self._write_disk(data)

    def _begin(self, block):
        self._beginning = b''
        if tarball.is_header(block):
            self._reader = tarball.Reader(self._open_member)
            return
        name = signatures.name_format(block)
        if name:
            raise errors.InvalidImage('the image is %s' % name)
        self._disk = self._open_member(DISK_NAME, self._size_bytes)

    def _write_disk(self, data):
        if len(self._beginning) < signatures.BEGINNING_BYTES:
            self._beginning += data[:signatures.BEGINNING_BYTES - len(self._beginning)]
        self._do_with_disk(lambda: self._disk.write(memoryview(data)))

    def finish(self, is_whole=False):
        """Take the end of the image; is_whole: as tarball.Reader.finish() has it."""
        if self._reader:
            self._reader.finish(is_whole)
        elif self._disk:
            self._do_with_disk(self._disk.finish)
        else:
            raise errors.InvalidImage('the image is %s' % (
                (signatures.name_format(self._beginning) or 'neither an archive nor a disk') if self._beginning else 'empty'))

    def _do_with_disk(self, function):
        try:
            function()
        except errors.UnsafeImage:
            raise
        except errors.InvalidImage as error:
            name = signatures.name_disk(self._beginning)
            raise errors.InvalidImage('the image is %s, not a VHD or a tar archive of VHDs' % name if name else
                                      'the image is no tar archive of VHDs, and as a VHD it is damaged: %s' % error)
