# SPDX-License-Identifier: Apache-2.0
"""vhd-util scan: one line per file, as the storage manager's SR.scan reads it (`scan -f -c -m 'SR/*.vhd'`)."""

import errno
import os

from tests.harness.vhd import vhd_image
from tests.harness.vhd_util import vhd_util
from tests.harness.vhd_util import vhd_util_query

USAGE = {'scan': (
    "usage: [OPTIONS] FILES\noptions: [-m match filter] [-f fast] [-c continue on failure] [-l LVM volume] "
    "[-p pretty print] [-a scan parents] [-v verbose] [-h help] [-M show markers]\n")}


class _Entry(object):
    """One line of output.  parent: its name to print, or None; parent_path: its file, or None."""

    name = '.'
    capacity = size = marker = 0
    hidden = 1
    parent = parent_path = None
    parent_is_raw = False


def run_scan(arguments):
    options, names = vhd_util.parse_options('scan', arguments, 'm:fcl:pavMh', help_code=0, positional=True)
    if 'l' in options:
        vhd_util.write_error('this stand-in for vhd-util scans no LVM volumes\n')
        return errno.ENOSYS
    if not names and 'm' not in options:
        raise vhd_util.UsageError()
    scan = _Scan(options)
    code = scan.run(names + (list(_glob(options['m'], 'f' not in options)) if 'm' in options else []))
    return 0 if 'c' in options else code


def _glob(pattern, ordered):
    """The files of a glob(3) pattern with braces; in directory order for fast scans."""
    import glob
    start = pattern.find('{')
    end = pattern.find('}', start)
    if 0 <= start < end:
        for choice in pattern[start + 1:end].split(','):
            yield from _glob(pattern[:start] + choice + pattern[end + 1:], ordered)
        return
    found = glob.iglob(pattern)
    yield from sorted(found) if ordered else found


class _Scan(object):
    """One run; lines are written as files are read, or at the end as a tree."""

    def __init__(self, options):
        self._pretty = 'p' in options
        self._fast = 'f' in options and not self._pretty
        self._follows_parents = 'a' in options
        self._verbose = 'v' in options
        self._shows_markers = 'M' in options
        self._continues = 'c' in options
        self._entries = {}

    def run(self, paths):
        code = 0
        seen = set()
        while paths:
            path = paths.pop(0)
            if path in seen:
                continue
            seen.add(path)
            try:
                entry = self._read(path)
            except OSError as error:
                code = self._report(path, error) or code
                if error.errno == errno.ENOENT and self._continues:
                    # Recorded: an empty line of data for a name that is not there.
                    self._write(_Entry(), self._name(_Entry.name), 0)
                if not self._continues:
                    break
                continue
            if self._pretty:
                self._entries[os.path.realpath(path)] = entry
            else:
                self._write(entry, self._name(path), 0)
            if self._follows_parents and entry.parent is not None:
                if entry.parent_path is None:
                    self._report_missing(entry.parent)
                else:
                    paths.insert(0, entry.parent_path)
        self._write_tree()
        return code

    def _report(self, path, error):
        if error.errno == errno.ENOENT:
            self._report_missing(path)
            if not self._continues:
                vhd_util.write_error('scan failed: %d. Check syslog for details\n' % -error.errno)
        else:
            name = os.path.realpath(path) if self._pretty else path
            vhd_util.write("vhd=%s scan-error=%d error-message='opening file'\n" % (name, -error.errno))
        return error.errno

    def _report_missing(self, name):
        vhd_util.write("vhd=%s scan-error=%d error-message='failure scanning target'\n" % (name, -errno.ENOENT))

    def _read(self, path):
        entry = _Entry()
        entry.size = os.stat(path).st_size
        if self._is_raw_parent(path):
            entry.capacity = entry.size
            return entry
        with vhd_image.Image.open(path, at_start=self._fast) as image:
            entry.capacity, entry.hidden = image.size_bytes, image.footer.hidden
            if self._shows_markers:
                entry.marker = image.batmap.marker if image.batmap else 0
            if image.is_differencing:
                self._read_parent(image, entry)
        return entry

    def _is_raw_parent(self, path):
        return any(other.parent_path == path and other.parent_is_raw for other in self._entries.values())

    def _read_parent(self, image, entry):
        entry.parent_is_raw = image.has_raw_parent
        try:
            entry.parent = entry.parent_path = image.find_parent()
        except OSError:
            entry.parent = vhd_util_query.find_stored_parent(image)
        if self._fast:
            entry.parent = image.header.parent_name

    def _name(self, path):
        if self._verbose:
            return os.path.realpath(path) if self._pretty else path
        return os.path.basename(path)

    def _write(self, entry, name, depth):
        parent = 'none'
        if entry.parent is not None:
            parent = entry.parent if self._verbose else os.path.basename(entry.parent)
            if self._pretty and os.path.realpath(entry.parent_path or '') not in self._entries:
                parent += ' (not found in scan)'
        marker = ' marker=%d keyhash=' % entry.marker if self._shows_markers else ''
        vhd_util.write('%svhd=%s capacity=%d size=%d hidden=%d%s parent=%s\n' % (
            '   ' * depth, name, entry.capacity, entry.size, entry.hidden, marker, parent))

    def _write_tree(self):
        """Roots first, hidden ones before others, each followed by its descendants."""
        children = {}
        for path, entry in self._entries.items():
            parent = os.path.realpath(entry.parent_path) if entry.parent_path else None
            children.setdefault(parent if parent in self._entries else None, []).append(path)
        pending = [(path, 0) for path in sorted(children.get(None, ()), key=lambda path: (
            not self._entries[path].hidden, path))]
        while pending:
            path, depth = pending.pop(0)
            self._write(self._entries[path], self._name(path), depth)
            pending[:0] = [(child, depth + 1) for child in sorted(children.get(path, ()))]
