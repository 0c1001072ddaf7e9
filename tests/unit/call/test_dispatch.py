# SPDX-License-Identifier: Apache-2.0
"""One call of a plug-in: what becomes of its result and of its errors, in this process and in one that XAPI would start."""

from __future__ import absolute_import, division

import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import pytest

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib import text_checks
from dom0_lib.call import binding
from dom0_lib.call import dispatch
from tests.contract import plugin_host
from tests.contract import xapi_form

TEXT = binding.Kind(text_checks.require)
JSON = binding.Kind(lambda value: value, structured=True)

TABLE = '''\
    'fail': Call('%(targets)s:fail', Arg('name', TEXT)),
    'open_missing': Call('%(targets)s:open_missing'),
    'decode_badly': Call('%(targets)s:decode_badly'),
    'give': Call('%(targets)s:give', Arg('name', TEXT)),
    'echo': Call('%(targets)s:echo', Arg('text', TEXT), Arg('other', TEXT, default=None)),
    'echo_some': Call('%(targets)s:echo', Arg('text', TEXT), Arg('other', TEXT, default=None), ignores_unknown=True),
    'give_text': Call('%(targets)s:give', Arg('name', TEXT), replies_text=True),
    'tell_session': Call('%(targets)s:tell_session'),
    'stop': Call('%(targets)s:stop'),
    'write_noise': Call('%(targets)s:write_noise'),
    'leave_child': Call('%(targets)s:leave_child'),
    'leave_thread': Call('%(targets)s:leave_thread'),
    'read_stdin': Call('%(targets)s:read_stdin'),
    'make_long': Call('%(targets)s:make_long'),
    'list_modules': Call('%(targets)s:list_modules', Arg('text', TEXT, default=None)),
    'list_path': Call('%(targets)s:list_path'),
    'parse': Call('%(targets)s:parse', Arg('document', JSON)),
    'work': Call('%(targets)s:work', Arg('directory', TEXT)),
    'publish': Call('%(targets)s:publish', Arg('directory', TEXT)),
    'settle': Call('%(targets)s:settle', Arg('directory', TEXT)),
    'no_module': Call('dom0_lib.there_is_no_such_module:run'),
    'no_function': Call('%(targets)s:there_is_no_such_function'),
    'wrong_arguments': Call('%(targets)s:tell_session', Arg('text', TEXT, default=None)),
'''
CALLS = eval('{%s}' % (TABLE % {'targets': 'tests.unit.call.plugin_targets'}),
             {'Arg': dispatch.Arg, 'Call': dispatch.Call, 'TEXT': TEXT, 'JSON': JSON})

PLUGIN = '''\
from dom0_lib import text_checks
from dom0_lib.call import binding
from dom0_lib.call.dispatch import Arg, Call, dispatch
TEXT = binding.Kind(text_checks.require)
JSON = binding.Kind(lambda value: value, structured=True)
if __name__ == '__main__':
    dispatch({%s})
''' % (TABLE % {'targets': 'dom0_lib.plugin_targets'})

IMPORT_ERROR = 'ModuleNotFoundError' if sys.version_info >= (3, 6) else 'ImportError'
BYTES_ERROR = 'UnicodeDecodeError' if compat.PYTHON2 else 'TypeError'
RECURSION_ERROR = 'RuntimeError' if compat.PYTHON2 else 'RecursionError'


@pytest.fixture(autouse=True)
def no_syslog(monkeypatch, tmpdir):
    """What calls log in these tests does not reach this machine's syslog."""
    monkeypatch.setenv('DOM0_ROOT', str(tmpdir))


def make_legacy(*positional, **keywords):
    return {u'params': pickle.dumps({'args': positional, 'kwargs': keywords}, 0).decode('latin-1')}


def answer(function, arguments=None):
    return xapi_form.read_reply(dispatch.answer(CALLS, xapi_form.encode_call(function, arguments or {}), 'plugin_host'))


# What a result becomes.

