# SPDX-License-Identifier: Apache-2.0
"""Every call of every plug-in by its table: wrong arguments are refused by name before anything happens, and recorded exchanges
repeat to the byte. The rows are in calls.py; the effect of right arguments is tested with the call's own module."""

from __future__ import absolute_import, division

import errno
import importlib
import json
import os
import pickle
import runpy
import shutil
import socket
import tempfile

import pytest

from dom0_lib import compat
from dom0_lib.call import binding
from dom0_lib.call import call_names
from dom0_lib.call import dispatch
from dom0_lib.call import pickles
from dom0_lib.call import wire
from tests.contract import calls
from tests.contract import captures
from tests.contract import plugin_host
from tests.contract import xapi_form

TABLES = dict((name, runpy.run_path(os.path.join(plugin_host.PLUGINS, name))['CALLS'])
              for name in sorted(os.listdir(plugin_host.PLUGINS)) if name.endswith('.py'))
ALL_CALLS = sorted((name, function) for name in TABLES for function in TABLES[name])
LEGACY_CALLS = [pair for pair in ALL_CALLS if not TABLES[pair[0]][pair[1]].is_plain]
FEWEST_WRONG_VALUES = 3


def look_up(name, function, argument):
    """(right value, wrong values) of an argument."""
    return calls.CALLS.get((name, function), {}).get(argument) or calls.ARGUMENTS.get(argument, (None, []))


def list_wrong(form):
    """(plug-in, function, row, wrong value) for all that can be sent in this form."""
    return [pytest.param(name, function, row, value, id='%s %s %s %d' % (name, function, row.name, number))
            for name, function in (LEGACY_CALLS if form == 'legacy' else ALL_CALLS) for row in TABLES[name][function].rows
            for number, value in enumerate(look_up(name, function, row.name)[1])
            if form == 'legacy' or row.kind.structured or isinstance(value, compat.text_type)]


class Host(object):
    """A dom0 under DOM0_ROOT with one SR, a listening port, and a log."""

    def __init__(self, root):
        self.root = root
        self.sr = root + calls.SR_PATH
        os.makedirs(self.sr)
        os.mkdir(os.path.join(root, 'dev'))
        with open(os.path.join(self.sr, calls.UUID_B + '.vhd'), 'w') as target:
            target.write('a VDI')
        self._port = socket.socket()
        self._port.bind(('127.0.0.1', 0))
        self._port.listen(5)
        self._port.setblocking(False)
        self._log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._log.bind(os.path.join(root, 'dev', 'log'))
        self._log.setblocking(False)
        self._before = self._list_files()

    def close(self):
        self._port.close()
        self._log.close()
        shutil.rmtree(self.root)

    @property
    def endpoint(self):
        return u'http://127.0.0.1:%d' % self._port.getsockname()[1]

    def deny(self, patterns):
        os.mkdir(os.path.join(self.root, 'etc'))
        with open(os.path.join(self.root, 'etc', 'dom0-plugins.conf'), 'w') as target:
            target.write('[policy]\ndeny = %s\n' % patterns)
        self._before = self._list_files()

    def _list_files(self):
        return sorted((parent, name, os.stat(os.path.join(parent, name)).st_mtime)
                      for parent, directories, files in os.walk(self.root) for name in directories + files)

    def check_untouched(self):
        """No file has appeared, gone or changed, and the image service has had no request."""
        assert self._list_files() == self._before
        with pytest.raises(socket.error) as caught:
            self._port.accept()
        assert caught.value.errno == errno.EAGAIN

    def read_log(self):
        lines = []
        try:
            while True:
                lines.append(self._log.recv(10000).decode('utf-8'))
        except socket.error:
            return lines


@pytest.fixture
def host(monkeypatch):
    simulated = Host(tempfile.mkdtemp(prefix='dom0-'))
    monkeypatch.setenv('DOM0_ROOT', simulated.root)
    yield simulated
    simulated.close()


def make_right(host, name, function):
    """Right values for all arguments but aliases, by wire name."""
    values = dict((row.name, look_up(name, function, row.name)[0])
                  for row in TABLES[name][function].rows if row.alias_of is None)
    return dict((argument, host.endpoint if value == calls.ENDPOINT else value) for argument, value in values.items())


def replace(values, row, value):
    """`values` with this row's argument set; if the row is an alias, the argument that it stands for is removed."""
    values = dict((argument, other) for argument, other in values.items() if argument != row.alias_of)
    values[row.name] = value
    return values


def make_legacy(*positional, **keywords):
    return {u'params': pickle.dumps({'args': positional, 'kwargs': keywords}, 0).decode('latin-1')}


def make_plain(name, function, values):
    rows = dict((row.name, row) for row in TABLES[name][function].rows)
    return dict((compat.to_text(argument), json.dumps(value) if rows[argument].kind.structured else compat.to_text(value))
                for argument, value in values.items())


