# SPDX-License-Identifier: Apache-2.0
"""Fixtures and rules for all tests; pytest 4.6 on Python 2.7 imports this file, too."""

from __future__ import absolute_import, division

import os
import re
import sys

import hypothesis
import pytest

CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ENVIRONMENTS = os.path.join(CHECKOUT, '.venvs')
IN_CI = os.environ.get('CI') == 'true'

# A skip that hides nothing: the case does not exist on this Python or this machine.
NOT_APPLICABLE = 'not applicable: '

if sys.version_info < (3, 8):
    collect_ignore = ['unit/test_install_tree.py', 'unit/test_mutants.py', 'unit/test_release.py', 'unit/test_source_rules.py']

# Examples are the same in every CI run, so that a failure belongs to the change that CI looks at. A slow machine is no
# failure: the benchmarks measure speed.
hypothesis.settings.register_profile(
    'repository', deadline=None, derandomize=IN_CI, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile('repository')


def _find_dom0_pythons():
    """Interpreters of the dom0 environments that tests/run has made, by version."""
    names = os.listdir(ENVIRONMENTS) if os.path.isdir(ENVIRONMENTS) else []
    versions = [name for name in names if re.match(r'\d+\.\d+\Z', name)
                and os.path.exists(os.path.join(ENVIRONMENTS, name, '.ready'))]
    versions.sort(key=lambda version: [int(number) for number in version.split('.')])
    return [(version, os.path.join(ENVIRONMENTS, version, 'bin', 'python')) for version in versions]


# [(version, path of the interpreter)], oldest first.
DOM0_PYTHONS = _find_dom0_pythons()


@pytest.fixture(scope='session', params=[path for _, path in DOM0_PYTHONS],
                ids=[version for version, _ in DOM0_PYTHONS])
def dom0_python(request):
    """Path of a dom0's interpreter, for the first line of the plug-ins; the test runs once for each."""
    return request.param


def pytest_runtest_setup(item):
    for marker in item.iter_markers('needs'):
        missing = [program for program in marker.args if not _is_on_path(program)]
        if missing and IN_CI:
            pytest.fail('needs %s: CI runs every test' % ', '.join(missing), pytrace=False)
        if missing:
            pytest.skip('needs %s' % ', '.join(missing))


def _is_on_path(program):
    # Python 2 has no shutil.which().
    directories = (os.environ.get('PATH', '') + ':/usr/sbin:/sbin').split(':')
    return any(os.access(os.path.join(directory, program), os.X_OK) for directory in directories)


def pytest_sessionfinish(session):
    """In CI a skip is a failure: a test that CI skips is run nowhere."""
    reporter = session.config.pluginmanager.get_plugin('terminalreporter')
    skipped = reporter.stats.get('skipped', []) if reporter else []
    hiding = [report for report in skipped if NOT_APPLICABLE not in str(report.longrepr)]
    if IN_CI and hiding and session.exitstatus == 0:
        reporter.write_line('')
        reporter.write_line('CI runs every test, %d were skipped' % len(hiding))
        session.exitstatus = 1
