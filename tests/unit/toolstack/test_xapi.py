# SPDX-License-Identifier: Apache-2.0
"""XAPI asked over a real socket: whose session, how long, and the errors that are made of its refusals."""

from __future__ import absolute_import, division

import errno
import os
import socket

import pytest
import XenAPI

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib.toolstack import xapi
from tests.unit.scripted_xapi import SESSION, Refusal, scripted_xapi  # noqa: F401

Fault = compat.import_xmlrpc_client().Fault


def raise_(error):
    raise error


def fail(kind, error):
    with pytest.raises(kind) as caught:
        with xapi.Errors('cannot do it'):
            raise error
    return str(caught.value)


def test_a_call_goes_in_the_session_of_the_caller(scripted_xapi):  # noqa: F811
    scripted_xapi.answer = lambda method, parameters: ['OpaqueRef:1']
    assert xapi.connect(SESSION).xenapi.host.get_all() == ['OpaqueRef:1']
    assert scripted_xapi.calls == [('host.get_all', ())] and scripted_xapi.sessions == set([SESSION])


def test_a_call_without_an_answer_ends(scripted_xapi):  # noqa: F811
    scripted_xapi.answer = lambda method, parameters: None
    with pytest.raises(errors.RetryableError, match='cannot do it: XAPI cannot be reached: timed out'):
        with xapi.Errors('cannot do it'):
            xapi.connect(SESSION, timeout_s=0.2).xenapi.host.get_all()


def test_there_is_no_xapi(tmpdir, monkeypatch):
    monkeypatch.setenv('DOM0_ROOT', str(tmpdir))
    before = sorted(os.listdir('/proc/self/fd'))
    with pytest.raises(errors.RetryableError, match='cannot do it: XAPI cannot be reached: '):
        with xapi.Errors('cannot do it'):
            xapi.connect(SESSION).xenapi.host.get_all()
    assert sorted(os.listdir('/proc/self/fd')) == before


def test_a_refusal_keeps_its_code_and_nothing_that_may_be_secret(scripted_xapi):  # noqa: F811
    scripted_xapi.answer = lambda method, parameters: raise_(Refusal('HANDLE_INVALID', 'session', 'OpaqueRef:secret'))
    with pytest.raises(errors.PluginError) as caught:
        with xapi.Errors('cannot do it'):
            xapi.connect(SESSION).xenapi.host.get_all()
    assert type(caught.value) is errors.PluginError
    assert str(caught.value) == 'cannot do it: XAPI answered HANDLE_INVALID'


def test_a_session_that_has_ended(scripted_xapi):  # noqa: F811
    scripted_xapi.answer = lambda method, parameters: raise_(Refusal('SESSION_INVALID', SESSION))
    with pytest.raises(Exception) as caught:
        xapi.connect(SESSION).xenapi.host.get_all()
    assert xapi.failure_code(caught.value) == 'SESSION_INVALID' and xapi.is_gone(caught.value)


@pytest.mark.parametrize('error, code', [
    (XenAPI.Failure(['A', 'b']), 'A'), (Fault(401, 'x'), 'SESSION_INVALID'), (Fault(400, 'x'), 'INTERNAL_ERROR'),
    (Fault(402, 'x'), 'INTERNAL_ERROR'), (ValueError('A'), None), (socket.error(errno.ECONNREFUSED, 'x'), None)])
def test_the_code_of_a_refusal(error, code):
    assert xapi.failure_code(error) == code
    assert xapi.is_failure(error) == (code is not None)


@pytest.mark.parametrize('code, is_gone', [('HANDLE_INVALID', True), ('SESSION_INVALID', True), ('VDI_IN_USE', False)])
def test_what_is_gone(code, is_gone):
    assert xapi.is_gone(XenAPI.Failure([code])) == is_gone


@pytest.mark.parametrize('error, is_interrupted', [
    (EnvironmentError(errno.EINTR, 'x'), True), (EnvironmentError(errno.EIO, 'x'), False), (ValueError(errno.EINTR), False)])
def test_what_is_interrupted(error, is_interrupted):
    assert xapi.is_interrupted(error) == is_interrupted


def test_errors_of_ours_pass_and_so_does_the_end_of_the_process():
    assert fail(errors.StorageError, errors.StorageError('full')) == 'full'
    for error in (KeyboardInterrupt(), SystemExit(3)):
        fail(type(error), error)
    assert fail(errors.RetryableError, ValueError()) == 'cannot do it: XAPI cannot be reached: ValueError'
    with xapi.Errors('cannot do it'):
        pass


def test_a_session_of_ones_own_at_another_xapi():
    client, requests = compat.import_xmlrpc_client(), []

    def exchange(request):
        requests.append(client.loads(request))
        return client.dumps(({'Status': 'Success', 'Value': 'OpaqueRef:new'},), methodresponse=True).encode('utf-8')
    session = xapi.log_in(exchange, 'root', 'secret')
    assert session.xenapi.VM.get_by_uuid('u') == 'OpaqueRef:new'
    assert requests[0][1] == 'session.login_with_password' and requests[0][0][:2] == ('root', 'secret')
    assert requests[1] == (('OpaqueRef:new', 'u'), 'VM.get_by_uuid')
