# SPDX-License-Identifier: Apache-2.0
"""pytest fixtures: pools of simulated hosts, stopped when the test ends."""

import contextlib

import pytest

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
