# SPDX-License-Identifier: Apache-2.0
"""Run under each dom0 Python: every module and plug-in compiles there, without a warning. Leaves no byte-code behind."""

from __future__ import absolute_import, division, print_function

import os
import sys
import warnings


def main(directories):
    warnings.simplefilter("error")
    paths = [os.path.join(parent, name) for directory in directories
             for parent, _, names in os.walk(directory) for name in names if name.endswith(".py")]
    failures = 0
    for path in sorted(paths):
        with open(path, "rb") as source:
            text = source.read()
        try:
            compile(text, path, "exec", dont_inherit=True)
        except (SyntaxError, Warning) as error:
            print("%s: %s" % (path, error))
            failures += 1
    print("Python %d.%d: %d files compile, %d do not" % (sys.version_info[:2] + (len(paths) - failures, failures)))
    return 1 if failures or not paths else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
