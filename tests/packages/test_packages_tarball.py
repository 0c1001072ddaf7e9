# SPDX-License-Identifier: Apache-2.0
"""`make tarball`: the same bytes from the same commit, and what it holds runs."""

import os
import subprocess
import sys
import tarfile

import pytest

from tests.packages.packages import CHECKOUT, FAMILIES, PYTHONS, VERSION, artefacts, list_tree, make, run  # noqa: F401
from tests.unit import documents

PLUGINS = "dom0-xapi-plugins-%s/xapi.d/plugins" % VERSION
# Imports every module as a plug-in does.
IMPORT_ALL = """
import os, sys
sys.path.insert(0, sys.argv[1])
for parent, _, names in os.walk(os.path.join(sys.argv[1], 'dom0_lib')):
    package = os.path.relpath(parent, sys.argv[1]).replace(os.sep, '.')
    for name in sorted(names):
        if name.endswith('.py'):
            __import__(package if name == '__init__.py' else package + '.' + name[:-3])
"""


def unpack(directory, family, target):
    with tarfile.open(os.path.join(directory, "dom0-xapi-plugins-%s-%s.tar.gz" % (VERSION, family))) as archive:
        archive.extractall(str(target))
    return os.path.join(str(target), PLUGINS)


def test_setup_py_has_the_same_version():
    # Environments for Python 3.12 and later have no setuptools.
    assert run(PYTHONS["2.7"], "-B", "setup.py", "--version", cwd=CHECKOUT).stdout.split() == [VERSION]


def test_the_same_commit_makes_the_same_bytes(artefacts, tmp_path):  # noqa: F811
    directory = artefacts("tarball")
    make("tarball", tmp_path, environment={"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C", "HOME": str(tmp_path)})
    assert sorted(os.listdir(directory)) == ["dom0-xapi-plugins-%s-%s.tar.gz" % (VERSION, family) for family, _, _ in FAMILIES]
    for name in os.listdir(directory):
        with open(os.path.join(directory, name), "rb") as first, open(str(tmp_path / name), "rb") as second:
            assert first.read() == second.read(), name


def test_sets_in_a_module_do_not_change_its_byte_code(monkeypatch, tmp_path):
    """Python up to 3.10 stores them in the order of hashes, which is another one in each process."""
    monkeypatch.syspath_prepend(os.path.join(CHECKOUT, "packaging"))
    import release
    (tmp_path / "dom0_lib").mkdir()
    (tmp_path / "dom0_lib/sets.py").write_text("def is_known(name):\n    return name in {%s}\n" % ", ".join(
        "'name %d'" % number for number in range(40)))
    made = set()
    for _ in range(3):
        release.compile_library(PYTHONS["3.6"], str(tmp_path))
        made.add((tmp_path / "dom0_lib/__pycache__/sets.cpython-36.pyc").read_bytes())
    assert len(made) == 1


def test_a_date_of_ones_own_dates_every_file(tmp_path):
    make("tarball", tmp_path, "--family", "python2", environment={"SOURCE_DATE_EPOCH": "1500000000"})
    with tarfile.open(str(tmp_path / ("dom0-xapi-plugins-%s-python2.tar.gz" % VERSION))) as archive:
        assert {entry.mtime for entry in archive} == {1500000000}
        assert {(entry.uid, entry.gid, entry.mode) for entry in archive} == {(0, 0, 0o755), (0, 0, 0o644)}


def test_links_of_its_documents_lead_to_files_of_it(artefacts, tmp_path):  # noqa: F811
    top = unpack(artefacts("tarball"), "python3", tmp_path)[:-len("/xapi.d/plugins")]
    carried = [name for name in os.listdir(top) if name.endswith(".md")]
    assert sorted(carried) == ["CHANGES.md", "OPERATING.md"]
    assert [(name, link) for name in carried for link in documents.find_broken_links(top, name)] == []


def list_sources(directory):
    return sorted(os.path.relpath(os.path.join(parent, name), directory) for parent, _, names in os.walk(directory)
                  for name in names if name.endswith(".py"))


@pytest.mark.parametrize("family, version, interpreter", FAMILIES)
def test_plugins_and_library_are_those_of_the_checkout(artefacts, tmp_path, family, version, interpreter):  # noqa: F811
    plugins = unpack(artefacts("tarball"), family, tmp_path)
    sources = {"plugins/xapi.d/plugins": plugins, "dom0_lib": os.path.join(plugins, "dom0_lib")}
    for source, copy in sources.items():
        names = list_sources(os.path.join(CHECKOUT, source))
        assert names == [name for name in list_sources(copy) if source == "dom0_lib" or not name.startswith("dom0_lib/")]
        for name in names:
            with open(os.path.join(CHECKOUT, source, name)) as original, open(os.path.join(copy, name)) as copied:
                lines, copied_lines = original.readlines(), copied.readlines()
            assert lines[1:] == copied_lines[1:]
            assert copied_lines[:1] == (lines[:1] if source == "dom0_lib" else ["#!%s\n" % interpreter])


@pytest.mark.parametrize("family, version", [("python2", "2.7"), ("python3", "3.6"), ("python3", "3.12"), ("python3", "3.13")])
def test_python_takes_the_byte_code(artefacts, tmp_path, family, version):  # noqa: F811
    """With -v Python says where each module comes from; what it compiles it reads as source."""
    plugins = unpack(artefacts("tarball"), family, tmp_path)
    before = list_tree(plugins)
    assert take_byte_code(plugins, version) == set(list_sources(plugins + "/dom0_lib"))
    assert list_tree(plugins) == before, "a valid file is not written again"

    changed = os.path.join(plugins, "dom0_lib", "call", "wire.py")
    with open(changed, "a") as source:
        source.write("# changed by hand\n")
    assert os.path.relpath(changed, plugins + "/dom0_lib") not in take_byte_code(plugins, version), "stale"


def take_byte_code(plugins, version):
    """The files of dom0_lib whose byte-code this Python takes."""
    environment = {"PATH": "/usr/bin:/bin"}
    process = subprocess.run([PYTHONS[version], "-v", "-c", IMPORT_ALL, plugins], env=environment, check=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=60)
    lines = [line for line in process.stderr.splitlines() if "matches" in line and plugins in line]
    return set(os.path.relpath(line.split(" matches ")[1], plugins + "/dom0_lib") for line in lines)


def test_it_is_made_anywhere(tmp_path):
    """From another directory, with another umask, by who has no home."""
    script = os.path.join(CHECKOUT, "packaging", "make_tarball.py")
    outputs = []
    for number, mask in enumerate((0o077, 0)):
        output = str(tmp_path / str(number))
        subprocess.run([sys.executable, "-B", script, "--output", output, "--family", "python2"], cwd="/", check=True, timeout=60,
                       env={"PATH": os.environ["PATH"]}, stdout=subprocess.DEVNULL, preexec_fn=lambda: os.umask(mask))  # noqa: B023
        with open(os.path.join(output, os.listdir(output)[0]), "rb") as made:
            outputs.append(made.read())
    assert outputs[0] == outputs[1]
