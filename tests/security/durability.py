# SPDX-License-Identifier: Apache-2.0
"""Power cuts that lose all data that were not synced: a call is recorded, and its files are put back as a disk may have them.

tests.security.sync_recorder has a call run so that it can be watched.  At each sync, and at each change of a name, the names are
listed; at the sync of a file its content is kept, too.  Then, for a crash at each of these moments, the tree is made again with

    the content of a file       as last synced, by whatever name; empty if it never was
    the names in a directory    as SYNCED, EAGER, EARLY and LATE say

A write changes nothing that is sure to be on the disk, so there are no other moments.  Not simulated: names of one directory that
reach the disk in another order than they were made (ext3, ext4, XFS and NFS keep it), and data that reach it without a sync, which
the tests that kill processes see.
"""

import collections
import os
import re
import shutil
import stat

# Which names of a directory a disk has.  POSIX promises SYNCED alone; a file system with a journal gives EAGER, of this moment or
# of one before; EARLY and LATE are mixtures: somebody else has synced one directory, or all but one.
SYNCED = "synced"      # the names at its last sync
EAGER = "eager"        # the names of this moment
EARLY = "early"        # in one directory the names of this moment, in the others those at their last syncs
LATE = "late"          # in one directory the names of some moment since its last sync, in the others those of this moment

_KINDS = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)
# A file with inode numbers in it, which are others when the tree is made again.
_JOURNAL = "journal"
# Of an inode: kind, permissions, and where a link leads.
_Inode = collections.namedtuple("Inode", "kind mode target")
# A moment: what has happened, and then {directory: {name: inode}}, {inode: content} as last synced, {directory: its names as last
# synced}.
_Moment = collections.namedtuple("Moment", "event names contents synced_names")
# name: for people; names: {directory: {name: inode}}; is_end: the call had answered.
State = collections.namedtuple("State", "name names contents is_end")


