# SPDX-License-Identifier: Apache-2.0
"""The tests that can see a change in a module of dom0_lib, found by walking the tree and reading imports.

    tests/unit          files that import the module, themselves or through a module of tests; and test_<module>.py
    tests/contract      the rows of the module's calls
    tests/calls         files that import the module, then files that name its calls: first those that name few others
    tests/security      the same, and in every other folder of tests that is not among NO_TESTS_OF_MODULES

The calls of a module are those whose target is in it. If there are none, they are those of the modules that import it, or else of
the modules that import these, and so on: the shortest way from a plug-in's table to the module.
"""

import ast
import collections
import os

# fast: paths of unit tests. contract: (paths, -k expression). host: paths, the most closely related first.
Related = collections.namedtuple("Related", "fast contract host")

FAST_ROOM = "tests/unit"
CONTRACT_ROOM = "tests/contract"
NO_TESTS_OF_MODULES = ("bench", "compat", "harness", "run")
PLUGINS = "plugins/xapi.d/plugins"
LIBRARY = "dom0_lib"

# With more calls than this a -k expression leaves out next to nothing.
MAX_CONTRACT_CALLS = 12


def find(checkout, module):
    """The tests of `module`, a path in `checkout` such as dom0_lib/disks/vhd.py."""
    tree = _Tree(checkout)
    name = _dotted(module)
    related_calls = tree.find_calls(name)
    calls = sorted({call for _, call in related_calls})
    return Related(
        fast=[path for path in tree.list_tests(FAST_ROOM) if _is_named_for(path, module) or name in tree.collect_imports(path)],
        contract=(tree.list_tests(CONTRACT_ROOM) if calls else [], " or ".join(calls) if len(calls) <= MAX_CONTRACT_CALLS else ""),
        host=_rank(tree, name, module, related_calls))


def list_host_rooms(checkout):
    """Folders of tests that run plug-ins as processes of the simulated host."""
    rooms = sorted("tests/" + name for name in os.listdir(os.path.join(checkout, "tests")) if name not in NO_TESTS_OF_MODULES)
    return [room for room in rooms if os.path.isdir(os.path.join(checkout, room)) and room not in (FAST_ROOM, CONTRACT_ROOM)]


def _rank(tree, name, module, related_calls):
    ranks = {}
    for room in list_host_rooms(tree.checkout):
        for path in tree.list_tests(room):
            imports = tree.collect_imports(path)
            text = "\n".join([tree.read(path)] + [tree.read(tree.paths[other]) for other in imports if other in tree.paths
                                                  and tree.paths[other].startswith(room + os.sep)])
            named = {(plugin, call) for plugin, call in tree.all_calls if _quotes(text, plugin) and _quotes(text, call)}
            is_direct = _is_named_for(path, module) or name in imports
            if is_direct or named & related_calls:
                share = len(named & related_calls) / max(1, len(named))
                ranks[path] = (not is_direct, -share, path)
    return sorted(ranks, key=ranks.get)


def _quotes(text, name):
    return '"%s"' % name in text or "'%s'" % name in text


def _is_named_for(path, module):
    return os.path.basename(path) == "test_" + os.path.basename(module)


def _dotted(path):
    name = path[:-len(".py")].replace(os.sep, ".")
    return name[:-len(".__init__")] if name.endswith(".__init__") else name


class _Tree(object):
    """The imports of a checkout's Python files; those that this Python cannot read import nothing."""

    def __init__(self, checkout):
        self.checkout = checkout
        found = [path for top in (LIBRARY, "tests", PLUGINS) for path in self._walk(top)]
        self.paths = {_dotted(path): path for path in found}
        self._texts = {}
        self._imports = {}
        # (plug-in's file name, wire name): module of the target
        self.all_calls = {(os.path.basename(path), call): target for path in self._walk(PLUGINS)
                          for call, target in _list_calls(ast.parse(self.read(path)))}

    def list_tests(self, room):
        return [path for path in self._walk(room) if os.path.basename(path).startswith("test_")]

    def read(self, path):
        if path not in self._texts:
            with open(os.path.join(self.checkout, path), encoding="utf-8") as source:
                self._texts[path] = source.read()
        return self._texts[path]

    def collect_imports(self, path):
        """Names of modules of this checkout that a test file imports, itself or through others of tests."""
        found, waiting = set(), [path]
        while waiting:
            new = self._imports_of(waiting.pop()) - found
            found |= new
            waiting += [self.paths[name] for name in new if name.startswith("tests.")]
        return found

    def find_calls(self, name):
        """{(plug-in's file name, wire name)} of the calls that lead to the module `name` on the shortest way."""
        seen, ring = set(), {name}
        while ring:
            calls = {call for call, target in self.all_calls.items() if target in ring}
            if calls:
                return calls
            seen |= ring
            ring = {module for module, path in self.paths.items()
                    if module.startswith(LIBRARY + ".") and module not in seen and ring & self._imports_of(path)}
        return set()

    def _imports_of(self, path):
        if path not in self._imports:
            try:
                tree = ast.parse(self.read(path))
            except SyntaxError:
                tree = ast.Module(body=[], type_ignores=[])
            self._imports[path] = {name for name in _list_imports(tree) if name in self.paths}
        return self._imports[path]

    def _walk(self, top):
        return sorted(os.path.relpath(os.path.join(parent, name), self.checkout)
                      for parent, _, names in os.walk(os.path.join(self.checkout, top)) for name in names if name.endswith(".py"))


def _list_imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            for alias in node.names:
                yield "%s.%s" % (node.module, alias.name)


def _list_calls(tree):
    """(wire name, target's module) of each row in a plug-in's table."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values):
                target = value.args[0] if isinstance(value, ast.Call) and value.args else None
                if isinstance(key, ast.Constant) and isinstance(target, ast.Constant):
                    yield key.value, str(target.value).partition(":")[0]
