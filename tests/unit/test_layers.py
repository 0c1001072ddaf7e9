# SPDX-License-Identifier: Apache-2.0
"""The layers of dom0_lib, and what may lie beside the plug-ins, held by reading the imports."""

from __future__ import absolute_import, division

import ast
import os
import stat
import sys

import pytest

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LIBRARY = os.path.join(CHECKOUT, 'dom0_lib')
PLUGINS = os.path.join(CHECKOUT, 'plugins', 'xapi.d', 'plugins')

# The layers of docs/DESIGN.md, lowest first. A module imports modules of the rows before its own, neither of its own row nor
# of later ones; so the calls of L4 never import each other. A new module needs a place here.
ROWS = [
    ('L0', ['compat', 'errors', 'paths']),
    ('L1', ['text_checks']),
    ('L1', ['call_names', 'command_words', 'json_reply', 'net_addresses', 'settings_file']),
    ('L1', ['args', 'block_deflate', 'faults', 'file_front', 'file_lock', 'log', 'pickles', 'settings', 'termination', 'whole_file', 'wire']),
    ('L1', ['agent_args', 'boot_args', 'host_args', 'move_args', 'network_commands', 'record_args', 'trust_args']),
    ('L2', ['block_device', 'connection', 'gzip_stream', 'iso9660', 'net_filters', 'pipeline', 'proc',
            'session_role', 'sr_lock', 'tarball', 'vhd', 'xapi', 'xenstore_link']),
    ('L2', ['http_client', 'loop_device', 'policy', 'rsync', 'storage_file', 'vhd_layout', 'vhd_repair', 'vhd_util', 'xenstore']),
    ('L2', ['vhd_check']),
    ('L3', ['bridge_blacklist', 'glance_api', 'host_notes', 'local_sr', 'sr', 'ssh_directory', 'staging', 'task_watch', 'this_host']),
    ('L3', ['boot_directory', 'console_claims', 'console_files', 'dom0_directories', 'vbd', 'vhd_chain']),
    ('L3', ['arrivals', 'console_logging']),
    ('L3', ['arrival_gate', 'publication']),
    ('L3', ['authorized_keys', 'diagnosis']),
    ('L3', ['pool_checks', 'program_checks', 'storage_checks']),
    ('L4', ['boot_iso', 'collection_state', 'console_log', 'console_tending', 'disk_copy', 'disk_format', 'firewall_tables', 'guest_agent',
            'guest_kernel', 'guest_records', 'host_config', 'host_data', 'host_doctor', 'host_network', 'host_power', 'host_preparation', 'host_trust', 'image_transfer', 'net_counters', 'netwrap',
            'pci_devices', 'plugin_version', 'pool_join', 'vm_move']),
    ('top', ['plugin']),
]
ROW_OF = dict((module, number) for number, (_, modules) in enumerate(ROWS) for module in modules)
LAYER_OF = dict((module, layer) for layer, modules in ROWS for module in modules)

# What is dangerous, slow to import or different from Python to Python is known to these modules alone.
OWNERS = {
    # 13-18 ms of a short call on Python 3: proc starts programs without it
    'subprocess': [],
    'socket': ['connection', 'xapi'],
    '_socket': ['log', 'session_role', 'xenstore_link'],
    'ssl': ['connection'],
    'httplib': ['compat'],
    'http.client': ['compat'],
    'xmlrpclib': ['compat'],
    'xmlrpc.client': ['compat'],
    'XenAPI': ['xapi'],
    'ctypes': ['block_deflate', 'compat', 'file_front'],
    # 60-110 ms of every call, and replies that legacy clients cannot read
    'XenAPIPlugin': [],
    # runs what the caller sends
    'pickle': [], 'cPickle': [], '_pickle': [], 'marshal': [], 'shelve': [],
    # costs more than a whole short call; log writes the datagram itself
    'syslog': [], 'logging': [],
}

# What a module may import while it works, because the call cannot do without it from its first moments on.
LATE = {'policy': ['dom0_lib', 'dom0_lib.call_names']}

MEANINGLESS = ['utils', 'helpers', 'common', 'misc', 'base', 'core', 'lib']
PLUGIN_MAX_LINES = 60


def list_modules():
    return sorted(os.path.splitext(name)[0] for name in os.listdir(LIBRARY)
                  if name.endswith('.py') and name != '__init__.py')


def list_plugins():
    return sorted(name for name in os.listdir(PLUGINS) if name.endswith('.py'))


def parse(path):
    with open(path, 'rb') as source:
        return ast.parse(source.read(), path)


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


def test_every_module_has_a_layer():
    assert list_modules() == sorted(ROW_OF)


@pytest.mark.parametrize('module', list_modules())
def test_a_module_imports_only_lower_layers(module):
    tree = parse(os.path.join(LIBRARY, module + '.py'))
    imported = set(name.split('.')[1] for name in list_imports(tree) if name.startswith('dom0_lib.'))
    assert imported <= set(ROW_OF), 'import modules of dom0_lib as modules, their contents by attribute'
    assert not [name for name in imported if ROW_OF[name] >= ROW_OF[module]]


def test_the_dispatcher_starts_without_the_work():
    """Each call imports its own domain module, so none pays for another's."""
    imported = list_imports(parse(os.path.join(LIBRARY, 'plugin.py')))
    modules = set(name.split('.')[1] for name in imported if name.startswith('dom0_lib.'))
    # The policy is asked only where a host has one.
    assert set(LAYER_OF[name] for name in modules - {'policy'}) == {'L0', 'L1'}


@pytest.mark.parametrize('module', sorted(set(list_modules()) - {'plugin'}))
def test_a_module_imports_the_library_when_it_is_imported_itself(module):
    """So that a call has all of it before it begins to work: an upgrade of the RPM removes the old files while calls run."""
    late = [name for node in parse(os.path.join(LIBRARY, module + '.py')).body if not isinstance(node, (ast.Import, ast.ImportFrom))
            for name in list_imports(node) if name.split('.')[0] == 'dom0_lib']
    assert [name for name in late if name not in LATE.get(module, [])] == []


@pytest.mark.parametrize('module', list_modules())
def test_dangerous_modules_have_owners(module):
    imported = set(list_imports(parse(os.path.join(LIBRARY, module + '.py'))))
    taken = [name for name, owners in OWNERS.items() if name in imported and module not in owners]
    assert not taken


@pytest.mark.parametrize('module', list_modules())
def test_a_module_name_means_something_and_shadows_nothing(module):
    assert module not in MEANINGLESS
    assert module not in list_standard_library()


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
    shape = [type(node).__name__ for node in tree.body]
    assert shape == ['Expr'] + ['ImportFrom'] * (len(shape) - 3) + ['Assign', 'If']
    assert set(name.split('.')[0] for name in list_imports(tree)) == {'__future__', 'dom0_lib'}
    assert set(ast.dump(node.func) for node in ast.walk(tree.body[-2]) if isinstance(node, ast.Call)) <= {
        ast.dump(ast.parse(name, mode='eval').body) for name in ('Call', 'HostCall', 'Arg')}
    expected = ast.parse("if __name__ == '__main__':\n    dispatch(CALLS)").body[0]
    assert ast.dump(tree.body[-1]) == ast.dump(expected)
