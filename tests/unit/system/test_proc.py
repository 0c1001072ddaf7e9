# SPDX-License-Identifier: Apache-2.0
"""Programs run for real: sh, env, sleep, yes."""

from __future__ import absolute_import, division

import errno
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from dom0_lib import errors
from dom0_lib.system import proc
from tests import patience

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
# More than any of these programs needs, and far less than a hang.
DEADLINE_S = patience.LIMIT_S


def run_shell(script, deadline_s=DEADLINE_S, **options):
    return proc.run(['sh', '-c', script], deadline_s, **options)


def failure_of_shell(script, deadline_s=DEADLINE_S):
    with pytest.raises(errors.CommandFailed) as caught:
        run_shell(script, deadline_s)
    assert caught.value.command == 'sh'
    return caught.value


def has_children():
    try:
        return os.waitpid(-1, os.WNOHANG) == (0, 0) or has_children()
    except EnvironmentError as error:
        assert error.errno == errno.ECHILD
        return False


def test_streams_and_status():
    completed = run_shell('echo to stdout; echo to stderr >&2')
    assert (completed.status, completed.output, completed.error_output) == (0, u'to stdout\n', u'to stderr\n')


@pytest.mark.parametrize('script, line', [
    ('echo; echo "  first  "; echo second; echo error >&2', u'first'),
    ('echo; echo error >&2', u'error'),
    ('true', u''),
    ('printf "%0400d" 7', u'0' * 300),
    (r'printf "caf\303\251 \377\n"', u'caf\xe9 \ufffd'),
])
def test_first_line(script, line):
    assert run_shell(script).first_line() == line


@pytest.mark.parametrize('ok_statuses, status', [((0, 3), 3), ((0, 3), 0), (None, 3), (None, 255)])
def test_statuses_that_are_right(ok_statuses, status):
    assert run_shell('exit %d' % status, ok_statuses=ok_statuses).status == status


@pytest.mark.parametrize('script, status, text', [
    ('echo the reason; exit 22', 22, "command 'sh' ended with status 22: the reason"),
    ('exit 1', 1, "command 'sh' ended with status 1: no output"),
    ('kill -ABRT $$', -signal.SIGABRT, "command 'sh' ended with status -6: no output"),
])
def test_statuses_that_are_wrong(script, status, text):
    failure = failure_of_shell(script)
    assert (failure.status, str(failure)) == (status, text)


@pytest.mark.parametrize('size_bytes', [1, 4096, 70000, 900000])
def test_input_arrives_whole(size_bytes):
    data = os.urandom(size_bytes)
    assert proc.run(['cat'], DEADLINE_S, input_data=data).output_bytes == data


def test_bytes_stay_what_they_were():
    completed = proc.run(['sh', '-c', 'cat; cat >&2 <<END\nx\nEND'], DEADLINE_S, input_data=b'\xff\0\n')
    assert (completed.output_bytes, completed.error_bytes) == (b'\xff\0\n', b'x\n')


def test_a_program_need_not_read_its_input():
    assert proc.run(['sh', '-c', 'exec 0<&-; echo done; exit 3'], DEADLINE_S, (3,), b'x' * 300000).output == u'done\n'


def test_input_that_nobody_reads_waits_no_longer_than_the_deadline():
    with pytest.raises(errors.CommandFailed) as caught:
        proc.run(['sleep', '120'], 1, input_data=b'x' * 300000)
    assert caught.value.status is None and not has_children()


@pytest.mark.parametrize('script', ['sleep 120', 'exec >&- 2>&-; sleep 120', 'exec yes | head -c 100; sleep 120'])
def test_a_check_that_raises_ends_the_program(script):
    started, passes = time.time(), []

    def check():
        passes.append(None)
        if time.time() - started > 1:
            raise errors.Failure('TASK_CANCELLED', [])
    with pytest.raises(errors.Failure):
        run_shell(script, check=check)
    assert time.time() - started < patience.LIMIT_S and len(passes) > 1 and not has_children()


def test_arguments_pass_as_they_are():
    arguments = ['a b', '', '$HOME', '*', "'", '"', 'caf\xe9', '\n']
    completed = proc.run(['sh', '-c', r'for a in "$@"; do printf "%s\0" "$a"; done', 'sh'] + arguments, DEADLINE_S)
    expected = [argument.decode('utf-8', 'replace') if isinstance(argument, bytes) else argument for argument in arguments]
    assert completed.output.split(u'\0')[:-1] == expected


def test_a_missing_command(monkeypatch, tmpdir):
    with pytest.raises(errors.CommandNotFound) as caught:
        proc.run(['no-such-program', '-x'], DEADLINE_S)
    assert str(caught.value) == "command 'no-such-program' was not found on PATH"
    monkeypatch.setenv('PATH', str(tmpdir))
    with pytest.raises(errors.CommandNotFound):
        proc.run(['sh'], DEADLINE_S)