@pytest.mark.parametrize('name, as_pickle, as_json', [
    ('none', u'N.', u'null'), ('text', u"S'2.1'\n.", u'"2.1"'), ('true', u'I01\n.', u'true'), ('number', u'I7\n.', u'7'),
    ('nested', u"(S'root'\n(S'uuid'\nS'x'\ndd.", u'{"root": {"uuid": "x"}}'),
    ('list', u"(I1\nS'a'\nNI01\nl.", u'[1, "a", null, true]'),
    ('tuple', u'(I1\nI2\nt.', u'[1, 2]'),
    ('wide', u'Vcaf\\u00e9 \\u20ac \\U0001f600 \\u001b\n.', u'"caf\\u00e9 \\u20ac \\ud83d\\ude00 \\u001b"'),
])
def test_a_result_returns_in_the_form_of_the_call(name, as_pickle, as_json):
    assert answer(u'give', make_legacy(name)) == ('Success', as_pickle)
    assert answer(u'give', make_legacy(name=name)) == ('Success', as_pickle)
    assert answer(u'give', {u'name': name}) == ('Success', as_json)
    # OX adds the host's uuid to every call.
    assert answer(u'give', dict(make_legacy(name), host_uuid=u'x')) == ('Success', as_pickle)
    assert answer(u'give', {u'name': name, u'host_uuid': u'x'}) == ('Success', as_json)


@pytest.mark.parametrize('name, legacy_class, plain_class', [
    ('object', 'TypeError', 'TypeError'), ('set', 'TypeError', 'TypeError'), ('bytes', BYTES_ERROR, BYTES_ERROR),
    ('not a number', None, 'ValueError'), ('numbered map', None, 'TypeError'), ('endless', RECURSION_ERROR, RECURSION_ERROR),
])
def test_a_result_that_cannot_travel_is_a_failure(name, legacy_class, plain_class):
    for arguments, expected in ((make_legacy(name), legacy_class), ({u'name': name}, plain_class)):
        status, details = answer(u'give', arguments)
        if expected is None:
            assert status == 'Success'
        else:
            assert status == 'Failure' and details[:3] == ['XENAPI_PLUGIN_FAILURE', 'give', expected] and len(details) == 4


def test_arguments_reach_the_function_as_text():
    text = u'gr\xfc\xdfe \u20ac \U0001f600 <&>"\' \t'
    assert answer(u'echo', {u'text': text}) == ('Success', u'{"other": null, "text": %s}' % quote(text))
    for spelling in (text, text.encode('utf-8')) if compat.PYTHON2 else (text,):
        status, reply = answer(u'echo', {u'params': pickle.dumps({'args': (), 'kwargs': {'text': spelling}}, 0).decode('latin-1')})
        assert status == 'Success' and pickle.loads(reply.encode('ascii')) == {'text': text, 'other': None}


def test_a_call_may_ignore_what_it_does_not_take():
    assert answer(u'echo_some', {u'text': u'a', u'attempts': u'3'}) == ('Success', u'{"other": null, "text": "a"}')
    status, details = answer(u'echo', {u'text': u'a', u'attempts': u'3'})
    assert status == 'Failure' and details[2:] == ['ArgumentError', "argument 'attempts': unknown; this call takes other, text"]


@pytest.mark.parametrize('name, reply', [
    ('text', u'2.1'), ('wide', u'caf\xe9 \u20ac \U0001f600 \ufffd'),
])
def test_a_call_may_reply_its_text_as_it_stands(name, reply):
    assert answer(u'give_text', {u'name': name}) == ('Success', reply)


def test_a_text_reply_that_is_no_text_is_a_failure():
    status, details = answer(u'give_text', {u'name': u'number'})
    assert status == 'Failure' and details[2:] == ['TypeError', 'a reply is text, not int']
    assert answer(u'give_text', make_legacy('text')) == ('Success', u"S'2.1'\n.")


def test_a_call_has_no_other_options():
    with pytest.raises(TypeError):
        dispatch.Call('module:function', replies_json=True)


@pytest.mark.parametrize('name, line', [
    ('failure', 'fail failed: VDI_IN_USE'), ('failure without params', 'fail failed: TASK_CANCELLED'),
    ('argument', "fail failed: ArgumentError: argument 'uuid_stack': is too short")])
def test_a_failed_call_logs_one_line_without_the_parameters_of_a_code(monkeypatch, name, line):
    """A session's reference is one of them: {'SESSION_INVALID', reference}."""
    root = tempfile.mkdtemp(prefix='dom0-')
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        os.mkdir(os.path.join(root, 'dev'))
        receiver.bind(os.path.join(root, 'dev', 'log'))
        monkeypatch.setenv('DOM0_ROOT', root)
        assert answer(u'fail', {u'name': name})[0] == 'Failure'
        receiver.setblocking(False)
        assert receiver.recv(10000).decode('utf-8').partition(']: ')[2] == line
        with pytest.raises(socket.error):
            receiver.recv(10000)
    finally:
        receiver.close()
        shutil.rmtree(root)


