#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Put the plug-ins and dom0_lib into the plug-in directory of a host, or of a build root.

    <destdir>/etc/xapi.d/plugins/<name>.py     0755, first line names the interpreter of that host
    <destdir>/etc/xapi.d/plugins/dom0_lib/     0755, its files 0644: nothing in it can be called

Every file is written inside dom0_lib/ first and renamed into place, because xapi may start any executable of the plug-in
directory at any moment: a call sees the old file or the new one, never a part of it. The library goes before the plug-ins
that need it.
"""

import argparse
import os
import shutil
import sys
import tempfile

CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PLUGIN_SOURCE = os.path.join(CHECKOUT, "plugins", "xapi.d", "plugins")
LIBRARY_SOURCE = os.path.join(CHECKOUT, "dom0_lib")
PLUGIN_DIR = "etc/xapi.d/plugins"

# Linux before 5.1 cuts the first line of a script at 127 bytes (BINPRM_BUF_SIZE); dom0 kernels are 4.4 and 4.19.
SHEBANG_MAX_BYTES = 127


class InstallError(Exception):
    """One line that names what is wrong and what to do."""


def install(destdir, python):
    """Install the plug-ins so that the interpreter `python` (absolute path on the host) runs them.

    Returns the plug-in directory. Raises InstallError, or OSError where the file system refuses. Plug-ins of others in
    that directory are not touched; dom0_lib/ in it is ours alone, and what this version does not have is removed from it:
    Python 2 would still import the .pyc of a module that is gone.
    """
    shebang = _make_shebang(python)
    plugins = {name: _replace_shebang(name, _read(PLUGIN_SOURCE, name), shebang) for name in _list_plugins()}
    modules = {name: _read(LIBRARY_SOURCE, name) for name in _list_modules()}

    plugin_dir = os.path.join(os.path.abspath(destdir), PLUGIN_DIR)
    library_dir = os.path.join(plugin_dir, "dom0_lib")
    if os.path.islink(library_dir):
        raise InstallError("%s is a symbolic link: remove it, an install would write through it" % library_dir)

    _make_directory(library_dir)
    for name, content in sorted(modules.items()):
        _make_directory(os.path.dirname(os.path.join(library_dir, name)))
        _publish(content, 0o644, os.path.join(library_dir, name), library_dir)
    for name, content in sorted(plugins.items()):
        _publish(content, 0o755, os.path.join(plugin_dir, name), library_dir)
    _remove_stale(library_dir, set(modules))
    return plugin_dir


def _make_shebang(python):
    if not os.path.isabs(python):
        raise InstallError("python: %r is not an absolute path" % python)
    if any(character.isspace() or not character.isprintable() for character in python):
        raise InstallError("python: %r has white space in it, which the first line of a script cannot hold" % python)
    shebang = b"#!" + os.fsencode(python)
    if len(shebang) > SHEBANG_MAX_BYTES:
        raise InstallError("python: %r makes a first line of %d bytes, dom0 kernels read %d: use a shorter path"
                           % (python, len(shebang), SHEBANG_MAX_BYTES))
    return shebang + b"\n"


def _replace_shebang(name, content, shebang):
    first, newline, rest = content.partition(b"\n")
    if not first.startswith(b"#!") or not newline:
        raise InstallError("%s: its first line is not #!" % os.path.join(PLUGIN_SOURCE, name))
    return shebang + rest


def _list_plugins():
    names = [name for name in os.listdir(PLUGIN_SOURCE) if name.endswith(".py")]
    if not names:
        raise InstallError("%s has no plug-ins: this is not a complete checkout" % PLUGIN_SOURCE)
    return names


def _list_modules():
    """Names of the library's modules, relative to dom0_lib."""
    for directory, _, names in os.walk(LIBRARY_SOURCE):
        for name in names:
            if name.endswith(".py"):
                yield os.path.relpath(os.path.join(directory, name), LIBRARY_SOURCE)


def _read(directory, name):
    with open(os.path.join(directory, name), "rb") as source:
        return source.read()


def _make_directory(path):
    """Like os.makedirs, but with mode 0755 whatever the umask is: plug-ins may be looked at by other users."""
    if os.path.isdir(path):
        return
    _make_directory(os.path.dirname(path))
    os.mkdir(path)
    os.chmod(path, 0o755)


def _publish(content, mode, path, staging_dir):
    handle, staged = tempfile.mkstemp(prefix=".install-", dir=staging_dir)
    try:
        with os.fdopen(handle, "wb") as target:
            target.write(content)
        os.chmod(staged, mode)
        os.rename(staged, path)
    except BaseException:
        os.unlink(staged)
        raise


def _remove_stale(library_dir, wanted):
    for directory, subdirectories, names in os.walk(library_dir, topdown=False):
        for name in names:
            path = os.path.join(directory, name)
            if os.path.relpath(path, library_dir) not in wanted:
                os.unlink(path)
        for name in subdirectories:
            path = os.path.join(directory, name)
            if os.path.islink(path):
                os.unlink(path)
            elif name == "__pycache__" or not os.listdir(path):
                shutil.rmtree(path)


def main():
    parser = argparse.ArgumentParser(description="Install the plug-ins and dom0_lib under DESTDIR/%s." % PLUGIN_DIR)
    parser.add_argument("--destdir", default="/", help="the host's root directory, or a build root (default: /)")
    parser.add_argument("--python", default="/usr/bin/python3", metavar="PATH",
                        help="absolute path of the host's interpreter (default: /usr/bin/python3; Python 2.7 hosts: "
                             "/usr/bin/python2.7)")
    options = parser.parse_args()
    try:
        plugin_dir = install(options.destdir, options.python)
    except (InstallError, OSError) as error:
        sys.exit("install_tree: %s" % error)
    print("%s: plug-ins for %s" % (plugin_dir, options.python))


if __name__ == "__main__":
    main()