def test_the_environment_is_bare(monkeypatch):
    """Programs must not see what a caller's shell, or XAPI one day, leaves there; their texts are those of the C locale."""
    monkeypatch.setenv('PYTHONPATH', '/nowhere')
    monkeypatch.setenv('LD_PRELOAD', '')
    monkeypatch.setenv('LC_MESSAGES', 'de_DE.UTF-8')
    lines = proc.run(['env'], DEADLINE_S).output.splitlines()
    assert sorted(lines) == ['LC_ALL=C', 'PATH=' + os.environ['PATH']]


def test_standard_input_is_empty():
    assert proc.run(['cat'], DEADLINE_S).output == u''


def test_descriptors_do_not_leak_into_the_program(tmpdir):
    opened = os.open(str(tmpdir.join('file')), os.O_RDWR | os.O_CREAT)
    if hasattr(os, 'set_inheritable'):
        os.set_inheritable(opened, True)
    try:
        assert run_shell('ls /proc/$$/fd').output.split() == ['0', '1', '2']
    finally:
        os.close(opened)


def test_a_script_whose_interpreter_is_missing(monkeypatch, tmpdir):
    script = tmpdir.join('script')
    script.write('#!/no/such/interpreter\n')
    script.chmod(0o755)
    monkeypatch.setenv('PATH', str(tmpdir))
    before = os.listdir('/proc/self/fd')
    with pytest.raises(errors.CommandNotFound):
        proc.run(['script'], DEADLINE_S)
    assert len(os.listdir('/proc/self/fd')) == len(before) and not has_children()


def test_what_cannot_be_executed_is_an_error_of_the_system(monkeypatch, tmpdir):
    script = tmpdir.join('script')
    script.write('no program')
    script.chmod(0o755)
    monkeypatch.setenv('PATH', str(tmpdir))
    with pytest.raises(EnvironmentError) as caught:
        proc.run(['script'], DEADLINE_S)
    assert caught.value.errno == errno.ENOEXEC and not has_children()


def test_the_first_executable_on_path_is_run(monkeypatch, tmpdir):
    for name, mode in (('first', 0o644), ('second', 0o755), ('third', 0o755)):
        program = tmpdir.ensure(name, 'program')
        program.write('#!/bin/sh\necho %s\n' % name)
        program.chmod(mode)
    tmpdir.ensure('zeroth', 'program', dir=True)
    monkeypatch.setenv('PATH', ':'.join(str(tmpdir.join(name)) for name in ('zeroth', 'first', 'second', 'third')) + ':/bin')
    assert proc.run(['program'], DEADLINE_S).output == u'second\n'


def test_programs_die_of_a_broken_pipe():
    """XAPI has plug-ins ignore SIGPIPE; what they start must not inherit that."""
    old = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        assert run_shell('kill -PIPE $$; echo alive', ok_statuses=None).status == -signal.SIGPIPE
    finally:
        signal.signal(signal.SIGPIPE, old)


def test_descriptors_do_not_leak_here():
    before = os.listdir('/proc/self/fd')
    for _ in range(3):
        run_shell('true')
        failure_of_shell('exit 3')
        failure_of_shell('sleep 20', 0.05)
        with pytest.raises(errors.CommandNotFound):
            proc.run(['no-such-program'], DEADLINE_S)
    assert len(os.listdir('/proc/self/fd')) == len(before)
    assert not has_children()


@pytest.mark.parametrize('script', [
    'exec sleep 120', 'exec sleep 120 >&- 2>&-', 'while :; do echo x; sleep 0.05; done', 'trap "" TERM; exec sleep 120'],
    ids=['silent', 'closed its output', 'talks on', 'ignores SIGTERM'])
def test_the_deadline_holds(script):
    started = time.time()
    failure = failure_of_shell(script, 1)
    assert failure.status is None
    assert str(failure) == "command 'sh' was killed: it did not end within 1 s"
    assert 1 <= time.time() - started < patience.LIMIT_S
    assert not has_children()


def test_the_output_is_bounded():
    started = time.time()
    with pytest.raises(errors.CommandFailed) as caught:
        proc.run(['yes'], DEADLINE_S)
    assert str(caught.value) == "command 'yes' was killed: it wrote more than 1048576 bytes"
    assert time.time() - started < patience.LIMIT_S
    assert not has_children()


def test_the_bound_can_be_another():
    assert len(proc.run(['head', '-c', '2000000', '/dev/zero'], DEADLINE_S, max_output_bytes=2000000).output_bytes) == 2000000
    with pytest.raises(errors.CommandFailed):
        proc.run(['head', '-c', '2000001', '/dev/zero'], DEADLINE_S, max_output_bytes=2000000)


def test_much_output_on_both_streams():
    """More than a pipe holds, on the one that is read later, too."""
    completed = run_shell('head -c 400000 /dev/zero >&2; head -c 400000 /dev/zero')
    assert (len(completed.output), len(completed.error_output)) == (400000, 400000)


