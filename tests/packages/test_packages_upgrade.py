# SPDX-License-Identifier: Apache-2.0
"""An upgrade from the flat layout of dom0_lib to the one with rooms, by each way of installing, with a call in flight."""

import contextlib
import os
import re
import tarfile

import pytest

from tests.packages import flat_layout
from tests.packages.installed_dom0 import PLUGINS, Dom0, call_slowly
from tests.packages.packages import CHECKOUT, FAMILIES, VERSION, artefacts, list_modules, list_tree, run  # noqa: F401
from tests.packages.rpm_root import Root, rpm_of

pytestmark = [pytest.mark.needs("busybox"), pytest.mark.skipif(os.geteuid() != 0, reason="not applicable: installing is root's")]

# Imports modules, named by their paths below dom0_lib, as a plug-in does.
IMPORT_MODULES = """
import sys
sys.path.insert(0, sys.argv[1])
for path in sys.argv[2:]:
    __import__('dom0_lib.' + path[:-3].replace('/', '.') if path != '__init__.py' else 'dom0_lib')
"""
FAMILY_IDS = [family for family, _, _ in FAMILIES]


@pytest.fixture
def host(request, tmp_path):
    """A dom0 of each family, without plug-ins."""
    family, python, interpreter = request.param
    with contextlib.ExitStack() as stack:
        host = Dom0(stack, str(tmp_path / "host"), python, interpreter)
        host.family, host.interpreter = family, interpreter
        yield host


@pytest.fixture
def make_flat(artefacts, tmp_path):  # noqa: F811
    """Function(target of make, version=VERSION) -> directory with packages of the flat layout."""
    def build(target, version=VERSION):
        checkout = flat_layout.make_checkout(str(tmp_path / ("flat-" + version)), version)
        return artefacts(target, checkout=checkout, SOURCE_DATE_EPOCH="1700000000")
    return build


def unpack(directory, version, family, target):
    """Returns the top directory of an unpacked tarball."""
    top = "dom0-xapi-plugins-" + version
    with tarfile.open(os.path.join(directory, "%s-%s.tar.gz" % (top, family))) as archive:
        archive.extractall(str(target))
    return os.path.join(str(target), top)


def imported(host):
    """Names of the flat modules that calls in the dom0 have imported."""
    try:
        with open(host.dom0.locate(flat_layout.IMPORTED)) as names:
            return names.read().split()
    except FileNotFoundError:
        return []


def begin_flat_call(host):
    """Start a call of the flat plug-ins, and see that it has loaded flat modules; returns a function that gives its reply."""
    finish = call_slowly(host, "glance.py")
    assert "dom0_lib.host_doctor" in imported(host)
    return finish


def assert_flat_modules_are_not_imported(host):
    with contextlib.suppress(FileNotFoundError):
        os.unlink(host.dom0.locate(flat_layout.IMPORTED))
    assert host.version() == '"2.1"'
    # What is imported is in the directory in which Python finds dom0_lib: where the link of a plug-in leads.
    directory = os.path.dirname(host.run("readlink", "-f", PLUGINS + "/dom0_plugin_version.py").stdout.strip())
    host.run(host.interpreter, "-B", "-c", IMPORT_MODULES, directory, *sorted(list_modules(os.path.join(CHECKOUT, "dom0_lib"))))
    assert imported(host) == []


def assert_library_is_new(library):
    """No more and no less than the modules of the checkout, and no byte-code of others."""
    assert list_modules(library) == list_modules(os.path.join(CHECKOUT, "dom0_lib"))
    for name in list_tree(library):
        if name.endswith(".pyc"):
            source = re.sub(r"__pycache__/([^/]*)\.cpython-\d+\.pyc\Z", r"\1.py", name)
            assert os.path.exists(os.path.join(library, source if source != name else name[:-1])), name
        elif os.path.isdir(os.path.join(library, name)):
            assert os.listdir(os.path.join(library, name)), name
        else:
            assert name.endswith(".py"), name


