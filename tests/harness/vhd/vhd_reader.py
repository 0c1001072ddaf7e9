# SPDX-License-Identifier: Apache-2.0
"""The content that a guest reads from a VHD disk or a chain, found independently of any tool: the tests' judge of content.

Held to the corpus of files made by vhd-util.  Files are opened as leniently as vhd-util opens them.
"""

import errno
import hashlib
import os

from dom0_lib.disks import vhd
from tests.harness.vhd import vhd_image

# Deeper than any storage manager allows; a chain that goes on is a cycle.
MAX_DEPTH = 100
_ZEROS = bytes(vhd.BLOCK_SIZE)


class Raw(object):
    """A parent that is not a VHD: its bytes as they are."""

    has_raw_parent = is_differencing = False

    def __init__(self, path):
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def close(self):
        os.close(self.fd)

    def read_runs(self, start, end):
        size = min(end, os.fstat(self.fd).st_size)
        if start < size:
            yield start, size, start
        if size < end:
            yield max(start, size), end, None


class Chain(object):
    """An open disk with its ancestors, leaf first."""

    def __init__(self, layers):
        self.layers = layers
        self.size_bytes = layers[0].size_bytes

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        for layer in self.layers:
            layer.close()

    def read(self, offset, size):
        """`size` guest bytes, or None where no layer has any: zeros."""
        return read_layers(self.layers, offset, size)

    def extents(self):
        """Yield (offset, bytes) for all content, in order, a block at most; the rest is zeros."""
        for offset in range(0, self.size_bytes, vhd.BLOCK_SIZE):
            data = self.read(offset, min(vhd.BLOCK_SIZE, self.size_bytes - offset))
            if data is not None:
                yield offset, data


def read_layers(layers, offset, size):
    """`size` guest bytes at `offset` from an iterable of layers, leaf first; None if none of them has any.

    Takes no more layers than it needs, so that a cycle of parents ends only if each byte is found.
    """
    gaps = [(offset, offset + size)]
    buffer = None
    for layer in layers:
        left = []
        for gap_start, gap_end in gaps:
            for start, end, file_offset in layer.read_runs(gap_start, gap_end):
                if file_offset is None:
                    if left and left[-1][1] == start:
                        start = left.pop()[0]
                    left.append((start, end))
                    continue
                data = _read_file(layer, file_offset, end - start)
                if end - start == size:
                    return data
                buffer = buffer or bytearray(size)
                buffer[start - offset:end - offset] = data
        gaps = left
        if not gaps:
            break
    return buffer


def _read_file(layer, offset, size):
    data = os.pread(layer.fd, size, offset)
    if len(data) < size:
        raise OSError(errno.EPIPE, 'the file ends inside a block', layer.path)
    return data


def open_layers(path):
    """Yield the open layers of a disk, leaf first, following parent locators as vhd-util does: for ever in a cycle."""
    layer = vhd_image.Image.open(path)
    yield layer
    while layer.is_differencing:
        parent = layer.find_parent()
        layer = Raw(parent) if layer.has_raw_parent else vhd_image.Image.open(parent)
        yield layer


def open_chain(paths):
    """The Chain of one path, whose parents are found through the locators, or of a list of paths, leaf first."""
    layers = []
    try:
        if isinstance(paths, (str, os.PathLike)):
            for layer in open_layers(os.fspath(paths)):
                layers.append(layer)
                if len(layers) > MAX_DEPTH:
                    raise OSError(errno.ELOOP, 'the chain does not end', paths)
        else:
            for path in paths:
                layers.append(vhd_image.Image.open(os.fspath(path)))
        return Chain(layers)
    except BaseException:
        for layer in layers:
            layer.close()
        raise


def digest(paths):
    """The SHA-256 of all that the guest reads, as hexadecimal text."""
    sha256 = hashlib.sha256()
    with open_chain(paths) as chain:
        position = 0
        for offset, data in chain.extents():
            _hash_zeros(sha256, offset - position)
            sha256.update(data)
            position = offset + len(data)
        _hash_zeros(sha256, chain.size_bytes - position)
    return sha256.hexdigest()


def _hash_zeros(sha256, count):
    while count:
        piece = min(count, len(_ZEROS))
        sha256.update(_ZEROS if piece == len(_ZEROS) else _ZEROS[:piece])
        count -= piece


def copy_to(paths, raw_path):
    """Write all that the guest reads to a raw file, sparse where it is zeros."""
    with open_chain(paths) as chain, open(raw_path, 'wb') as target:
        target.truncate(chain.size_bytes)
        for offset, data in chain.extents():
            if data != _ZEROS[:len(data)]:
                target.seek(offset)
                target.write(data)
