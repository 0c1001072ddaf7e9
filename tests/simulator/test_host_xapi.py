# SPDX-License-Identifier: Apache-2.0
"""The simulated XAPI, asked by the real client: sessions, roles, typing, tasks, several hosts, both transports."""

import json
import os
import socket
import subprocess
import threading
import time
import urllib.request
import xmlrpc.client

import pytest
import XenAPI

from tests.harness.pool import Pool

HOUR_S = 3600

ECHO = r'''#!python
import os, sys
sys.stdout.write("<methodResponse><params><param><value><struct><member><name>Status</name><value>Success</value></member>"
                 "<member><name>Value</name><value>" + %s + "</value></member></struct></value></param></params></methodResponse>")
'''
SESSION_OF_CALL = ECHO % 'sys.argv[1].partition("<param><value>")[2].partition("</value>")[0]'
ROOT_OF_CALL = ECHO % 'os.environ["DOM0_ROOT"]'
CANCELLED = ('#!/bin/sh\necho "<methodResponse><params><param><value><struct><member><name>Status</name><value>Failure</value>'
             '</member><member><name>ErrorDescription</name><value><array><data><value>TASK_CANCELLED</value><value>OpaqueRef:1'
             '</value></data></array></value></member></struct></value></param></params></methodResponse>"\n')
# Answers when the test has made the file.
WAITING = """#!/bin/sh
while [ ! -e "$DOM0_ROOT/tmp/go" ]; do sleep 0.02; done
echo "<methodResponse><params><param><value><struct><member><name>Status</name><value>Success</value></member>
<member><name>Value</name><value>waited</value></member></struct></value></param></params></methodResponse>"
"""


@pytest.fixture
def pool():
    with Pool(plugins=False) as pool:
        yield pool


@pytest.fixture
def pool_of_two():
    with Pool(hosts=2, plugins=False) as pool:
        for host in pool.hosts:
            host.dom0.add_plugin("session", SESSION_OF_CALL)
            host.dom0.add_plugin("root", ROOT_OF_CALL)
        yield pool


@pytest.fixture
def session(pool):
    return pool.login()


def details_of(call, *arguments):
    with pytest.raises(XenAPI.Failure) as caught:
        call(*arguments)
    return caught.value.details


def wait_for(condition, timeout_s=10):
    deadline = time.monotonic() + timeout_s
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < deadline, "nothing after %d s" % timeout_s
        time.sleep(0.02)


def open_socket_session(host, session_ref):
    """A client on the host's Unix socket, as a plug-in there has one."""
    uri = "http://%s/" % host.dom0.locate("/var/xapi/xapi").replace("/", "_")
    session = XenAPI.Session(uri, transport=XenAPI.XenAPI.UDSTransport())
    session._session = session_ref
    return session


def ask(pool, method, *params):
    """One request by hand: the answer's struct."""
    return getattr(xmlrpc.client.ServerProxy(pool.url, allow_none=True), method)(*params)


# Sessions

def test_login_and_logout(pool):
    session = pool.login()
    ref = session.handle
    assert session.xenapi.session.get_this_host(ref) == pool.hosts[0].ref
    assert len(session.xenapi.session.get_uuid(ref)) == 36
    assert session.xenapi.session.get_is_local_superuser(ref) is True
    assert session.xenapi.session.get_auth_user_sid(ref) == ""
    session.xenapi.session.logout()
    assert ask(pool, "pool.get_all", ref) == {"Status": "Failure", "ErrorDescription": ["SESSION_INVALID", ref]}


@pytest.mark.parametrize("name, password", [("root", "wrong"), ("nobody", "harness"), ("", "")])
def test_wrong_password(pool, name, password):
    session = XenAPI.Session(pool.url)
    details = details_of(session.login_with_password, name, password, "2.1", "test")
    assert details == ["SESSION_AUTHENTICATION_FAILED", name, "Authentication failure"]


def test_login_takes_two_to_four_arguments(pool):
    for extra in [(), ("2.1",), ("2.1", "os-xenapi")]:
        assert ask(pool, "session.login_with_password", "root", "harness", *extra)["Status"] == "Success"
    assert ask(pool, "session.login_with_password", "root")["ErrorDescription"] == [
        "MESSAGE_PARAMETER_COUNT_MISMATCH", "session.login_with_password", "2", "1"]


def test_client_learns_the_api_version(session):
    assert session.API_version == "2.21"


