# SPDX-License-Identifier: Apache-2.0
"""A mount namespace in which a host's tree covers this machine's: /etc/xapi.d, /run/sr-mount and so on are the host's.

Plug-ins that do not know DOM0_ROOT find everything where it is in dom0. Needs root.

A child process makes the namespace and keeps it; plug-ins enter it between fork and exec. As a program this module is that
child: it uses the standard library only, says "ready" on stdout and ends when its stdin does.

    both have a directory       a new directory, filled in the same way
    only the host has it        the host's, live: later additions are seen
    only this machine has it    this machine's
    /proc, /sys, /tmp           this machine's
    /root/.ssh, /etc/ssh        the host's, live: this machine's keys stay out of it
    /dev                        the host's, live, with this machine's basic devices
"""

import ctypes
import os
import subprocess
import sys
import tempfile

_CLONE_NEWNS = 0x20000
_MS_BIND, _MS_MOVE, _MS_REC, _MS_PRIVATE = 0x1000, 0x2000, 0x4000, 0x40000
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "shm", "pts")
_OF_THE_MACHINE = ("/proc", "/sys", "/tmp")
_OF_THE_HOST = ("/dev", "/root/.ssh", "/etc/ssh")
_START_TIMEOUT_S = 60

_libc = ctypes.CDLL(None, use_errno=True)


class MountNamespace(object):

    def __init__(self, root):
        """root: the host's tree. Raises OSError; PermissionError if the caller is not root."""
        target = tempfile.mkdtemp(prefix="dom0-")
        try:
            self._process = subprocess.Popen([sys.executable, "-I", os.path.abspath(__file__), root, target],
                                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            if self._process.stdout.readline() != b"ready\n":
                reason = self._process.communicate(timeout=_START_TIMEOUT_S)[1].decode("utf-8", "replace").strip()
                raise PermissionError("a mount namespace needs root: %s" % (reason.splitlines() or ["no reason given"])[-1])
        finally:
            # Mounted upon in the namespace only; here it has stayed an empty directory.
            os.rmdir(target)
        self._fd = os.open("/proc/%d/ns/mnt" % self._process.pid, os.O_RDONLY | os.O_CLOEXEC)

    @property
    def inode(self):
        """By which a process in it is known: that of /proc/<pid>/ns/mnt."""
        return os.fstat(self._fd).st_ino

    def enter(self):
        """Move this process, which has one thread, into the namespace; its working directory becomes /."""
        _check(_libc.setns(self._fd, _CLONE_NEWNS))

    def close(self):
        os.close(self._fd)
        self._process.communicate(timeout=_START_TIMEOUT_S)


def _check(result):
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _mount(source, target, flags, kind=None):
    _check(_libc.mount(os.fsencode(source), os.fsencode(target), kind, flags, None))


def _bind(source, target):
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    elif not os.path.exists(target):
        open(target, "w").close()
    _mount(source, target, _MS_BIND | _MS_REC)


def _merge(machine, host, target):
    """Fill the directory `target` with the entries of both; the host's win."""
    names = {name: os.path.join(machine, name) for name in os.listdir(machine)}
    for name in os.listdir(host):
        source, other = os.path.join(host, name), names.get(name, "")
        if other in _OF_THE_MACHINE:
            continue
        if other in _OF_THE_HOST or not (_is_directory(source) and _is_directory(other)):
            names[name] = source
            continue
        del names[name]
        os.mkdir(os.path.join(target, name))
        _merge(other, source, os.path.join(target, name))
    # /tmp first: it contains `target`, and mounts already made there would be bound once more.
    for name, source in sorted(names.items(), key=lambda item: item[1] != "/tmp"):
        if os.path.islink(source):
            os.symlink(os.readlink(source), os.path.join(target, name))
        else:
            _bind(source, os.path.join(target, name))


def _is_directory(path):
    return os.path.isdir(path) and not os.path.islink(path)


def _add_devices(directory):
    for name in _DEVICES:
        if os.path.exists(os.path.join("/dev", name)):
            _bind(os.path.join("/dev", name), os.path.join(directory, name))
    if not os.path.lexists(os.path.join(directory, "fd")):
        os.symlink("/proc/self/fd", os.path.join(directory, "fd"))


def main(root, target):
    _check(_libc.unshare(_CLONE_NEWNS))
    _mount("none", "/", _MS_REC | _MS_PRIVATE)
    _mount("tmpfs", target, 0, b"tmpfs")
    os.chmod(target, 0o755)
    _merge("/", root, target)
    _add_devices(os.path.join(target, "dev"))
    os.chdir(target)
    _mount(".", "/", _MS_MOVE)
    os.chroot(".")
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
