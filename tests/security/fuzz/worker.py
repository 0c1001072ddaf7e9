# SPDX-License-Identifier: Apache-2.0
"""One target under libFuzzer, which never returns: python -m tests.security.fuzz.worker TARGET PROGRAM [libFuzzer's options]

PROGRAM is what libFuzzer starts, with its options, where it wants a process of its own: a script that does the same.
"""

import sys

import atheris

with atheris.instrument_imports(include=["dom0_lib"]):
    from tests.security.fuzz.targets import TARGETS


def main(name, program, options):
    target = TARGETS[name]
    atheris.Setup([program, "-max_len=%d" % target.max_bytes] + options, lambda data: target.run(data))
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