def answer_data(name, request_data):
    return dispatch.answer(TABLES[name], request_data, os.path.splitext(name)[0])


def answer(name, function, arguments):
    return xapi_form.read_reply(answer_data(name, xapi_form.encode_call(compat.to_text(function), arguments)))


def check_refused(host, reply, function, argument):
    status, details = reply
    assert status == 'Failure' and details[:3] == ['XENAPI_PLUGIN_FAILURE', function, 'ArgumentError'] and len(details) == 4
    message = details[3]
    assert message.startswith(u"argument '%s': " % argument)
    assert all(u' ' <= c <= u'~' for c in message)
    host.check_untouched()
    lines = host.read_log()
    assert len(lines) == 1 and message in lines[0]
    for line in lines + details:
        assert calls.SECRET not in line and xapi_form.SESSION_REF not in line


def test_policies_know_every_call():
    assert call_names.CALLS == tuple('%s.%s' % (name[:-3], function) for name, function in ALL_CALLS)


def test_every_call_has_its_rows():
    assert sorted(calls.CALLS) == ALL_CALLS
    for name, function in ALL_CALLS:
        for row in TABLES[name][function].rows:
            right, wrong = look_up(name, function, row.name)
            assert len(wrong) >= FEWEST_WRONG_VALUES, '%s of %s %s' % (row.name, name, function)
            assert binding.bind_legacy([binding.Arg('x', row.kind)], (), {u'x': right})


@pytest.mark.parametrize('name, function', ALL_CALLS)
def test_a_target_takes_what_its_row_declares(name, function):
    call = TABLES[name][function]
    module, _, target = call.target.partition(':')
    code = getattr(importlib.import_module(module), target).__code__
    parameters = code.co_varnames[:code.co_argcount]
    assert parameters[0].lstrip('_') == 'session_ref' and sorted(parameters[1:]) == sorted(set(row.into for row in call.rows))


@pytest.mark.parametrize('name, function, row, value', list_wrong('legacy'))
def test_a_wrong_value_in_a_legacy_call(host, name, function, row, value):
    right = make_right(host, name, function)
    check_refused(host, answer(name, function, make_legacy(**replace(right, row, value))), function, row.name)
    check_refused(host, answer(name, function, make_legacy(**replace(dict(right, other=1), row, value))), function, row.name)
    if row.alias_of is None:
        order = [other.name for other in TABLES[name][function].rows if other.alias_of is None]
        positional = [value if argument == row.name else right[argument] for argument in order]
        check_refused(host, answer(name, function, make_legacy(*positional)), function, row.name)


@pytest.mark.parametrize('name, function, row, value', list_wrong('plain'))
def test_a_wrong_value_in_a_plain_call(host, name, function, row, value):
    arguments = make_plain(name, function, replace(make_right(host, name, function), row, value))
    check_refused(host, answer(name, function, arguments), function, row.name)


@pytest.mark.parametrize('name, function, row', [
    pytest.param(name, function, row, id='%s %s %s' % (name, function, row.name))
    for name, function in ALL_CALLS for row in TABLES[name][function].rows if row.kind.structured])
def test_text_that_is_no_json_in_a_plain_call(host, name, function, row):
    arguments = make_plain(name, function, make_right(host, name, function))
    for text in (u'', u'{', u"['x']", calls.SECRET if row.kind.secret else u'x'):
        arguments[row.name] = text
        check_refused(host, answer(name, function, arguments), function, row.name)


@pytest.mark.parametrize('name, function, row', [
    pytest.param(name, function, row, id='%s %s %s' % (name, function, row.name))
    for name, function in ALL_CALLS for row in TABLES[name][function].rows if row.required and row.alias_of is None])
def test_a_required_argument_that_is_missing(host, name, function, row):
    right = make_right(host, name, function)
    del right[row.name]
    check_refused(host, answer(name, function, make_plain(name, function, right)), function, row.name)
    if (name, function) in LEGACY_CALLS:
        check_refused(host, answer(name, function, make_legacy(**right)), function, row.name)
        check_refused(host, answer(name, function, make_legacy(**dict(right, **{row.name: None}))), function, row.name)


@pytest.mark.parametrize('name, function', sorted(set(ALL_CALLS) - set(LEGACY_CALLS)))
def test_a_call_that_has_no_legacy_form(host, name, function):
    reply = answer(name, function, make_legacy(**make_right(host, name, function)))
    check_refused(host, reply, function, 'params')


@pytest.mark.parametrize('name, function', [pair for pair in ALL_CALLS if not TABLES[pair[0]][pair[1]].ignores_unknown])
def test_an_argument_that_no_call_takes(host, name, function):
    arguments = make_plain(name, function, make_right(host, name, function))
    for unknown in (u'other', u'', u'Image_id', u'session_ref', u'sr-path'):
        check_refused(host, answer(name, function, dict(arguments, **{str(unknown): u'x'})), function, unknown)


