# SPDX-License-Identifier: Apache-2.0
"""Installs this checkout's plug-ins with byte-code, as real hosts have them: made once for each interpreter, then copied.

Without byte-code the first call in a new tree compiles for up to 0.1 s, and most tests have a new tree. On real hosts install.sh
and the packages make the byte-code.
"""

import collections
import functools
import importlib.util
import os
import shutil
import subprocess
import tempfile
import time

from tests.harness.system import programs

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
_DEADLINE_S = 120
# Byte-code is valid for a source of the same second and size: a test that changes a file must not come in the same second.
_AGE_S = 3600

# path: below the plug-in directory; content: None for a directory
_Entry = collections.namedtuple("_Entry", "path content is_executable")


def install(root, python):
    """Install the plug-ins below `root` for the interpreter `python`, an absolute path."""
    plugin_dir = os.path.join(root, "etc/xapi.d/plugins")
    if os.path.lexists(os.path.join(plugin_dir, "dom0_lib")):
        _load_install_tree().install(root, python)
        return
    installed_at, entries = _make_tree(python)
    os.makedirs(plugin_dir, exist_ok=True)
    for entry in entries:
        path = os.path.join(plugin_dir, entry.path)
        if entry.content is None:
            os.mkdir(path)
        elif entry.is_executable:
            programs.write(path, entry.content)
        else:
            with open(path, "xb", buffering=0) as target:
                target.write(entry.content)
                os.utime(target.fileno(), (installed_at, installed_at))


@functools.lru_cache(maxsize=None)
def _make_tree(python):
    """The time of all files, and a list of entries, parents first; without byte-code if the interpreter cannot make any."""
    installed_at = int(time.time()) - _AGE_S
    with tempfile.TemporaryDirectory(prefix="dom0-plugins-") as root:
        plugin_dir = _load_install_tree().install(root, python)
        library_dir = os.path.join(plugin_dir, "dom0_lib")
        for parent, _, names in os.walk(library_dir):
            for name in names:
                os.utime(os.path.join(parent, name), (installed_at, installed_at))
        if shutil.which(python):
            subprocess.run([python, "-m", "compileall", "-q", library_dir], cwd="/", env={"PATH": os.defpath}, timeout=_DEADLINE_S,
                           stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return installed_at, list(_read_tree(plugin_dir))


def _read_tree(top):
    for directory, subdirectories, names in os.walk(top):
        for name in subdirectories:
            yield _Entry(os.path.relpath(os.path.join(directory, name), top), None, False)
        for name in names:
            path = os.path.join(directory, name)
            with open(path, "rb") as source:
                yield _Entry(os.path.relpath(path, top), source.read(), os.access(path, os.X_OK) and directory == top)


def _load_install_tree():
    # packaging/ is no package: it would hide the one of that name on PyPI.
    path = os.path.join(CHECKOUT, "packaging", "install_tree.py")
    spec = importlib.util.spec_from_file_location("install_tree", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
