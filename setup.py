# SPDX-License-Identifier: Apache-2.0
"""Package of the command dom0-plugins, for administrators' machines, and the requirements of the tests.

The plug-ins are installed on hosts in other ways: docs/OPERATING.md.
"""

import os
import re

from setuptools import setup

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "dom0_lib", "__init__.py")) as library:
    VERSION = re.search("__version__ = '(.*)'", library.read()).group(1)


def list_packages(top):
    """The names of the package `top` of this checkout and of the packages in it."""
    os.chdir(os.path.dirname(os.path.abspath(__file__)))
    return sorted(parent.replace(os.sep, ".") for parent, _, names in os.walk(top) if "__init__.py" in names)


# tests/run reads these lists without executing this file: keep them literals. No package here is for dom0.
# For dom0-plugins, on Python 3.8 and later:
TOOL_REQUIREMENTS = [
    "XenAPI >= 24.26, < 27",
    "click >= 8.1, < 9",
    "rich >= 13, < 16",
]
# For the simulated host, the image service and the demo:
HARNESS_REQUIREMENTS = [
    "XenAPI >= 24.26, < 27",
    # Agents in simulated guests decrypt passwords with it.
    "cryptography >= 41, < 51",
    "rich >= 13, < 16",
    "six >= 1.16, < 2",
]
# For the tests, besides those of the simulated host:
TEST_REQUIREMENTS = [
    "hypothesis >= 6.31, < 7",
    "mock >= 5, < 6",
    # An independent reader of the ISOs that ipxe.py makes.
    "pycdlib >= 1.14, < 2",
    "pytest >= 7.4, < 10",
    "pytest-timeout >= 2.1, < 3",
    "pytest-xdist >= 3.5, < 4",
    "ruff >= 0.9, < 0.18",
    # The last version that makes environments for Python 2.7 and 3.6.
    "virtualenv == 20.21.1",
]

setup(
    name="dom0-xapi-plugins",
    version=VERSION,
    description="XAPI plug-ins for dom0 of XenServer and XCP-ng: disk images, migration, guest agent",
    license="Apache-2.0",
    packages=list_packages("dom0_lib") + ["dom0_plugins"],
    entry_points={"console_scripts": ["dom0-plugins = dom0_plugins.command_line:main"]},
    install_requires=[requirement + "; python_version >= '3.8'" for requirement in TOOL_REQUIREMENTS],
    python_requires=">=2.7, !=3.0.*, !=3.1.*, !=3.2.*, !=3.3.*, !=3.4.*, !=3.5.*",
    extras_require={"harness": HARNESS_REQUIREMENTS, "test": HARNESS_REQUIREMENTS + TEST_REQUIREMENTS},
)
