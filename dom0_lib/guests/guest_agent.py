# SPDX-License-Identifier: Apache-2.0
"""The agent that clouds install in their guests, spoken to through xenstore.

    dom0    writes  /local/domain/<domid>/data/host/<id>     {"name": "<command>", "value": ...}
    agent   removes that record, then
            writes  /local/domain/<domid>/data/guest/<id>    {"returncode": "<text>", "message": "<text>"}
    dom0    removes what is left of both

So a request that has gone is no answer yet.  Nobody but us removes answers: left alone they would fill the quota of the guest,
whose agent could then answer no more.  Callers branch on the words TIMEOUT:, REBOOT: and NOT IMPLEMENTED: in the last line of
an error.  No error names a request's value, which may be a password or a file.
"""

from __future__ import absolute_import, division

import binascii
import itertools
import os
import time

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib import light_json
from dom0_lib import log
from dom0_lib import termination
from dom0_lib.guests import xenstore

# A daemon that takes longer for one operation is as good as gone.
_OPERATION_S = 10
_CLEANING_S = 2
# Somebody else, so the guest, changes what is next to our records all the time.
_CONFLICT_S = 2
_RECONNECT_EVERY_S = 0.1
_REFILL_S = 2
# A guest that makes events without an answer is looked at less often.
_PATIENCE_EVENTS = 20
_PAUSE_S = 0.02
_SUCCESS = u'0'
_TOKEN = 'agent'


def version(session_ref, request_id, dom_id, timeout_s):
    """The agent's version, in its own JSON text, as all functions here return it.

    request_id: the name of the records for this call; timeout_s: for all of it
    Raises errors.PluginError with TIMEOUT:, errors.RebootDetectedError, errors.RetryableError when xenstored is gone.
    """
    return _Guest(dom_id, timeout_s).ask(request_id, u'version', u'agent')


def key_init(session_ref, request_id, dom_id, timeout_s, pub):
    """Exchange Diffie-Hellman keys.  pub: decimal text, which some agents cannot read as a number."""
    return _Guest(dom_id, timeout_s).ask(request_id, u'keyinit', pub)


def password(session_ref, request_id, dom_id, timeout_s, enc_pass):
    """Set the administrator's password, encrypted with the key that key_init() agreed on."""
    return _Guest(dom_id, timeout_s).ask(request_id, u'password', enc_pass)


def reset_network(session_ref, request_id, dom_id, timeout_s):
    """Have the guest configure its network anew, from its records in xenstore."""
    return _Guest(dom_id, timeout_s).ask(request_id, u'resetnetwork', u'')


def update(session_ref, request_id, dom_id, timeout_s, url, md5sum):
    """Have the agent replace itself by what it downloads."""
    return _Guest(dom_id, timeout_s).ask(request_id, u'agentupdate', u'%s,%s' % (url, md5sum))


def inject_file(session_ref, request_id, dom_id, timeout_s, b64_path, b64_contents):
    """Write a file in the guest, in the way that its agent knows; no agent takes a file in parts.

    Raises errors.NotImplementedError for an agent that writes no files.
    """
    path = binascii.a2b_base64(b64_path)
    joined = binascii.b2a_base64(path + b',' + binascii.a2b_base64(b64_contents)).strip().decode('ascii')
    guest = _Guest(dom_id, timeout_s)
    # The shorter request of the two: an agent need not be asked how it takes what no record holds.
    _encode(u'injectfile', joined)
    features = guest.list_features()
    if u'file_inject' in features:
        return guest.ask(request_id, u'file_inject', {u'b64_path': b64_path, u'b64_file': b64_contents})
    if u'injectfile' not in features:
        raise errors.NotImplementedError('NOT IMPLEMENTED: the agent of domain %d writes no files' % dom_id)
    if b',' in path:
        raise errors.ArgumentError('b64_path', 'this agent takes no path with a comma, after which it expects the contents')
    return guest.ask(request_id, u'injectfile', joined)


class _Guest(object):
    """The guest whose agent is asked, and the time that a call has for it."""

    def __init__(self, dom_id, timeout_s):
        self.dom_id = dom_id
        self.timeout_s = timeout_s
        self.path = '/local/domain/%d' % dom_id
        self._ends_at = compat.monotonic_s() + timeout_s

    @property
    def left_s(self):
        return max(self._ends_at - compat.monotonic_s(), 0)

    def ask(self, request_id, name, value):
        """The text of the agent's answer to one command."""
        exchange = _Exchange(self, request_id)
        termination.remember(exchange.clean_up)
        try:
            answer = exchange.run(_encode(name, value))
        finally:
            with termination.Shield():
                exchange.clean_up()
                termination.forget(exchange.clean_up)
        try:
            return _check_answer(answer)
        except ValueError as error:
            raise errors.PluginError("the agent of domain %d answered '%s' with %d bytes that are no answer: %s" % (
                self.dom_id, name, len(answer), error))

    def list_features(self):
        """The names of the commands that the agent knows; none from an agent that cannot tell."""
        request_id = binascii.hexlify(os.urandom(16)).decode('ascii')
        answer = light_json.loads(self.ask(request_id, u'features', u''))
        if compat.to_text(answer[u'returncode']) != _SUCCESS:
            return []
        # Old agents for Windows end a message with these four characters.
        return [name.strip() for name in compat.to_text(answer[u'message']).replace(u'\\r\\n', u'').split(u',')]


