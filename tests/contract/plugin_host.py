# SPDX-License-Identifier: Apache-2.0
"""A plug-in directory, and plug-ins run as XAPI runs them, for every Python that runs a plug-in.

The simulated host (tests/harness) does this and everything else besides, but needs Python 3.8.
"""

from __future__ import absolute_import, division

import os
import shutil
import signal
import subprocess
import sys
import threading

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PLUGINS = os.path.join(CHECKOUT, 'plugins', 'xapi.d', 'plugins')

# All that XAPI puts into the environment (ocaml/forkexecd/lib/forkhelpers.ml).
ENVIRONMENT = {'PATH': '/sbin:/usr/sbin:/bin:/usr/bin'}
DEADLINE_S = 60


def lay_out(directory):
    """Put the repository's plug-ins and their library into `directory`, started by the interpreter that runs the tests."""
    shutil.copytree(os.path.join(CHECKOUT, 'dom0_lib'), os.path.join(directory, 'dom0_lib'),
                    ignore=shutil.ignore_patterns('__pycache__', '*.pyc'))
    for name in os.listdir(PLUGINS):
        if name.endswith('.py'):
            with open(os.path.join(PLUGINS, name)) as source:
                add_plugin(directory, name, source.read().partition('\n')[2])


def add_plugin(directory, name, text):
    """Write an executable plug-in; returns its path."""
    path = os.path.join(directory, name)
    with open(path, 'w') as target:
        target.write('#!%s\n%s' % (sys.executable, text))
    os.chmod(path, 0o755)
    return path


def start(path, *arguments, **environment):
    """Start a plug-in as XAPI does, with more in its environment if a test wants that."""
    with open(os.devnull, 'wb') as unreadable:
        return subprocess.Popen([path] + list(arguments), stdin=unreadable, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                cwd='/', env=dict(ENVIRONMENT, **environment), preexec_fn=os.setsid, close_fds=True)


def finish(process):
    """(exit status, stdout, stderr); the status is negative for a signal.

    At the deadline the plug-in is killed, and every child that still holds its output.
    """
    killer = threading.Timer(DEADLINE_S, os.killpg, (process.pid, signal.SIGKILL))
    killer.start()
    try:
        output, noise = process.communicate()
        assert killer.is_alive(), 'not done after %d s: %r' % (DEADLINE_S, (process.returncode, output, noise))
    finally:
        killer.cancel()
    return process.returncode, output, noise


def run(path, *arguments, **environment):
    return finish(start(path, *arguments, **environment))
