# SPDX-License-Identifier: Apache-2.0
"""The rooms of dom0_lib and of the simulated host: what a room may use is said at its door, and the imports are held to it."""

from __future__ import absolute_import, division

import os
import sys

import pytest

from tests.unit import room_tables
from tests.unit import rooms

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PLUGINS = os.path.join(CHECKOUT, 'plugins', 'xapi.d', 'plugins')
LIBRARY = rooms.House(CHECKOUT, 'dom0_lib')
TARGETS = rooms.list_targets(PLUGINS, 'dom0_lib')
# Python 2 and 3.6 cannot read the simulated host's sources.
HOUSES = [LIBRARY] + ([rooms.House(CHECKOUT, 'tests.harness')] if sys.version_info >= (3, 8) else [])

RULES = [rooms.find_bad_doors, rooms.find_undeclared, rooms.find_unknown_imports, rooms.find_room_circles, rooms.find_crowded_rooms,
         rooms.find_module_circles, rooms.find_shared_names, rooms.find_shadowed]
LIBRARY_RULES = [rooms.find_top_imports, rooms.find_slow_kinds]


@pytest.mark.parametrize('house', HOUSES, ids=lambda house: house.package)
@pytest.mark.parametrize('rule', RULES, ids=lambda rule: rule.__name__)
def test_rooms_keep_the_rules(house, rule):
    assert rule(house) == []


@pytest.mark.parametrize('rule', LIBRARY_RULES, ids=lambda rule: rule.__name__)
def test_the_library_keeps_its_own(rule):
    assert rule(LIBRARY) == []


def test_no_room_of_the_simulated_host_imports_its_top():
    """There the top puts the rooms together, as the plug-ins do with those of the library."""
    assert [problem for house in HOUSES if house is not LIBRARY for problem in rooms.find_imports_of_top(house)] == []


def test_no_module_imports_a_target():
    assert TARGETS and rooms.find_imported_targets(LIBRARY, TARGETS) == []


def test_modules_live_where_they_are_used():
    assert rooms.find_strangers(LIBRARY, TARGETS) == []


def test_the_dispatcher_starts_without_the_work():
    """Each call imports its own room, so none pays for another's."""
    assert set(rooms.room_of(module) for module in LIBRARY.imports['call.dispatch']) == set(['', 'call'])


@pytest.mark.parametrize('house', HOUSES, ids=lambda house: house.package)
def test_the_documents_have_the_tables_of_rooms(house):
    text = room_tables.read(house.package)
    assert room_tables.fill_in(text, house) == text, '`make docs` writes them anew'


# A house in which all is well; each case changes some files of it and names the rule that must see that.

SOUND = {
    '__init__.py': '',
    'log.py': '',
    'text_checks.py': 'from house import log\n',
    'call/__init__.py': '"""The call."""\n',
    'call/binding.py': 'from house import text_checks\n',
    'call/kinds.py': 'import os\nfrom house.call import binding\n',
    'disks/__init__.py': '"""Disks."""\n',
    'disks/vhd.py': 'from house import log\n',
    'disks/vhd_check.py': 'from house.disks import vhd\n',
    'images/__init__.py': '"""Images.\n\nUses: call, disks.\n"""\n',
    'images/image_kinds.py': 'from house.call import binding\n',
    'images/download.py': 'from house import log\nfrom house.call import binding\nfrom house.disks import vhd\n'
                          'from house.images import image_kinds\n\n\ndef run(name):\n    text = vhd.read(name)\n    return text\n',
    'images/upload.py': 'from house.disks import vhd_check\nfrom house.disks import vhd\n',
}
TABLE = "CALLS = {'download': Call('house.images.download:run', Arg('x')), 'upload': Call(\n    'house.images.upload:run')}\n"

