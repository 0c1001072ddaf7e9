# SPDX-License-Identifier: Apache-2.0
"""The rules of rooms, as functions of a tree of sources: each returns texts of what breaks a rule there.

A room is a folder of a package.  Its __init__.py is a docstring: what the room is for, and the line `Uses: a, b.` that names the
rooms which its modules may import.
"""

from __future__ import absolute_import, division

import ast
import os

MAX_MODULES = 15
# What a table of arguments must not import, for every call of its plug-in pays for it.
SLOW = frozenset(['ctypes', 'hashlib', 'json', 're', 'select', 'shutil', 'signal', 'socket', 'ssl', 'subprocess', 'tempfile', 'threading'])
KINDS_USE = frozenset(['call.binding', 'call.kinds'])


class House(object):
    """The rooms and modules of the package `package` below the directory `root`, by their names in it: '<room>.<module>', or
    '<module>' at the top."""

    def __init__(self, root, package):
        self.directory = os.path.join(root, *package.split('.'))
        self.package = package
        self.rooms = sorted(name for name in os.listdir(self.directory)
                            if os.path.isfile(os.path.join(self.directory, name, '__init__.py')))
        self.trees = {}
        for room in [''] + self.rooms:
            for name in os.listdir(os.path.join(self.directory, room)):
                if name.endswith('.py') and name != '__init__.py':
                    self.trees[(room + '.' if room else '') + name[:-3]] = self._parse(room, name)
        self.doors = dict((room, self._parse(room, '__init__.py')) for room in self.rooms)
        self.imports = dict((module, self.list_imports(ast.walk(tree))) for module, tree in self.trees.items())

    def _parse(self, *names):
        path = os.path.join(self.directory, *names)
        with open(path, 'rb') as source:
            return ast.parse(source.read(), path)

    def list_imports(self, nodes):
        """The modules of this house that the import statements among `nodes` name; `?name` for one that is not there."""
        found = set()
        for node in nodes:
            if isinstance(node, ast.ImportFrom) and (node.module + '.').startswith(self.package + '.'):
                place = node.module[len(self.package):].lstrip('.')
                names = [place] + ['%s.%s' % (place, alias.name) if place else alias.name for alias in node.names]
                found.update(name for name in names if name in self.trees)
                if not any(name in self.trees for name in names) and not all(alias.name.startswith('__') for alias in node.names):
                    found.add('?' + '.'.join([place] + [alias.name for alias in node.names]).strip('.'))
        return found

    def read_uses(self, room):
        """The rooms that the line `Uses:` at a room's door names."""
        for line in (ast.get_docstring(self.doors[room]) or '').splitlines():
            if line.startswith('Uses: '):
                return line[len('Uses: '):].rstrip('.').split(', ')
        return []

    def read_purpose(self, room):
        """The sentence at a room's door."""
        return ' '.join((ast.get_docstring(self.doors[room]) or '').partition('\n\n')[0].split())

    def list_used(self, room):
        """The rooms that the modules of a room import."""
        return set(room_of(target) for module in self.trees if room_of(module) == room for target in self.imports[module]) - set(['', room])


def room_of(module):
    return module.rpartition('.')[0]


def name_of(module):
    return module.rpartition('.')[2]


def find_bad_doors(house):
    """Whatever stands at a door besides a docstring runs in each call that enters the room."""
    problems = []
    for room in house.rooms:
        if [type(node).__name__ for node in house.doors[room].body] != ['Expr'] or not ast.get_docstring(house.doors[room]):
            problems.append('%s: __init__.py must be one docstring' % room)
        uses = house.read_uses(room)
        if uses != sorted(set(uses)):
            problems.append('%s: Uses: is not sorted' % room)
    return problems


def find_undeclared(house):
    """Rooms that are used and not named at the door, or named and not used."""
    problems = []
    for room in house.rooms:
        used, said = house.list_used(room), set(house.read_uses(room))
        problems += ['%s uses %s and does not say so' % (room, name) for name in sorted(used - said)]
        problems += ['%s says that it uses %s and does not' % (room, name) for name in sorted(said - used)]
    return problems


def find_unknown_imports(house):
    return ['%s imports %s, which is no module' % (module, target[1:])
            for module, targets in sorted(house.imports.items()) for target in sorted(targets) if target.startswith('?')]


def find_top_imports(house):
    """The top is everybody's, so its modules stand on nothing but each other."""
    return ['%s, at the top, imports %s' % (module, target)
            for module, targets in sorted(house.imports.items()) if not room_of(module) for target in sorted(targets) if room_of(target)]


def find_imports_of_top(house):
    """Of a house whose top puts its rooms together: no room may import it."""
    return ['%s imports %s from the top' % (module, target) for module, targets in sorted(house.imports.items())
            if room_of(module) for target in sorted(targets) if not room_of(target) and not target.startswith('?')]


