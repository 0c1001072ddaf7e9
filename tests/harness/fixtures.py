# SPDX-License-Identifier: Apache-2.0
"""pytest fixtures: pools of simulated hosts, stopped when the test ends."""

import contextlib

import os

import pytest

from tests.harness.guests import xenstored
from tests.harness.pool import Pool


@pytest.fixture
def make_pool(dom0_python):
    """Function(**options of Pool) -> a started Pool whose plug-ins run on the test's dom0 Python."""
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(Pool(**dict({"python": dom0_python}, **options)))


@pytest.fixture
def pool(make_pool):
    """One host with this checkout's plug-ins."""
    return make_pool()


@pytest.fixture
def host(pool):
    return pool.hosts[0]


@pytest.fixture
def sr(pool):
    return pool.srs[0]


def require_xenstored(kind):
    """Skip the test, and in CI fail it, where this kind of xenstored cannot run."""
    missing = xenstored.list_missing() if kind in xenstored.REAL else []
    if missing and os.environ.get("CI") == "true":
        pytest.fail("%s needs %s: CI runs every test" % (kind, ", ".join(missing)), pytrace=False)
    if missing:
        pytest.skip("%s needs %s" % (kind, ", ".join(missing)))


@pytest.fixture(params=("stand-in",) + xenstored.REAL)
def xenstored_kind(request):
    """The xenstored of `xenstore_host`."""
    require_xenstored(request.param)
    return request.param


@pytest.fixture(params=xenstored.KINDS)
def any_xenstored_kind(request):
    """Both stand-ins and both real ones."""
    require_xenstored(request.param)
    return request.param


@pytest.fixture
def xenstore_host(make_pool, xenstored_kind):
    """One host with this checkout's plug-ins, for each xenstored."""
    return make_pool(xenstore=xenstored_kind).hosts[0]