def quote(text):
    import json
    return json.dumps(text)


def test_the_function_gets_the_session():
    assert answer(u'tell_session') == ('Success', u'"%s"' % xapi_form.SESSION_REF)


# What an error becomes.

def failure(*details):
    return 'Failure', list(details)


@pytest.mark.parametrize('name, details', [
    ('failure', ['VDI_IN_USE', 'OpaqueRef:1', 'destroy']),
    ('failure without params', ['TASK_CANCELLED']),
    ('failure with strange params', ['CODE', '', '5', 'None', u'caf\xe9\ufffd\n', "('tuple',)"]),
])
def test_a_failure_passes_as_it_stands(name, details):
    assert answer(u'fail', {u'name': name}) == answer(u'fail', make_legacy(name)) == failure(*details)


@pytest.mark.parametrize('name, class_name, message', [
    ('plugin', 'PluginError', 'cannot'),
    ('retryable', 'RetryableError', 'connection lost'),
    ('image not found', 'ImageNotFound', 'ImageNotFound'),
    ('subclass', 'ImageBroken', 'gap'),
    ('argument', 'ArgumentError', "argument 'uuid_stack': is too short"),
    ('command not found', 'CommandNotFound', "command 'mkisofs' was not found on PATH"),
    ('command failed', 'CommandFailed', "command 'tar' ended with status 2: gzip: stdin: unexpected end of file"),
    ('command silent', 'CommandFailed', "command 'tar' ended with status 2: no output"),
    ('command stuck', 'CommandFailed', "command 'tar' was killed: no output"),
    ('empty', 'RetryableError', 'RetryableError'),
    ('empty text', 'RetryableError', 'RetryableError'),
    ('blank', 'RetryableError', 'RetryableError'),
    ('memory', 'MemoryError', 'MemoryError'),
    ('key', 'KeyError', "u'uuid'" if compat.PYTHON2 else "'uuid'"),
    ('key without text', 'KeyError', 'KeyError'),
    ('exit', 'SystemExit', 'bye'),
    ('exit without text', 'SystemExit', 'SystemExit'),
    ('non-ascii', 'PluginError', u'caf\xe9 \u20ac \U0001f600'),
    ('control characters', 'PluginError', u'\ufffd[31mred\ufffd\x7f\ufffd\ufffd'),
    ('lines', 'PluginError', u'request 7\nTIMEOUT: no answer'),
    ('bytes', 'Exception', u'caf\xe9' if compat.PYTHON2 else u"b'caf\\xc3\\xa9'"),
    ('bad bytes', 'Exception', u'\ufffd\ufffd' if compat.PYTHON2 else u"b'\\xff\\xfe'"),
    ('several', 'Exception', u"(u'caf\\xe9', 5)" if compat.PYTHON2 else u"('caf\xe9', 5)"),
    ('markup', 'PluginError', u'<value>&amp;"]]>'),
    ('speechless', 'Speechless', 'Speechless'),
])
def test_an_exception_passes_as_class_and_message(name, class_name, message):
    expected = failure('XENAPI_PLUGIN_FAILURE', 'fail', class_name, message)
    assert answer(u'fail', {u'name': name}) == answer(u'fail', make_legacy(name)) == expected


def test_errors_of_the_system_pass_as_class_and_message():
    assert answer(u'open_missing') == failure(
        'XENAPI_PLUGIN_FAILURE', 'open_missing', 'IOError' if compat.PYTHON2 else 'FileNotFoundError',
        "[Errno 2] No such file or directory: '/no/such/file'")
    status, details = answer(u'decode_badly')
    assert details[:3] == ['XENAPI_PLUGIN_FAILURE', 'decode_badly', 'UnicodeDecodeError'] and details[3]


@pytest.mark.parametrize('function, class_name', [
    ('no_module', IMPORT_ERROR), ('no_function', 'AttributeError'), ('wrong_arguments', 'TypeError'),
])
def test_a_defect_of_a_table_is_a_failure_too(function, class_name):
    status, details = answer(compat.to_text(function))
    assert details[:3] == ['XENAPI_PLUGIN_FAILURE', function, class_name] and details[3]


