# SPDX-License-Identifier: Apache-2.0
"""A chain of VHDs, leaf first, on its way from a staging area into an SR.

    arrange   names in the archive -> order: 0.vhd is the leaf, the highest number the base
    check     each file by itself (dom0_lib.vhd_check), then how each fits its parent
    relink    <uuid>.vhd, each child's locators written anew: ./<uuid of its parent>.vhd
    publish   base first, leaf last; nobody ever sees a child whose parent is missing

                0.vhd  -->  1.vhd  -->  2.vhd          staged: parents anywhere, hidden as the uploader left them
                leaf        parent      base
    SR          3rd         2nd         1st            linked in this order, none hidden: a scan in between sees disks,
                -           hidden      hidden         not rubbish to collect; parents are hidden last
"""

from __future__ import absolute_import, division

import os

from dom0_lib import errors
from dom0_lib import log
from dom0_lib import proc
from dom0_lib import staging
from dom0_lib import termination
from dom0_lib import vhd
from dom0_lib import vhd_check

MAX_LENGTH = 16
# Images made before sequences were numbered, leaf first.
_OLD_NAMES = ('snap.vhd', 'image.vhd', 'base.vhd')
_VHD_UTIL_DEADLINE_S = 120


def arrange(names):
    """The file names of an image in order, leaf first.  Raises errors.InvalidImage for a gap or a mixture."""
    if not names:
        raise errors.InvalidImage('the image has no VHD')
    if len(names) == 1 or set(names).issubset(_OLD_NAMES):
        return sorted(names, key=lambda name: _OLD_NAMES.index(name) if name in _OLD_NAMES else 0)
    expected = ['%d.vhd' % number for number in range(len(names))]
    if set(names) != set(expected):
        raise errors.InvalidImage('the image should have %s, it has %s' % (', '.join(expected), ', '.join(sorted(names))))
    return expected


def take_uuids(uuid_stack, names):
    """The uuid of each file: callers' stacks are consumed from the end, the leaf first."""
    if len(uuid_stack) < len(names):
        raise errors.ArgumentError('uuid_stack', 'has %d uuids, the image has %d VHDs' % (len(uuid_stack), len(names)))
    return [uuid_stack[-1 - number] for number in range(len(names))]


def check(area, names):
    """Check the staged files of a chain, leaf first, by our own parser; no tool has seen them yet.

    Raises errors.UnsafeImage that lists everything that is wrong.
    """
    problems, chain = [], []
    for name in names:
        with open(area.join(name), 'rb') as fileobj:
            metadata = None
            try:
                metadata = vhd.read_metadata(fileobj)
                found = [problem.text for problem in vhd_check.find_problems(fileobj, metadata)]
            except vhd.FormatError as error:
                found = [str(error)]
        problems.extend('%s: %s' % (name, text) for text in found)
        chain.append(metadata)
    problems.extend(_find_chain_misfits(names, chain))
    if problems:
        raise errors.UnsafeImage('; '.join(problems))


def hold(area, repository, uuids):
    """Link the VHDs of VDIs, leaf first, into the area; returns their names there: 0.vhd and so on.

    Raises errors.StorageError if one is missing or they are not one chain from a leaf to its base.
    """
    names = ['%d.vhd' % number for number in range(len(uuids))]
    chain = []
    for name, uuid in zip(names, uuids):
        if not os.path.lexists(repository.vhd_path(uuid)):
            raise errors.StorageError('the SR has no VHD of VDI %s' % uuid)
        area.link(repository.vhd_path(uuid), name)
        try:
            with open(area.join(name), 'rb') as fileobj:
                chain.append(vhd.read_metadata(fileobj))
        except vhd.FormatError as error:
            raise errors.StorageError('the VHD of VDI %s is damaged: %s' % (uuid, error))
    problems = list(_find_chain_misfits(uuids, chain))
    if problems:
        raise errors.StorageError('the VDIs are not a chain: %s' % '; '.join(problems))
    return names


def _find_chain_misfits(names, chain):
    for child, (name, metadata) in enumerate(zip(names, chain)):
        if metadata:
            parent = chain[child + 1] if child + 1 < len(chain) else None
            for text in _find_misfits(metadata, parent, child == 0, child + 1 == len(chain)):
                yield '%s: %s' % (name, text)