def test_stopped_xapi_comes_back_without_sessions_and_tasks(pool, session):
    task = session.xenapi.task.create("label", "")
    url = pool.url
    pool.stop_xapi()
    with pytest.raises(OSError):
        session.xenapi.pool.get_all()
    pool.start_xapi()
    assert pool.url == url
    assert ask(pool, "pool.get_all", session.handle)["ErrorDescription"] == ["SESSION_INVALID", session.handle]
    assert details_of(pool.login().xenapi.task.get_record, task) == ["HANDLE_INVALID", "task", task]


# Roles

def test_operator_may_not_call_plugins_on_hosts_but_on_hosts_of_vms(pool):
    pool.hosts[0].dom0.add_plugin("session", SESSION_OF_CALL)
    vm = pool.add_vm("guest")
    session = pool.login(pool.operator_username, pool.operator_password)
    details = details_of(session.xenapi.host.call_plugin, pool.hosts[0].ref, "session", "fn", {})
    assert details == ["RBAC_PERMISSION_DENIED", "host.call_plugin",
                       "No permission in user session. (Roles with this permission: pool-admin)"]
    assert session.xenapi.VM.call_host_plugin(vm, "session", "fn", {}) == session.handle


def test_session_of_the_operator_tells_who_it_is(pool):
    session = pool.login(pool.operator_username, pool.operator_password)
    assert session.xenapi.session.get_is_local_superuser(session.handle) is False
    assert session.xenapi.session.get_auth_user_sid(session.handle).startswith("S-1-5-21-")
    permissions = session.xenapi.session.get_rbac_permissions(session.handle)
    assert "vm-operator" in permissions and "vm.call_host_plugin" in permissions
    assert "host.call_plugin" not in permissions and "sr.scan" not in permissions


def test_vm_must_run_for_its_hosts_plugins(pool, session):
    vm = pool.add_vm("guest", power_state="Halted")
    assert details_of(session.xenapi.VM.call_host_plugin, vm, "session", "fn", {}) == [
        "VM_BAD_POWER_STATE", vm, "running", "halted"]


# Methods, their arguments and objects

@pytest.mark.parametrize("arguments, found", [
    ({"k": 5}, "I(5)"),
    ({"k": True}, "B(true)"),
    ({"k": None}, "N"),
    ({"k": 0.5}, "F(0.5)"),
    ({"k": ["a"]}, "[S(a)]"),
    ({"k": {"a": "b"}}, "{a:S(b)}"),
    ({"k": xmlrpc.client.Binary(b"raw")}, "B64(raw)"),
    ({"fine": "x", "k": 30}, "I(30)"),
], ids=["int", "bool", "nil", "double", "array", "struct", "base64", "int among text"])
def test_plugin_arguments_that_are_no_text_are_refused(pool, session, arguments, found):
    details = details_of(session.xenapi.host.call_plugin, pool.hosts[0].ref, "absent", "fn", arguments)
    assert details == ["INTERNAL_ERROR", "Failure(\"Expected string, got '%s'\")" % found]


@pytest.mark.parametrize("arguments", [["k", "v"], "text", 5, None], ids=repr)
def test_plugin_arguments_must_be_a_map(pool, session, arguments):
    details = details_of(session.xenapi.host.call_plugin, pool.hosts[0].ref, "absent", "fn", arguments)
    assert details[0] == "INTERNAL_ERROR" and "map" in details[1]


def test_errors_in_the_order_in_which_xapi_finds_them(pool):
    pool.login()
    assert ask(pool, "VM.fly", "s")["ErrorDescription"] == ["MESSAGE_METHOD_UNKNOWN", "VM.fly"]
    assert ask(pool, "host.call_plugin", "no session", "host")["ErrorDescription"] == [
        "MESSAGE_PARAMETER_COUNT_MISMATCH", "host.call_plugin", "4", "1"]
    assert ask(pool, "host.call_plugin", "no session", "host", "p", "f", {"k": 1})["ErrorDescription"][0] == "INTERNAL_ERROR"
    assert ask(pool, "host.call_plugin", "no session", "host", "p", "f", {})["ErrorDescription"] == [
        "SESSION_INVALID", "no session"]


