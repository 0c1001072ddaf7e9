# SPDX-License-Identifier: Apache-2.0
"""A stand-in for vhd-util, which no package registry has: the same commands, output, exit codes and dangers.

Held to recordings of the real program (blktap 4.0.8).  Results and nearly all errors go to stdout, and the exit code is the
positive errno.  Like the real one it follows a parent locator anywhere, accepts any file as a parent, and never ends on a
cycle.  Not built: fill, revert, key, copy, LVM scans, `check -s`, journaled resizes that must move blocks, and of `read` all
but -p and -r.

Environment:
    VHD_UTIL_RETRY_SLEEP_S  pause after each of ten tries to read a bad header: 1 as recorded, 0.02 when not set
    VHD_UTIL_NOW            seconds since 1970 in place of the clock
    VHD_UTIL_TEST_FAIL_REPARENT_BEGIN, VHD_UTIL_TEST_FAIL_REPARENT_LOCATOR   the real one's own fault points of `modify -p`
"""

import errno
import os
import sys

COMMANDS = ('create', 'snapshot', 'query', 'read', 'set', 'repair', 'resize', 'fill', 'coalesce', 'modify', 'scan', 'check',
            'revert', 'key', 'copy')
_USAGE = 'usage: vhd-util COMMAND [OPTIONS]\nCOMMAND := { %s }\n' % ' | '.join(COMMANDS)
# The module of each command that is built; its function is run_<command>(arguments) and returns the exit code.
_MODULES = {
    'create': 'vhd_util_make', 'snapshot': 'vhd_util_make',
    'query': 'vhd_util_query', 'read': 'vhd_util_read', 'check': 'vhd_util_check', 'scan': 'vhd_util_scan',
    'set': 'vhd_util_change', 'repair': 'vhd_util_change', 'resize': 'vhd_util_change', 'modify': 'vhd_util_change',
    'coalesce': 'vhd_util_coalesce',
}
_LAUNCHER = """#!%s -IS
import sys
sys.path.insert(0, %r)
from tests.harness.vhd_util import vhd_util
sys.exit(vhd_util.main(sys.argv))
"""


class UsageError(Exception):
    """The arguments are wrong, or ask for help; `code` is the exit code."""

    def __init__(self, code=errno.EINVAL):
        super().__init__(code)
        self.code = code


def install_vhd_util(bin_dir, python=sys.executable):
    """Write the executable `vhd-util` into a directory and return its path.

    It names its interpreter and this checkout, for a plug-in's environment has nothing but PATH.
    """
    # Not for each start of vhd-util itself.
    from tests.harness.system import programs
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    path = os.path.join(str(bin_dir), 'vhd-util')
    programs.write(path, _LAUNCHER % (python, root))
    return path


def main(argv):
    """Run one command line; the exit code."""
    command, arguments = (argv[1] if len(argv) > 1 else None), argv[2:]
    if command not in COMMANDS:
        if command is not None:
            write_error('invalid COMMAND %s\n' % command)
        write(_USAGE)
        return 0
    if command not in _MODULES:
        write_error('%s is not part of this stand-in for vhd-util\n' % command)
        return errno.ENOSYS
    # The storage manager puts --debug before the options.
    if arguments[:1] == ['--debug']:
        del arguments[0]
    # importlib's own import takes longer than the rest of a query.
    module = __import__('tests.harness.vhd_util.' + _MODULES[command], fromlist=['run_' + command])
    try:
        return getattr(module, 'run_' + command)(arguments)
    except UsageError as error:
        write(module.USAGE[command])
        return error.code
    except OSError as error:
        return error.errno
    except AssertionError:
        # Where blktap asserts: SIGABRT with empty output.
        os.abort()
    finally:
        sys.stdout.flush()


def write(text):
    """Write to stdout in the encoding that arguments and file names came in."""
    sys.stdout.buffer.write(os.fsencode(text))


def write_error(text):
    sys.stdout.flush()
    sys.stderr.buffer.write(os.fsencode(text))
    sys.stderr.flush()


def parse_options(command, arguments, letters, help_code=errno.EINVAL, positional=False):
    """{letter: value or True} as getopt(3) finds them, and the positional arguments if they are allowed.

    (The getopt module costs the import of re.)  -h raises UsageError, with the exit code that the command has for it.
    """
    options, rest, arguments = {}, [], list(arguments)
    while arguments:
        argument = arguments.pop(0)
        if argument == '--':
            rest.extend(arguments)
            break
        if len(argument) < 2 or argument[0] != '-':
            rest.append(argument)
            continue
        cluster = argument[1:]
        while cluster:
            letter, cluster = cluster[0], cluster[1:]
            at = letters.find(letter)
            if letter == ':' or at < 0:
                write_error("%s: invalid option -- '%s'\n" % (command, letter))
                raise UsageError()
            value = True
            if letters[at + 1:at + 2] == ':':
                if not cluster and not arguments:
                    write_error("%s: option requires an argument -- '%s'\n" % (command, letter))
                    raise UsageError()
                value, cluster = cluster or arguments.pop(0), ''
            if letter == 'h':
                raise UsageError(help_code)
            options[letter] = value
    if rest and not positional:
        raise UsageError()
    return (options, rest) if positional else options


def parse_number(text):
    """The number that strtoull(3) reads: the leading digits, modulo 2**64."""
    text = text.strip()
    negative, digits = text.startswith('-'), text.lstrip('+-')
    end = 0
    while end < len(digits) and digits[end] in '0123456789':
        end += 1
    value = int(digits[:end] or 0)
    return (-value if negative else value) % 2 ** 64
