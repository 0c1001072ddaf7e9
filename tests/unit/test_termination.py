# SPDX-License-Identifier: Apache-2.0
"""Signals that ask a process to end. Each case is a program of its own; tests/unit/call/test_dispatch.py has those of whole calls."""

from __future__ import absolute_import, division

import os
import signal
import subprocess
import sys

import pytest

from tests.contract import plugin_host

PROLOGUE = '''\
import os, signal, subprocess, sys, time
sys.path.insert(0, %r)
from dom0_lib import errors
from dom0_lib import termination

def receive(number):
    os.kill(os.getpid(), number)
    time.sleep(0.01)

def say(word):
    os.write(1, (word + '\\n').encode('ascii'))

termination.install()
''' % plugin_host.CHECKOUT


def run(program):
    """(exit status, words it said) of a program, and stderr must be empty."""
    process = subprocess.Popen([sys.executable, '-B', '-c', PROLOGUE + program], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               env=plugin_host.ENVIRONMENT, preexec_fn=os.setsid)
    status, output, noise = plugin_host.finish(process)
    assert noise == b''
    return status, output.decode('ascii').split()


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=['TERM', 'INT', 'HUP'])
def test_a_signal_raises_and_knows_its_number(number):
    assert run('''
try:
    receive(%d)
    say('unharmed')
except Exception:
    say('swallowed')
except errors.Terminated as error:
    say(str(error.signal_number))
''' % number) == (0, ['%d' % number])


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=['TERM', 'INT', 'HUP'])
def test_dying_of_a_signal_is_what_the_parent_sees(number):
    assert run('''
try:
    receive(%d)
except errors.Terminated as error:
    termination.die_of(error.signal_number)
say('alive')
''' % number) == (-number, [])


def test_cleaning_up_is_not_disturbed():
    assert run('''
try:
    try:
        receive(signal.SIGTERM)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP) * 3:
            receive(number)
        with termination.Shield():
            receive(signal.SIGTERM)
        say('cleaned')
except errors.Terminated as error:
    termination.die_of(error.signal_number)
''') == (-signal.SIGTERM, ['cleaned'])


def test_a_program_started_while_cleaning_up_can_be_ended():
    """A child inherits ignored signals for ever: rsync or vhd-util would not react to the next SIGTERM."""
    assert run('''
try:
    try:
        receive(signal.SIGTERM)
    finally:
        status = subprocess.call(['sh', '-c', 'kill -TERM $$; sleep 1; echo deaf'])
        say(str(-status))
except errors.Terminated:
    say('ended')
''') == (0, ['%d' % signal.SIGTERM, 'ended'])


def test_a_shield_holds_back_until_the_outermost_ends():
    assert run('''
try:
    with termination.Shield():
        with termination.Shield():
            receive(signal.SIGTERM)
            say('inner')
        receive(signal.SIGTERM)
        say('outer')
    say('unharmed')
except errors.Terminated:
    say('ended')
''') == (0, ['inner', 'outer', 'ended'])


def test_a_shield_without_a_signal_does_nothing():
    assert run('''
for _ in range(3):
    with termination.Shield() as shield:
        say('x' if shield else 'none')
try:
    receive(signal.SIGHUP)
except errors.Terminated:
    say('ended')
''') == (0, ['x', 'x', 'x', 'ended'])


def test_a_signal_outweighs_an_error_under_a_shield():
    assert run('''
try:
    with termination.Shield():
        receive(signal.SIGTERM)
        raise ValueError('lost')
except ValueError:
    say('error')
except errors.Terminated:
    say('ended')
''') == (0, ['ended'])


def test_an_error_without_a_signal_passes_a_shield():
    assert run('''
try:
    with termination.Shield():
        raise ValueError('kept')
except ValueError as error:
    say(str(error))
try:
    receive(signal.SIGTERM)
except errors.Terminated:
    say('ended')
''') == (0, ['kept', 'ended'])


def test_what_is_settled_is_not_undone():
    assert run('''
with termination.Shield():
    receive(signal.SIGTERM)
    termination.settle()
receive(signal.SIGTERM)
receive(signal.SIGHUP)
say('done')
''') == (0, ['done'])


def test_what_is_remembered_is_done_before_the_end():
    assert run('''
done = lambda: say('of what is done')
termination.remember(lambda: say('first'))
termination.remember(done)
termination.remember(lambda: say('last'))
termination.forget(done)
try:
    receive(signal.SIGTERM)
except errors.Terminated as error:
    termination.die_of(error.signal_number)
''') == (-signal.SIGTERM, ['last', 'first'])


def test_a_shield_in_another_thread_holds_nothing_back():
    """Signals are the main thread's; a worker that waits under a shield must not make it deaf."""
    assert run('''
import threading
up, end = threading.Event(), threading.Event()

def work():
    with termination.Shield():
        up.set()
        end.wait(10)

worker = threading.Thread(target=work)
worker.start()
up.wait(10)
try:
    receive(signal.SIGTERM)
    say('deaf')
except errors.Terminated:
    say('ended')
end.set()
worker.join()
''') == (0, ['ended'])


def test_a_shield_of_another_thread_takes_none_away():
    assert run('''
import threading

def pass_through():
    with termination.Shield():
        pass

try:
    with termination.Shield():
        thread = threading.Thread(target=pass_through)
        thread.start()
        thread.join()
        receive(signal.SIGTERM)
        say('held')
except errors.Terminated:
    say('ended')
''') == (0, ['held', 'ended'])


def test_a_signal_that_was_held_back_is_raised_once():
    assert run('''
try:
    with termination.Shield():
        receive(signal.SIGTERM)
except errors.Terminated:
    with termination.Shield():
        say('cleaned')
    say('ended')
''') == (0, ['cleaned', 'ended'])