def test_objects_that_are_not_there(pool, session):
    assert details_of(session.xenapi.SR.get_record, "OpaqueRef:x") == ["HANDLE_INVALID", "SR", "OpaqueRef:x"]
    assert details_of(session.xenapi.VDI.get_by_uuid, "abc") == ["UUID_INVALID", "VDI", "abc"]
    assert details_of(session.xenapi.host.call_plugin, "OpaqueRef:x", "p", "f", {}) == ["HANDLE_INVALID", "host", "OpaqueRef:x"]


def test_integers_travel_as_text(session):
    host, = session.xenapi.host.get_all()
    assert session.xenapi.host.get_API_version_major(host) == "2"
    metrics = session.xenapi.host.get_metrics(host)
    assert int(session.xenapi.host_metrics.get_memory_total(metrics)) > 1 << 30


def test_records_point_to_each_other(pool, session):
    sr = session.xenapi.SR.get_by_uuid(pool.srs[0].uuid)
    pbd, = session.xenapi.SR.get_PBDs(sr)
    record = session.xenapi.PBD.get_record(pbd)
    assert (record["SR"], record["host"], record["currently_attached"]) == (sr, pool.hosts[0].ref, True)
    assert session.xenapi.host.get_by_uuid(pool.hosts[0].uuid) == pool.hosts[0].ref
    pool_ref, = session.xenapi.pool.get_all()
    assert session.xenapi.pool.get_master(pool_ref) == pool.hosts[0].ref
    assert session.xenapi.pool.get_default_SR(pool_ref) == sr


def test_query_for_the_control_domain_as_os_xenapi_asks_it(pool, session):
    here = session.xenapi.session.get_this_host(session.handle)
    query = 'field "is_control_domain" = "true" and field "resident_on" = "%s"' % here
    assert list(session.xenapi.VM.get_all_records_where(query)) == [pool.hosts[0].control_domain_ref]


def test_fields_are_written_and_maps_changed(pool, session):
    vm = pool.add_vm("guest")
    session.xenapi.VM.set_name_label(vm, "renamed")
    session.xenapi.VM.add_to_other_config(vm, "key", "value")
    assert details_of(session.xenapi.VM.add_to_other_config, vm, "key", "again")[0] == "MAP_DUPLICATE_KEY"
    session.xenapi.VM.remove_from_other_config(vm, "key")
    session.xenapi.VM.remove_from_other_config(vm, "key")
    record = session.xenapi.VM.get_record(vm)
    assert (record["name_label"], record["other_config"]) == ("renamed", {})
    assert details_of(session.xenapi.VM.set_resident_on, vm, "x") == ["MESSAGE_METHOD_UNKNOWN", "VM.set_resident_on"]
    operator = pool.login(pool.operator_username, pool.operator_password)
    assert details_of(operator.xenapi.VM.set_name_label, vm, "x")[0] == "RBAC_PERMISSION_DENIED"


# Tasks

def test_async_call_gives_a_task_that_ends_with_the_result(pool, session):
    pool.hosts[0].dom0.add_plugin("waiting", WAITING)
    task = session.xenapi.Async.host.call_plugin(pool.hosts[0].ref, "waiting", "fn", {})
    record = session.xenapi.task.get_record(task)
    assert (record["name_label"], record["status"], record["progress"]) == ("Async.host.call_plugin", "pending", 0.0)
    assert record["finished"].value == "19700101T00:00:00Z"
    open(pool.hosts[0].dom0.locate("/tmp/go"), "w").close()
    wait_for(lambda: session.xenapi.task.get_status(task) == "success")
    record = session.xenapi.task.get_record(task)
    assert (record["result"], record["progress"]) == ("<value>waited</value>", 1.0)
    assert record["finished"].value > record["created"].value[:8]


def test_async_call_that_fails(pool, session):
    task = session.xenapi.Async.host.call_plugin(pool.hosts[0].ref, "absent", "fn", {})
    wait_for(lambda: session.xenapi.task.get_status(task) == "failure")
    assert session.xenapi.task.get_error_info(task) == ["XENAPI_MISSING_PLUGIN", "absent"]


def test_task_cancelled_failure_makes_the_async_task_cancelled(pool_of_two):
    session = pool_of_two.login()
    for host in pool_of_two.hosts:
        host.dom0.add_plugin("cancelled", CANCELLED)
        task = session.xenapi.Async.host.call_plugin(host.ref, "cancelled", "fn", {})
        wait_for(lambda task=task: session.xenapi.task.get_status(task) == "cancelled")
        assert session.xenapi.task.get_error_info(task) == ["TASK_CANCELLED", "OpaqueRef:1"]


