#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""dist/dom0-xapi-plugins-<version>-<family>.tar.gz: the plug-ins, ready to be copied onto hosts, and the script that does it.

    dom0-xapi-plugins-<version>/
        install.sh                  installs on hosts over ssh, of either family
        xapi.d/plugins/             what belongs into /etc/xapi.d/plugins, with byte-code
        dom0-plugins.conf           a commented sample of /etc/dom0-plugins.conf
        OPERATING.md CHANGES.md LICENSE
"""

import gzip
import io
import os
import shutil
import tarfile
import tempfile

import release

DOCUMENTS = ("docs/OPERATING.md", "CHANGES.md", "LICENSE")


def make(family, epoch, options):
    version = release.read_version()
    top = "%s-%s" % (release.NAME, version)
    with tempfile.TemporaryDirectory(prefix="dom0-tarball-") as work:
        tree = os.path.join(work, top)
        _fill(tree, family, epoch)
        data = _pack(work, top, epoch)
    release.publish(data, options.output, "%s-%s.tar.gz" % (top, family.name))


def _fill(tree, family, epoch):
    os.makedirs(os.path.join(tree, "xapi.d"))
    with tempfile.TemporaryDirectory(prefix="dom0-tarball-") as root:
        plugin_dir = release.build_plugins(family, root, epoch)[0]
        shutil.move(plugin_dir, os.path.join(tree, "xapi.d"))
    for name in DOCUMENTS:
        shutil.copyfile(os.path.join(release.CHECKOUT, name), os.path.join(tree, os.path.basename(name)))
    shutil.copy(os.path.join(release.CHECKOUT, "packaging", "install.sh"), tree)
    with open(os.path.join(tree, release.SETTINGS), "w", encoding="utf-8") as settings:
        settings.write(release.make_sample_settings())


def _pack(work, top, epoch):
    packed = io.BytesIO()
    # GNU format, no name and a fixed date in gzip's header: nothing of the machine that builds.
    with gzip.GzipFile("", "wb", 9, packed, epoch) as compressed, \
            tarfile.open(fileobj=compressed, mode="w", format=tarfile.GNU_FORMAT) as archive:
        paths = [top] + [os.path.relpath(os.path.join(parent, name), work)
                         for parent, directories, names in os.walk(os.path.join(work, top)) for name in directories + names]
        for path in sorted(paths):
            archive.add(os.path.join(work, path), path, recursive=False, filter=lambda entry: _plain(entry, epoch))
    return packed.getvalue()


def _plain(entry, epoch):
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    entry.mtime = epoch
    entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
    return entry


if __name__ == "__main__":
    release.build("make_tarball", "Make a tarball of the plug-ins for each family of hosts.", make)
