#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""dist/dom0-xapi-plugins-<version>-<release>.<family>.noarch.rpm, by rpmbuild.

    /etc/xapi.d/dom0-xapi-plugins/<version>-<release>/    plug-ins, dom0_lib and its byte-code
    /etc/xapi.d/plugins/<name>.py                         symbolic links to them
    /etc/dom0-plugins.conf                                every setting as a comment; the administrator's file is kept

Python looks for dom0_lib where a link leads, so that a call is of one version from beginning to end. The directory comes before
the links in the order of paths, which is the order in which rpm writes files. There is nothing to run afterwards: no scriptlets.
"""

import os
import shutil
import string
import tempfile

import install_tree
import release

RELEASE = "1"
RELEASES_DIR = "/etc/xapi.d/dom0-xapi-plugins"
PLUGIN_DIR = "/etc/xapi.d/plugins"
# Where rpm looks for what it calls %license and %doc.
DOCUMENTS = (("%license", "LICENSE", "/usr/share/licenses/dom0-xapi-plugins"),
             ("%doc", "docs/OPERATING.md", "/usr/share/doc/dom0-xapi-plugins"))
PACKAGER = "dom0-xapi-plugins maintainers"

# What rpm 4.11 (XenServer 7, 8 and XCP-ng up to 8.3) reads: gzip, no zstd; and nothing of the machine or the hour of the build.
# Brp scripts would compile byte-code for this machine's Python and change first lines.
MACROS = {
    "_binary_payload": "w9.gzdio",
    "_binary_filedigest_algorithm": "8",
    "__os_install_post": "%{nil}",
    "debug_package": "%{nil}",
    "dist": "%{nil}",
    "use_source_date_epoch_as_buildtime": "1",
    "clamp_mtime_to_source_date_epoch": "1",
    "_buildhost": "reproducible",
    "packager": PACKAGER,
    "vendor": "dom0-xapi-plugins",
    "_build_id_links": "none",
    "source_date_epoch_from_changelog": "0",
}

SPEC = string.Template("""\
# $about
Name: $name
Version: $version
Release: $release
Summary: $summary
License: Apache-2.0
Group: System/Hypervisor
BuildArch: noarch
# rpm would require the interpreter that it sees while it builds.
AutoReqProv: no
$relations

%description
$description

%install
mkdir -p %{buildroot}
cp -a $stage/. %{buildroot}/

%files
$files

