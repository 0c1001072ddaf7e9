# SPDX-License-Identifier: Apache-2.0
"""The documents name files, `make` targets, settings and calls that exist."""

from __future__ import absolute_import, division

import os
import re

import pytest

from dom0_lib import settings
from dom0_lib.call import call_names
from tests.unit import documents

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FILES = documents.list_files(CHECKOUT)
DOCUMENTS = [path for path in FILES if path.endswith('.md')]
TEXTS = dict((path, documents.read(CHECKOUT, path)) for path in DOCUMENTS)
MAKEFILE = documents.read(CHECKOUT, 'Makefile')
SETTINGS = settings.NAMES


def test_the_documents_are_found():
    assert set(['README.md', 'HACKING.md', 'docs/WIRE.md', 'tests/harness/README.md']) <= set(DOCUMENTS)


@pytest.mark.parametrize('path', DOCUMENTS)
def test_links_lead_somewhere(path):
    assert documents.find_broken_links(CHECKOUT, path) == []


@pytest.mark.parametrize('path', DOCUMENTS)
def test_named_files_exist(path):
    assert documents.find_missing_paths(CHECKOUT, TEXTS[path]) + documents.find_missing_names(FILES, TEXTS[path]) == []


def test_files_named_in_comments_and_docstrings_exist():
    """Of tests only the simulated host: other tests name files that they make."""
    sources = [path for path in FILES if path.endswith('.py') and (not path.startswith('tests') or path.startswith('tests/harness/'))]
    missing = [(path, documents.find_missing_paths(CHECKOUT, documents.read(CHECKOUT, path))) for path in sources]
    assert len(sources) > 100 and [(path, names) for path, names in missing if names] == []


@pytest.mark.parametrize('path', DOCUMENTS)
def test_named_targets_of_make_exist(path):
    assert documents.find_missing_targets(MAKEFILE, TEXTS[path]) == []


@pytest.mark.parametrize('path', DOCUMENTS)
def test_named_settings_exist(path):
    assert documents.find_missing_settings(SETTINGS, TEXTS[path]) == []


def test_the_readme_has_every_call():
    calls, plugin = [], None
    for row in re.findall(r'(?m)^\|.*\| works \|$', TEXTS['README.md']):
        _, name, described = row.split('|')[:3]
        plugin = name.strip(' `').replace('.py', '') or plugin
        calls += ['%s.%s' % (plugin, function) for function in re.findall('`([a-z_0-9]+)`', described)]
    assert sorted(calls) == sorted(call_names.CALLS)


@pytest.mark.parametrize('text, broken', [
    ('[a](docs/GUIDE.md) [b](docs/GUIDE.md#the-first-step-1) [c](https://example.org/x) [d](#here)\n# Here\n', []),
    ('[a](GUIDE.md)', ['GUIDE.md']),
    ('[a](../README.md)', ['../README.md']),
    ('[a](docs/GUIDE.md#gone) [b](#gone)', ['docs/GUIDE.md#gone', '#gone']),
])
def test_a_broken_link_is_seen(tmpdir, text, broken):
    tmpdir.join('docs', 'GUIDE.md').write('# Guide\n\n## The first step, 1\n', ensure=True)
    tmpdir.join('README.md').write(text)
    assert documents.find_broken_links(str(tmpdir), 'README.md') == broken


@pytest.mark.parametrize('text, missing', [
    ('tests/unit/test_a.py, `tests/unit/`, tests/*/test_*.py, dom0_lib/<room>/x.py, dom0_lib/....py, dom0_lib.log.warning, /etc/tests/x', []),
    ('tests/unit/test_b.py and tests/gone/', ['tests/unit/test_b.py', 'tests/gone/']),
    ('dom0_lib.gone.run or dom0_lib/gone.py', ['dom0_lib/gone.py', 'dom0_lib.gone.run']),
])
def test_a_missing_path_is_seen(tmpdir, text, missing):
    tmpdir.join('tests', 'unit', 'test_a.py').write('', ensure=True)
    tmpdir.join('dom0_lib', 'log.py').write('', ensure=True)
    assert documents.find_missing_paths(str(tmpdir), text) == missing


def test_missing_names_targets_and_settings_are_seen():
    assert documents.find_missing_names(['tests/test_a.py'], 'test_a.py, test_*.py, x/test_b.py, `test_b.py`, b_*.py') == ['test_b.py', 'b_*.py']
    assert documents.find_missing_targets('check: ## x\n\tmake y\n', '`make check`\n    make gone A=b\nthey make sure') == ['gone']
    assert documents.find_missing_settings([('tls', 'verify')], '`verify = no` in `[tls]`, `verify` in `[x]`') == [('x', 'verify')]
