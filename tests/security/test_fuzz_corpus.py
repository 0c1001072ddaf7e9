# SPDX-License-Identifier: Apache-2.0
"""Every input that fuzzing began with or found, once more."""

import os

import pytest

from tests.security.fuzz import targets

_INPUT_S = 5
INPUTS = [(name, path) for name in sorted(targets.TARGETS) for path in targets.list_corpus(name)]


@pytest.mark.parametrize("name, path", INPUTS, ids=["%s-%s" % (name, os.path.basename(path)) for name, path in INPUTS])
@pytest.mark.timeout(_INPUT_S)
def test_an_input(name, path, monkeypatch):
    monkeypatch.setenv("DOM0_ROOT", "")  # the target of the settings makes one of its own
    with open(path, "rb") as source:
        targets.TARGETS[name].run(source.read())


def test_every_target_has_inputs():
    assert sorted(os.listdir(targets.CORPUS)) == sorted(targets.TARGETS)
    for name in targets.TARGETS:
        assert len(targets.list_corpus(name)) >= 6
