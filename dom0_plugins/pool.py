# SPDX-License-Identifier: Apache-2.0
"""A pool as its XAPI shows it: logging in at its coordinator, its hosts, and calls of the plug-in on them.

A plug-in is called as a task (Async.host.call_plugin) that is looked at until it has ended, not by a call that waits for its
answer: no connection stands open for minutes, which stunnel or a firewall may cut with the answer still to come, and the
deadline is exact. When it has passed the task is cancelled. XAPI tells a plug-in nothing of that, so it goes on; its
calls can be repeated.
"""

import json
import ssl
import time
import urllib.parse
import xmlrpc.client

import XenAPI

from dom0_plugins import problems

PLUGIN = "dom0_host.py"
API_VERSION = "2.21"
ORIGINATOR = "dom0-plugins"

# For one request; a plug-in has the time of Access.timeout_s.
_REQUEST_TIMEOUT_S = 30
_FAREWELL_TIMEOUT_S = 5
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
# A coordinator may change while it is looked for.
_REDIRECTIONS_MAX = 3


class Access(object):
    """How to get into pools: user, password, ssl.SSLContext, seconds for a plug-in's answer."""

    def __init__(self, user, password, tls, timeout_s):
        self.user = user
        self.password = password
        self.tls = tls
        self.timeout_s = timeout_s


class Host(object):
    """One host of a pool; problem is what keeps calls from it (problems.NotReached), or None."""

    def __init__(self, pool, ref, record, is_live):
        self.pool = pool
        self.ref = ref
        self.uuid = record["uuid"]
        self.name = record["name_label"] or record["hostname"] or record["uuid"]
        self.names = {record["uuid"], record["name_label"], record["hostname"]}
        self.address = record["address"]
        self.problem = None if is_live else problems.NotReached("its pool cannot reach it (it is not live)",
                                                                "is it on, and its toolstack running?")


