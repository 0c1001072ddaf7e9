# SPDX-License-Identifier: Apache-2.0
"""What `make install` puts into a host, and what it leaves alone."""

import importlib.util
import os
import stat
import subprocess
import sys

import pytest

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SCRIPT = os.path.join(CHECKOUT, "packaging", "install_tree.py")

# Not imported as packaging.install_tree: pytest's own dependency `packaging` has that name.
_spec = importlib.util.spec_from_file_location("install_tree", SCRIPT)
install_tree = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(install_tree)


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A small checkout: one plug-in, a library of two modules, and what must stay behind."""
    plugins = tmp_path / "source" / "plugins"
    library = tmp_path / "source" / "dom0_lib"
    (library / "__pycache__").mkdir(parents=True)
    plugins.mkdir()
    (plugins / "glance.py").write_bytes(b"#!/usr/bin/env python\n\xc3\xa9 = 1\n")
    (plugins / "notes.txt").write_text("not a plug-in")
    (library / "__init__.py").write_text("")
    (library / "vhd.py").write_text("SECTOR = 512\n")
    (library / "vhd.py").chmod(0o755)
    (library / "vhd.pyc").write_text("")
    (library / "__pycache__" / "vhd.cpython-36.pyc").write_text("")
    monkeypatch.setattr(install_tree, "PLUGIN_SOURCE", str(plugins))
    monkeypatch.setattr(install_tree, "LIBRARY_SOURCE", str(library))
    return tmp_path / "source"


def list_tree(directory):
    """{relative path: mode} of every file and directory below `directory`."""
    return {os.path.relpath(os.path.join(parent, name), str(directory)):
            stat.S_IMODE(os.lstat(os.path.join(parent, name)).st_mode)
            for parent, directories, files in os.walk(str(directory)) for name in directories + files}


def test_a_host_gets_the_plugins_and_nothing_else_that_can_be_called(source, tmp_path):
    umask = os.umask(0o077)
    try:
        plugin_dir = install_tree.install(str(tmp_path / "host"), "/usr/bin/python3")
    finally:
        os.umask(umask)
    assert plugin_dir == str(tmp_path / "host/etc/xapi.d/plugins")
    assert list_tree(tmp_path / "host") == {
        "etc": 0o755,
        "etc/xapi.d": 0o755,
        "etc/xapi.d/plugins": 0o755,
        "etc/xapi.d/plugins/glance.py": 0o755,
        "etc/xapi.d/plugins/dom0_lib": 0o755,
        "etc/xapi.d/plugins/dom0_lib/__init__.py": 0o644,
        "etc/xapi.d/plugins/dom0_lib/vhd.py": 0o644,
    }


def test_the_first_line_alone_changes(source, tmp_path):
    plugin_dir = install_tree.install(str(tmp_path / "host"), "/opt/python/bin/python3.11")
    with open(os.path.join(plugin_dir, "glance.py"), "rb") as plugin:
        assert plugin.read() == b"#!/opt/python/bin/python3.11\n\xc3\xa9 = 1\n"


@pytest.mark.parametrize("python, reason", [
    ("python3", "not an absolute path"),
    ("", "not an absolute path"),
    ("/opt/my python/bin/python3", "white space"),
    ("/usr/bin/python3\n", "white space"),
    ("/usr/bin/python3\t-E", "white space"),
    ("/" + "p" * 130, "shorter path"),
])
def test_an_interpreter_that_no_first_line_can_name_is_refused(source, tmp_path, python, reason):
    with pytest.raises(install_tree.InstallError, match=reason) as caught:
        install_tree.install(str(tmp_path / "host"), python)
    assert str(caught.value).startswith("python: ") and "\n" not in str(caught.value)
    assert not (tmp_path / "host").exists()


def test_a_plugin_without_a_first_line_is_refused_before_anything_is_written(source, tmp_path):
    (source / "plugins" / "xenstore.py").write_text("import os\n")
    with pytest.raises(install_tree.InstallError, match="xenstore.py: its first line"):
        install_tree.install(str(tmp_path / "host"), "/usr/bin/python3")
    assert not (tmp_path / "host").exists()


def test_an_upgrade_removes_what_the_library_no_longer_has_and_nothing_of_others(source, tmp_path):
    plugin_dir = tmp_path / "host/etc/xapi.d/plugins"
    install_tree.install(str(tmp_path / "host"), "/usr/bin/python3")
    others = [plugin_dir / "updater.py", plugin_dir / "xcpngutils/__init__.py", plugin_dir / "xcpngutils/old.pyc"]
    stale = [plugin_dir / "dom0_lib/queue.py", plugin_dir / "dom0_lib/gone.pyc", plugin_dir / "dom0_lib/formats/qcow.py",
             plugin_dir / "dom0_lib/__pycache__/vhd.cpython-36.pyc"]
    for path in others + stale:
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    expected = list_tree(plugin_dir)
    for gone in stale + [plugin_dir / "dom0_lib/formats", plugin_dir / "dom0_lib/__pycache__"]:
        del expected[str(gone.relative_to(plugin_dir))]

    (source / "dom0_lib/vhd.py").write_text("SECTOR = 4096\n")
    install_tree.install(str(tmp_path / "host"), "/usr/bin/python3")
    assert list_tree(plugin_dir) == expected
    assert (plugin_dir / "dom0_lib/vhd.py").read_text() == "SECTOR = 4096\n"


def test_a_file_in_use_is_replaced_not_rewritten(source, tmp_path):
    """A process that has the old file open goes on reading the old file."""
    plugin_dir = tmp_path / "host/etc/xapi.d/plugins"
    install_tree.install(str(tmp_path / "host"), "/usr/bin/python3")
    with open(str(plugin_dir / "glance.py"), "rb") as plugin, open(str(plugin_dir / "dom0_lib/vhd.py"), "rb") as module:
        install_tree.install(str(tmp_path / "host"), "/usr/bin/python2.7")
        assert plugin.readline() == b"#!/usr/bin/python3\n"
        assert os.fstat(plugin.fileno()).st_nlink == os.fstat(module.fileno()).st_nlink == 0


def test_an_incomplete_checkout_leaves_the_old_tree(source, tmp_path):
    install_tree.install(str(tmp_path / "host"), "/usr/bin/python3")
    before = list_tree(tmp_path / "host")
    (source / "plugins/broken.py").symlink_to("nowhere")
    (source / "dom0_lib/vhd_chain.py").write_text("")
    with pytest.raises(OSError):
        install_tree.install(str(tmp_path / "host"), "/usr/bin/python3")
    assert list_tree(tmp_path / "host") == before


def test_a_link_in_place_of_the_library_is_refused(source, tmp_path):
    plugin_dir = tmp_path / "host/etc/xapi.d/plugins"
    plugin_dir.mkdir(parents=True)
    (plugin_dir / "dom0_lib").symlink_to(source / "dom0_lib")
    with pytest.raises(install_tree.InstallError, match="symbolic link"):
        install_tree.install(str(tmp_path / "host"), "/usr/bin/python3")
    assert (source / "dom0_lib/vhd.pyc").exists()


def test_the_command_line_installs_this_checkout(tmp_path):
    subprocess.run([sys.executable, SCRIPT, "--destdir", str(tmp_path), "--python", sys.executable], check=True)
    plugin_dir = tmp_path / "etc/xapi.d/plugins"
    plugins = [name for name in os.listdir(str(plugin_dir)) if name != "dom0_lib"]
    assert sorted(plugins) == sorted(os.listdir(os.path.join(CHECKOUT, "plugins/xapi.d/plugins")))
    for name in plugins:
        assert (plugin_dir / name).read_text().splitlines()[0] == "#!" + sys.executable


def test_the_command_line_says_in_one_line_why_not(tmp_path):
    process = subprocess.run([sys.executable, SCRIPT, "--destdir", str(tmp_path), "--python", "python3"],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
    assert process.returncode == 1
    assert process.stderr == "install_tree: python: 'python3' is not an absolute path\n"
