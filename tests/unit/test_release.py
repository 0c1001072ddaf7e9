# SPDX-License-Identifier: Apache-2.0
"""What packages say about the repository: one version, its changes, its settings, its dates."""

import os
import re
import subprocess
import sys

import pytest

import dom0_lib
from dom0_lib import settings

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PACKAGING = os.path.join(CHECKOUT, "packaging")


@pytest.fixture
def release(monkeypatch):
    """packaging/release.py. Not imported as packaging.release: pytest's own dependency `packaging` has that name."""
    monkeypatch.syspath_prepend(PACKAGING)
    import release as module
    return module


def test_there_is_one_version(release):
    assert release.read_version() == dom0_lib.__version__ == release.read_changes()[0].version
    with open(os.path.join(CHECKOUT, "setup.py")) as source:
        assert dom0_lib.__version__ not in source.read()


def test_changes_become_points(release):
    first = release.read_changes()[0]
    assert len(first.points) > 5 and not [point for point in first.points if "\n" in point or point.startswith("*")]


@pytest.mark.parametrize("text, reason", [
    ("# Changes\n\n## 0.0.1 (unreleased)\n\n* one\n", "does not begin with version"),
    ("# Changes\n", "does not begin with version"),
    ("# Changes\n\n## %s unreleased\n" % dom0_lib.__version__, "neither a release's heading nor a point"),
    ("# Changes\n\n### Disks\n\n## %s (unreleased)\n" % dom0_lib.__version__, "neither a release's heading nor a point"),
    ("# Changes\n\n## %s (2026-1-2)\n" % dom0_lib.__version__, "neither a release's heading nor a point"),
])
def test_changes_that_no_package_can_take_are_refused(release, monkeypatch, tmp_path, text, reason):
    (tmp_path / "dom0_lib").symlink_to(os.path.join(CHECKOUT, "dom0_lib"))
    (tmp_path / "CHANGES.md").write_text(text)
    monkeypatch.setattr(release, "CHECKOUT", str(tmp_path))
    with pytest.raises(release.BuildError, match=reason):
        release.read_changes()


def test_a_released_version_has_its_date(release, monkeypatch, tmp_path):
    (tmp_path / "dom0_lib").symlink_to(os.path.join(CHECKOUT, "dom0_lib"))
    (tmp_path / "CHANGES.md").write_text("# Changes\n\n## %s (2026-12-01)\n\n### Disks\n* one\n  line\n\n### Guests\n* two\n" % dom0_lib.__version__)
    monkeypatch.setattr(release, "CHECKOUT", str(tmp_path))
    assert release.read_changes() == [release.Change(dom0_lib.__version__, (2026, 12, 1), ["one line", "two"])]
    assert release.format_date(release.epoch_of((2026, 12, 1)), "%a %b %d %Y") == "Tue Dec 01 2026"


def load(text, tmp_path, monkeypatch):
    monkeypatch.setenv("DOM0_ROOT", str(tmp_path))
    (tmp_path / "etc").mkdir(exist_ok=True)
    (tmp_path / "etc/dom0-plugins.conf").write_text(text)
    return {name: value for name, value in vars(settings.load()).items() if not name.startswith("_")}


def test_the_sample_of_the_settings_sets_nothing_and_has_every_default(release, tmp_path, monkeypatch):
    sample = release.make_sample_settings()
    unset = load(sample, tmp_path, monkeypatch)
    assert not settings.are_given()
    assert unset == load("", tmp_path, monkeypatch)
    taken = load(re.sub(r"(?m)^#(?=\w+ =)", "", sample), tmp_path, monkeypatch)
    assert settings.are_given()
    # What has no default has an example.
    examples = {name: taken.pop(name) for name, value in unset.items() if value is None}
    assert examples["proxy"] == "http://host:port" and all(examples.values())
    assert taken == {name: value for name, value in unset.items() if value is not None}
    assert len(re.findall(r"(?m)^#\w+ =", sample)) == len(unset)


@pytest.mark.parametrize("epoch", ["", "yesterday", "-1", "1e9", "17642\n"])
def test_a_date_that_is_none_is_refused(release, monkeypatch, epoch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    with pytest.raises(release.BuildError, match="SOURCE_DATE_EPOCH"):
        release.read_epoch()


def test_without_a_date_the_last_commit_has_it(release, monkeypatch):
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    # Git refuses a checkout of another user's; CI has such ones.
    command = ["git", "-c", "safe.directory=*", "-C", CHECKOUT, "log", "-1", "--format=%ct"]
    assert release.read_epoch() == int(subprocess.check_output(command))


def test_the_build_does_not_hide_the_package_of_the_same_name():
    code = "import sys; sys.path.insert(0, %r); import packaging; print(packaging.__file__)" % CHECKOUT
    output = subprocess.check_output([sys.executable, "-B", "-c", code], universal_newlines=True)
    assert "site-packages" in output
