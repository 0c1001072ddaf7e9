# SPDX-License-Identifier: Apache-2.0
"""Libraries for LD_PRELOAD, compiled from the C files beside this."""

import os
import subprocess

_SOURCES = os.path.dirname(os.path.abspath(__file__))


def build(name, directory):
    """The path of the library that <name>.c makes, in `directory`; needs gcc."""
    library = os.path.join(directory, name + ".so")
    command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, os.path.join(_SOURCES, name + ".c"), "-ldl"]
    subprocess.run(command, check=True, timeout=60)
    return library
