# SPDX-License-Identifier: Apache-2.0
"""What a release is called, when it was made, whom it is for, what is in it: the same in every build of a commit."""

import argparse
import ast
import calendar
import collections
import contextlib
import json
import os
import re
import subprocess
import sys
import time

import install_tree

CHECKOUT = install_tree.CHECKOUT
NAME = "dom0-xapi-plugins"
SETTINGS = "dom0-plugins.conf"
SUMMARY = "XAPI plug-ins for dom0: disk images, migration, guest agent"

# `python` is in the first line of the plug-ins; byte-code is made for each of `versions` that the building machine has.
Family = collections.namedtuple("Family", "name python versions hosts")
FAMILIES = (
    Family("python2", "/usr/bin/python2.7", ("2.7",), "XenServer 7.1 - 7.6, Citrix Hypervisor 8, XCP-ng 7.4 - 8.2"),
    Family("python3", "/usr/bin/python3", ("3.6", "3.11", "3.12", "3.13"), "XenServer 8 and 9, XCP-ng 8.3 and 9"),
)

# (version, date as (year, month, day) or None before it is released, [text of each point])
Change = collections.namedtuple("Change", "version date points")

_GIT_DEADLINE_S = 30
# In a process of its own, so that this checkout's dom0_lib is read and no other one that is installed.
_PRINT_SETTINGS = """import json
from dom0_lib import settings
print(json.dumps([(setting.section, setting.name, setting.shown, setting.meaning) for setting in settings.SETTINGS]))
"""


class BuildError(Exception):
    """One line that names what is wrong and what to do."""


def read_version():
    """The one version number: dom0_lib.__version__, read without running anything."""
    for statement in _parse("dom0_lib", "__init__.py").body:
        if isinstance(statement, ast.Assign) and statement.targets[0].id == "__version__":
            return ast.literal_eval(statement.value)
    raise BuildError("dom0_lib/__init__.py has no __version__")


def read_epoch():
    """Seconds since 1970 that every file of a build is dated: SOURCE_DATE_EPOCH, else the last commit's date."""
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if text is None:
        command = ["git", "-c", "safe.directory=*", "-C", CHECKOUT, "log", "-1", "--format=%ct"]
        try:
            text = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True,
                                  timeout=_GIT_DEADLINE_S).stdout.decode("ascii").strip()
        except (OSError, subprocess.SubprocessError):
            raise BuildError("SOURCE_DATE_EPOCH is not set and git does not tell the last commit's date: set it")
    if not re.match(r"\d{9,10}\Z", text):
        raise BuildError("SOURCE_DATE_EPOCH: %r is no number of seconds since 1970" % text)
    return int(text)


def read_changes():
    """The releases in CHANGES.md as a list of Change, newest first, without the headings of their groups."""
    changes = []
    for line in _read("CHANGES.md").splitlines():
        heading = re.match(r"## (\d+(?:\.\d+)*) \((?:unreleased|(\d{4})-(\d\d)-(\d\d))\)\Z", line)
        if heading:
            date = tuple(int(part) for part in heading.groups()[1:]) if heading.group(2) else None
            changes.append(Change(heading.group(1), date, []))
        elif line.startswith("* ") and changes:
            changes[-1].points.append(line[2:].strip())
        elif line.startswith("  ") and changes:
            changes[-1].points[-1] += " " + line.strip()
        elif line.startswith("### ") and changes:
            continue
        elif line.strip() and line != "# Changes":
            raise BuildError("CHANGES.md: %r is neither a release's heading nor a point" % line)
    if not changes or changes[0].version != read_version():
        raise BuildError("CHANGES.md does not begin with version %s" % read_version())
    return changes


def make_sample_settings():
    """The text of /etc/dom0-plugins.conf: the table in dom0_lib.settings, each setting a comment whose # can be taken away."""
    lines = ["# Settings of %s. The file may be absent, and so may each setting." % NAME,
             "# What a comment shows is the default, or an example where there is none: take the # away and change the value.",
             "# While there is a mistake in this file, this host refuses every call: dom0_host.py doctor names it."]
    last = None
    for section, name, shown, meaning in json.loads(run([sys.executable, "-B", "-c", _PRINT_SETTINGS], cwd=CHECKOUT)):
        lines += [] if section == last else ["", "[%s]" % section]
        lines += ["# " + meaning, ("#%s = %s" % (name, shown)).rstrip()]
        last = section
    return "\n".join(lines) + "\n"


