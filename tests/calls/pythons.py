# SPDX-License-Identifier: Apache-2.0
"""The dom0 Pythons that a test runs on, as paths of interpreters; the fixture dom0_python stands for all of them."""

from tests.conftest import DOM0_PYTHONS

# Oldest first.
ALL = [path for _, path in DOM0_PYTHONS]
_VERSIONS = {path: version for version, path in DOM0_PYTHONS}

# Without environments these are None, and the lists are empty: a test then fails when it starts a pool, not at import.
OLDEST = ALL[0] if ALL else None
NEWEST = ALL[-1] if ALL else None
# For tests that take long, and for code that is the same on all Pythons.
EDGES = ALL[:1] + ALL[1:][-1:]
# Python 2.7, the oldest Python 3 and the newest one, for tests whose code differs between these.
ROTATION = ALL[:2] + ALL[2:][-1:]
OLD = ALL[:2]


def version_of(path):
    """The version of an interpreter, as a test's id."""
    return _VERSIONS.get(path)
