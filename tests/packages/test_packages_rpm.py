# SPDX-License-Identifier: Apache-2.0
"""`make rpm`: the same bytes from the same commit; rpm installs, upgrades and removes it; the installed plug-ins work."""

import concurrent.futures
import os
import re
import shutil
import time

import pytest

from tests.calls import sr_disks
from tests.calls.images.transfers import Site
from tests.harness.image_service import service_faults
from tests.harness.image_service.service import ImageService
from tests.packages import packages
from tests.packages.packages import (  # noqa: F401
    CHECKOUT, FAMILIES, PYTHONS, VERSION, artefacts, list_modules, list_tree, make, run)
from tests.packages.rpm_root import PLUGINS, SETTINGS, Root, rpm_of

pytestmark = pytest.mark.needs("rpm", "rpmbuild")

def query(package, *arguments):
    return run("rpm", "-qp", "--nosignature", *arguments + (package,)).stdout.splitlines()


@pytest.fixture
def root(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("not applicable: rpm --root is root's")
    return Root(tmp_path / "root")


def copy_checkout(directory, version="99.1"):
    """A copy of the checkout, of a later version, which has other settings and no glance.py any more; returns its path."""
    copy = str(directory / "checkout")
    shutil.copytree(CHECKOUT, copy, ignore=shutil.ignore_patterns(".venvs", ".git", "dist", "build"))
    for name, old, new in (("dom0_lib/__init__.py", "'%s'" % VERSION, "'%s'" % version),
                           ("dom0_lib/settings.py", "'30'", "'31'"),
                           ("CHANGES.md", "# Changes\n", "# Changes\n\n## %s (2027-01-04)\n\n* newer\n" % version)):
        path = os.path.join(copy, name)
        with open(path) as source:
            text = source.read()
        with open(path, "w") as target:
            target.write(text.replace(old, new, 1))
    os.unlink(os.path.join(copy, "plugins/xapi.d/plugins/glance.py"))
    return copy


def test_the_same_commit_makes_the_same_bytes(artefacts, tmp_path):  # noqa: F811
    directory = artefacts("rpm")
    (tmp_path / ".rpmmacros").write_text("%_binary_payload w19.zstdio\n%dist .mine\n%distribution Mine\n")
    make("rpm", tmp_path / "again", environment={"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "HOME": str(tmp_path)})
    assert sorted(os.listdir(directory)) == sorted(os.path.basename(rpm_of("", family)) for family, _, _ in FAMILIES)
    for name in os.listdir(directory):
        with open(os.path.join(directory, name), "rb") as first, open(str(tmp_path / "again" / name), "rb") as second:
            assert first.read() == second.read(), name


@pytest.mark.parametrize("family, version, interpreter", FAMILIES)
def test_what_it_says_of_itself(artefacts, family, version, interpreter):  # noqa: F811
    package = rpm_of(artefacts("rpm"), family)
    assert query(package, "--qf", "%{NAME} %{VERSION} %{RELEASE} %{ARCH} %{LICENSE} %{BUILDHOST}") == [
        "dom0-xapi-plugins %s 1.%s noarch Apache-2.0 reproducible" % (VERSION, family)]
    assert query(package, "--scripts") == query(package, "--triggers") == [], "nothing runs"
    # What rpm 4.11 of the oldest hosts can read; it knows no zstd and no weak dependencies.
    assert query(package, "--qf", "%{PAYLOADCOMPRESSOR} %{FILEDIGESTALGO}") == ["gzip 8"]
    rpmlib = {"rpmlib(CompressedFileNames)", "rpmlib(FileDigests)", "rpmlib(PayloadFilesHavePrefix)"}
    assert {line.split()[0] for line in query(package, "--requires")} == rpmlib | {"xapi-core", interpreter}
    assert query(package, "--obsoletes") == ["openstack-xapi-plugins < 2015", "xenapi-plugins < 15"]
    assert query(package, "--provides") == [
        "dom0-xapi-plugins = %s-1.%s" % (VERSION, family), "openstack-xapi-plugins = 2015", "xenapi-plugins = 15"]
    assert query(package, "--configfiles") == ["/" + SETTINGS]
    with open(os.path.join(CHECKOUT, "CHANGES.md")) as source:
        points = [line[2:].strip().replace("`", "") for line in source if line.startswith("* ")]
    changelog = query(package, "--changelog")
    assert re.search(r"dom0-xapi-plugins maintainers - %s-1\.%s\Z" % (re.escape(VERSION), family), changelog[0])
    assert [line for line in changelog if line.startswith("- ")][0].startswith("- " + points[0])
    assert len([line for line in changelog if line.startswith("- ")]) == len(points)


@pytest.mark.needs("rpmlint")
def test_rpmlint_finds_nothing_that_is_not_explained(artefacts):  # noqa: F811
    for config, clean in ((("--config", "packaging/rpmlint.toml"), True), ((), False)):
        report = run("rpmlint", *config + tuple(rpm_of(artefacts("rpm"), family) for family, _, _ in FAMILIES), cwd=CHECKOUT,
                     check=clean).stdout
        assert "2 packages and 0 specfiles checked;" in report
        assert (re.findall(r"(?m)^\S+: [EW]: .*", report) == []) == clean


def make_contract_checkout(directory, plugin_dir, home):
    """A directory whose contract tests look at installed plug-ins."""
    os.makedirs(os.path.join(directory, "tests"))
    for name in ("__init__.py", "conftest.py", "pytest.ini", "contract"):
        os.symlink(os.path.join(CHECKOUT, "tests", name), os.path.join(directory, "tests", name))
    os.makedirs(os.path.join(directory, "plugins/xapi.d"))
    os.symlink(plugin_dir, os.path.join(directory, "plugins/xapi.d/plugins"))
    os.symlink(os.path.join(home, "dom0_lib"), os.path.join(directory, "dom0_lib"))


@pytest.mark.parametrize("family, version, interpreter", FAMILIES)
def test_the_installed_plugins_keep_the_contract(artefacts, root, tmp_path, family, version, interpreter):  # noqa: F811
    root.rpm("--nodeps", "-i", rpm_of(artefacts("rpm"), family))
    with open(os.path.join(root.path, PLUGINS, "glance.py")) as plugin:
        assert plugin.readline() == "#!%s\n" % interpreter
    for name in os.listdir(root.locate(PLUGINS)):
        assert os.access(root.locate(os.path.join(PLUGINS, name)), os.X_OK)
    # What the library does in process is then tested by the tests of the checkout.
    assert list_modules(root.home() + "/dom0_lib") == list_modules(os.path.join(CHECKOUT, "dom0_lib"))
    checkout = str(tmp_path / "checkout")
    make_contract_checkout(checkout, root.locate(PLUGINS), root.home())
    before = root.list_files()
    report = run(PYTHONS[version], "-B", "-m", "pytest", "-c", "tests/pytest.ini", "-q", "-p", "no:cacheprovider",
                 "-k", "process or recorded", "tests/contract/test_calls.py", cwd=checkout,
                 env={"PATH": os.environ["PATH"], "PWD": checkout}).stdout
    assert re.search(r"\d{3} passed", report) and "dom0_lib" not in report, report
    assert root.list_files() == before


@pytest.mark.parametrize("family, version, interpreter", FAMILIES)
def test_a_download_by_the_installed_plugins(artefacts, tmp_path, family, version, interpreter):  # noqa: F811
    """Through xapi's call, in a dom0 that has nothing of this machine's checkout: the real paths, the real first line."""
    with packages.open_dom0(PYTHONS[version], interpreter) as pool, ImageService() as service:
        dom0 = pool.hosts[0].dom0
        Root(dom0.root).rpm("--nodeps", "-i", rpm_of(artefacts("rpm"), family))
        dom0.open_namespace()
        assert pool.call("dom0_plugin_version.py", "get_version") == '"2.1"'
        site = Site(pool, service)
        leaf = site.download(service.add_image(sr_disks.pack_chain(sr_disks.make_chain(str(tmp_path), 2))))
        assert leaf in pool.srs[0].scan()


@pytest.mark.parametrize("family, version, interpreter", FAMILIES)
@pytest.mark.parametrize("is_legacy", [False, True], ids=["plain", "legacy"])
def test_a_download_goes_on_while_the_package_is_removed(artefacts, tmp_path, family, version, interpreter, is_legacy):  # noqa: F811
    """It needs nothing of the library any more that it has not got: its image is published, and its caller gets the reply."""
    with packages.open_dom0(PYTHONS[version], interpreter) as pool, ImageService() as service:
        root = Root(pool.hosts[0].root)
        root.rpm("--nodeps", "-i", rpm_of(artefacts("rpm"), family))
        pool.hosts[0].dom0.open_namespace()
        site = Site(pool, service)
        image = service.add_image(sr_disks.pack_chain(sr_disks.make_chain(str(tmp_path), 2)))
        service.faults.append(service_faults.Stall(3, at=4096, path="/file$"))
        with concurrent.futures.ThreadPoolExecutor(1) as threads:
            call = threads.submit(site.download, image, is_legacy=is_legacy, api_version=2)
            while not service.faults[0].hits:
                time.sleep(0.02)
                assert not call.done()
            root.rpm("-e", "dom0-xapi-plugins")
            assert not call.done() and not os.path.exists(root.locate("etc/xapi.d/dom0-xapi-plugins"))
            assert call.result(60) in pool.srs[0].scan()


def test_an_upgrade_keeps_the_settings_and_nothing_else_of_the_old_version(artefacts, root, tmp_path):  # noqa: F811
    root.rpm("--nodeps", "-i", rpm_of(artefacts("rpm"), "python3"))
    root.write(SETTINGS, "[policy]\ndeny = *\n")
    root.write(PLUGINS + "/others.py", "")
    make("rpm", tmp_path, "--family", "python3", environment={"SOURCE_DATE_EPOCH": "1800000000"}, checkout=copy_checkout(tmp_path))
    root.rpm("--nodeps", "-U", rpm_of(str(tmp_path), "python3", version="99.1"))
    assert root.read(SETTINGS) == "[policy]\ndeny = *\n"
    assert "#connect_timeout = 31" in root.read(SETTINGS + ".rpmnew")
    names = os.listdir(os.path.join(CHECKOUT, "plugins/xapi.d/plugins"))
    assert sorted(os.listdir(root.locate(PLUGINS))) == sorted(set(names) - {"glance.py"} | {"others.py"})
    assert os.listdir(root.locate("etc/xapi.d/dom0-xapi-plugins")) == ["99.1-1.python3"]
    # One line; its first word tells in which ways the file was changed.
    assert root.rpm("-V", "--nodeps", "dom0-xapi-plugins", check=False).stdout.split()[1:] == ["c", "/" + SETTINGS]

    root.rpm("-e", "dom0-xapi-plugins")
    assert [name for name in root.list_files() if name.startswith("etc/")] == [
        "etc/dom0-plugins.conf.rpmnew", "etc/dom0-plugins.conf.rpmsave", "etc/xapi.d", PLUGINS, PLUGINS + "/others.py"]


def test_the_host_moves_from_python_2_to_python_3(artefacts, root):  # noqa: F811
    root.rpm("--nodeps", "-i", rpm_of(artefacts("rpm"), "python2"))
    root.rpm("--nodeps", "-U", rpm_of(artefacts("rpm"), "python3"))
    assert os.listdir(root.locate("etc/xapi.d/dom0-xapi-plugins")) == [VERSION + "-1.python3"]
    assert root.rpm("-Va", "--nodeps").stdout == ""


@pytest.mark.parametrize("family, version, interpreter", FAMILIES)
def test_nothing_is_left_when_it_is_removed(artefacts, root, family, version, interpreter):  # noqa: F811
    root.write("etc/xapi.d/plugins/others.py", "")
    before = root.list_files()
    root.rpm("--nodeps", "-i", rpm_of(artefacts("rpm"), family))
    # A change of a module by hand makes Python write byte-code anew.
    home = root.home()
    with open(os.path.join(home, "dom0_lib/call/wire.py"), "a") as module:
        module.write("# changed by hand\n")
    import_library(version, home)
    root.rpm("-e", "dom0-xapi-plugins")
    assert root.list_files() == before


def test_byte_code_that_the_hosts_python_writes_goes_too(root, tmp_path):
    """Built where no other Python is: the host writes the byte-code, and rpm knows of it."""
    make("rpm", tmp_path, environment={"PATH": "/usr/bin:/bin:/usr/sbin", "HOME": str(tmp_path), "PYENV_ROOT": ""})
    for family, version, _ in FAMILIES:
        root.rpm("--nodeps", "-i", rpm_of(str(tmp_path), family))
        home = root.home()
        suffix = ".cpython-36.pyc" if family == "python3" else ".pyc"
        assert not [name for name in list_tree(home) if name.endswith(suffix)]
        import_library(version, home)
        assert [name for name in list_tree(home) if name.endswith(suffix)]
        root.rpm("-e", "dom0-xapi-plugins")
        assert [name for name in root.list_files() if "dom0" in name] == []


def import_library(version, home):
    """As a plug-in does, whose byte-code Python keeps."""
    environ = {"PATH": os.environ["PATH"]}
    run(PYTHONS[version], "-c", "import sys; sys.path.insert(0, %r); import dom0_lib.call.dispatch" % home, env=environ, cwd="/")


@pytest.mark.parametrize("name", ["xenapi-plugins", "openstack-xapi-plugins"])
def test_it_takes_the_place_of_the_old_packages(artefacts, root, tmp_path, name):  # noqa: F811
    old = build_package(tmp_path, name, "14.0" if name == "xenapi-plugins" else "2014.1", PLUGINS + "/glance.py")
    root.rpm("-i", old)
    root.rpm("--nodeps", "-U", rpm_of(artefacts("rpm"), "python3"))
    assert root.rpm("-qa", "--qf", "%{NAME}\n").stdout.split() == ["dom0-xapi-plugins"]
    assert os.path.islink(root.locate(PLUGINS + "/glance.py"))


def build_package(work, name, version, path, extra=""):
    """A package of one file, as somebody else makes it."""
    spec = work / (name + ".spec")
    spec.write_text("Name: %s\nVersion: %s\nRelease: 1\nSummary: x\nLicense: x\nBuildArch: noarch\n%s\n%%description\nx\n"
                    "%%install\nmkdir -p %%{buildroot}/%s\necho '#!/bin/sh' > %%{buildroot}/%s\n%%files\n/%s\n"
                    % (name, version, extra, os.path.dirname(path), path, path))
    run("rpmbuild", "-bb", "--quiet", "--define", "_topdir %s" % (work / "old"), "--define", "__os_install_post %{nil}", str(spec))
    return str(work / "old/RPMS/noarch" / ("%s-%s-1.noarch.rpm" % (name, version)))
