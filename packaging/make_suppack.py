#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""dist/dom0-xapi-plugins-<version>-<family>.iso, a supplemental pack: an update ISO as XenServer 7.1 and later take it.

    update.xml, update.xml.asc                   what the pack is; xapi verifies the signature
    repodata/repomd.xml, .asc and what it names  a yum repository; xapi and dnf verify
    Packages/dom0-xapi-plugins-*.rpm             the plug-ins
    Packages/update-<label>-*.rpm                requires them and owns /var/update/applied/<uuid>, which is how xapi knows
    Packages/control-<label>-*.rpm               owns /var/update/<uuid>/precheck and remove
    RPM-GPG-KEY-DOM0-XAPI-PLUGINS-<key>          the public key, which each host must have imported

The label has the version in it, as a hotfix's has: xapi makes dnf install a group, and dnf 4 does nothing for a group and for
packages by a name that is installed already. Packages of earlier labels are obsoleted.

The order of signing: packages, the index made of them, then repomd.xml and update.xml.
"""

import os
import shutil
import tempfile
import uuid
from xml.sax import saxutils

import make_rpm
import release
import signing

GROUP = """<?xml version="1.0" encoding="UTF-8"?>
<comps>
  <group>
    <id>update</id>
    <name>update</name>
    <description>%(summary)s</description>
    <packagelist>
      <packagereq type="mandatory">update-%(label)s</packagereq>
    </packagelist>
  </group>