@pytest.mark.parametrize('name, function, row', [
    pytest.param(name, function, row, id='%s %s %s' % (name, function, row.name))
    for name, function in ALL_CALLS for row in TABLES[name][function].rows if row.alias_of is not None])
def test_an_alias_beside_the_argument_that_it_stands_for(host, name, function, row):
    values = make_right(host, name, function)
    values[row.name] = look_up(name, function, row.name)[0]
    check_refused(host, answer(name, function, make_plain(name, function, values)), function, row.name)
    if (name, function) in LEGACY_CALLS:
        check_refused(host, answer(name, function, make_legacy(**values)), function, row.name)


def read_exchanges():
    return [pytest.param(name, request, reply, id='%s, %s' % (name, case)) for case, name, request, reply in calls.EXCHANGES]


@pytest.mark.parametrize('name, request_data, reply', read_exchanges())
def test_a_recorded_exchange_repeats_to_the_byte(host, name, request_data, reply):
    assert answer_data(name, request_data) == reply


@pytest.mark.parametrize('name', sorted(TABLES))
def test_every_plugin_has_a_recorded_exchange(name):
    assert [exchange for exchange in calls.EXCHANGES if exchange[1] == name]


@pytest.fixture(scope='module')
def plugin_dir():
    directory = tempfile.mkdtemp(prefix='dom0-')
    plugin_host.lay_out(directory)
    yield directory
    shutil.rmtree(directory)


@pytest.mark.parametrize('name, request_data, reply', read_exchanges())
def test_a_process_repeats_a_recorded_exchange(plugin_dir, host, name, request_data, reply):
    outcome = plugin_host.run(os.path.join(plugin_dir, name), request_data, DOM0_ROOT=host.root)
    assert outcome == (0, reply, b'')


@pytest.mark.parametrize('name, function', [pair for pair in LEGACY_CALLS if TABLES[pair[0]][pair[1]].rows])
def test_a_process_refuses_a_wrong_value(plugin_dir, host, name, function):
    for row in TABLES[name][function].rows:
        values = replace(make_right(host, name, function), row, look_up(name, function, row.name)[1][0])
        request = xapi_form.encode_call(compat.to_text(function), make_legacy(**values))
        status, output, noise = plugin_host.run(os.path.join(plugin_dir, name), request, DOM0_ROOT=host.root)
        assert (status, noise) == (0, b'')
        check_refused(host, xapi_form.read_reply(output), function, row.name)


@pytest.mark.parametrize('name, function', ALL_CALLS)
def test_a_process_denies_what_the_settings_deny(plugin_dir, host, name, function):
    plugin_name = os.path.splitext(name)[0]
    host.deny('dom0_plugin_version.*, %s.*' % plugin_name)
    forms = [make_plain(name, function, make_right(host, name, function))]
    if (name, function) in LEGACY_CALLS:
        forms.append(make_legacy(**make_right(host, name, function)))
    for arguments in forms:
        request = xapi_form.encode_call(compat.to_text(function), arguments)
        status, output, noise = plugin_host.run(os.path.join(plugin_dir, name), request, DOM0_ROOT=host.root)
        assert (status, noise) == (0, b'')
        assert xapi_form.read_reply(output) == ('Failure', ['XENAPI_PLUGIN_FAILURE', function, 'Denied', u"%s.%s is denied by '%s.*' in "
                                                            u'the settings of this host' % (plugin_name, function, plugin_name)])
        host.check_untouched()


@pytest.mark.parametrize('body, expected', captures.read('python27_client_calls.txt'))
def test_what_a_python27_client_sent_arrives(body, expected):
    """From XenAPI's POST through XAPI into the plug-in's argument: nothing may change on the way."""
    (session_ref, _, name, function, arguments), method = compat.import_xmlrpc_client().loads(body)
    assert method == 'host.call_plugin'
    arguments = dict((compat.to_text(key), compat.to_text(value)) for key, value in arguments.items())
    request = wire.decode_request(xapi_form.encode_call(compat.to_text(function), arguments, compat.to_text(session_ref)))
    assert (request.function, request.session_ref) == (function, session_ref)
    assert (name, function, pickles.loads(request.arguments[u'params'])) == expected


def test_a_download_by_nova_is_taken():
    """The call that the project is for, as Python 2.7 sent it, binds to the plug-in's table."""
    body, (name, function, call) = captures.read('python27_client_calls.txt')[1].values
    assert (name, function) == ('glance.py', 'download_vhd2') and call[u'kwargs'][u'image_id'].encode('ascii') in body
    values = binding.bind_legacy(TABLES[name][function].rows, call[u'args'], call[u'kwargs'])
    assert values['sr_path'] == calls.SR_PATH and values['api_version'] == 2 and values['endpoint'] == u'http://10.0.0.5:9292'
    assert values['uuid_stack'] == [calls.UUID_A, calls.UUID_B]
