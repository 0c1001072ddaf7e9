# SPDX-License-Identifier: Apache-2.0
"""Requests through xenstore to the agent that clouds install in their guests.

    dom0    writes  /local/domain/<domid>/data/host/<id>     {"name": "<command>", "value": ...}
    agent   removes that record, then
            writes  /local/domain/<domid>/data/guest/<id>    {"returncode": "<text>", "message": "<text>"}
    dom0    removes both records, if they still exist

So the end of a request's record is not yet an answer.  Only dom0 removes answers: otherwise they would use up the guest's quota,
and its agent could not answer any more.  Callers branch on the words TIMEOUT:, REBOOT: and NOT IMPLEMENTED: in the last line of
an error.  No error shows the value of a request, which may be a password or a file.
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

# A daemon that takes longer for one operation counts as gone.
_OPERATION_S = 10
_CLEANING_S = 2
# How long to retry when the guest keeps changing records next to ours.
_CONFLICT_S = 2
_RECONNECT_EVERY_S = 0.1
_REFILL_S = 2
# After this many events without an answer the records are read only once in _PAUSE_S.
_PATIENCE_EVENTS = 20
_PAUSE_S = 0.02
_SUCCESS = u'0'
_TOKEN = 'agent'


def version(session_ref, request_id, dom_id, timeout_s):
    """The agent's version.  Like all functions here it returns the JSON text of the agent's answer.

    request_id: the name of the records for this call; timeout_s: the limit for the whole call
    Raises errors.PluginError with TIMEOUT:, errors.RebootDetectedError, errors.RetryableError if xenstored cannot be reached.
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
    """Have the agent replace itself with the program that it downloads from `url`."""
    return _Guest(dom_id, timeout_s).ask(request_id, u'agentupdate', u'%s,%s' % (url, md5sum))


def inject_file(session_ref, request_id, dom_id, timeout_s, b64_path, b64_contents):
    """Write a file in the guest, by one of the two commands that agents have for it; no agent takes a file in parts.

    Raises errors.NotImplementedError if the agent has neither command.
    """
    path = binascii.a2b_base64(b64_path)
    joined = binascii.b2a_base64(path + b',' + binascii.a2b_base64(b64_contents)).strip().decode('ascii')
    guest = _Guest(dom_id, timeout_s)
    # This is the shorter one of the two requests: if no record can hold it, do not ask the agent at all.
    _encode(u'injectfile', joined)
    features = guest.list_features()
    if u'file_inject' in features:
        return guest.ask(request_id, u'file_inject', {u'b64_path': b64_path, u'b64_file': b64_contents})
    if u'injectfile' not in features:
        raise errors.NotImplementedError('NOT IMPLEMENTED: the agent of domain %d writes no files' % dom_id)
    if b',' in path:
        raise errors.ArgumentError('b64_path', 'this agent takes no path with a comma: it reads the text after it as contents')
    return guest.ask(request_id, u'injectfile', joined)


class _Guest(object):
    """A guest, and the time that is left for this call to its agent."""

    def __init__(self, dom_id, timeout_s):
        self.dom_id = dom_id
        self.timeout_s = timeout_s
        self.path = '/local/domain/%d' % dom_id
        self._ends_at = compat.monotonic_s() + timeout_s

    @property
    def left_s(self):
        return max(self._ends_at - compat.monotonic_s(), 0)

    def ask(self, request_id, name, value):
        """Send one command and return the text of the agent's answer."""
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
        """The names of the commands that the agent knows; none if the agent does not know the command `features`."""
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
        """Send the request and return the bytes of the answer.  The daemon may be restarted meanwhile."""
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
            # After a restart the toolstack may have to make the domain's records again.
            doubtful_until = compat.monotonic_s() + _REFILL_S

    def _write(self, store, request):
        def change(changes):
            if changes.read_all([self._name_path]) == [None]:
                raise self._tell_reboot()
            try:
                changes.remove(self._answer_path)  # an answer to an earlier call with this id
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
        """End the watch for a moment: a guest that changes records all the time must not keep dom0 busy."""
        store.unwatch(self._answer_path, _TOKEN)
        time.sleep(pause_s)
        store.watch(self._answer_path, _TOKEN)

    def clean_up(self):
        """Remove the records of the exchange; a failure is only logged."""
        if not self._is_begun:
            return
        self._is_begun = False
        try:
            # A new connection: an interrupted exchange may have left half a message on the other one.
            with xenstore.Connection(_CLEANING_S) as store:
                for path in (self._request_path, self._answer_path):
                    try:
                        store.remove(path)
                    except xenstore.NotFound:
                        pass
        except errors.PluginError as error:
            log.warning('the records of a request to an agent may remain: %s', error)

    def _time_out(self, circumstance=''):
        return errors.PluginError('TIMEOUT: the agent of domain %d has not answered within %d s%s' % (
            self._guest.dom_id, self._guest.timeout_s, circumstance))

    def _tell_reboot(self):
        return errors.RebootDetectedError('REBOOT: domain %d is gone' % self._guest.dom_id)


def _encode(name, value):
    """A request's bytes."""
    data = light_json.dumps({u'name': name, u'value': value}).encode('ascii')
    # Only a file can be too long: the kinds of all other arguments limit their length.
    if len(data) > xenstore.MAX_VALUE_BYTES:
        raise errors.ArgumentError('b64_contents', 'the file makes a request of %d bytes; a record of xenstore holds %d, and no '
                                   'agent takes a file in parts' % (len(data), xenstore.MAX_VALUE_BYTES))
    return data


def _check_answer(data):
    """The text of an answer's bytes.  Raises ValueError with the reason if they are not an answer."""
    try:
        text = data.decode('utf-8')
    except UnicodeDecodeError:
        raise ValueError('not UTF-8')
    answer = light_json.loads(text)
    if not isinstance(answer, dict) or u'returncode' not in answer or u'message' not in answer:
        raise ValueError('not a JSON object with returncode and message')
    return text