def test_no_async_form_of_what_has_none(pool, session):
    with pytest.raises(xmlrpc.client.Fault) as caught:
        session.xenapi.Async.host.get_record(pool.hosts[0].ref)
    assert caught.value.faultString == "No async mode for this operation (rpc: host.get_record)"


def test_cancel_only_notes_the_wish(pool, session):
    pool.hosts[0].dom0.add_plugin("waiting", WAITING)
    own = session.xenapi.task.create("transfer", "of an image")
    call = session.xenapi.Async.host.call_plugin(pool.hosts[0].ref, "waiting", "fn", {"task": own})
    for task in (own, call):
        session.xenapi.task.cancel(task)
        assert list(session.xenapi.task.get_current_operations(task).values()) == ["cancel"]
        assert session.xenapi.task.get_status(task) == "pending"
        assert session.xenapi.task.get_allowed_operations(task) == []
    open(pool.hosts[0].dom0.locate("/tmp/go"), "w").close()
    wait_for(lambda: session.xenapi.task.get_status(call) == "success")


def test_progress_and_result_of_an_own_task(session):
    task = session.xenapi.task.create("label", "description")
    session.xenapi.task.set_progress(task, 0.25)
    session.xenapi.task.set_result(task, "<value>r</value>")
    session.xenapi.task.set_error_info(task, ["A", "b"])
    session.xenapi.task.set_status(task, "failure")
    record = session.xenapi.task.get_record(task)
    assert [record[name] for name in ("name_label", "name_description", "progress", "result", "error_info", "status")] == [
        "label", "description", 0.25, "<value>r</value>", ["A", "b"], "failure"]
    assert details_of(session.xenapi.task.set_status, task, "done")[0] == "INTERNAL_ERROR"
    assert details_of(session.xenapi.task.set_progress, task, "half")[0] == "INTERNAL_ERROR"


def test_task_whose_status_was_set_dies_at_the_next_collection(pool, session):
    pending, done = [session.xenapi.task.create("label", "") for _ in range(2)]
    session.xenapi.task.set_status(done, "success")
    assert session.xenapi.task.get_finished(done).value == "19700101T00:00:00Z"
    assert pool.gc_now() == [done]
    assert details_of(session.xenapi.task.get_status, done) == ["HANDLE_INVALID", "task", done]
    assert session.xenapi.task.get_status(pending) == "pending"


def test_finished_task_lives_for_65_minutes(pool, session):
    task = session.xenapi.Async.host.call_plugin(pool.hosts[0].ref, "absent", "fn", {})
    wait_for(lambda: session.xenapi.task.get_status(task) == "failure")
    pool.clock.advance(HOUR_S)
    assert pool.gc_now() == []
    pool.clock.advance(HOUR_S / 10)
    assert pool.gc_now() == [task]


def test_pending_task_of_a_day_lives_while_its_progress_moves(pool, session):
    task = session.xenapi.task.create("long transfer", "")
    pool.clock.advance(25 * HOUR_S)
    for progress in (0.1, 0.2):
        session.xenapi.task.set_progress(task, progress)
        assert pool.gc_now() == []
    assert pool.gc_now() == [task]


def test_destroyed_while_pending_goes_when_it_ends(pool, session):
    pool.hosts[0].dom0.add_plugin("waiting", WAITING)
    task = session.xenapi.Async.host.call_plugin(pool.hosts[0].ref, "waiting", "fn", {})
    session.xenapi.task.destroy(task)
    assert session.xenapi.task.get_current_operations(task) == {"task": "destroy"}
    assert pool.gc_now() == []
    open(pool.hosts[0].dom0.locate("/tmp/go"), "w").close()
    wait_for(lambda: session.xenapi.task.get_status(task) == "success")
    assert pool.gc_now() == [task]


def test_tasks_of_others_need_a_role(pool, session):
    operator = pool.login(pool.operator_username, pool.operator_password)
    same_user = pool.login(pool.operator_username, pool.operator_password)
    task = operator.xenapi.task.create("mine", "")
    same_user.xenapi.task.set_progress(task, 0.5)
    session.xenapi.task.set_progress(task, 0.75)
    foreign = session.xenapi.task.create("root's", "")
    assert details_of(operator.xenapi.task.set_progress, foreign, 0.5)[:2] == ["RBAC_PERMISSION_DENIED", "task.destroy/any"]
    assert details_of(operator.xenapi.task.cancel, foreign)[0] == "RBAC_PERMISSION_DENIED"