@pytest.mark.parametrize('function', [u'fai', u'fail ', u'Fail', u'__init__', u'gr\xfc\xdfe', u'a<b>'])
@pytest.mark.parametrize('arguments', [{}, {u'x': u'y'}, {u'params': u'junk'}])
def test_an_unknown_function(function, arguments):
    assert answer(function, arguments) == failure('UNKNOWN_XENAPI_PLUGIN_FUNCTION', function)


@pytest.mark.parametrize('data, function', [
    (b'', ''), (b'junk', ''), (xapi_form.encode_call(u'fail', {u'name': u'x'})[:-1], 'fail'),
    (xapi_form.encode_call(u'fail', {u'name': u'x'}).replace(b'x</value>', b'<int>1</int></value>'), 'fail'),
])
def test_what_is_no_call_is_a_failure(data, function):
    status, details = xapi_form.read_reply(dispatch.answer(CALLS, data, 'plugin_host'))
    assert details[:3] == ['XENAPI_PLUGIN_FAILURE', function, 'RequestError'] and details[3]


@pytest.mark.parametrize('text, reason', [
    (u'', 'cut short'), (u'junk', 'has a record of code'), (u'N.', "not a map of 'args' and 'kwargs'"), (u'(t.', 'not a map'),
    (u'}.', 'not a map'),
    (u"}S'args'\n(ts.", 'not a map'), (u"}S'kwargs'\n}s.", 'not a map'), (u"}S'args'\n}sS'kwargs'\n}s.", 'not a map'),
    (u"}S'args'\n(tsS'kwargs'\n(ts.", 'not a map'), (u"}S'args'\nNsS'kwargs'\n}s.", 'not a map'), (u'\u20ac', 'not bytes'),
    (u"cos\nsystem\n(S'x'\ntR.", 'has a record of code 0x63'), (u'x' * 200000, 'longer than'),
])
def test_params_that_are_no_call_are_refused(text, reason):
    status, details = answer(u'tell_session', {u'params': text})
    assert details[:3] == ['XENAPI_PLUGIN_FAILURE', 'tell_session', 'ArgumentError']
    assert details[3].startswith("argument 'params': the pickle ") and reason in details[3]


def test_params_may_hold_a_list_and_more():
    assert answer(u'tell_session', {u'params': u"}S'args'\n(lsS'kwargs'\n}sS'other'\nNs."})[0] == 'Success'


def test_wrong_arguments_are_refused_before_the_function_is_found():
    for arguments in ({u'text': u''}, {u'other': u'x'}, make_legacy(u'')):
        assert answer(u'wrong_arguments', arguments)[1][2] == 'ArgumentError'


def test_termination_is_no_error():
    with pytest.raises(errors.Terminated):
        answer(u'stop')


# The process.

@pytest.fixture(scope='module')
def plugin_path():
    """A plug-in beside its library, which has our functions in it."""
    directory = tempfile.mkdtemp(prefix='dom0-')
    plugin_host.lay_out(directory)
    targets = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'plugin_targets.py')
    shutil.copy(targets, os.path.join(directory, 'dom0_lib'))
    yield plugin_host.add_plugin(directory, 'tested.py', PLUGIN)
    shutil.rmtree(directory)


def call(path, function, arguments=None, **environment):
    """The reply of a plug-in that behaves: exit status 0, one document, nothing else on stdout."""
    status, output, noise = plugin_host.run(path, xapi_form.encode_call(function, arguments or {}), **environment)
    assert status == 0, noise
    assert output.endswith(b'</methodResponse>\n')
    return xapi_form.read_reply(output), noise


@pytest.mark.parametrize('arguments, reply', [({u'name': u'text'}, u'"2.1"'), (make_legacy(u'text'), u"S'2.1'\n.")])
def test_a_process_answers_and_is_silent_otherwise(plugin_path, arguments, reply):
    assert call(plugin_path, u'give', arguments) == (('Success', reply), b'')


