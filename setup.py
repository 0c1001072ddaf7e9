# SPDX-License-Identifier: Apache-2.0
"""Packaging of the library and of what its tests need; hosts are installed with `make install` instead."""

from setuptools import setup

# Read by tests/run without being executed: keep it a literal. These run the simulated host and the tests, never dom0.
TEST_REQUIREMENTS = [
    "XenAPI >= 24.26, < 27",
    "hypothesis >= 6.31, < 7",
    "mock >= 5, < 6",
    "pytest >= 7.4, < 10",
    "pytest-timeout >= 2.1, < 3",
    "pytest-xdist >= 3.5, < 4",
    "rich >= 13, < 16",
    "ruff >= 0.9, < 0.18",
    "six >= 1.16, < 2",
    # The last one that makes environments for Python 2.7 and 3.6.
    "virtualenv == 20.21.1",
]

setup(
    name="dom0-xapi-plugins",
    version="0.1.0",
    description="XAPI plug-ins for dom0 of XenServer and XCP-ng: disk images, migration, guest agent",
    license="Apache-2.0",
    packages=["dom0_lib"],
    python_requires=">=2.7, !=3.0.*, !=3.1.*, !=3.2.*, !=3.3.*, !=3.4.*, !=3.5.*",
    extras_require={"test": TEST_REQUIREMENTS},
)