def find_circles(graph):
    """The first circle of {name: names that it needs}."""
    done = set()

    def visit(name, above):
        if name in above:
            return [' -> '.join(above[above.index(name):] + [name])]
        if name not in done:
            for below in sorted(graph.get(name, ())):
                found = visit(below, above + [name])
                if found:
                    return found
            done.add(name)
        return []
    for name in sorted(graph):
        found = visit(name, [])
        if found:
            return found
    return []


def find_room_circles(house):
    return find_circles(dict((room, house.list_used(room)) for room in house.rooms))


def find_module_circles(house):
    """Circles of imports at the top of modules; what a function imports later is there by then."""
    return find_circles(dict((module, house.list_imports(tree.body)) for module, tree in house.trees.items()))


def find_crowded_rooms(house):
    sizes = dict((room, sum(room_of(module) == room for module in house.trees)) for room in house.rooms)
    return ['%s has %d modules, at most %d fit' % (room, size, MAX_MODULES) for room, size in sorted(sizes.items())
            if size > MAX_MODULES] + ['%s is empty' % room for room, size in sorted(sizes.items()) if not size]


def list_targets(plugins, package):
    """The modules that the tables of the plug-ins in a directory name as targets."""
    targets = set()
    for name in os.listdir(plugins):
        if name.endswith('.py'):
            with open(os.path.join(plugins, name), 'rb') as source:
                tree = ast.parse(source.read(), name)
            for node in ast.walk(tree):
                if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'Call' and node.args:
                    targets.add(ast.literal_eval(node.args[0]).partition(':')[0][len(package) + 1:])
    return targets


def find_imported_targets(house, targets):
    """A target is one call's work: what two calls need is a module of its own."""
    unknown = ['%s, a target, is no module' % target for target in sorted(targets - set(house.trees))]
    return unknown + ['%s imports %s, which is a target of a plug-in' % (module, target)
                      for module, found in sorted(house.imports.items()) for target in sorted(found & targets)]


def find_shared_names(house):
    """A module's name says what the module is without its room, for uses show no more; so no two have the same."""
    names = {}
    for module in sorted(house.trees):
        names.setdefault(name_of(module), []).append(module)
    return ['%s have the same name' % ' and '.join(modules) for name, modules in sorted(names.items())
            if len(modules) > 1 and name != '__main__'] + [
                '%s has the name of a room' % module for module in sorted(house.trees)
                if name_of(module) in house.rooms and room_of(module) != name_of(module)]


def find_shadowed(house):
    """A module's name is no word that a function where it is imported uses for a variable."""
    problems = []
    for module in sorted(house.trees):
        names, bound = set(), set()
        for node in ast.walk(house.trees[module]):
            if isinstance(node, ast.ImportFrom):
                place = (node.module + '.')[len(house.package) + 1:]
                names.update(alias.asname or alias.name for alias in node.names if place + alias.name in house.trees)
            elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                bound.add(node.id)
            elif isinstance(node, ast.arguments):
                parts = node.args + getattr(node, 'kwonlyargs', []) + [node.vararg, node.kwarg]
                bound.update(getattr(part, 'arg', getattr(part, 'id', part)) for part in parts)
        problems += ['%s: a variable has the name of the module %s' % (module, name) for name in sorted(names & bound)]
    return problems


def find_strangers(house, targets, kept=()):
    """Modules that one room alone uses, and not their own.  `kept`: those that stay where they are for a reason."""
    strangers = {}
    for module in set(house.trees) - set(targets):
        rooms = set(room_of(user) for user, imported in house.imports.items() if module in imported)
        if room_of(module) and len(rooms) == 1 and not rooms & set(['', room_of(module)]):
            strangers[module] = rooms.pop()
    return ['%s is used by %s alone' % pair for pair in sorted(strangers.items()) if pair[0] not in kept] + [
        '%s is no exception' % module for module in sorted(set(kept) - set(strangers))]


def find_slow_kinds(house):
    """Tables of plug-ins import <...>_kinds: they stand on the top, binding, kinds and small modules of their own room."""
    problems = []
    for module in sorted(house.trees):
        if not module.endswith('_kinds') and module not in KINDS_USE:
            continue
        for target in sorted(house.imports[module]):
            if room_of(target) not in ('', room_of(module)) and target not in KINDS_USE:
                problems.append('%s imports %s' % (module, target))
        problems += ['%s imports %s at its top' % (module, alias.name) for node in house.trees[module].body
                     if isinstance(node, ast.Import) for alias in node.names if alias.name.partition('.')[0] in SLOW]
    return problems