%changelog
$changelog
""")

# os-xenapi's package is called xenapi-plugins (its last version is 0.3.4; the numbers of nova, from which it came, ended at 14),
# and that of XenServer's own repository openstack-xapi-plugins (2013.1 to 2014.1).
REPLACED = (("xenapi-plugins", "15"), ("openstack-xapi-plugins", "2015"))

DESCRIPTION = """\
Plug-ins that a cloud calls through XAPI's host.call_plugin: disk images
between an image service and a storage repository, disks moved between hosts,
kernels of paravirtual guests, a line to the guest agent. They take the place
of os-xenapi. For %s."""


def make(family, epoch, options):
    with tempfile.TemporaryDirectory(prefix="dom0-rpm-") as work:
        path = make_package(family, epoch, work)
        with open(path, "rb") as package:
            release.publish(package.read(), options.output, os.path.basename(path))


def release_of(family):
    return "%s.%s" % (RELEASE, family.name)


def make_package(family, epoch, work):
    """Build the package of the plug-ins in the directory `work`; returns its path."""
    version = release.read_version()
    stage = os.path.join(work, "stage")
    files = _stage(family, stage, version, epoch)
    relations = ["Requires: xapi-core", "Requires: " + family.python]
    for old, bound in REPLACED:
        relations += ["Provides: %s = %s" % (old, bound), "Obsoletes: %s < %s" % (old, bound)]
    return build_package(work, epoch, name=release.NAME, summary=release.SUMMARY, description=DESCRIPTION % family.hosts,
                         relations="\n".join(relations), files="\n".join(files), stage=stage, version=version,
                         release=release_of(family), changelog=format_changelog(family, epoch))


def build_package(work, epoch, **fields):
    """Run rpmbuild in the directory `work` on SPEC with its fields filled in; returns the path of the package."""
    spec = os.path.join(work, fields["name"] + ".spec")
    with open(spec, "w", encoding="utf-8") as target:
        target.write(SPEC.substitute(fields, about="made by packaging/, from the repository of " + release.NAME))
    topdir = os.path.join(work, "rpmbuild")
    command = ["rpmbuild", "-bb", "--quiet", "--target", "noarch", "--define", "_topdir " + topdir]
    for name, value in sorted(MACROS.items()):
        command += ["--define", "%s %s" % (name, value)]
    # HOME is where rpmbuild would read the macros of whoever builds.
    environment = {"PATH": os.environ.get("PATH", ""), "HOME": work, "SOURCE_DATE_EPOCH": str(epoch), "LC_ALL": "C.UTF-8"}
    release.run(command + [spec], env=environment, cwd=work)
    return os.path.join(topdir, "RPMS", "noarch", "%(name)s-%(version)s-%(release)s.noarch.rpm" % fields)


def _stage(family, stage, version, epoch):
    """Lay out the package's files in `stage`; returns the lines of the spec's file list."""
    home = "%s/%s-%s" % (RELEASES_DIR, version, release_of(family))
    with tempfile.TemporaryDirectory(prefix="dom0-rpm-") as root:
        built, compiled = release.build_plugins(family, root, epoch)
        os.makedirs(stage + RELEASES_DIR)
        shutil.move(built, stage + home)
    ghosts = _add_ghosts(stage + home, [version for version in family.versions if version not in compiled])
    os.makedirs(stage + PLUGIN_DIR)
    links = ["%s/%s" % (PLUGIN_DIR, name) for name in list_plugins()]
    for link in links:
        os.symlink(os.path.relpath(home, PLUGIN_DIR) + "/" + os.path.basename(link), stage + link)
    with open("%s/etc/%s" % (stage, release.SETTINGS), "w", encoding="utf-8") as settings:
        settings.write(release.make_sample_settings())
    documents = list(_stage_documents(stage))
    release.set_dates(stage, epoch)
    return (["%dir %attr(0755,root,root) " + RELEASES_DIR] + sorted(_list_files(stage, home, ghosts))
            + ["%attr(-,root,root) " + link for link in links]
            + ["%attr(0644,root,root) %config(noreplace) /etc/" + release.SETTINGS] + documents)


def _stage_documents(stage):
    for tag, name, directory in DOCUMENTS:
        os.makedirs(stage + directory)
        shutil.copy(os.path.join(release.CHECKOUT, name), stage + directory)
        yield "%dir %attr(0755,root,root) " + directory
        yield "%%attr(0644,root,root) %s %s/%s" % (tag, directory, os.path.basename(name))


def list_plugins():
    return sorted(name for name in os.listdir(install_tree.PLUGIN_SOURCE) if name.endswith(".py"))


def _add_ghosts(home, versions):
    """Make empty places for the byte-code that the host's Python itself will write, so that rpm removes that, too."""
    library = os.path.join(home, "dom0_lib")
    ghosts = []
    modules = [(parent, name) for parent, _, names in os.walk(library) for name in names if name.endswith(".py")]
    for parent, name in sorted(modules):
        for version in versions:
            if version == "2.7":
                ghost = os.path.join(parent, name + "c")
            else:
                ghost = os.path.join(parent, "__pycache__", "%s.cpython-%s.pyc" % (name[:-3], version.replace(".", "")))
            os.makedirs(os.path.dirname(ghost), exist_ok=True)
            open(ghost, "w").close()
            ghosts.append(ghost)
    return ghosts


def _list_files(stage, home, ghosts):
    for parent, _, names in os.walk(stage + home):
        yield "%dir %attr(0755,root,root) " + parent[len(stage):]
        for name in names:
            path = os.path.join(parent, name)
            mode = "0755" if os.stat(path).st_mode & 0o100 else "0644"
            yield "%s%%attr(%s,root,root) %s" % ("%ghost " if path in ghosts else "", mode, path[len(stage):])


def format_changelog(family, epoch):
    """CHANGES.md as rpm wants it: newest first, each release with its weekday; one that is not out yet has the build's date."""
    lines = []
    for change in release.read_changes():
        seconds = epoch if change.date is None else release.epoch_of(change.date)
        date = release.format_date(seconds, "%a %b %d %Y")
        lines.append("* %s %s - %s-%s" % (date, PACKAGER, change.version, release_of(family)))
        lines += ["- " + point.replace("`", "").replace("%", "%%") for point in change.points]
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    release.build("make_rpm", "Make an RPM of the plug-ins for each family of hosts.", make)