@pytest.mark.parametrize('function, arguments, details', [
    (u'fail', {u'name': u'failure'}, ['VDI_IN_USE', 'OpaqueRef:1', 'destroy']),
    (u'fail', {u'name': u'non-ascii'}, ['XENAPI_PLUGIN_FAILURE', 'fail', 'PluginError', u'caf\xe9 \u20ac \U0001f600']),
    (u'fail', {u'name': u'exit'}, ['XENAPI_PLUGIN_FAILURE', 'fail', 'SystemExit', 'bye']),
    (u'fail', {u'name': u'speechless'}, ['XENAPI_PLUGIN_FAILURE', 'fail', 'Speechless', 'Speechless']),
    (u'fail', {}, ['XENAPI_PLUGIN_FAILURE', 'fail', 'ArgumentError', "argument 'name': missing"]),
    (u'nothing', {}, ['UNKNOWN_XENAPI_PLUGIN_FUNCTION', 'nothing']),
    (u'read_stdin', {}, ['XENAPI_PLUGIN_FAILURE', 'read_stdin', 'OSError', '[Errno 9] Bad file descriptor']),
])
def test_a_process_that_fails_ends_with_status_0(plugin_path, function, arguments, details):
    assert call(plugin_path, function, arguments) == (('Failure', details), b'')


@pytest.mark.parametrize('arguments', [(), ('one', 'two'), ('',), ('get_version',), (b'\xff\xfe',), ('--help',)])
def test_a_process_that_xapi_did_not_start_says_so(plugin_path, arguments):
    status, output, noise = plugin_host.run(plugin_path, *arguments)
    (_, details) = xapi_form.read_reply(output)
    assert (status, noise) == (0, b'')
    assert details[:3] == ['XENAPI_PLUGIN_FAILURE', '', 'RequestError']
    assert ('an XML-RPC call, from XAPI' if len(arguments) != 1 else 'not an XML-RPC call') in details[3]


def test_nothing_but_the_reply_gets_into_the_reply(plugin_path):
    reply, noise = call(plugin_path, u'write_noise')
    assert reply == ('Success', u'"quiet"')
    for source in (b'write', b'descriptor', b'child', b'shell'):
        assert b'noise by ' + source in noise


def test_a_child_that_lives_on_does_not_hold_the_reply(plugin_path):
    (_, reply), _ = call(plugin_path, u'leave_child')  # or it would take until the deadline
    os.kill(int(reply.strip('"')), signal.SIGKILL)


def test_a_thread_that_lives_on_does_not_hold_the_process(plugin_path):
    assert call(plugin_path, u'leave_thread')[0] == ('Success', 'null')


def test_a_reply_longer_than_a_pipe_arrives(plugin_path):
    assert call(plugin_path, u'make_long')[0] == ('Success', u'"%s"' % (u'x' * 3000000))


LOCALES = [
    {}, {'LC_ALL': 'C'}, {'LC_ALL': 'POSIX', 'PYTHONCOERCECLOCALE': '0', 'PYTHONUTF8': '0'}, {'PYTHONIOENCODING': 'ascii'},
    {'PYTHONCOERCECLOCALE': '0', 'PYTHONUTF8': '0'}, {'LC_ALL': 'C.UTF-8'}, {'PYTHONUTF8': '1'},
]


@pytest.mark.parametrize('environment', LOCALES, ids=lambda environment: ' '.join(sorted(environment)) or 'as XAPI')
def test_text_is_the_same_in_every_locale(plugin_path, environment):
    text = u'gr\xfc\xdfe \u20ac \U0001f600'
    assert call(plugin_path, u'echo', {u'text': text}, **environment) == (
        ('Success', u'{"other": null, "text": "gr\\u00fc\\u00dfe \\u20ac \\ud83d\\ude00"}'), b'')
    (status, reply), _ = call(plugin_path, u'echo', make_legacy(text=text), **environment)
    assert status == 'Success' and pickle.loads(reply.encode('ascii'))['text'] == text
    assert call(plugin_path, text, {}, **environment) == (('Failure', ['UNKNOWN_XENAPI_PLUGIN_FUNCTION', text]), b'')


# Each costs a millisecond or more of every call: 're' alone makes a short call 1.3-1.7 times as long on Python 3.
HEAVY = ['re', 'json', 'socket', 'ssl', 'threading', 'subprocess', 'pickle', 'cPickle', 'xmlrpclib', 'xmlrpc.client', 'http.client',
         'httplib', 'tempfile', 'logging', 'syslog', 'XenAPI', 'XenAPIPlugin', 'enum', 'signal', 'urllib.parse', 'urlparse']
SLIM_PLUGIN = '''\
from dom0_lib.call.dispatch import Call, dispatch
from dom0_lib.host import plugin_version
import sys
plugin_version.get_version = lambda _session_ref: sorted(sys.modules)
dispatch({'get_version': Call('dom0_lib.host.plugin_version:get_version')})
'''


