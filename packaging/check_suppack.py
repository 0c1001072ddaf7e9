#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Would a host take this supplemental pack? The rules of xapi, of its precheck, of yum and dnf, and of the host installer.

All checks run and all report: `NAME: what is wrong`, one line each. Nothing of the machine's keyrings and RPM databases is used.

Sources: xen-api ocaml/xapi/xapi_pool_update.ml (update.xml, signatures), python3/extensions/pool_update.{precheck,apply};
host-installer's repository.py. docs/OPERATING.md tells how to run it.
"""

import argparse
import collections
import gzip
import hashlib
import os
import re
import shutil
import sys
import tempfile
from xml.etree import ElementTree

import release
import signing

REQUIRED_FILES = ("update.xml", "update.xml.asc", "repodata/repomd.xml", "repodata/repomd.xml.asc")
REQUIRED_ATTRIBUTES = ("uuid", "name-label", "version")
GUIDANCE = ("restartHVM", "restartPV", "restartHost", "restartXAPI")
TRUTHS = ("true", "1", "false", "0")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
LABEL = re.compile(r"[A-Za-z0-9_-]+\Z")
KEY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
# What rpm 4.11 knows of rpmlib(...), and its compressors and digests: XenServer up to 8, XCP-ng up to 8.3.
OLD_RPMLIB = {"CompressedFileNames", "FileDigests", "PayloadFilesHavePrefix", "VersionedDependencies", "PayloadIsXz",
              "PartialHardlinkSets", "BuiltinLuaScripts", "FileCaps", "ScriptletInterpreterArgs"}
OLD_COMPRESSORS = ("gzip", "bzip2", "xz", "lzma")
SHA256 = "8"

REPO = "{http://linux.duke.edu/metadata/repo}"
COMMON = "{http://linux.duke.edu/metadata/common}"

Package = collections.namedtuple("Package", "name path sha256")


class Pack(object):
    """A pack in a directory, the public key that hosts have imported (path of a file, or None), and a directory to work in."""

    def __init__(self, root, key_file, work):
        self.root = root
        self.key_file = key_file
        self.work = work
        self._keyring = None

    def locate(self, name):
        """The path of a file of the pack. Raises Wrong if there is none."""
        path = os.path.normpath(os.path.join(self.root, name))
        if not path.startswith(self.root + os.sep) or not os.path.isfile(path):
            raise Wrong("%s is not in the pack" % name)
        return path

    def update(self):
        try:
            return ElementTree.parse(self.locate("update.xml")).getroot()
        except ElementTree.ParseError as error:
            raise Wrong("update.xml is no XML: %s" % error)

    def attribute(self, name):
        return self.update().get(name, "")

    def index(self, kind):
        """The path of one of the files that repomd.xml names: primary, group, ... Raises Wrong if it is not what that says."""
        for data in ElementTree.parse(self.locate("repodata/repomd.xml")).iter(REPO + "data"):
            if data.get("type") == kind:
                path = self.locate(data.find(REPO + "location").get("href"))
                checksum = data.find(REPO + "checksum")
                if digest(path, checksum.get("type")) != checksum.text:
                    raise Wrong("%s is not the file that repomd.xml was made for" % os.path.relpath(path, self.root))
                return path
        raise Wrong("repomd.xml names no %s" % kind)

    def packages(self):
        """The Packages that the index lists."""
        with gzip.open(self.index("primary")) as primary:
            try:
                root = ElementTree.parse(primary).getroot()
            except OSError:
                raise Wrong("primary is not compressed with gzip: the host installer reads nothing else")
        return [Package(entry.find(COMMON + "name").text, entry.find(COMMON + "location").get("href"),
                        entry.find(COMMON + "checksum").text) for entry in root.iter(COMMON + "package")]

    def find_package(self, name):
        """The path of the package `name` that the index lists. Raises Wrong."""
        for package in self.packages():
            if package.name == name:
                return self.locate(package.path)
        raise Wrong("the repository has no package %s" % name)

    def needed_key(self):
        if not self.key_file:
            raise Wrong("the public key %s is neither in the pack nor given" % (self.attribute("key") or "(update.xml names none)"))
        return self.key_file

    def keyring(self):
        """A directory for gpg in which the needed key is ultimately trusted, as import-update-key makes it on a host."""
        if not self._keyring:
            key_file, home = self.needed_key(), os.path.join(self.work, "gpg")
            os.mkdir(home, 0o700)
            signing.run_gpg(home, "--batch", "--import", key_file)
            listing = signing.run_gpg(home, "--batch", "--with-colons", "--list-keys").decode("utf-8")
            trust = os.path.join(home, "trust")
            with open(trust, "w") as target:
                for fingerprint in re.findall(r"(?m)^pub:.*\nfpr:+(\w+):", listing):
                    target.write("%s:6:\n" % fingerprint)
            signing.run_gpg(home, "--batch", "--import-ownertrust", trust)
            self._keyring = home
        return self._keyring


class Wrong(Exception):
    """What is wrong, in one line."""


def check_files(pack):
    missing = [name for name in REQUIRED_FILES if not os.path.isfile(os.path.join(pack.root, name))]
    if missing:
        raise Wrong("the pack lacks " + ", ".join(missing))


def check_root(pack):
    if pack.update().tag != "update":
        raise Wrong("the root of update.xml is <%s>, not <update>" % pack.update().tag)


def check_attributes(pack):
    missing = [name for name in REQUIRED_ATTRIBUTES if not pack.attribute(name)]
    if missing:
        raise Wrong("update.xml has no %s" % ", ".join(missing))


def check_uuid(pack):
    if not UUID.match(pack.attribute("uuid")):
        raise Wrong("%r is no uuid in lower case" % pack.attribute("uuid"))


def check_label(pack):
    if not LABEL.match(pack.attribute("name-label")):
        raise Wrong("%r: it becomes the name of a section and of packages, so letters, digits, _ and - only" %
                    pack.attribute("name-label"))


def check_description(pack):
    found = pack.update().findall("name-description")
    if len(found) != 1 or len(found[0]) or not (found[0].text or "").strip():
        raise Wrong("update.xml needs exactly one <name-description>, with text and no markup in it")


def check_key(pack):
    name = pack.attribute("key")
    if not name:
        raise Wrong("update.xml names no key: hosts before 8.2 take that for the file '.', later ones verify no package")
    if not KEY_NAME.match(name):
        raise Wrong("%r is no name of a file in /etc/pki/rpm-gpg" % name)


def check_installation_size(pack):
    text = pack.attribute("installation-size")
    if not re.match(r"[1-9]\d*\Z", text):
        raise Wrong("%r: not a number of bytes, so that the space on the host is not checked" % text)


def check_guidance(pack):
    text = pack.update().get("after-apply-guidance")
    if text is not None and [item for item in text.split(",") if item not in GUIDANCE]:
        raise Wrong("%r: xapi drops all of it; it needs items of %s with commas and no spaces between" % (text, " ".join(GUIDANCE)))


def check_homogeneity(pack):
    text = pack.update().get("enforce-homogeneity")
    if text is not None and text.lower() not in TRUTHS:
        raise Wrong("%r: xapi takes anything but %s for false" % (text, " ".join(TRUTHS)))


def check_update_signature(pack):
    _verify(pack, "update.xml")


def check_index_signature(pack):
    _verify(pack, "repodata/repomd.xml")


def _verify(pack, name):
    """As xapi does: a good signature by a key that is ultimately trusted."""
    command = 'gpg --homedir "$0" --batch --no-tty --status-fd 1 --verify "$1" "$2" 2>&1 || true'
    paths = [pack.keyring(), pack.locate(name + ".asc"), pack.locate(name)]
    words = release.run(["sh", "-c", command] + paths).decode("utf-8", "replace")
    good = re.search(r"(?m)^\[GNUPG:\] GOODSIG ", words)
    if not good or not re.search(r"(?m)^\[GNUPG:\] TRUST_ULTIMATE", words):
        bad = re.search(r"(?m)^\[GNUPG:\] (BADSIG|ERRSIG|NO_PUBKEY|EXPKEYSIG|EXPSIG|REVKEYSIG|NODATA)", words)
        raise Wrong("%s.asc is no good signature by the trusted key: %s" % (name, bad.group(1) if bad else "gpg does not say why"))


def check_index(pack):
    for kind in ("primary", "filelists", "other", "group"):
        pack.index(kind)
    listed = {os.path.normpath(package.path): package.sha256 for package in pack.packages()}
    for path, sha256 in sorted(listed.items()):
        if digest(pack.locate(path), "sha256") != sha256:
            raise Wrong("%s is not the file that the index was made for" % path)
    unlisted = [path for path in _list_rpms(pack) if path not in listed]
    if unlisted:
        raise Wrong("the index does not list %s" % ", ".join(unlisted))


def check_package_signatures(pack):
    # An RPM without a signature passes for good unless both are asked for, digests and signatures.
    rpmkeys = ["rpmkeys", "--dbpath", os.path.join(pack.work, "rpm"), "--define", "_pkgverify_level all"]
    release.run(rpmkeys + ["--import", pack.needed_key()])
    try:
        release.run(rpmkeys + ["--checksig"] + [os.path.join(pack.root, name) for name in _list_rpms(pack)])
    except release.BuildError as error:
        bad = re.findall(r"(?m)^.*/([^/\n]+): (.*NOT OK)$", str(error))
        raise Wrong(", ".join("%s: %s" % pair for pair in bad) or str(error).splitlines()[-1])


def check_groups(pack):
    path = pack.index("group")
    wanted = "update-" + pack.attribute("name-label")
    for group in ElementTree.parse(path).iter("group"):
        if group.findtext("id") == "update":
            if [item for item in group.iter("packagereq") if item.get("type") == "mandatory" and item.text == wanted]:
                return
    raise Wrong("no group 'update' that makes the package %s mandatory: yum and dnf would install nothing" % wanted)


def check_stamp(pack):
    """By the file that this package owns, xapi knows that the pack has been applied."""
    package = pack.find_package("update-" + pack.attribute("name-label"))
    stamp = "/var/update/applied/" + pack.attribute("uuid")
    root = ElementTree.fromstring(_read_member(package, stamp))
    for name in REQUIRED_ATTRIBUTES:
        if root.get(name) != pack.attribute(name):
            raise Wrong("%s says %s=%r, update.xml %r" % (stamp, name, root.get(name), pack.attribute(name)))


def check_control(pack):
    name = pack.attribute("control")
    if not name:
        raise Wrong("update.xml names no control package: xapi then checks nothing before it applies, and some installers stop")
    precheck = "/var/update/%s/precheck" % pack.attribute("uuid")
    if not _read_member(pack.find_package(name), precheck).startswith(b"#!"):
        raise Wrong("%s is no script" % precheck)


def check_old_hosts(pack):
    query = "%{PAYLOADCOMPRESSOR} %{FILEDIGESTALGO} [%{REQUIRENAME} ]"
    for name in _list_rpms(pack):
        words = release.run(["rpm", "-qp", "--nosignature", "--qf", query, os.path.join(pack.root, name)]).decode("utf-8").split()
        unknown = {word[7:-1] for word in words if word.startswith("rpmlib(")} - OLD_RPMLIB
        if words[0] not in OLD_COMPRESSORS or words[1] != SHA256 or unknown:
            raise Wrong("%s: rpm 4.11 cannot read it (%s)" % (name, " ".join(words[:2] + sorted(unknown))))


CHECKS = (
    ("files", check_files), ("root", check_root), ("attributes", check_attributes), ("uuid", check_uuid), ("label", check_label),
    ("description", check_description), ("key", check_key), ("installation-size", check_installation_size),
    ("guidance", check_guidance), ("homogeneity", check_homogeneity), ("update-signature", check_update_signature),
    ("index-signature", check_index_signature), ("index", check_index), ("package-signatures", check_package_signatures),
    ("groups", check_groups), ("stamp", check_stamp), ("control", check_control), ("old-hosts", check_old_hosts),
)


def check(root, key_file=None):
    """[(name of a check, what is wrong)] of a pack in a directory; without a key's file, the key that lies in the pack is taken."""
    work = signing.make_short_directory("dom0-pack-")
    try:
        pack = Pack(os.path.abspath(root), key_file, work)
        if not key_file:
            try:
                pack.key_file = pack.locate(pack.attribute("key"))
            except Wrong:
                pass  # each check that needs it says so
        return [(name, reason) for name, reason in ((name, _try(function, pack)) for name, function in CHECKS) if reason]
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _try(function, pack):
    """What is wrong, or None."""
    try:
        function(pack)
    except Wrong as error:
        return str(error)
    except Exception as error:
        # A pack that a check cannot read is no good pack.
        return "%s: %s" % (type(error).__name__, " ".join(str(error).split()))
    return None