class _Exchange(object):
    """One request to the agent and its answer."""

    def __init__(self, guest, request_id):
        self._guest = guest
        self._request_path = '%s/data/host/%s' % (guest.path, request_id)
        self._answer_path = '%s/data/guest/%s' % (guest.path, request_id)
        self._name_path = guest.path + '/name'
        self._is_begun = self._is_written = False

    def run(self, request):
        """The answer's bytes.  The daemon may be restarted while it is awaited."""
        doubtful_until = 0
        while True:
            try:
                with xenstore.Connection(min(_OPERATION_S, max(self._guest.left_s, _CLEANING_S))) as store:
                    for path in (self._answer_path, self._name_path, '@releaseDomain'):
                        store.watch(path, _TOKEN)
                    if not self._is_written:
                        self._write(store, request)
                    return self._wait(store, doubtful_until)
            except xenstore.Unavailable:
                if not self._is_written:
                    raise
                if not self._guest.left_s:
                    raise self._time_out(', and xenstored is gone')
            time.sleep(_RECONNECT_EVERY_S)
            # Whoever restarts the daemon may have to fill it again.
            doubtful_until = compat.monotonic_s() + _REFILL_S

    def _write(self, store, request):
        def change(changes):
            if changes.read_all([self._name_path]) == [None]:
                raise self._tell_reboot()
            try:
                changes.remove(self._answer_path)  # of an earlier call with this id
            except xenstore.NotFound:
                pass
            changes.write(self._request_path, request)
        self._is_begun = True
        store.transact(change, _CONFLICT_S)
        self._is_written = True

    def _wait(self, store, doubtful_until):
        for count in itertools.count():
            answer, name = store.read_all([self._answer_path, self._name_path])
            if answer:
                return answer
            wait_s = self._guest.left_s
            if name is None:
                if compat.monotonic_s() >= doubtful_until:
                    raise self._tell_reboot()
                wait_s = min(wait_s, _RECONNECT_EVERY_S)
            if count > _PATIENCE_EVENTS:
                self._look_away(store, min(wait_s, _PAUSE_S))
            store.wait_event(wait_s)
            if not self._guest.left_s:
                raise self._time_out()

    def _look_away(self, store, pause_s):
        """Get no events for a while: a guest that makes them all the time must not keep dom0 busy."""
        store.unwatch(self._answer_path, _TOKEN)
        time.sleep(pause_s)
        store.watch(self._answer_path, _TOKEN)

    def clean_up(self):
        """Remove what the exchange has left; a failure is only logged."""
        if not self._is_begun:
            return
        self._is_begun = False
        try:
            # Not over the connection in use: an exchange that was interrupted may have left half a message there.
            with xenstore.Connection(_CLEANING_S) as store:
                for path in (self._request_path, self._answer_path):
                    try:
                        store.remove(path)
                    except xenstore.NotFound:
                        pass
        except errors.PluginError as error:
            log.warning('the records of a request to an agent may be left: %s', error)

    def _time_out(self, circumstance=''):
        return errors.PluginError('TIMEOUT: the agent of domain %d has not answered within %d s%s' % (
            self._guest.dom_id, self._guest.timeout_s, circumstance))

    def _tell_reboot(self):
        return errors.RebootDetectedError('REBOOT: domain %d is gone' % self._guest.dom_id)


def _encode(name, value):
    """A request's bytes."""
    data = light_json.dumps({u'name': name, u'value': value}).encode('ascii')
    # Only a file can be so long: the kinds of the other arguments have bounds.
    if len(data) > xenstore.MAX_VALUE_BYTES:
        raise errors.ArgumentError('b64_contents', 'the file makes a request of %d bytes; a record of xenstore holds %d, and no '
                                   'agent takes a file in parts' % (len(data), xenstore.MAX_VALUE_BYTES))
    return data


def _check_answer(data):
    """The text of an answer's bytes.  Raises ValueError for what is no answer."""
    try:
        text = data.decode('utf-8')
    except UnicodeDecodeError:
        raise ValueError('not UTF-8')
    answer = light_json.loads(text)
    if not isinstance(answer, dict) or u'returncode' not in answer or u'message' not in answer:
        raise ValueError('not a JSON object with returncode and message')
    return text