class Pool(object):
    """stopping: threading.Event, set when calls should end without their answers."""

    def __init__(self, url, access, stopping):
        self.url = url
        self.uuid = None
        self.name = urllib.parse.urlsplit(url).hostname
        # What keeps all calls from it: problems.NotReached, or None.
        self.problem = None
        self._access = access
        self._stopping = stopping
        self._session_ref = None

    def log_in(self):
        """At the coordinator, where `url` is then, too. Raises problems.NotReached."""
        try:
            self.url = self._log_in(self.url)
            record = list(self._open().xenapi.pool.get_all_records().values())[0]
        except (XenAPI.Failure,) + problems.BROKEN as error:
            raise problems.of_login(self.url, self._access.user, error)
        self.uuid = record["uuid"]
        self.name = record["name_label"] or urllib.parse.urlsplit(self.url).hostname

    def list_hosts(self):
        """[Host], by name. Raises problems.NotReached."""
        try:
            session = self._open()
            metrics = session.xenapi.host_metrics.get_all_records()
            records = session.xenapi.host.get_all_records()
        except (XenAPI.Failure,) + problems.BROKEN as error:
            raise problems.of_login(self.url, self._access.user, error)
        hosts = [Host(self, ref, record, metrics.get(record["metrics"], {}).get("live", False))
                 for ref, record in records.items()]
        return sorted(hosts, key=lambda host: (host.name, host.uuid))

    def call(self, host, function, arguments):
        """The plug-in's reply, decoded from JSON. arguments: {name: text}. Raises problems.Problem."""
        deadline = time.monotonic() + self._access.timeout_s
        try:
            session = self._open()
            task = session.xenapi.Async.host.call_plugin(host.ref, PLUGIN, function, arguments)
            record = self._await_task(session, task, deadline)
            reply = _read_result(record["result"])
        except XenAPI.Failure as failure:
            raise problems.of_call(function, host.address, failure.details)
        except problems.BROKEN as error:
            raise problems.NotReached("lost its pool at %s: %s" % (self.url, problems.describe_break(error)))
        try:
            return json.loads(reply)
        except ValueError:
            raise problems.Problem("the plug-in answers to %s with no JSON" % function)

    def log_out(self):
        """Raises nothing: a session that cannot be ended now ends by itself."""
        if self._session_ref:
            try:
                self._open(_FAREWELL_TIMEOUT_S).session.logout(self._session_ref)
            except (XenAPI.Failure,) + problems.BROKEN:
                pass
            self._session_ref = None

    def _log_in(self, url):
        """The url where it succeeded."""
        for _ in range(_REDIRECTIONS_MAX):
            session = self._connect(url, _REQUEST_TIMEOUT_S)
            try:
                session.login_with_password(self._access.user, self._access.password, API_VERSION, ORIGINATOR)
            except XenAPI.Failure as failure:
                if failure.details[0] != "HOST_IS_SLAVE" or len(failure.details) < 2:
                    raise
                self.url = url = "%s://%s" % (urllib.parse.urlsplit(url).scheme, _bracket(failure.details[1]))
                continue
            self._session_ref = session.handle
            return url
        raise problems.NotReached("%s: every host names another one as coordinator" % url)

    def _open(self, timeout_s=_REQUEST_TIMEOUT_S):
        """The session through a connection of its own: one connection is good for one thread."""
        session = self._connect(self.url, timeout_s)
        session._session = self._session_ref
        return session

    def _connect(self, url, timeout_s):
        timeout_s = min(timeout_s, self._access.timeout_s)
        is_tls = url.startswith("https:")
        transport = _TlsTransport(timeout_s, self._access.tls) if is_tls else _PlainTransport(timeout_s)
        return XenAPI.Session(url, transport=transport)

    def _await_task(self, session, task, deadline):
        """The record of the task when it has succeeded; in any case it is gone afterwards, or will be when it ends."""
        pause_s = _FIRST_PAUSE_S
        try:
            while True:
                record = session.xenapi.task.get_record(task)
                if record["status"] == "success":
                    return record
                if record["status"] == "failure":
                    raise XenAPI.Failure(record["error_info"])
                if record["status"] == "cancelled":
                    raise problems.Problem("somebody has cancelled its task")
                if time.monotonic() >= deadline or self._stopping.wait(min(pause_s, deadline - time.monotonic())):
                    session.xenapi.task.cancel(task)
                    raise problems.NotReached("no answer within %g s; the call goes on there, unattended" % self._access.timeout_s,
                                              "is dom0 overloaded, or its storage stuck? --timeout gives it longer")
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        finally:
            try:
                session.xenapi.task.destroy(task)
            except (XenAPI.Failure,) + problems.BROKEN:
                pass


def make_tls(ca_file=None, is_verified=True):
    """ssl.SSLContext. Raises OSError, ssl.SSLError for a file of certificates that is none."""
    context = ssl.create_default_context(cafile=ca_file)
    # The certificates that hosts make for themselves lack what RFC 5280 asks for; and the file may name the host's own.
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    context.verify_flags |= getattr(ssl, "VERIFY_X509_PARTIAL_CHAIN", 0)
    # The one suite of XenServer 7's stunnel, which Python 3.10 took from its defaults: RSA without a key for each session.
    names = [cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] != "TLSv1.3"]
    context.set_ciphers(":".join(names + ["AES128-SHA256"]))
    if not is_verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class _Timeout(object):
    """Mixed into transports, which know no time-outs."""

    def make_connection(self, host):
        connection = super().make_connection(host)
        connection.timeout = self.timeout_s
        return connection


class _PlainTransport(_Timeout, xmlrpc.client.Transport):

    def __init__(self, timeout_s):
        super().__init__()
        self.timeout_s = timeout_s


class _TlsTransport(_Timeout, xmlrpc.client.SafeTransport):

    def __init__(self, timeout_s, context):
        super().__init__(context=context)
        self.timeout_s = timeout_s


def _bracket(address):
    return "[%s]" % address if address.count(":") > 1 and not address.startswith("[") else address


def _read_result(text):
    """A task's result is the XML of a value."""
    return xmlrpc.client.loads("<params><param>%s</param></params>" % text)[0][0]