def digest(path, algorithm):
    with open(path, "rb") as source:
        return hashlib.new(algorithm, source.read()).hexdigest()


def _list_rpms(pack):
    return sorted(os.path.relpath(os.path.join(parent, name), pack.root)
                  for parent, _, names in os.walk(pack.root) for name in names if name.endswith(".rpm"))


def _read_member(package, path):
    """The content of one file of a package."""
    with tempfile.TemporaryDirectory(prefix="dom0-rpm-") as work:
        release.run(["sh", "-c", 'rpm2cpio "$0" | cpio --quiet -id --no-absolute-filenames "$1" ".$1"', package, path], cwd=work)
        member = work + path
        if not os.path.isfile(member):
            raise Wrong("%s has no %s" % (os.path.basename(package), path))
        with open(member, "rb") as source:
            return source.read()


def main():
    parser = argparse.ArgumentParser(prog="check_suppack", description="Would a host take this supplemental pack?")
    parser.add_argument("pack", help="the ISO, or a directory with its files")
    parser.add_argument("--key-file", help="the public key that hosts have imported (default: the one in the pack)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dom0-pack-") as work:
        root = options.pack
        if not os.path.isdir(root):
            root = os.path.join(work, "pack")
            try:
                release.run(["xorriso", "-osirrox", "on", "-indev", options.pack, "-extract", "/", root])
            except release.BuildError as error:
                sys.exit("check_suppack: %s cannot be read: %s" % (options.pack, str(error).splitlines()[-1]))
            if not os.path.isdir(root) or not os.listdir(root):
                sys.exit("check_suppack: %s is no ISO" % options.pack)
        found = check(root, options.key_file)
    for name, reason in found:
        print("%s: %s" % (name, reason))
    if found:
        sys.exit("%s: %d of %d checks failed" % (options.pack, len(found), len(CHECKS)))
    print("%s: all %d checks passed%s" % (options.pack, len(CHECKS), "" if options.key_file else
                                          ", with the key in the pack itself; whose it is, you must know"))


if __name__ == "__main__":
    main()
