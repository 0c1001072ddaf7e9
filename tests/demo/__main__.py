# SPDX-License-Identifier: Apache-2.0
"""Watch a disk travel from an image service into an SR, through a plug-in that is started as XAPI starts it.

    python3 -m tests.demo [--size MB]

All of it happens here, without root: a simulated host, a small image service, and clients that talk to both over sockets.
"""

import argparse
import os
import signal
import sys
import traceback

MB = 1000 * 1000
DISK_MB = 210
DISK_MINIMUM_MB = 8
DEADLINE_S = 900
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)


class Interrupted(BaseException):
    """A signal, whose number it has, ends the demo."""


def main(arguments=None):
    options = _parse_arguments(arguments)
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    signal.alarm(DEADLINE_S)
    try:
        return _run(options.size * MB)
    except Interrupted as end:
        number = end.args[0]
        reason = "not done after %d s" % DEADLINE_S if number == signal.SIGALRM else "interrupted"
        return _fail("%s; nothing is left behind" % reason, 128 + number)
    except Exception as error:
        return _fail(_describe(error), 1)


def _run(data_bytes):
    # Slow to import, and somebody may interrupt that as well.
    from tests.demo import demo_steps
    try:
        demo_steps.run(data_bytes, _ignore_signals)
        return 0
    except demo_steps.DemoFailed as error:
        return _fail(str(error), 1)


def _parse_arguments(arguments):
    parser = argparse.ArgumentParser(prog="python3 -m tests.demo", description=__doc__.splitlines()[0])
    parser.add_argument("--size", metavar="MB", type=int, default=DISK_MB,
                        help="how much data is on the disk (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.size < DISK_MINIMUM_MB:
        parser.error("--size: at least %d" % DISK_MINIMUM_MB)
    return options


def _interrupt(number, frame):
    _ignore_signals()
    raise Interrupted(number)


def _ignore_signals():
    # From now on no interrupt keeps the demo's files from being removed.
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _fail(text, status):
    sys.stdout.flush()
    print("demo: %s" % text, file=sys.stderr)
    return status


def _describe(error):
    """One line: XAPI's own words; for an unexpected error, its class, text and place."""
    details = getattr(error, "details", None)
    if details:
        return "XAPI answers %s" % ", ".join(details)
    place = traceback.extract_tb(error.__traceback__)[-1]
    return "%s: %s (%s, line %d)" % (
        type(error).__name__, " ".join(str(error).split()), os.path.basename(place.filename), place.lineno)


if __name__ == "__main__":
    sys.exit(main())