# A pool

def test_member_sends_clients_to_the_coordinator(pool_of_two):
    session = XenAPI.Session(pool_of_two.hosts[1].url)
    details = details_of(session.login_with_password, "root", "harness")
    assert details == ["HOST_IS_SLAVE", pool_of_two.hosts[0].address]
    XenAPI.Session("http://%s" % details[1]).login_with_password("root", "harness")


def test_coordinators_plugin_gets_the_callers_session_a_members_a_new_one(pool_of_two):
    session = pool_of_two.login()
    refs = [session.xenapi.host.call_plugin(host.ref, "session", "fn", {}) for host in pool_of_two.hosts]
    assert refs[0] == session.handle
    assert refs[1].startswith("OpaqueRef:") and refs[1] != session.handle
    # It went with the call.
    assert ask(pool_of_two, "pool.get_all", refs[1])["ErrorDescription"] == ["SESSION_INVALID", refs[1]]


def test_member_cannot_tell_the_operator_from_root(pool_of_two):
    member = pool_of_two.hosts[1]
    member.dom0.add_plugin("who", (
        "#!python\nimport os, sys, XenAPI\n"
        "session = XenAPI.Session('http://%s/' % (os.environ['DOM0_ROOT'] + '/var/lib/xcp/xapi').replace('/', '_'),\n"
        "                         transport=XenAPI.XenAPI.UDSTransport())\n"
        "session._session = sys.argv[1].partition('<param><value>')[2].partition('</value>')[0]\n"
        "who = '%s %r' % (session.xenapi.session.get_is_local_superuser(session._session),\n"
        "                 session.xenapi.session.get_auth_user_sid(session._session))\n")
        + (ECHO % "who").partition("\n")[2])
    vm = pool_of_two.add_vm("guest", host=1)
    operator = pool_of_two.login(pool_of_two.operator_username, pool_of_two.operator_password)
    assert operator.xenapi.VM.call_host_plugin(vm, "who", "fn", {}) == "True ''"


def test_each_host_has_its_own_root_uuid_address_and_pif(pool_of_two):
    session = pool_of_two.login()
    for host in pool_of_two.hosts:
        assert session.xenapi.host.call_plugin(host.ref, "root", "fn", {}) == host.root
        pif, = session.xenapi.PIF.get_all_records_where('field "IP"="%s"' % host.ip).values()
        assert pif["host"] == host.ref
        with open(os.path.join(host.root, "etc/xensource-inventory")) as inventory:
            assert "INSTALLATION_UUID='%s'\n" % host.uuid in inventory.readlines()
    first, second = pool_of_two.hosts
    assert first.uuid != second.uuid and first.ip != second.ip


# Transports

def test_socket_in_dom0_serves_the_same_calls(pool_of_two):
    session = pool_of_two.login()
    for host in pool_of_two.hosts:
        local = open_socket_session(host, session.handle)
        assert sorted(local.xenapi.host.get_all()) == sorted(item.ref for item in pool_of_two.hosts)
        # A member passes the call on to the coordinator, and so the plug-in gets the caller's session there.
        assert local.xenapi.host.call_plugin(pool_of_two.hosts[0].ref, "session", "fn", {}) == session.handle


def test_socket_of_a_member_does_not_log_in(pool_of_two):
    first, second = [open_socket_session(host, None) for host in pool_of_two.hosts]
    first.login_with_password("root", "harness")
    assert details_of(second.login_with_password, "root", "harness")[0] == "HOST_IS_SLAVE"


def test_client_of_a_dom0_python_on_the_socket(pool, dom0_python):
    code = ("import sys, XenAPI; transport = getattr(XenAPI, 'XenAPI', XenAPI).UDSTransport(); "
            "session = XenAPI.Session('http://%s/' % sys.argv[1].replace('/', '_'), transport=transport); "
            "session.login_with_password('root', 'harness'); print(session.xenapi.host.get_all()[0])")
    output = subprocess.check_output([dom0_python, "-c", code, pool.hosts[0].dom0.socket_path], timeout=60)
    assert output.decode("ascii").strip() == pool.hosts[0].ref