def _find_misfits(metadata, parent, is_leaf, is_base):
    if is_leaf and metadata.hidden:
        yield 'the leaf is marked hidden, so the SR would delete it'
    if metadata.disk_type == vhd.FIXED:
        yield 'a fixed disk, which breaks SR.scan; convert it to a dynamic one'
    elif is_base and metadata.disk_type != vhd.DYNAMIC:
        yield 'differencing, but its parent %s is not in the image' % metadata.parent_uuid
    elif not is_base and metadata.disk_type != vhd.DIFFERENCING:
        yield 'not differencing, but the image has a parent for it'
    elif parent:
        if metadata.parent_uuid != parent.uuid:
            yield 'made on parent %s, but the next file is %s' % (metadata.parent_uuid, parent.uuid)
        if metadata.virtual_size_bytes < parent.virtual_size_bytes:
            yield 'smaller than its parent: %d bytes on %d' % (metadata.virtual_size_bytes, parent.virtual_size_bytes)


def relink(area, names, uuids):
    """Name the staged files by their uuids, write every parent locator anew, show all, and check the result.

    Raises errors.UnsafeImage if vhd-util, or our own reading of what it wrote, disagrees.
    """
    files = ['%s.vhd' % uuid for uuid in uuids]
    for name, new_name in zip(names, files):
        area.rename(name, new_name)
    for child, parent in reversed(list(zip(files, files[1:]))):
        _vhd_util('modify', '-n', area.join(child), '-p', area.join(parent))
    for name in files:
        _set_hidden(area.join(name), False)
        _check_with_tool(area.join(name), name)
    for child, parent in zip(files, files[1:] + [None]):
        _check_link(area.join(child), parent)
        _sync(area.join(child))
    _sync(area.path)


def _check_link(path, parent):
    with open(path, 'rb') as fileobj:
        found = set(locator.path for locator in vhd.read_metadata(fileobj).locators)
    expected = set(['./%s' % parent] if parent else [])
    if found != expected:
        raise errors.UnsafeImage('after relinking a VHD names %s as its parent instead of %s' % (
            sorted(map(str, found)) or 'nothing', parent or 'nothing'))


def _check_with_tool(path, name):
    # Without -B the tool compares every block with every other; dom0_lib.vhd_check has done that in linear time.
    completed = proc.run(['vhd-util', 'check', '-n', path, '-B'], _VHD_UTIL_DEADLINE_S, ok_statuses=None)
    if completed.status != 0 and 'invalid option' in completed.error_output:
        completed = proc.run(['vhd-util', 'check', '-n', path], _VHD_UTIL_DEADLINE_S, ok_statuses=None)
    if completed.status != 0:
        raise errors.UnsafeImage("vhd-util refuses '%s': %s" % (name, completed.first_line()))


def publish(area, repository, uuids):
    """Move a relinked chain, leaf first in `uuids`, into the SR: all of it or, on an error, nothing.

    Raises errors.StorageError.
    """
    base_first = list(reversed(uuids))
    with termination.Shield():
        published = []
        try:
            with staging.StorageErrors('cannot publish in the SR'):
                for uuid in base_first:
                    _move_in(area.join('%s.vhd' % uuid), repository.vhd_path(uuid))
                    published.append(uuid)
            for uuid in base_first[:-1]:
                _set_hidden(repository.vhd_path(uuid), True)
                _sync(repository.vhd_path(uuid))
            _sync(repository.path)
        except BaseException:
            for uuid in reversed(published):
                os.unlink(repository.vhd_path(uuid))
            raise
    log.info('published %s in %s', ', '.join(base_first), repository.path)


def _move_in(staged, final):
    """Give a staged file its final name; unlike a rename, a link never replaces what is there."""
    try:
        os.link(staged, final)
    except EnvironmentError as error:
        if error.errno not in staging.NO_HARD_LINKS:
            raise
        if os.path.lexists(final):
            raise errors.StorageError('%s is already there' % final)
        os.rename(staged, final)


def _set_hidden(path, hidden):
    _vhd_util('set', '-n', path, '-f', 'hidden', '-v', '1' if hidden else '0')


def _vhd_util(*arguments):
    proc.run(('vhd-util',) + arguments, _VHD_UTIL_DEADLINE_S)


def _sync(path):
    with staging.StorageErrors('cannot write to the SR'):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
