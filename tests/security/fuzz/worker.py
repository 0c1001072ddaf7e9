# SPDX-License-Identifier: Apache-2.0
"""One target under libFuzzer, which never returns: python -m tests.security.fuzz.worker TARGET [libFuzzer's options]"""

import sys

import atheris

with atheris.instrument_imports(include=["dom0_lib"]):
    from tests.security.fuzz.targets import TARGETS


def main(name, options):
    target = TARGETS[name]
    atheris.Setup([name, "-max_len=%d" % target.max_bytes] + options, lambda data: target.run(data))
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
