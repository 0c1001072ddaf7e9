# SPDX-License-Identifier: Apache-2.0
"""Dangerous modules have owners in dom0_lib, plug-in files are tables, and nothing beside them shadows a module."""

from __future__ import absolute_import, division

import ast
import os
import stat
import sys

import pytest

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LIBRARY = os.path.join(CHECKOUT, 'dom0_lib')
PLUGINS = os.path.join(CHECKOUT, 'plugins', 'xapi.d', 'plugins')

# What is dangerous, slow to import or different from Python to Python is known to these modules alone.
OWNERS = {
    # 13-18 ms of a short call on Python 3: proc starts programs without it
    'subprocess': [],
    'socket': ['web.connection', 'toolstack.xapi'],
    '_socket': ['log', 'call.session_role', 'guests.xenstore_link'],
    'ssl': ['web.connection'],
    'httplib': ['compat'],
    'http.client': ['compat'],
    'xmlrpclib': ['compat'],
    'xmlrpc.client': ['compat'],
    'XenAPI': ['toolstack.xapi'],
    'ctypes': ['images.block_deflate', 'compat', 'guests.hole_punch'],
    # 60-110 ms of every call, and replies that legacy clients cannot read
    'XenAPIPlugin': [],
    # runs what the caller sends
    'pickle': [], 'cPickle': [], '_pickle': [], 'marshal': [], 'shelve': [],
    # costs more than a whole short call; log writes the datagram itself
    'syslog': [], 'logging': [],
}

MEANINGLESS = ['utils', 'helpers', 'common', 'misc', 'base', 'core', 'lib']
PLUGIN_MAX_LINES = 60


def list_modules():
    """The modules of the library by their names in it: <room>.<module>, or <module> at its top."""
    paths = [os.path.relpath(os.path.join(parent, name), LIBRARY) for parent, _, names in os.walk(LIBRARY) for name in names]
    return sorted(os.path.splitext(path)[0].replace(os.sep, '.') for path in paths
                  if path.endswith('.py') and os.path.basename(path) != '__init__.py')


def list_plugins():
    return sorted(name for name in os.listdir(PLUGINS) if name.endswith('.py'))


def parse(path):
    with open(path, 'rb') as source:
        return ast.parse(source.read(), path)


def parse_module(module):
    return parse(os.path.join(LIBRARY, *module.split('.')) + '.py')


def list_imports(tree):
    """Dotted names of everything that `tree` imports, at its top or inside a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, 'line %d: relative import' % node.lineno
            yield node.module
            for alias in node.names:
                yield node.module + '.' + alias.name


def list_standard_library():
    """Names of the modules of this Python's standard library."""
    directory = os.path.dirname(os.__file__)
    names = os.listdir(directory)
    dynamic = os.path.join(directory, 'lib-dynload')
    if os.path.isdir(dynamic):
        names += os.listdir(dynamic)
    names = set(name.split('.')[0] for name in names if name.endswith(('.py', '.so'))
                or os.path.exists(os.path.join(directory, name, '__init__.py')))
    return names.union(sys.builtin_module_names)


@pytest.mark.parametrize('module', sorted(set(list_modules()) - {'call.dispatch'}))
def test_a_module_imports_the_library_when_it_is_imported_itself(module):
    """So that a call has all of it before it begins to work: an upgrade of the RPM removes the old files while calls run."""
    late = [name for node in parse_module(module).body if not isinstance(node, (ast.Import, ast.ImportFrom))
            for name in list_imports(node) if name.split('.')[0] == 'dom0_lib']
    assert late == []


@pytest.mark.parametrize('module', list_modules())
def test_dangerous_modules_have_owners(module):
    imported = set(list_imports(parse_module(module)))
    taken = [name for name, owners in OWNERS.items() if name in imported and module not in owners]
    assert not taken


@pytest.mark.parametrize('module', list_modules())
def test_a_module_name_means_something_and_shadows_nothing(module):
    for name in module.split('.'):
        assert name not in MEANINGLESS
        assert name not in list_standard_library()


def test_the_standard_library_is_seen():
    assert {'os', 'json', 'zlib', 'socket', 'sys', 'subprocess'} <= list_standard_library()


def test_beside_the_plugins_lies_nothing_that_shadows_a_module():
    """xapi runs a plug-in with this directory as sys.path[0], and the neighbours there are other people's."""
    names = set(os.path.splitext(name)[0] for name in os.listdir(PLUGINS))
    assert not names & list_standard_library()


def test_the_plugins_alone_are_executable():
    executable = [os.path.relpath(os.path.join(parent, name), CHECKOUT)
                  for top in (LIBRARY, os.path.join(CHECKOUT, 'plugins'))
                  for parent, _, names in os.walk(top) for name in names
                  if os.stat(os.path.join(parent, name)).st_mode & (stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)]
    assert sorted(executable) == [os.path.join('plugins', 'xapi.d', 'plugins', name) for name in list_plugins()]


@pytest.mark.parametrize('plugin', list_plugins())
def test_a_plugin_is_a_table(plugin):
    path = os.path.join(PLUGINS, plugin)
    with open(path) as source:
        assert len(source.readlines()) <= PLUGIN_MAX_LINES
    tree = parse(path)
    assert ast.get_docstring(tree)
    assignments = [node.targets[0].id for node in tree.body if isinstance(node, ast.Assign)]
    assert assignments[-1] == 'CALLS' and len(assignments) <= 2  # one for rows that several calls share
    shape = [type(node).__name__ for node in tree.body]
    assert shape == ['Expr'] + ['ImportFrom'] * (len(shape) - 2 - len(assignments)) + ['Assign'] * len(assignments) + ['If']
    assert set(name.split('.')[0] for name in list_imports(tree)) == {'__future__', 'dom0_lib'}
    assert set(ast.dump(node.func) for top in tree.body[:-1] for node in ast.walk(top) if isinstance(node, ast.Call)) <= {
        ast.dump(ast.parse(name, mode='eval').body) for name in ('Call', 'Arg')}
    expected = ast.parse("if __name__ == '__main__':\n    dispatch(CALLS)").body[0]
    assert ast.dump(tree.body[-1]) == ast.dump(expected)