@pytest.mark.needs("rpm", "rpmbuild")
@pytest.mark.parametrize("host", FAMILIES, ids=FAMILY_IDS, indirect=True)
@pytest.mark.parametrize("version, options", [(flat_layout.OLDER_VERSION, ()), (VERSION, ("--replacepkgs",))],
                         ids=["older", "same-version"])
def test_an_upgrade_by_rpm(host, make_flat, artefacts, version, options):  # noqa: F811
    root = Root(host.dom0.root)
    root.rpm("--nodeps", "-i", rpm_of(make_flat("rpm", version), host.family, version=version))
    host.open()
    finish = begin_flat_call(host)
    root.rpm("--nodeps", "-U", *options + (rpm_of(artefacts("rpm"), host.family),))
    assert finish() == flat_layout.ANSWER
    home = root.home()
    assert os.listdir(os.path.dirname(home)) == [os.path.basename(home)]
    assert_library_is_new(home + "/dom0_lib")
    assert_flat_modules_are_not_imported(host)
    assert root.rpm("-V", "--nodeps", "dom0-xapi-plugins").stdout == ""


@pytest.mark.parametrize("host", FAMILIES, ids=FAMILY_IDS, indirect=True)
def test_an_upgrade_by_install_sh(host, make_flat, artefacts, tmp_path):  # noqa: F811
    flat = unpack(make_flat("tarball"), VERSION, host.family, tmp_path / "flat")
    new = unpack(artefacts("tarball"), VERSION, host.family, tmp_path / "new")
    host.install(flat)
    flat_release = host.release()
    finish = begin_flat_call(host)
    host.install(new)
    assert host.release() != flat_release
    assert finish() == flat_layout.ANSWER
    assert_flat_modules_are_not_imported(host)
    copy = str(tmp_path / "copy")
    host.run("cp", "-R", "/opt/dom0-xapi-plugins/releases/%s/dom0_lib" % host.release(), copy)
    assert_library_is_new(copy)
    # The release before stays for a rollback, whose plug-ins import nothing of the rooms.
    host.install(new, "--rollback")
    assert host.version() == flat_layout.ANSWER
    host.install(new, "--rollback")
    assert_flat_modules_are_not_imported(host)


@pytest.mark.parametrize("host", FAMILIES, ids=FAMILY_IDS, indirect=True)
def test_an_upgrade_by_make_install(host, tmp_path):
    flat = flat_layout.make_checkout(str(tmp_path / "flat"))
    install = ("make", "install", "DESTDIR=" + host.dom0.root, "PYTHON=" + host.interpreter)
    run(*install, cwd=flat)
    finish = begin_flat_call(host)
    library = os.path.join(host.dom0.plugin_dir, "dom0_lib")
    assert [name for name in list_tree(library) if name.endswith(".pyc")], "Python has written byte-code"
    run(*install, cwd=CHECKOUT)
    assert finish() == flat_layout.ANSWER
    assert_library_is_new(library)
    assert_flat_modules_are_not_imported(host)


@pytest.mark.parametrize("host", FAMILIES, ids=FAMILY_IDS, indirect=True)
@pytest.mark.parametrize("is_removed_first", [True, False], ids=["removed-first", "over-it"])
def test_an_upgrade_by_hand(host, make_flat, artefacts, tmp_path, is_removed_first):  # noqa: F811
    """By the commands of docs/OPERATING.md. Without the first, old modules stay, but nothing imports them."""
    trees = [unpack(directory, VERSION, host.family, tmp_path / name) + "/xapi.d/plugins"
             for directory, name in ((make_flat("tarball"), "flat"), (artefacts("tarball"), "new"))]
    copy = 'tar -czf - -C "$0" ./ | tar -xozf - -C ' + PLUGINS
    host.run("sh", "-ec", copy, trees[0])
    finish = begin_flat_call(host)
    if is_removed_first:
        host.run("rm", "-rf", PLUGINS + "/dom0_lib")
    host.run("sh", "-ec", copy, trees[1])
    assert finish() == flat_layout.ANSWER
    assert_flat_modules_are_not_imported(host)
    if is_removed_first:
        assert_library_is_new(os.path.join(host.dom0.plugin_dir, "dom0_lib"))