@pytest.fixture
def send_signals():
    """Function(times, pause_s, handler): SIGUSR1 for this process, from another thread."""
    threads, old = [], signal.getsignal(signal.SIGUSR1)

    def start(times, pause_s, handler):
        def send():
            for _ in range(times):
                time.sleep(pause_s)
                os.kill(os.getpid(), signal.SIGUSR1)
        signal.signal(signal.SIGUSR1, handler)
        threads.append(threading.Thread(target=send))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join()
    signal.signal(signal.SIGUSR1, old)


def test_signals_do_not_disturb(send_signals):
    """Python 2 does not resume system calls that a signal interrupts."""
    received = []
    send_signals(20, 0.02, lambda number, frame: received.append(number))
    assert run_shell('for i in 1 2 3 4 5; do echo $i; sleep 0.1; done').output == u'1\n2\n3\n4\n5\n'
    assert len(received) > 5


def test_an_exception_from_a_signal_ends_the_program(send_signals):
    def raise_terminated(number, frame):
        raise errors.Terminated(number)

    send_signals(1, 0.3, raise_terminated)
    started = time.time()
    with pytest.raises(errors.Terminated):
        run_shell('exec sleep 120')
    assert time.time() - started < patience.LIMIT_S
    assert not has_children()


SIGNALLED_AT_ANY_MOMENT = """
import errno, os, random, signal
from dom0_lib import errors
from dom0_lib import termination
from dom0_lib.system import proc

signal.signal(signal.SIGALRM, termination._receiver.receive)
chance = random.Random(1)
for _ in range(100):
    termination._receiver.is_ending = False  # each round is another process's life
    try:
        signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.0001, 0.006))
        proc.run(['sleep', '120'], 20)
    except errors.Terminated:
        pass
    try:
        left = os.waitpid(-1, os.WNOHANG)
    except OSError as error:
        left = None
        assert error.errno == errno.ECHILD
    assert left is None, 'a program is left: %s' % (left,)
print('none left')
"""


def test_no_program_is_left_whenever_the_signal_comes():
    """Even between the program's start and our knowing of it.  (A process of its own, for it needs SIGALRM.)"""
    process = subprocess.Popen([sys.executable, '-B', '-c', SIGNALLED_AT_ANY_MOMENT], cwd=CHECKOUT, stdout=subprocess.PIPE)
    assert process.communicate()[0] == b'none left\n'


# Programs that write for hours, and have programs of their own

def test_output_that_is_taken_as_it_comes():
    taken = []
    completed = run_shell('echo one; sleep 0.3; echo two; echo error >&2', take_output=taken.append)
    assert (b''.join(taken), completed.output, completed.error_output) == (b'one\ntwo\n', u'', u'error\n')
    assert taken[0] == b'one\n'


def test_output_that_is_taken_is_not_bounded():
    sizes = []
    run_shell('head -c 5000 /dev/zero', take_output=lambda data: sizes.append(len(data)), max_output_bytes=1000)
    assert sum(sizes) == 5000


class Enough(Exception):
    pass


def give_up(path):
    """A check that raises once the file is there."""
    def check():
        if os.path.exists(path):
            raise Enough()
    return check


def test_a_program_that_starts_others_is_asked_to_end(tmpdir):
    started, ended = str(tmpdir.join('started')), str(tmpdir.join('ended'))
    script = 'trap "echo > %s; exit" TERM; echo > %s; while :; do sleep 0.05; done' % (ended, started)
    with pytest.raises(Enough):
        run_shell(script, check=give_up(started), starts_others=True)
    assert os.path.exists(ended)
    assert not has_children()


def test_one_that_does_not_end_is_killed(tmpdir):
    started = str(tmpdir.join('started'))
    begun = time.time()
    with pytest.raises(Enough):
        run_shell('trap "" TERM; echo > %s; while :; do sleep 0.05; done' % started, check=give_up(started), starts_others=True)
    assert 0.9 < time.time() - begun < patience.LIMIT_S
    assert not has_children()


OUTLIVED = """
import sys
sys.path.insert(0, %r)
from dom0_lib.system import proc
proc.run(['sh', '-c', 'echo $$; exec >&-; sleep 120; :'], 120, take_output=lambda data: print_through(data), starts_others=%r)
"""


@pytest.mark.parametrize('starts_others', [True, False])
def test_it_ends_with_a_process_that_is_killed(starts_others):
    program = OUTLIVED.replace('print_through(data)', '(sys.stdout.write(data.decode()), sys.stdout.flush())')
    process = subprocess.Popen([sys.executable, '-c', program % (CHECKOUT, starts_others)], stdout=subprocess.PIPE,
                               universal_newlines=True)
    pid = int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()
    ends_at = time.time() + (patience.LIMIT_S if starts_others else 0.5)
    while os.path.exists('/proc/%d' % pid) and open('/proc/%d/stat' % pid).read().split()[2] != 'Z' and time.time() < ends_at:
        time.sleep(0.02)
    is_alive = time.time() >= ends_at
    if is_alive:
        os.kill(pid, signal.SIGKILL)
    assert is_alive != starts_others
