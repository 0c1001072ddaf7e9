# SPDX-License-Identifier: Apache-2.0
"""Programs that tests and benchmarks need from the machine, and the Debian packages that bring them."""

import collections
import os
import shutil
import subprocess

# package: names, with spaces between them
# name: of a program, or the path of a file.
Tool = collections.namedtuple("Tool", "name package purpose")

TOOLS = (
    Tool("brctl", "bridge-utils", "network_config's bridges"),
    Tool("busybox", "busybox", "a shell that runs the installer"),
    Tool("conntrack", "conntrack", "a command of neutron's"),
    Tool("cpio", "cpio", "content of packages"),
    Tool("createrepo_c", "createrepo-c", "supplemental packs"),
    Tool("curl", "curl", "the benchmark's yardstick for a download"),
    Tool("dnf", "dnf", "a reader of supplemental packs that nobody here wrote"),
    Tool("dumpe2fs", "e2fsprogs", "the judge of file systems made on partitions"),
    Tool("gcc", "gcc libc6-dev", "libraries that let a real xenstored run without a hypervisor, a disk fail; packages of nova's"),
    Tool("genisoimage", "genisoimage", "boot ISOs"),
    Tool("/usr/lib/ISOLINUX/isolinux.bin", "isolinux", "boot ISOs"),
    Tool("gpg", "gpg", "the signatures of supplemental packs"),
    Tool("ip", "iproute2", "a command of neutron's"),
    Tool("ipset", "ipset", "a command of neutron's"),
    Tool("iptables-restore", "iptables", "a command of neutron's"),
    Tool("/usr/share/i18n/charmaps/ANSI_X3.4-1968.gz", "locales", "a locale in which a range of letters has others"),
    Tool("lspci", "pciutils", "the host's PCI devices"),
    Tool("mkfs.xfs", "xfsprogs", "a file system that shares blocks"),
    Tool("modprobe", "kmod", "blacklists of kernel modules"),
    Tool("openssl", "openssl", "a private authority for the tests of TLS"),
    Tool("ovs-vswitchd", "openvswitch-switch", "a switch for commands of neutron's"),
    Tool("parted", "parted", "nova's partitions on disks of its own guest"),
    Tool("pigz", "pigz", "the benchmark's yardstick for inflating on two cores"),
    Tool("qemu-img", "qemu-utils", "the judge of a VHD's content"),
    Tool("rpmbuild", "rpm", "packages"),
    Tool("rpmlint", "rpmlint", "defects of packages"),
    Tool("rsync", "rsync", "migrations of disks"),
    Tool("sfdisk", "fdisk", "partitions on disks"),
    Tool("ssh", "openssh-client", "the same, between hosts"),
    Tool("sshd", "openssh-server", "the other end of it"),
    Tool("sysctl", "procps", "a command of neutron's"),
    Tool("xorriso", "xorriso", "supplemental packs"),
    Tool("xz", "xz-utils", "samples of VHDs, for Python 2.7"),
)

INSTALL_DEADLINE_S = 900


def list_missing():
    # Debian keeps some tools where only root's PATH looks.
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return [tool for tool in TOOLS
            if not (os.path.exists(tool.name) if os.path.isabs(tool.name) else shutil.which(tool.name, path=path))]


def install(tools):
    """Install the packages of `tools` where this user can. Quiet when it works; on failure apt's own words are shown."""
    packages = sorted({package for tool in tools for package in tool.package.split()})
    if not packages or os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    print("installing Debian packages: %s" % " ".join(packages), flush=True)
    # Asking for fresh lists is the slow part, and a machine that has lists rarely needs it.
    if _apt_get("install", *packages).returncode == 0:
        return
    for result in (_apt_get("update"), _apt_get("install", *packages)):
        if result.returncode != 0:
            print(result.stdout.decode("utf-8", "replace").strip(), flush=True)


def unpack(packages, directory):
    """Unpack Debian packages into a directory, without installing anything; None, or why it cannot be done."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        return "apt-get and dpkg-deb are not there"
    downloads = os.path.join(directory, "debs")
    os.makedirs(downloads)
    result = _apt_get("download", *packages, cwd=downloads)
    if result.returncode != 0 and os.geteuid() == 0:
        _apt_get("update")
        result = _apt_get("download", *packages, cwd=downloads)
    for name in sorted(os.listdir(downloads)):
        if result.returncode == 0:
            result = subprocess.run(["dpkg-deb", "--extract", os.path.join(downloads, name), os.path.join(directory, "root")],
                                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                    timeout=INSTALL_DEADLINE_S)
    shutil.rmtree(downloads)
    return result.stdout.decode("utf-8", "replace").strip() if result.returncode != 0 else None


def _apt_get(verb, *arguments, cwd=None):
    return subprocess.run(
        ["apt-get", verb, "--quiet", "--yes", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"]
        + list(arguments),
        cwd=cwd, env=dict(os.environ, DEBIAN_FRONTEND="noninteractive"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, timeout=INSTALL_DEADLINE_S)