</comps>
"""

# What os-xenapi has and these plug-ins do not replace by a file of the same name.
OLD_NAMES = ("dom0_pluginlib.py", "utils.py")

REMOVE = """#!/bin/sh
# Run by the administrator: removes what the pack has installed. Afterwards xapi learns of it by xe-toolstack-restart.
exec rpm -e update-%(label)s control-%(label)s %(name)s
"""

THROW_AWAY_ADVICE = """
The packs are signed with a throw-away key, whose secret half is gone now. To try one, on each host of a pool:
    scp %(output)s/%(key_file)s %(output)s/*.iso root@HOST:
    ssh root@HOST /opt/xensource/debug/import-update-key /root/%(key_file)s
    ssh root@HOST xe-install-supplemental-pack /root/NAME.iso
Not in production: hosts go on trusting an imported key for every update, and you cannot sign the next version with this one.
Make a key that you keep, and build with make suppack KEY=<its fingerprint>."""


def make(family, epoch, options):
    if not hasattr(options, "signer"):
        options.signer = signing.open_signer(options.key, epoch, options.stack)
        release.publish(options.signer.export(), options.output, options.signer.key_file)
        if options.signer.is_throw_away:
            advice = THROW_AWAY_ADVICE % {"output": os.path.relpath(options.output), "key_file": options.signer.key_file}
            # At the end, and only of a build that has worked; what the function returns would suppress an error.
            options.stack.push(lambda error, *_: None if error else print(advice, flush=True))
    with tempfile.TemporaryDirectory(prefix="dom0-pack-") as work:
        root = os.path.join(work, "root")
        os.makedirs(os.path.join(root, "Packages"))
        _fill(family, epoch, options.signer, work, root)
        image = os.path.join(work, "pack.iso")
        _write_iso(root, image, epoch)
        with open(image, "rb") as pack:
            release.publish(pack.read(), options.output, "%s-%s-%s.iso" % (release.NAME, release.read_version(), family.name))


def make_label(version=None):
    """The label of this version or another. xapi makes a section of yum.conf of it: letters, digits, _ and - only."""
    return "%s-%s" % (release.NAME, (version or release.read_version()).replace(".", "_"))


def make_uuid(family):
    """The pack's uuid: another one for each version, as xapi takes a pack whose uuid it has seen for applied already."""
    url = "%s/%s-%s" % (release.NAME, release.read_version(), make_rpm.release_of(family))
    return str(uuid.uuid5(uuid.NAMESPACE_URL, url))


def _fill(family, epoch, signer, work, root):
    payload = make_rpm.make_package(family, epoch, os.path.join(work, "payload"))
    size_bytes = _size_of(payload)
    packages = [payload, _make_control(family, epoch, os.path.join(work, "control"), size_bytes)]
    size_bytes += _size_of(packages[1])
    packages.append(_make_update(family, epoch, os.path.join(work, "update"), size_bytes))
    packages = [shutil.move(package, os.path.join(root, "Packages")) for package in packages]
    signer.sign_packages(packages)
    with open(os.path.join(root, signer.key_file), "wb") as key:
        key.write(signer.export())
    _write(os.path.join(root, "update.xml"), _describe(family, size_bytes, signer.key_file))
    release.set_dates(root, epoch)
    groups = os.path.join(work, "comps.xml")
    _write(groups, GROUP % {"summary": release.SUMMARY, "label": make_label()})
    # Installers of hosts and yum 3.4 read gzip alone.
    release.run(["createrepo_c", "--quiet", "--checksum", "sha256", "--general-compress-type", "gz", "--no-database",
                 "--simple-md-filenames", "--revision", str(epoch), "--set-timestamp-to-revision", "--workers", "1",
                 "--groupfile", groups, root])
    signer.sign_file(os.path.join(root, "repodata", "repomd.xml"))
    signer.sign_file(os.path.join(root, "update.xml"))
    release.set_dates(root, epoch)


def _describe(family, size_bytes, key_file=None):
    """The text of update.xml, and without a key that of the stamp in /var/update/applied."""
    version = "%s-%s" % (release.read_version(), make_rpm.RELEASE)
    attributes = [("name-label", make_label()), ("version", version), ("uuid", make_uuid(family)),
                  ("installation-size", str(size_bytes)), ("control", "control-" + make_label())]
    if key_file:
        attributes.append(("key", key_file))
    return "<update %s>\n  <name-description>%s (%s)</name-description>\n</update>\n" % (
        " ".join("%s=%s" % (name, saxutils.quoteattr(value)) for name, value in attributes),
        saxutils.escape(release.SUMMARY), saxutils.escape(family.hosts))


def _make_update(family, epoch, work, size_bytes):
    path = "/var/update/applied/" + make_uuid(family)
    release_number = "%s-%s" % (release.read_version(), make_rpm.release_of(family))
    return _make_meta(family, epoch, work, "update-", {path: (0o644, _describe(family, size_bytes))}, [],
                      ["Requires: %s >= %s" % (release.NAME, release_number)])


def _make_control(family, epoch, work, size_bytes):
    directory = "/var/update/" + make_uuid(family)
    with open(os.path.join(release.CHECKOUT, "packaging", "precheck.sh"), encoding="utf-8") as source:
        precheck = source.read()
    values = {"python": family.python, "hosts": family.hosts, "plugins": " ".join(make_rpm.list_plugins()),
              "old_names": " ".join(OLD_NAMES), "need_kib": str(2 * size_bytes >> 10)}
    for name, value in values.items():
        precheck = precheck.replace("@%s@" % name, value)
    files = {directory + "/precheck": (0o755, precheck),
             directory + "/remove": (0o755, REMOVE % {"label": make_label(), "name": release.NAME})}
    return _make_meta(family, epoch, work, "control-", files, [directory], ["Requires: xapi-core"])


def _make_meta(family, epoch, work, prefix, files, directories, relations):
    """A package of a few texts: {path: (mode, text)}. It takes the place of those that earlier versions had."""
    version = release.read_version()
    earlier = [change.version for change in release.read_changes()[1:]]
    relations = relations + ["Obsoletes: %s%s < %s" % (prefix, make_label(old), version) for old in earlier]
    stage = os.path.join(work, "stage")
    lines = ["%dir %attr(0755,root,root) " + directory for directory in directories]
    for path, (mode, text) in sorted(files.items()):
        os.makedirs(os.path.dirname(stage + path), exist_ok=True)
        _write(stage + path, text)
        os.chmod(stage + path, mode)
        lines.append("%%attr(%04o,root,root) %s" % (mode, path))
    release.set_dates(stage, epoch)
    summary = "Supplemental pack of %s" % release.NAME
    return make_rpm.build_package(
        work, epoch, name=prefix + make_label(), version=version, release=make_rpm.release_of(family), summary=summary,
        description=summary + ".", relations="\n".join(relations), files="\n".join(lines), stage=stage,
        changelog=make_rpm.format_changelog(family, epoch))


def _size_of(package):
    return int(release.run(["rpm", "-qp", "--nosignature", "--qf", "%{SIZE}", package]))


def _write_iso(root, path, epoch):
    date = release.format_date(epoch, "%Y%m%d%H%M%S00")
    volume = "%s-%s" % (release.NAME, release.read_version())
    release.run(["xorriso", "-as", "mkisofs", "-quiet", "-r", "-J", "-joliet-long", "-V", volume,
                 "--modification-date=" + date, "--set_all_file_dates", date, "-o", path, root],
                env=dict(os.environ, SOURCE_DATE_EPOCH=str(epoch), TZ="UTC"))


def _write(path, text):
    with open(path, "w", encoding="utf-8") as target:
        target.write(text)


if __name__ == "__main__":
    release.build("make_suppack", "Make a signed supplemental pack for each family of hosts.", make,
                  ("--key", "the key that signs, as gpg finds it in your keyring; without it a throw-away key is made"))