def test_one_connection_serves_many_requests(pool, session):
    ref, = session.xenapi.pool.get_all()
    # The client keeps its connection; xapi may not close it between requests.
    connection = session("transport")._connection[1]
    local = connection.sock.getsockname()
    for _ in range(20):
        session.xenapi.pool.get_record(ref)
    assert session("transport")._connection[1].sock.getsockname() == local


def test_json_rpc_of_a_shell(pool):
    def call(method, *params):
        request = json.dumps({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}).encode("ascii")
        with urllib.request.urlopen(pool.url + "/jsonrpc", request) as response:
            return json.load(response)
    session_ref = call("session.login_with_password", "root", "harness")["result"]
    assert call("host.get_all", session_ref) == {"jsonrpc": "2.0", "id": 7, "result": [pool.hosts[0].ref]}
    assert call("host.get_all", "x")["error"] == {"code": 1, "message": "SESSION_INVALID", "data": ["x"]}


@pytest.mark.parametrize("request_text", [
    b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: 400000\r\n\r\n",
    b"POST /jsonrpc HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
])
def test_request_that_is_none_is_status_500(pool, request_text):
    with socket.create_connection((pool.hosts[0].ip, int(pool.url.rpartition(":")[2])), timeout=10) as client:
        client.sendall(request_text)
        assert client.recv(100).startswith(b"HTTP/1.1 500 ")


def test_thirty_clients_at_once(pool):
    results = []

    def work():
        session = pool.login()
        results.append(len(session.xenapi.host.get_all_records()))
        session.xenapi.session.logout()
    threads = [threading.Thread(target=work) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == [1] * 30


# Faults

def test_armed_failures_come_so_many_times(pool, session):
    pool.faults.fail("host.get_all", "HOST_BUSY", "x", times=2)
    for _ in range(2):
        assert details_of(session.xenapi.host.get_all) == ["HOST_BUSY", "x"]
    assert session.xenapi.host.get_all() == [pool.hosts[0].ref]
    assert pool.faults.calls["host.get_all"] == 3


def test_xapi_dies_in_the_middle_of_a_call(pool, session):
    pool.faults.die("host.get_all")
    with pytest.raises((OSError, xmlrpc.client.Error)):
        session.xenapi.host.get_all()
    with pytest.raises(OSError):
        pool.login()
    pool.start_xapi()
    assert pool.login().xenapi.host.get_all() == [pool.hosts[0].ref]


def test_xapi_dies_in_an_async_call(pool, session):
    pool.faults.die("host.call_plugin")
    session.xenapi.Async.host.call_plugin(pool.hosts[0].ref, "absent", "fn", {})
    wait_for(lambda: not _answers(pool))
    pool.start_xapi()
    assert pool.login().xenapi.task.get_all() == []


def _answers(pool):
    try:
        return bool(pool.login())
    except OSError:
        return False


def test_plugin_outlives_its_xapi(pool, session):
    pool.hosts[0].dom0.add_plugin("waiting", WAITING + "touch \"$DOM0_ROOT/tmp/done\"\n")
    session.xenapi.Async.host.call_plugin(pool.hosts[0].ref, "waiting", "fn", {})
    wait_for(lambda: pool.hosts[0].dom0.processes.running_pids())
    pool.stop_xapi()
    open(pool.hosts[0].dom0.locate("/tmp/go"), "w").close()
    wait_for(lambda: os.path.exists(pool.hosts[0].dom0.locate("/tmp/done")))


def test_error_inside_the_host_is_told_to_client_and_log(pool, session):
    os.rmdir(pool.hosts[0].dom0.locate("/opt/harness/spool"))
    pool.hosts[0].dom0.add_plugin("session", SESSION_OF_CALL)
    details = details_of(session.xenapi.host.call_plugin, pool.hosts[0].ref, "session", "fn", {})
    assert details[0] == "INTERNAL_ERROR" and "FileNotFoundError" in details[1]
    task = session.xenapi.Async.host.call_plugin(pool.hosts[0].ref, "session", "fn", {})
    wait_for(lambda: session.xenapi.task.get_status(task) == "failure")
    assert session.xenapi.task.get_error_info(task)[0] == "INTERNAL_ERROR"
    assert len([line for line in pool.hosts[0].syslog_lines() if "Traceback" in line]) == 2
    os.mkdir(pool.hosts[0].dom0.locate("/opt/harness/spool"))
