# SPDX-License-Identifier: Apache-2.0
"""A file-based SR as the storage manager (SM) sees it: VHD and raw files in a directory, judged by vhd-util.

Sub-directories and dot-files are nobody's. Every operation that SM makes exclusive holds SM's `sr` lock.
"""

import collections
import os
import re
import subprocess
import uuid

from dom0_lib.disks import vhd
from tests.harness.vhd import vhd_image
from tests.harness.xapi.failures import Failure

# SM blocks on this lock for ever; a test should not.
SR_LOCK_TIMEOUT_S = 120
MIB = 1 << 20

_SCAN_LINE = re.compile(r"vhd=(?P<name>.+?)(?: capacity=(?P<capacity>\d+) size=(?P<size>\d+) hidden=(?P<hidden>\d+)"
                        r" parent=(?P<parent>.+?))?(?: scan-error=(?P<error>-?\d+) error-message='.*')?$")


class Disk(collections.namedtuple("Disk", "uuid path virtual_size physical_size is_hidden parent is_raw")):
    """One file of the SR. parent: uuid or None."""


class Repository(object):

    def __init__(self, sr_uuid, path, dom0, locks):
        self.uuid = sr_uuid
        self.path = path
        self._dom0 = dom0
        self._locks = locks

    def hold_lock(self):
        """SM's `sr` lock. Raises sm_locks.LockTimeout."""
        return self._locks.hold(self.uuid, "sr", SR_LOCK_TIMEOUT_S)

    def try_lock(self, name):
        """Another of SM's locks of this SR, tried once: gc_active or running."""
        return self._locks.hold(self.uuid, name, 0)

    def disk_path(self, vdi_uuid):
        return os.path.join(self.path, vdi_uuid + ".vhd")

    def raw_path(self, vdi_uuid):
        return os.path.join(self.path, vdi_uuid + ".raw")

    def scan(self):
        """{uuid: Disk} of the disks that clients may see: all but hidden leaves, which are garbage.

        Raises Failure SR_BACKEND_FAILURE_40 if one disk cannot be read or has lost its parent: one bad file breaks the whole SR.
        """
        with self.hold_lock():
            disks = self.list_disks()
        parents = set(disk.parent for disk in disks.values())
        return {name: disk for name, disk in disks.items() if not disk.is_hidden or name in parents}

    def list_disks(self):
        """{uuid: Disk} of all files; the lock must be held. Raises as scan() does."""
        disks = {}
        for line in self._scan_files().splitlines():
            fields = _SCAN_LINE.match(line).groupdict()
            name = _uuid_of(fields["name"])
            if fields["error"]:
                raise _scan_error("uuid=%s" % name)
            disks[name] = Disk(name, self.disk_path(name), int(fields["capacity"]), int(fields["size"]),
                               fields["hidden"] != "0", None if fields["parent"] == "none" else _uuid_of(fields["parent"]), False)
        for file_name in os.listdir(self.path):
            if file_name.endswith(".raw"):
                path = os.path.join(self.path, file_name)
                disks[_uuid_of(file_name)] = Disk(_uuid_of(file_name), path, os.path.getsize(path), os.path.getsize(path),
                                                  False, None, True)
        for disk in disks.values():
            if disk.parent and disk.parent not in disks:
                raise _scan_error("uuid=%s" % disk.uuid)
        return disks

    def _scan_files(self):
        command = ["vhd-util", "scan", "-f", "-m", os.path.join(self.path, "*.vhd")]
        try:
            return self._dom0.run_program(*command).stdout
        except subprocess.CalledProcessError:
            pass
        try:
            # Once more, to learn which file it is.
            return self._dom0.run_program(*(command + ["-c"])).stdout
        except subprocess.CalledProcessError as error:
            raise _scan_error("error VHD-scanning path %s (%s)" % (self.path, error))

    # For VDI calls

    def create_disk(self, virtual_size):
        """A new dynamic disk, its size rounded up to MiB as vhd-util takes it. Returns its uuid."""
        name = str(uuid.uuid4())
        with self.hold_lock():
            self._vhd_util("create", "-n", self.disk_path(name), "-s", str(-(-virtual_size // MIB)))
        return name

    def resize_disk(self, name, virtual_size):
        """Give a disk more blocks; its size is rounded up to whole ones.  SM's vhd-util moves blocks for that, here the file is
        written anew."""
        path = self.disk_path(name)
        staged = path + ".resized"
        with self.hold_lock(), vhd_image.Image.open(path) as old:
            virtual_size = vhd.round_up(virtual_size, vhd.BLOCK_SIZE)
            if virtual_size < old.size_bytes:
                raise Failure("SR_BACKEND_FAILURE_79", "", "VDI Invalid size [opterr=shrinking not allowed]", "")
            parent = old.find_parent() if old.is_differencing else None
            kind = vhd.DIFFERENCING if old.is_differencing else vhd.DYNAMIC
            with vhd_image.Image.create(staged, virtual_size, kind, parent, old.has_raw_parent) as new:
                for start, end, offset in old.read_runs(0, old.size_bytes):
                    if offset is not None:
                        new.write(start, old.read_at(offset, end - start))
                new.flush()
            os.rename(staged, path)

    def delete_disk(self, name):
        with self.hold_lock():
            for extension in (".vhd", ".raw"):
                path = os.path.join(self.path, name + extension)
                if os.path.exists(path):
                    os.unlink(path)

    def snapshot_disk(self, name):
        """Freeze a disk: its data become a hidden base copy under a new name. Returns the uuid of the snapshot.

            before     name                     the old inode keeps the data, and becomes the parent of both
            after      base (hidden) <- name
                                     <- snapshot
        """
        base, snapshot = str(uuid.uuid4()), str(uuid.uuid4())
        with self.hold_lock():
            os.link(self.disk_path(name), self.disk_path(base))
            for child in (snapshot, name):
                staged = os.path.join(self.path, "%s.snapshot" % child)
                self._vhd_util("snapshot", "-e", "-n", staged, "-p", self.disk_path(base))
                os.rename(staged, self.disk_path(child))
            self.hide_disk(base)
        return snapshot

    # For the garbage collector, which must hold the lock.

    def hide_disk(self, name):
        self._vhd_util("set", "-n", self.disk_path(name), "-f", "hidden", "-v", "1")

    def show_disk(self, name):
        self._vhd_util("set", "-n", self.disk_path(name), "-f", "hidden", "-v", "0")

    def relink_disk(self, name, parent):
        self._vhd_util("modify", "-n", self.disk_path(name), "-p", self.disk_path(parent))

    def coalesce_disk(self, name):
        """Write the disk's data into its parent's file. Needs no lock: SM holds none either."""
        self._vhd_util("coalesce", "-n", self.disk_path(name))

    def _vhd_util(self, *arguments):
        try:
            self._dom0.run_program("vhd-util", *arguments)
        except subprocess.CalledProcessError as error:
            raise Failure("SR_BACKEND_FAILURE_47", "", "The SR is not available [opterr=vhd-util %s: %s]"
                          % (arguments[0], error.stdout.strip()), "")


def _uuid_of(name):
    return os.path.splitext(os.path.basename(name))[0]


def _scan_error(reason):
    return Failure("SR_BACKEND_FAILURE_40", "", "The SR scan failed  [opterr=%s]" % reason, "")