BROKEN = [
    (rooms.find_bad_doors, {'disks/__init__.py': '"""Disks."""\nimport os\n'}, 'disks: __init__.py must be one docstring'),
    (rooms.find_bad_doors, {'disks/__init__.py': ''}, 'disks: __init__.py must be one docstring'),
    (rooms.find_bad_doors, {'images/__init__.py': '"""Images.\n\nUses: disks, call.\n"""\n'}, 'images: Uses: is not sorted'),
    (rooms.find_undeclared, {'images/__init__.py': '"""Images.\n\nUses: call.\n"""\n'}, 'images uses disks and does not say so'),
    (rooms.find_undeclared, {'images/__init__.py': '"""Images.\n\nUses: call, disks, web.\n"""\n'},
     'images says that it uses web and does not'),
    (rooms.find_undeclared, {'disks/vhd.py': 'def late():\n    from house.call import kinds\n    return kinds\n'},
     'disks uses call and does not say so'),
    (rooms.find_unknown_imports, {'disks/vhd.py': 'from house.disks import gone\n'}, 'disks.vhd imports disks.gone, which is no module'),
    (rooms.find_unknown_imports, {'disks/vhd.py': 'from house import vhd_check\n'}, 'disks.vhd imports vhd_check, which is no module'),
    (rooms.find_top_imports, {'log.py': 'from house.disks import vhd\n'}, 'log, at the top, imports disks.vhd'),
    (rooms.find_imports_of_top, {}, 'call.binding imports text_checks from the top'),
    (rooms.find_room_circles, {'disks/vhd.py': 'from house.images import upload\n'}, 'disks -> images -> disks'),
    (rooms.find_module_circles, {'disks/vhd.py': 'from house.disks import vhd_check\n'}, 'disks.vhd -> disks.vhd_check -> disks.vhd'),
    (rooms.find_module_circles, {'log.py': 'from house.text_checks import require\n'}, 'text_checks -> log -> text_checks'),
    (rooms.find_crowded_rooms, dict(('disks/disk%d.py' % number, '') for number in range(14)), 'disks has 16 modules, at most 15 fit'),
    (rooms.find_crowded_rooms, {'web/__init__.py': '"""HTTP."""\n'}, 'web is empty'),
    (rooms.find_shared_names, {'images/vhd.py': ''}, 'disks.vhd and images.vhd have the same name'),
    (rooms.find_shared_names, {'disks/images.py': ''}, 'disks.images has the name of a room'),
    (rooms.find_shadowed, {'images/upload.py': 'from house.disks import vhd\n\n\ndef run(vhd):\n    pass\n'},
     'images.upload: a variable has the name of the module vhd'),
    (rooms.find_shadowed, {'images/upload.py': 'from house.disks import vhd\n\n\ndef run():\n    vhd = 1\n    return vhd\n'},
     'images.upload: a variable has the name of the module vhd'),
    (rooms.find_slow_kinds, {'images/image_kinds.py': 'from house.disks import vhd\n'}, 'images.image_kinds imports disks.vhd'),
    (rooms.find_slow_kinds, {'images/image_kinds.py': 'import json\n'}, 'images.image_kinds imports json at its top'),
    (lambda house: rooms.find_imported_targets(house, set(['images.download', 'images.upload'])),
     {'images/upload.py': 'from house.images import download\n'}, 'images.upload imports images.download, which is a target of a plug-in'),
    (lambda house: rooms.find_imported_targets(house, set(['images.gone'])), {}, 'images.gone, a target, is no module'),
    (lambda house: rooms.find_strangers(house, set(['images.download'])), {'images/upload.py': ''}, 'disks.lonely is used by images alone'),
    (lambda house: rooms.find_strangers(house, (), kept=['disks.vhd']), {}, 'disks.vhd is no exception'),
]
BROKEN[-2][1].update({'disks/lonely.py': '', 'images/upload.py': 'from house.disks import lonely\n'})


def build(tmpdir, changes=()):
    files = dict(SOUND, **dict(changes))
    for name, text in files.items():
        tmpdir.join('house', *name.split('/')).write(text, ensure=True)
    return rooms.House(str(tmpdir), 'house')


@pytest.mark.parametrize('rule', RULES + LIBRARY_RULES, ids=lambda rule: rule.__name__)
def test_nothing_is_found_where_all_is_well(tmpdir, rule):
    assert rule(build(tmpdir)) == []


@pytest.mark.parametrize('rule, changes, problem', BROKEN, ids=[case[2] for case in BROKEN])
def test_a_broken_rule_is_seen(tmpdir, rule, changes, problem):
    assert problem in rule(build(tmpdir, changes))


def test_the_targets_of_tables_are_found(tmpdir):
    tmpdir.join('glance.py').write(TABLE)
    assert rooms.list_targets(str(tmpdir), 'house') == set(['images.download', 'images.upload'])


def test_a_table_is_made_of_the_doors(tmpdir):
    house = build(tmpdir, {'images/__init__.py': '"""Images\nof disks.\n\nUses: call, disks.\n"""\n'})
    begin = room_tables.BEGIN % 'house'
    text = 'before\n' + begin + '| an old row |\n' + room_tables.END + 'after\n'
    assert room_tables.fill_in(text, house).splitlines() == [
        'before', begin.strip(), '| room | for | uses |', '|---|---|---|', '| `call` | The call. | - |', '| `disks` | Disks. | - |',
        '| `images` | Images of disks. | `call`, `disks` |', room_tables.END.strip(), 'after']


@pytest.mark.parametrize('text', [
    'no table\n', room_tables.BEGIN % 'house' + '| a row |\n', room_tables.END + room_tables.BEGIN % 'house',
    (room_tables.BEGIN % 'house' + room_tables.END) * 2, room_tables.BEGIN % 'another' + room_tables.END])
def test_a_document_without_a_place_for_the_table_is_refused(tmpdir, text):
    with pytest.raises(ValueError) as caught:
        room_tables.fill_in(text, build(tmpdir))
    assert 'rooms of house' in str(caught.value)