class Recording(object):
    """The moments of some calls.  pinned: {inode: descriptor}, by which no inode's number is given away a second time."""

    def __init__(self, roots, left_out, pinned):
        self._roots = roots
        self._left_out = left_out
        self._pinned = pinned
        self.failure = None
        self._inodes = {}
        self._moments = []
        self._contents = {}
        self._paths = {}
        self._kept = {}
        names = self._walk()
        self._synced_names = names
        for inode, path in self._paths.items():
            self._contents[inode] = _read(path) if self._inodes[inode].kind == stat.S_IFREG else None
            self._kept[inode] = _identify(path)
        self._moments.append(_Moment("the beginning", names, dict(self._contents), dict(names)))

    def look(self, operation, synced=(0, 0)):
        """Add a moment.  synced: (device, inode) of the file or directory that is being synced."""
        names = self._walk()
        event = operation
        if synced in self._paths:
            path = self._paths[synced]
            event = "%s %s" % (operation, path)
            if synced in names:
                self._synced_names = _with(self._synced_names, synced, names[synced])
            else:
                self._contents[synced] = _read(path)
        self._moments.append(_Moment(event, names, dict(self._contents), dict(self._synced_names)))

    def _walk(self):
        """{directory: {name: inode}} below all roots."""
        found, self._paths = {}, {}
        for root in self._roots:
            self._walk_directory(root, found)
        return found

    def _walk_directory(self, path, found):
        inode = self._note(path)
        names = found[inode] = {}
        for name in self._list(path):
            child = os.path.join(path, name)
            names[name] = self._note(child)
            if self._inodes[names[name]].kind == stat.S_IFDIR:
                self._walk_directory(child, found)

    def _list(self, path):
        """The names in a directory that belong to the recording."""
        paths = [os.path.join(path, name) for name in os.listdir(path)]
        return [os.path.basename(child) for child in paths
                if child not in self._left_out and stat.S_IFMT(os.lstat(child).st_mode) in _KINDS]

    def _note(self, path):
        status = os.lstat(path)
        inode = status.st_dev, status.st_ino
        kind = stat.S_IFMT(status.st_mode)
        target = os.readlink(path) if kind == stat.S_IFLNK else None
        self._inodes[inode] = _Inode(kind, stat.S_IMODE(status.st_mode), target)
        self._paths[inode] = path
        if inode not in self._pinned:
            self._pinned[inode] = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        return inode

    def list_states(self, moves_files=False):
        """The states that a disk may be in after a crash, as State objects, none twice.

        moves_files: the call renames files from one directory to another; a file system does that in one step, so neither of the
        two directories can be LATE
        """
        found = collections.OrderedDict()
        methods = (self._list_early,) if moves_files else (self._list_early, self._list_late)
        for states in [self._list_synced(), self._list_eager()] + [
                method(directory) for directory in self._list_changed() for method in methods]:
            for state in states:
                key = repr([[self._flatten(state, _key(root)) for root in self._roots], state.is_end])
                found.setdefault(key, state)
        return list(found.values())

    def _list_changed(self):
        """The directories in which names have changed."""
        last = {}
        changed = []
        for moment in self._moments:
            for directory, names in moment.names.items():
                if last.setdefault(directory, names) != names and directory not in changed:
                    changed.append(directory)
                last[directory] = names
        return changed

    def _is_last(self, moment):
        return moment is self._moments[-1]

    def _list_synced(self):
        for moment in self._moments:
            yield State("%s, %s" % (SYNCED, moment.event), moment.synced_names, moment.contents, self._is_last(moment))

    def _list_eager(self):
        for moment in self._moments:
            yield State("%s, %s" % (EAGER, moment.event), moment.names, moment.contents, self._is_last(moment))

    def _list_early(self, directory):
        for moment in self._moments:
            names = _with(moment.synced_names, directory, moment.names.get(directory, {}))
            yield State("%s, %s" % (EARLY, moment.event), names, moment.contents, self._is_last(moment))

    def _list_late(self, directory):
        """The directory as of each moment, at the next sync of it or, without one, at the end."""
        for number, moment in enumerate(self._moments):
            later = moment
            for following in self._moments[number + 1:]:
                if following.synced_names.get(directory) is not moment.synced_names.get(directory):
                    break
                later = following
            names = _with(later.names, directory, moment.names.get(directory, {}))
            yield State("%s, %s, and then %s" % (LATE, moment.event, later.event), names, later.contents, self._is_last(later))

    def _flatten(self, state, directory):
        """The state of a directory as something to compare."""
        entries = []
        for name, inode in sorted(state.names.get(directory, {}).items()):
            if self._inodes[inode].kind == stat.S_IFDIR:
                entries.append((name, inode, self._flatten(state, inode)))
            else:
                entries.append((name, inode, hash(state.contents.get(inode) or b"")))
        return entries

    def read_synced(self, path):
        """The content of a file as it was last synced."""
        status = os.stat(path)
        return self._contents[status.st_dev, status.st_ino]

    def replay(self, state):
        """Make the files below the roots those of the state."""
        made, journals = {}, []
        for root in self._roots:
            self._replay_directory(root, _key(root), state, made, journals)
        for path, data in journals:
            _write(path, re.sub(rb"(?m)^\d+", lambda match: _renumber(match, made), data))

    def restore(self):
        """Make the files below the roots those of the beginning."""
        first = self._moments[0]
        self.replay(State("the beginning", first.names, first.contents, False))

    def _replay_directory(self, path, directory, state, made, journals):
        wanted = state.names.get(directory, {})
        for name in self._list(path):
            if name not in wanted or not self._is_untouched(os.path.join(path, name), wanted[name], state):
                _remove(os.path.join(path, name))
        for name, inode in wanted.items():
            child = os.path.join(path, name)
            kind, mode, target = self._inodes[inode]
            if kind == stat.S_IFDIR:
                if not os.path.isdir(child):
                    os.mkdir(child)
                os.chmod(child, mode)
                self._replay_directory(child, inode, state, made, journals)
            elif kind == stat.S_IFLNK:
                if not os.path.lexists(child):
                    os.symlink(target, child)
            elif os.path.lexists(child):
                made[inode] = child
            elif inode in made:
                os.link(made[inode], child)
            else:
                _write(child, state.contents.get(inode) or b"")
                os.chmod(child, mode)
                made[inode] = child
                if name == _JOURNAL:
                    journals.append((child, state.contents.get(inode) or b""))

    def _is_untouched(self, path, inode, state):
        """Whether the file at `path` is as it was at the beginning, and as the state has it; a directory can always stay."""
        kind = self._inodes[inode].kind
        if kind == stat.S_IFDIR:
            return os.path.isdir(path) and not os.path.islink(path)
        if kind == stat.S_IFLNK:
            return os.path.islink(path) and os.readlink(path) == self._inodes[inode].target
        return self._kept.get(inode) == _identify(path) and state.contents.get(inode) == self._moments[0].contents.get(inode)


def _with(names, directory, entries):
    changed = dict(names)
    changed[directory] = entries
    return changed


def _key(path):
    status = os.lstat(path)
    return status.st_dev, status.st_ino


def _identify(path):
    status = os.lstat(path)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _read(path):
    with open(path, "rb") as source:
        return source.read()


def _write(path, data):
    with open(path, "wb") as target:
        target.write(data)


def _remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def _renumber(match, made):
    """The number of the file's new inode, for a match with the number of its old one."""
    for (_, inode), path in made.items():
        if inode == int(match.group()):
            return b"%d" % os.lstat(path).st_ino
    return match.group()