def build_plugins(family, destdir, epoch):
    """Make the plug-in directory of a host in `destdir`, with byte-code; returns its path and the versions that have byte-code.

    Every file is dated `epoch`: Python takes byte-code only if it names its source's date and size.
    """
    plugin_dir = install_tree.install(destdir, family.python)
    set_dates(plugin_dir, epoch)
    interpreters = find_interpreters(family)
    for _, python in interpreters:
        compile_library(python, plugin_dir)
    set_dates(plugin_dir, epoch)
    return plugin_dir, [version for version, _ in interpreters]


def find_interpreters(family):
    """[(version, path)] of this machine's interpreters that make byte-code for the family's hosts."""
    # Appended, not inserted: the checkout must hide nothing of what is installed.
    if CHECKOUT not in sys.path:
        sys.path.append(CHECKOUT)
    from tests.run import interpreters
    found = [(version, interpreters.find_dom0(version)) for version in family.versions]
    return [(version, interpreter.path) for version, interpreter in found if interpreter]


def compile_library(python, plugin_dir):
    """Make the byte-code of dom0_lib for the interpreter `python`."""
    # A constant hash seed: sets among a module's constants are stored in the order of their hashes. No SOURCE_DATE_EPOCH:
    # with it Python 3.7 and later make byte-code that is compared with its source by content, which costs each call time.
    environment = {"PATH": os.environ.get("PATH", ""), "PYTHONHASHSEED": "0"}
    command = [python, "-S", "-m", "compileall", "-q", "-f", "-d", "dom0_lib", os.path.join(plugin_dir, "dom0_lib")]
    run(command, env=environment, cwd="/")


def set_dates(directory, epoch):
    """Date everything in `directory`, and it, `epoch`."""
    for parent, _, names in os.walk(directory, topdown=False):
        for name in names:
            os.utime(os.path.join(parent, name), (epoch, epoch), follow_symlinks=False)
        os.utime(parent, (epoch, epoch))


def format_date(epoch, layout):
    return time.strftime(layout, time.gmtime(epoch))


def epoch_of(date):
    return calendar.timegm(date + (12, 0, 0))


def publish(data, directory, name):
    """Write a result so that an interrupted build leaves the one before; returns its path."""
    os.makedirs(directory, exist_ok=True)
    path = os.path.join(directory, name)
    with open(path + ".part", "wb") as target:
        target.write(data)
    os.replace(path + ".part", path)
    print("%s (%d KiB)" % (os.path.relpath(path), (len(data) + 1023) >> 10), flush=True)
    return path


def build(program, description, make, *arguments):
    """The command line of a build: make(family, epoch, options) for each family of hosts; options.stack closes at the end.

    arguments: (flag, help) of more options, which are texts and empty by default
    """
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("--output", default=os.path.join(CHECKOUT, "dist"), help="directory for what is made (default: dist)")
    parser.add_argument("--family", choices=[family.name for family in FAMILIES], help="for these hosts only (default: all)")
    for flag, text in arguments:
        parser.add_argument(flag, default="", help=text)
    options = parser.parse_args()
    try:
        with contextlib.ExitStack() as options.stack:
            epoch = read_epoch()
            for family in FAMILIES:
                if options.family in (None, family.name):
                    make(family, epoch, options)
    except (BuildError, install_tree.InstallError, OSError) as error:
        sys.exit("%s: %s" % (program, error))


def run(command, **options):
    """Run a program quietly; returns its stdout. Raises BuildError with its words when it fails or is not there."""
    try:
        process = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                 timeout=600, **options)
    except FileNotFoundError:
        raise BuildError("%s is not installed; docs/OPERATING.md lists what a build needs" % command[0])
    if process.returncode != 0:
        words = (process.stderr or process.stdout).decode("utf-8", "replace").strip()
        raise BuildError("failed: %s\n%s" % (" ".join(command), words))
    return process.stdout


def _parse(*names):
    return ast.parse(_read(*names))


def _read(*names):
    with open(os.path.join(CHECKOUT, *names), encoding="utf-8") as source:
        return source.read()