@pytest.mark.parametrize('arguments', [{}, make_legacy()], ids=['plain', 'legacy'])
def test_a_short_call_imports_little(plugin_path, arguments):
    path = plugin_host.add_plugin(os.path.dirname(plugin_path), 'slim.py', SLIM_PLUGIN)
    bare = subprocess.check_output([sys.executable, '-c', 'import sys; print(" ".join(sys.modules))'], env=plugin_host.ENVIRONMENT)
    (status, reply), _ = call(path, u'get_version', arguments)
    loaded = pickle.loads(reply.encode('ascii')) if arguments else __import__('json').loads(reply)
    assert 'dom0_lib.call.wire' in loaded
    assert not [name for name in HEAVY if name in loaded and name.encode('ascii') not in bare.split()]


def test_a_neighbour_is_not_taken_for_the_standard_library(plugin_path):
    neighbour = os.path.join(os.path.dirname(plugin_path), 'json.py')
    with open(neighbour, 'w') as target:
        target.write('raise SystemError("a neighbour was imported")\n')
    try:
        assert call(plugin_path, u'parse', {u'document': u'[1, 2]'})[0] == ('Success', '[1, 2]')
    finally:
        os.unlink(neighbour)
    (_, path), _ = call(plugin_path, u'list_path')
    assert '"%s"' % os.path.dirname(plugin_path) not in path


# Signals.

@pytest.fixture
def directory():
    path = tempfile.mkdtemp(prefix='dom0-')
    yield path
    shutil.rmtree(path)


def wait_for(path, process):
    deadline = time.time() + 30
    while not os.path.exists(path):
        assert process.poll() is None and time.time() < deadline
        time.sleep(0.005)


def touch(directory, name):
    open(os.path.join(directory, name), 'w').close()


def start(path, function, directory):
    process = plugin_host.start(path, xapi_form.encode_call(function, {u'directory': compat.to_text(directory)}))
    wait_for(os.path.join(directory, 'working'), process)
    return process


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=['TERM', 'INT', 'HUP'])
def test_a_signal_cleans_up_and_kills(plugin_path, directory, number):
    process = start(plugin_path, u'work', directory)
    touch(directory, 'may finish')
    process.send_signal(number)
    assert plugin_host.finish(process) == (-number, b'', b'')
    assert os.path.exists(os.path.join(directory, 'cleaned'))


@pytest.mark.parametrize('second', [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=['TERM', 'INT', 'HUP'])
def test_a_second_signal_does_not_disturb_the_cleaning(plugin_path, directory, second):
    process = start(plugin_path, u'work', directory)
    process.send_signal(signal.SIGTERM)
    wait_for(os.path.join(directory, 'cleaning'), process)
    process.send_signal(second)
    time.sleep(0.05)
    process.send_signal(second)
    touch(directory, 'may finish')
    assert plugin_host.finish(process) == (-signal.SIGTERM, b'', b'')
    assert os.path.exists(os.path.join(directory, 'cleaned'))


def test_two_signals_at_once_are_one(plugin_path, directory):
    """Stopped, the process collects both and gets them in the same instant."""
    process = start(plugin_path, u'work', directory)
    touch(directory, 'may finish')
    process.send_signal(signal.SIGSTOP)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)
    status, output, noise = plugin_host.finish(process)
    assert status in (-signal.SIGTERM, -signal.SIGHUP, -signal.SIGINT) and (output, noise) == (b'', b'')
    assert os.path.exists(os.path.join(directory, 'cleaned'))


def test_a_shield_holds_a_signal_back(plugin_path, directory):
    process = start(plugin_path, u'publish', directory)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.poll() is None
    touch(directory, 'may finish')
    assert plugin_host.finish(process) == (-signal.SIGTERM, b'', b'')
    assert os.path.exists(os.path.join(directory, 'published'))
    assert not os.path.exists(os.path.join(directory, 'went on'))


def test_what_is_done_is_answered_in_spite_of_a_signal(plugin_path, directory):
    process = start(plugin_path, u'settle', directory)
    process.send_signal(signal.SIGTERM)
    touch(directory, 'may finish')
    wait_for(os.path.join(directory, 'settled'), process)
    process.send_signal(signal.SIGHUP)
    touch(directory, 'may answer')
    status, output, noise = plugin_host.finish(process)
    assert (status, noise) == (0, b'')
    assert xapi_form.read_reply(output) == ('Success', '"done"')
