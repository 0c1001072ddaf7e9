# SPDX-License-Identifier: Apache-2.0
"""os-xenapi's own plug-ins and these get the same requests, and differ as docs/DIFFERENCES.md says, in nothing else."""

import json
import os
import re

import pytest

from tests import conftest
from tests.calls.network import network_namespace
from tests.compat import differential
from tests.compat.differential_cases import CASES, NEED_XENSTORE_TOOLS, PLUGINS
from tests.harness.fixtures import require_xenstored

DOCUMENT = os.path.join(conftest.CHECKOUT, "docs", "DIFFERENCES.md")
PYTHONS = [pytest.param(path, id=version) for version, path in conftest.DOM0_PYTHONS if version in ("2.7", "3.12")]

pytestmark = pytest.mark.skipif(not os.path.isdir(differential.OS_XENAPI_PLUGINS) or not os.path.exists(differential.PYTHON27),
                                reason="needs .venvs/os-xenapi and .venvs/2.7, which `make compat` makes")


def read_document():
    with open(DOCUMENT, encoding="utf-8") as source:
        return source.read()


def list_differences():
    """Names of the cases whose answers differ: the first column of the document's tables."""
    rows = re.findall(r"^\| (`[^|]*) \|", read_document(), re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`(\w+)`", row)]


@pytest.fixture(scope="module", params=PYTHONS)
def sides(request):
    try:
        with network_namespace.entered(), differential.open_sides(request.param) as sides:
            yield sides
    except PermissionError as error:
        pytest.skip("not applicable: %s" % error)


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_request(sides, name):
    if not os.path.exists(os.path.join(differential.OUR_PLUGINS, PLUGINS[name])):
        pytest.skip("not applicable: %s is not there yet" % PLUGINS[name])
    if PLUGINS[name] in NEED_XENSTORE_TOOLS:
        require_xenstored("xenstored")
    theirs, ours = (side.observe(CASES[name]) for side in sides)
    text = "theirs %s\nours   %s" % (json.dumps(theirs, sort_keys=True)[:2000], json.dumps(ours, sort_keys=True)[:2000])
    if name in list_differences():
        assert theirs != ours, "listed in docs/DIFFERENCES.md, but the same: " + text
    else:
        assert theirs == ours, "not listed in docs/DIFFERENCES.md:\n" + text


def test_what_is_listed_is_a_case_once():
    listed = list_differences()
    assert len(listed) == len(set(listed)) and set(listed) <= set(CASES)
